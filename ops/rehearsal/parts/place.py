"""Where an unprivileged account can reach files when the owner of the clone is root."""

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from ops.rehearsal.parts.part import PartError
from ops.rehearsal.parts.process import Account

UNPRIVILEGED = "nobody"
# Not the temporary folders first: those are cleaned by age, and data must outlive restarts.
BASES = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 -- ownership and modes are checked before use
BASE_NAME = "vanta-rehearsal"
ORIGIN = "origin"


def unprivileged() -> Account | None:
    """The account for servers that refuse to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(UNPRIVILEGED)
    return Account(entry.pw_uid, entry.pw_gid)


def _permits(account: Account, path: Path, wanted: int) -> bool:
    """Whether mode bits let the account do it; `wanted` is an octal digit (4 read, 1 enter)."""
    status = path.stat()
    if status.st_uid == account.uid:
        return (status.st_mode >> 6) & wanted == wanted
    if status.st_gid == account.gid:
        return (status.st_mode >> 3) & wanted == wanted
    return status.st_mode & wanted == wanted


def reachable(account: Account, path: Path) -> bool:
    """Whether the account may enter every folder above an existing path and read (and enter) the path itself."""
    resolved = path.resolve()
    if not all(_permits(account, parent, 1) for parent in resolved.parents):
        return False
    return _permits(account, resolved, 5 if resolved.is_dir() else 4)


def base(account: Account) -> Path:
    """A folder of root's own that the account can enter; made when missing. Raises PartError."""
    for parent in BASES:
        place = parent / BASE_NAME
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            status = place.lstat()
        except OSError:  # Read-only or missing here: try the next.
            continue
        own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if own:
            place.chmod(0o755)
            if reachable(account, place):
                return place
    places = ", ".join(str(parent) for parent in BASES)
    raise PartError(f"found no place under {places} that the account {UNPRIVILEGED} can reach")


def reachable_copy(account: Account, site: Path, trees: tuple[str, ...], name: str) -> Path:
    """The site itself, or a complete copy of those trees of it under `base` that the account can reach.

    Libraries are found relative to the programs, so all trees keep their places.
    """
    probes = [site / tree for tree in trees]
    probes += [entry for probe in probes for entry in probe.iterdir()]
    if all(reachable(account, probe) for probe in probes):
        return site
    target = base(account) / name
    if target.exists():
        return target
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        for tree in trees:
            shutil.copytree(site / tree, partial / tree)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                is_open = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(path.stat().st_mode | (0o055 if is_open else 0o044))
        if not target.exists():
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def own_folder(account: Account | None, folder: Path) -> None:
    """Make `folder` a folder that belongs to the account; a link to one under `base` where it cannot be reached.

    The link is the pointer by which the data is found again. Data of a clone that moved
    moves along; a *copied* clone gets a folder of its own instead of sharing.
    """
    if account is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() and _is_of_another_clone(folder):
        folder.unlink()
    if not folder.is_symlink() and all(_permits(account, up, 1) for up in folder.resolve().parents):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, account.uid, account.gid)
        return
    if not folder.is_symlink():
        key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        target = base(account) / f"{folder.name}-{key}"
        if folder.exists():  # It could be reached before: the clone moved into a closed folder.
            shutil.move(folder, target)
        folder.symlink_to(target, target_is_directory=True)
    target = folder.readlink()
    target.mkdir(mode=0o700, exist_ok=True)
    os.chown(target, account.uid, account.gid)
    _origin_file(target).write_text(str(folder))


def _origin_file(target: Path) -> Path:
    """Beside the target, in root's own folder, where the account cannot forge it."""
    return target.with_name(f"{target.name}.{ORIGIN}")


def _is_of_another_clone(folder: Path) -> bool:
    """Whether the link leads to data that a link elsewhere still claims."""
    origin = _origin_file(folder.readlink())
    if not origin.exists():
        return False
    claimed = Path(origin.read_text())
    return claimed != folder and claimed.is_symlink() and claimed.readlink() == folder.readlink()


def remove(folder: Path) -> None:
    """Delete the folder, and what it links to under a base of ours."""
    if folder.is_symlink():
        target = folder.readlink()
        if target.parent in [parent / BASE_NAME for parent in BASES] and not _is_of_another_clone(folder):
            shutil.rmtree(target, ignore_errors=True)
            _origin_file(target).unlink(missing_ok=True)
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
