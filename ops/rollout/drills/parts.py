"""How a drill reaches the processes of a stack: two kinds of stack, one set of verbs.

Names are those of the compose services. Every verb raises NotInjected where it
could not do what it says, and touches nothing that is not of this stack.
"""

from pathlib import Path
from typing import Protocol

REDIS = "redis"
DATABASE = "db"
NODE = "node"
# Each of them watches the mode for itself and says so in its log.
WATCHERS = ("webhook", "worker", "tpsl", "beat")

Mark = dict[str, str]


class Parts(Protocol):
    """The processes of one running stack."""

    form: str

    def identities(self) -> dict[str, str]:
        """What changes with each start of a process, by name. Raises CannotRun without a stack."""

    def pause(self, name: str) -> None:
        """It goes on existing and answers nobody."""

    def unpause(self, name: str) -> None:
        """Safe to repeat, and where it was never paused."""

    def kill(self, name: str) -> None:
        """SIGKILL; whoever looks after the stack starts it again."""

    def restart(self, name: str) -> None:
        """End it as its operator would, and have it started again."""

    def take_down(self, name: str) -> None:
        """End it and keep it from coming back; what holds data is asked to end, all else is killed."""

    def bring_back(self, name: str) -> None:
        """Let it come back; safe to repeat, and where it was never taken down."""

    def redis(self, *words: str) -> str:
        """Run a Redis command as an operator would; answers its reply in words. Raises Failed."""

    def save_redis(self, to: Path) -> None:
        """Copy what Redis has persisted into the folder `to`."""

    def put_back_redis(self, saved: Path) -> None:
        """Make that copy what Redis finds at its next start; only while it is taken down."""

    def mark(self) -> Mark:
        """The present end of every watcher's log."""

    def log_since(self, mark: Mark, name: str) -> str:
        """What a process has logged since."""
