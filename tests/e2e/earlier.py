"""The version before the newest migration, from the repository's history, as processes beside a running stack."""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ops.rehearsal.parts import port
from ops.rehearsal.parts.process import Child, Command
from ops.rehearsal.stack_commands import SERVICES
from tests.e2e.stack import RunningStack
from tests.real_parts import ROOT

NAME = "0.0.1"
PROGRAM = ("vanta", "ops", "signals_app", "execution_app", "config", "manage.py")


def tree(folder: Path) -> str:
    """Put it there and make it call itself NAME; says what it is.

    A clone without enough history has only this version, which then runs beside itself under another name.
    """
    commit = before_the_newest_migration()
    packed = git("archive", commit or "HEAD", "--", *PROGRAM)
    if packed is None:
        for name in PROGRAM:
            subprocess.run(["cp", "-r", str(ROOT / name), str(folder)], check=True, timeout=60)
    else:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    root = folder / "vanta" / "__init__.py"
    lines = root.read_text(encoding="utf-8").splitlines()
    changed = [f'__version__ = "{NAME}"' if line.startswith("__version__") else line for line in lines]
    assert changed != lines, "its version is told by another line"
    root.write_text("\n".join(changed) + "\n", encoding="utf-8")
    return f"the tree of {commit[:12]}" if commit else "this version under another name"


def before_the_newest_migration() -> str:
    """The commit before the one that brought it; HEAD where that is yet to come, blank where history does not say."""
    newest = max((ROOT / "execution_app" / "migrations").glob("0*.py")).relative_to(ROOT)
    brought = git("log", "--diff-filter=A", "--format=%H", "--", str(newest))
    if brought is None:
        return ""
    wanted = f"{brought.split()[-1].decode()}^" if brought.strip() else "HEAD"
    return (git("rev-parse", "--verify", "--quiet", wanted) or b"").decode().strip()


def git(*words: str) -> bytes | None:
    """What it says; None where it is not there or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


@contextmanager
def beside(stack: RunningStack, folder: Path) -> Iterator[tuple[int, Path]]:
    """A webhook and a worker of the tree in that folder, on the stack's database and queue; its port and the worker's log."""
    web_port, log = port.any_free(), folder / "worker.log"
    with ExitStack() as ended:
        for name in ("webhook", "worker"):
            words = [word.format(port=web_port).replace("worker@", "earlier@") for word in SERVICES[name][0]]
            env = psutil.Process(stack.pids()[name]).environ()
            child = Child(Command((sys.executable, *words), cwd=folder, env=env), folder / f"{name}.log")
            ended.callback(child.stop, 12)
        yield web_port, log
