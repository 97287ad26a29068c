"""The services of the compose file as plain processes: same commands, same environment file, same health checks."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ops.rehearsal.parts.process import Child, Command
from tests.real_parts import FOLDER, ROOT

COMPOSE = ROOT / "docker-compose.yml"
WITH_ENV = ROOT / "config" / "with-env"
TEMPLATE = ROOT / "config" / "env.prod.canary.template"
PROCESSES = ("webhook", "worker", "tpsl", "beat", "bot")
START_WITHIN_S = 150


def declared() -> dict[str, dict[str, Any]]:
    """The compose file's services."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def filled(tmp_path: Path, **changes: str) -> Path:
    """The template as an operator would fill it in, for the embedded servers."""
    own = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL", "BASE_RPC_URL", "USDC_ADDRESS")}
    own |= {name: value for name, value in os.environ.items() if name.startswith("VENUE_")}
    own |= {name: os.environ[name] for name in ("WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN", "SECRET_KEY")}
    own |= {
        "CHAIN_ID": "31337",
        "DEPLOY_ENV": "rehearsal",
        "SIGNER_KEY_DIR": str(FOLDER / "keys"),
        "STATE_DIR": str(FOLDER / "state"),
        "SIGNER_KEY_PASSWORD": os.environ["SIGNER_KEY_PASSWORD"],
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        **changes,
    }
    lines = []
    for line in TEMPLATE.read_text().splitlines():
        name = line.split("=", 1)[0]
        lines.append(f"{name}={own[name]}" if name in own else line)
    file = tmp_path / "env"
    file.write_text("\n".join(lines) + "\n")
    return file


class Container:
    """One service of the compose file as a plain process: its command, its environment, its health check."""

    def __init__(self, name: str, service: dict[str, Any], env_file: Path, web_port: int) -> None:
        self.name = name
        self.log = env_file.with_name(f"{name}.log")
        self._service = service
        self._places = {"/app/": f"{ROOT}/", "/etc/vanta/env": str(env_file), "8090": str(web_port)}
        # A container knows only what it is told.
        self._env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}
        self._command = self._here([str(WITH_ENV), "/etc/vanta/env", "--", *service["command"]])
        self.child: Child | None = None

    def start(self) -> None:
        self.child = Child(Command(tuple(self._command), cwd=ROOT, env=self._env), self.log)

    def run(self) -> int:
        with self.log.open("wb") as log:
            done = subprocess.run(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
        return done.returncode

    def is_healthy(self) -> bool:
        check = self._here(self._service["healthcheck"]["test"][1:])
        done = subprocess.run(check, cwd=ROOT, env=self._env, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def await_health(self) -> None:
        assert self.child is not None
        deadline_s = time.monotonic() + START_WITHIN_S
        while not self.is_healthy():
            assert self.child.is_alive, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline_s, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """As compose does: SIGTERM, then its patience."""
        assert self.child is not None
        grace_s = float(self._service["stop_grace_period"].removesuffix("s"))
        assert self.child.stop(grace_s), f"{self.name} did not end within its stop_grace_period"

    def end(self) -> None:
        """However it stands, it does not outlive the test."""
        if self.child is not None:
            self.child.stop(5)

    def _here(self, words: list[str]) -> list[str]:
        for place, here in self._places.items():
            words = [word.replace(place, here) for word in words]
        return words


@contextlib.contextmanager
def running(*containers: Container) -> Iterator[None]:
    try:
        for container in containers:
            container.start()
        yield
    finally:
        for container in containers:
            container.end()
