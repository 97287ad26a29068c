"""The stack of docker-compose.yml: `docker compose pause|unpause|kill|stop|start|exec|cp|logs SERVICE`.

Where no container engine is at hand only the command lines can be checked
(tests/ops/rollout/test_drill_compose.py); a run with an engine is still owed.
"""

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ops.rollout.drills.parts import REDIS, WATCHERS, Mark
from ops.rollout.drills.report import CannotRun, Failed, NotInjected

TIMEOUT_S = 60
AOF = "appendonlydir"


class ComposeParts:
    """`command` is how compose is called, with its files; `docker compose` as a rule."""

    form = "compose"

    def __init__(self, command: Sequence[str], docker: str = "docker") -> None:
        self._command = tuple(command)
        self._docker = docker

    def identities(self) -> dict[str, str]:
        """Container and start, so that a restart inside one shows, too."""
        try:
            ids = self._compose("ps", "--quiet").split()
            told = self._run(self._docker, "inspect", *ids) if ids else "[]"
            return {
                str(one["Config"]["Labels"]["com.docker.compose.service"]): (
                    f"{one['Id'][:12]} started {one['State']['StartedAt']}"
                )
                for one in json.loads(told)
            }
        except (NotInjected, ValueError, KeyError, TypeError) as error:
            raise CannotRun(f"compose shows no running stack: {error}") from error

    def pause(self, name: str) -> None:
        self._compose("pause", name)

    def unpause(self, name: str) -> None:
        if self._is(name, "paused"):
            self._compose("unpause", name)

    def kill(self, name: str) -> None:
        """An engine does not restart what was killed by its own command, so the drill does."""
        self._compose("kill", name)
        self._compose("start", name)

    def restart(self, name: str) -> None:
        self._compose("restart", name)

    def take_down(self, name: str) -> None:
        self._compose("stop", name)

    def bring_back(self, name: str) -> None:
        if not self._is(name, "running"):
            self._compose("start", name)

    def redis(self, *words: str) -> str:
        try:
            return self._compose("exec", "-T", REDIS, "redis-cli", "-e", "-t", "2", *words).strip()
        except NotInjected as error:
            raise Failed(f"redis {words[0]}: {error}") from error

    def save_redis(self, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        self._compose("cp", "-a", f"{REDIS}:/data/{AOF}", str(to))

    def put_back_redis(self, saved: Path) -> None:
        """Over the newer files: the manifest that goes with them is the old one, and decides what is read."""
        self._compose("cp", "-a", str(saved / AOF), f"{REDIS}:/data")

    def mark(self) -> Mark:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return dict.fromkeys(WATCHERS, now)

    def log_since(self, mark: Mark, name: str) -> str:
        return self._compose("logs", "--no-color", "--no-log-prefix", "--since", mark[name], name)

    def _is(self, name: str, state: str) -> bool:
        return name in self._compose("ps", "--all", "--services", "--filter", f"status={state}").split()

    def _compose(self, *words: str) -> str:
        return self._run(*self._command, *words)

    def _run(self, *words: str) -> str:
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInjected(f"{' '.join(words)}: {type(error).__name__}: {error}") from error
        if done.returncode != 0:
            raise NotInjected(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout
