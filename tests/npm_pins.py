"""What tests take from npm: a folder with a lock says which, it is installed once, and nothing that npm could run is run."""

import fcntl
import hashlib
import shutil
from pathlib import Path

from ops.rehearsal.parts import anvil_install


def installed(pins: Path, tools: Path) -> Path:
    """The folder that holds what the lock in `pins` pins, installed first when missing. Raises PartError."""
    digest = hashlib.sha256((pins / "package-lock.json").read_bytes()).hexdigest()[:12]
    target = tools.absolute() / f"{pins.name}-{digest}"
    complete = target / "complete"
    if complete.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    with (target / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"{pins.name}: installing", flush=True)  # noqa: T201 -- it takes a while
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(pins / name, target / name)
            argv = [*anvil_install.npm(target), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            anvil_install.run(argv, target)
            shutil.rmtree(target / "npm-cache", ignore_errors=True)
            complete.touch()
    return target
