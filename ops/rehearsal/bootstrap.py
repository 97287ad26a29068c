"""Makes the clone's virtual environment, with the standard library alone.

`python3 ops/rehearsal/bootstrap.py run|dev`: `run` is what the stack needs, `dev` what tests and
checks need on top. Does nothing when that is there already. Safe to run twice, also at the same
time, and after an interruption: the stamp that says "complete" is written last.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Both lists are locked together, so what `dev` installs is enough for `run`.
REQUIREMENTS = {"run": ROOT / "requirements.txt", "dev": ROOT / "requirements-dev.txt"}
MINIMUM = (3, 11)
# Well-tried ones first: wheels for the newest Python may not exist yet.
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=sorted(REQUIREMENTS))
    what = parser.parse_args().what
    missing = missing_here()
    if missing:
        print("Vanta cannot be installed here:\n  - " + "\n  - ".join(missing), file=sys.stderr)
        return 2
    (ROOT / "var").mkdir(exist_ok=True)
    with (ROOT / "var" / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(what)
            # A chain that somebody else runs needs no node of ours.
            if what == "dev" or not os.environ.get("BASE_RPC_URL", "").strip():
                install_node()
        except subprocess.CalledProcessError as error:
            print(f"failed (exit {error.returncode}): {' '.join(map(str, error.cmd))}", file=sys.stderr)
            return 1
    return 0


def missing_here() -> list[str]:
    """What this machine lacks, in words for its operator."""
    missing = []
    system, machine = platform.system(), platform.machine()
    if system == "Linux":
        if machine != "x86_64":
            missing.append(f"an x86-64 processor (this one is {machine})")
        if platform.libc_ver()[0] != "glibc":
            missing.append("glibc (this looks like another C library, such as Alpine's)")
    elif system == "Darwin":
        print("macOS: meant to work, untested", file=sys.stderr)
    else:
        missing.append(f"Linux (this is {system})")
    return missing


def install(what: str) -> None:
    """Bring .venv to the locked list. Raises CalledProcessError."""
    listed = REQUIREMENTS[what]
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    stamps = {name: VENV / f".complete-{name}" for name in REQUIREMENTS}
    enough = {"run": ("run", "dev"), "dev": ("dev",)}[what]
    if works(PYTHON):
        for name in enough:
            wanted = hashlib.sha256(REQUIREMENTS[name].read_bytes()).hexdigest()
            if stamps[name].exists() and stamps[name].read_text() == wanted:
                return
    else:
        make_environment()
    began_s = time.monotonic()
    count = sum("==" in line and not line.startswith((" ", "#")) for line in listed.read_text().splitlines())
    print(f"installing {count} packages from {listed.name}, pinned and hashed", flush=True)
    for stamp in stamps.values():
        stamp.unlink(missing_ok=True)
    uv = shutil.which("uv")
    if uv:
        argv = [uv, "pip", "install", "--python", str(PYTHON), "--require-hashes", "-r", str(listed)]
    else:
        argv = [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--no-input"]
        argv += ["--disable-pip-version-check", "--progress-bar=off", "-r", str(listed)]
    run_shown(argv, count)
    stamps[what].write_text(digest)
    print(f"installed in {time.monotonic() - began_s:.0f} s", flush=True)


def install_node() -> None:
    """The EVM node, by the environment's own interpreter. Raises CalledProcessError."""
    code = "import sys; from ops.rehearsal.parts.anvil_install import main; main(sys.argv[1])"
    argv = [str(PYTHON), "-c", code, str(ROOT / "var" / "tools")]
    subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def make_environment() -> None:
    """A fresh .venv, beside a broken or interrupted one until it is whole. Raises CalledProcessError."""
    base = suitable_python()
    if base is None:
        version = ".".join(map(str, MINIMUM))
        print(
            f"Vanta needs Python {version} or newer with the venv module; none of {', '.join(CANDIDATES)} is.\n"
            f"On Debian or Ubuntu: apt install python3 python3-venv",
            file=sys.stderr,
        )
        raise SystemExit(2)
    print(f"making .venv with {base}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([base, "-m", "venv", str(VENV)], stdin=subprocess.DEVNULL, check=True)


def suitable_python() -> str | None:
    """The first candidate that runs, is new enough and can make environments."""
    check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {MINIMUM})"
    for name in CANDIDATES:
        path = shutil.which(name)
        if path and succeeds([path, "-c", check]):
            return path
    return None


def works(python: Path) -> bool:
    """Whether an environment is there and was not left half-made."""
    return python.exists() and succeeds(
        [str(python), "-c", f"import sys, pip; sys.exit(sys.version_info < {MINIMUM})"]
    )


def succeeds(argv: list[str]) -> bool:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def run_shown(argv: list[str], count: int) -> None:
    """Run an installer, a line per package; its last words when it fails. Raises CalledProcessError."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    words: list[str] = []
    seen = 0
    for line in process.stdout or ():
        words.append(line)
        if line.startswith(("Collecting ", "Processing ")):  # from an index, from a folder of wheels
            seen += 1
            print(f"  {seen}/{count} {Path(line.split()[1]).name}", flush=True)
        elif line.startswith("Installing collected"):
            print("  unpacking", flush=True)
    if process.wait() != 0:
        print("".join(words[-30:]), file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, argv)


if __name__ == "__main__":
    sys.exit(main())
