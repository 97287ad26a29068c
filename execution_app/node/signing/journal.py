"""What each nonce of a wallet was used for, in an append-only file beside the database.

A restored database does not know what it has forgotten; this file does. One
line a record: `KIND NONCE ORDER CHECK`, where ORDER is a slot's identity and
CHECK ends in what keeps a torn line from being read as a whole one.

A record is *bound* or *tentative*. Bound: the nonce belongs to this order for
good, so a signature for another order is refused. Tentative: a local key has
signed within a transaction that may yet be rolled back by a crash; nothing has
left, so another order may take the nonce. Both are on the disk before what they
tell of goes further: tentative before the signature is stored, bound before a
remote signer is asked and before the first node sees the bytes.
"""

import fcntl
import os
import stat
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from execution_app.errors import Disagreement, Refused, Retryable
from execution_app.node.signing.slots import Slot

log = structlog.get_logger(__name__)
BOUND, TENTATIVE = "bound", "tentative"
LINE_LIMIT = 160  # bytes of one record, generously
DAMAGED = "move it away only after comparing the wallet with the chain"


class NonceUsedError(Disagreement):
    """The nonce belongs to another order: this database has forgotten something, or the key is used twice.

    The wallet is to be halted.
    """


class JournalUnusableError(Refused):
    """It cannot be read or written, so nothing is signed."""


@dataclass
class _Known:
    """What this process has read of one file; `inode` and `read` say how far.

    `unsynced`: others wrote some of it, and one who dies between its write and its sync leaves whole lines that are
    read and not on the disk.
    """

    inode: int = -1
    read: int = 0
    unsynced: bool = False
    bound: dict[int, bytes] = field(default_factory=dict)
    tentative: dict[int, bytes] = field(default_factory=dict)


@dataclass
class _Waiting:
    """What a group has noted of one file, as it was known when the first was."""

    known: _Known
    slots: list[Slot]


class Journal:
    """The journals of one folder, a file per chain and wallet. Safe for threads and for several processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, _Known] = {}
        self._lock = threading.Lock()
        self._group = threading.local()
        self._doubtful: set[Path] = set()  # of which the end of a group could not be written

    def check(self, slot: Slot) -> None:
        """Raise NonceUsedError where the nonce is bound to another order."""
        with self._opened(self._path(slot)) as (_, known):
            _refuse_other(slot, known)

    def bind(self, slots: Iterable[Slot]) -> list[NonceUsedError | None]:
        """Bind each slot's nonce to its order, or say why not; on the disk when this returns, one sync a wallet.

        Raises JournalUnusableError; then nothing of it counts.
        """
        asked = list(slots)
        answers: list[NonceUsedError | None] = [None] * len(asked)
        for path in dict.fromkeys(self._path(slot) for slot in asked):
            with self._opened(path) as (descriptor, known):
                lines: dict[int, bytes] = {}
                for at, slot in enumerate(asked):
                    if self._path(slot) != path:
                        continue
                    try:
                        _refuse_other(slot, known)
                    except NonceUsedError as used:
                        answers[at] = used
                        continue
                    if slot.nonce not in known.bound:
                        earlier = lines.setdefault(slot.nonce, slot.identity)
                        if earlier != slot.identity:
                            answers[at] = _used(slot, earlier)
                self._store(path, descriptor, BOUND, lines)
        return answers

    def note(self, slot: Slot) -> None:
        """Write that a local key signs this slot now; on the disk when this returns, or at the end of a group.

        Raises NonceUsedError and JournalUnusableError.
        """
        path = self._path(slot)
        waiting: dict[Path, _Waiting] | None = getattr(self._group, "waiting", None)
        if waiting is not None and path in waiting:
            # Read when the group's first was noted, and again before anything of the group is written.
            _refuse_other(slot, waiting[path].known)
            waiting[path].slots.append(slot)
            return
        with self._opened(path) as (descriptor, known):
            _refuse_other(slot, known)
            if waiting is not None and path not in self._doubtful:
                waiting[path] = _Waiting(known, [slot])
                return
            # After a group that failed at once, so that its order is held and says why, and all else of a turn goes on.
            self._write([slot], path, descriptor, known)
            self._doubtful.discard(path)

    def _write(self, slots: list[Slot], path: Path, descriptor: int, known: _Known) -> None:
        """Raises NonceUsedError where a nonce was bound to another order since it was asked about."""
        lines: dict[int, bytes] = {}
        for slot in slots:
            _refuse_other(slot, known)
            if slot.identity not in (known.bound.get(slot.nonce), known.tentative.get(slot.nonce)):
                lines[slot.nonce] = slot.identity
        self._store(path, descriptor, TENTATIVE, lines)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Write and sync once everything that this thread notes meanwhile, when the group ends.

        Raises Retryable where that fails, NonceUsedError where a nonce is another order's by then: nothing signed in it
        may be stored.
        """
        if getattr(self._group, "waiting", None) is not None:
            yield
            return
        self._group.waiting = {}
        try:
            yield
            for path, noted in sorted(self._group.waiting.items()):
                try:
                    with self._opened(path) as (descriptor, known):
                        self._write(noted.slots, path, descriptor, known)
                except JournalUnusableError as problem:
                    self._doubtful.add(path)
                    raise Retryable(str(problem)) from None
        finally:
            self._group.waiting = None

    def _path(self, slot: Slot) -> Path:
        return self._folder / f"{slot.chain_id}-{slot.sender.lower()}.journal"

    @contextmanager
    def _opened(self, path: Path) -> Iterator[tuple[int, _Known]]:
        """The file, locked against other processes, and what it says up to its end."""
        with self._lock:
            try:
                descriptor = self._open(path)
            except OSError as error:
                raise _unusable(path, f"cannot be opened ({error.strerror})") from None
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    known = self._read(path, descriptor)
                except OSError as error:
                    self._known.pop(path, None)
                    raise _unusable(path, f"cannot be read ({error.strerror})") from None
                yield descriptor, known
            finally:
                os.close(descriptor)  # gives the lock back, too

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            descriptor = os.open(path, flags | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR)
            log.warning(
                "a journal of signatures begins; what was signed before is not in it", journal=path.name
            )
        try:
            if not os.fstat(descriptor).st_size:
                # Its name is on the disk before its first record is, also where who made it has died in between.
                _sync_folder(path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _read(self, path: Path, descriptor: int) -> _Known:
        status = os.fstat(descriptor)
        known = self._known.get(path)
        if known is None or known.inode != status.st_ino or status.st_size < known.read:
            known = self._known[path] = _Known(status.st_ino)
        if status.st_size == known.read:
            return known
        content = b""
        while len(content) < status.st_size - known.read:
            part = os.pread(descriptor, 2**20, known.read + len(content))
            if not part:
                break
            content += part
        whole, newline, torn = content.rpartition(b"\n")
        if torn:
            # It was being written when the machine went down: never synced, so what it tells of went nowhere.
            log.warning("a torn last line of the journal is cut off", journal=path.name, bytes=len(torn))
            os.ftruncate(descriptor, known.read + len(whole) + len(newline))
            os.fsync(descriptor)
        for line in whole.split(b"\n") if newline else []:
            try:
                kind, nonce, order = _parsed(line)
            except ValueError:
                self._known.pop(path, None)
                raise _unusable(path, f"is damaged; {DAMAGED}") from None
            (known.bound if kind == BOUND else known.tentative)[nonce] = order
        known.read += len(whole) + len(newline)
        known.unsynced = not torn
        return known

    def _store(self, path: Path, descriptor: int, kind: str, lines: dict[int, bytes]) -> None:
        known = self._known[path]
        if not lines and not known.unsynced:
            return
        whole = known.read
        if lines:
            self._append(path, descriptor, kind, lines)
        try:
            self._sync(path, descriptor)
        except JournalUnusableError:
            # What is not on the disk may be read all the same. Where it cannot be cut off, its next reader syncs it.
            with suppress(OSError):
                os.ftruncate(descriptor, whole)
            raise
        known.unsynced = False

    def _append(self, path: Path, descriptor: int, kind: str, lines: dict[int, bytes]) -> None:
        content = b"".join(_line(kind, nonce, order) for nonce, order in lines.items())
        known = self._known[path]
        try:
            written = os.write(descriptor, content)
        except OSError as error:
            self._known.pop(path, None)
            raise _unusable(path, f"cannot be written ({error.strerror})") from None
        if written != len(content):
            self._known.pop(path, None)  # the rest of the line is cut off at the next reading
            raise _unusable(path, "cannot be written (no space left for a whole line)")
        known.read += written
        (known.bound if kind == BOUND else known.tentative).update(lines)

    def _sync(self, path: Path, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._known.pop(path, None)
            raise _unusable(path, f"cannot be written ({error.strerror})") from None


def _refuse_other(slot: Slot, known: _Known) -> None:
    order = known.bound.get(slot.nonce)
    if order is not None and order != slot.identity:
        raise _used(slot, order)


def _used(slot: Slot, order: bytes) -> NonceUsedError:
    return NonceUsedError(
        f"nonce {slot.nonce} of {slot.sender} was used for order {order.hex()[:12]} by the signer's journal, "
        f"this is {slot.identity.hex()[:12]}: the database is an old copy, or the key signs for another one"
    )


def _unusable(path: Path, words: str) -> JournalUnusableError:
    log.error("nothing is signed: the journal cannot be used", journal=str(path), problem=words)
    return JournalUnusableError(f"the signer's journal {path} {words}")


def _line(kind: str, nonce: int, order: bytes) -> bytes:
    words = f"{kind} {nonce} {order.hex()}"
    return f"{words} {zlib.crc32(words.encode()):08x}\n".encode()


def _parsed(line: bytes) -> tuple[str, int, bytes]:
    """Raises ValueError for anything that `_line` did not write."""
    if len(line) > LINE_LIMIT:
        raise ValueError("too long")
    kind, nonce, order, _ = line.decode("ascii").split(" ")
    if kind not in (BOUND, TENTATIVE) or _line(kind, int(nonce), bytes.fromhex(order)) != line + b"\n":
        raise ValueError("not a record")
    return kind, int(nonce), bytes.fromhex(order)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
