"""The bot beside a stack, as a service manager runs it, and people who write to it.

manage.py bot -> TcpProxy -> Bot API of the tests | PostgreSQL | Redis | Proxy -> node
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from ops.rehearsal.parts.process import Child, Command
from ops.rehearsal.stack_lock import TAG
from tests.detours import DEPENDENCIES, DetouredStack
from tests.e2e.stack import ROOT, wait_until
from tests.ops.bot.chat import VERSION
from tests.ops.bot.telegram import TOKEN, Message, Telegram
from tests.tcp_proxy import TcpProxy

BOT, BOT_API = "bot", "Bot API"
BOT_DEPENDENCIES = (*DEPENDENCIES, BOT_API)
# The trader is the rehearsal's own; to the watcher everything is told, so notices are on their way in each cell.
TRADER, OPERATOR, WATCHER = 123, 501, 503
ROLES = {TRADER: "trader", OPERATOR: "operator", WATCHER: "viewer"}
STARTS_S, COMMAND_S, ENDS_S = 60.0, 60, 10.0
RESTART_S = 1.0
# A poll that nobody ends is left after 20 s, a statement after 18 s.
ANSWERS_S = 60.0
POLLING = "SELECT note, extract(epoch FROM now() - at)::float FROM heartbeats WHERE component = 'bot'"
STALE_S = 10.0  # as /health judges


class Service:
    """Begins a process again whenever it has ended, and counts that."""

    def __init__(self, command: Command, log: Path) -> None:
        self._command = command
        self._log = log
        self._over = threading.Event()
        self.ended = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(2 * ENDS_S)

    def _run(self) -> None:
        while not self._over.is_set():
            child = Child(self._command, self._log)
            while child.is_alive and not self._over.wait(0.1):
                pass
            if self._over.is_set():
                child.stop(ENDS_S)
                return
            self.ended += 1
            self._over.wait(RESTART_S)


class BotBeside:
    """Use as a context manager, beside a stack that runs; its ways are among the stack's."""

    def __init__(self, stack: DetouredStack) -> None:
        self.stack = stack
        self.telegram = Telegram()
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self.telegram)
            at = json.loads((self.stack.folder / "ports.json").read_text())
            at |= {"anvil": int(self.stack.node.url.rpartition(":")[2])}
            targets = {name: at[server] for name, (_, server) in DEPENDENCIES.items()}
            targets[BOT_API] = int(self.telegram.base.rpartition(":")[2])
            for name, target in targets.items():
                self.stack.ways[BOT, name] = opened.enter_context(TcpProxy(target))
            for user, role in ROLES.items():
                self.telegram.knows(user)
                self.manage("telegram", "allow", str(user), role)
            self._service = Service(self._command(), self.stack.folder / "log" / "bot.log")
            opened.callback(self._service.end)
            self._service.begin()
            wait_until(self.hears, STARTS_S, "the bot hears")
            for user in (TRADER, OPERATOR):  # what is said to them is an answer
                self.ask(user, "/notify all off")
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for name in BOT_DEPENDENCIES:
            self.stack.ways[BOT, name].mend()
        self._opened.close()

    @property
    def ended(self) -> int:
        """How often its process has ended."""
        return self._service.ended

    def note(self) -> str:
        """What its heartbeat says; blank where that is too old for /health."""
        rows = self.stack.sql(POLLING)
        return str(rows[0][0]) if rows and rows[0][1] < STALE_S else ""

    def hears(self) -> bool:
        return self.note() == "polling"

    def said(self, user: int, since: int) -> list[Message]:
        """What it has said to somebody since a message's number."""
        return [one for one in self.telegram.sent(user) if one.message_id > since]

    def newest(self, user: int) -> int:
        return max((one.message_id for one in self.telegram.sent(user)), default=0)

    def ask(self, user: int, text: str, within_s: float = ANSWERS_S) -> Message:
        """Write, and wait for the next thing that it says to them."""
        since = self.newest(user)
        self.telegram.writes(user, text)
        wait_until(lambda: bool(self.said(user, since)), within_s, f"the bot answers {text}")
        return self.said(user, since)[0]

    def await_answers(self, user: int) -> None:
        """Until it answers a command again, whatever it had yet to say to them before."""
        since = self.newest(user)
        self.telegram.writes(user, "/version")

        def told() -> bool:
            return any(one.text.startswith(VERSION) for one in self.said(user, since))

        wait_until(told, ANSWERS_S, "the bot answers a command again")

    def manage(self, *words: str) -> None:
        """A command of manage.py, by the stack's own ways."""
        argv = [sys.executable, "manage.py", *words]
        done = subprocess.run(
            argv, cwd=ROOT, env=self._env({}), capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-600:]}"

    def _command(self) -> Command:
        ports = {variable: self.stack.ways[BOT, name].port for name, (variable, _) in DEPENDENCIES.items()}
        told = {
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE": f"http://127.0.0.1:{self.stack.ways[BOT, BOT_API].port}",
        }
        return Command((sys.executable, "manage.py", "bot"), ROOT, {**self._env(ports), **told})

    def _env(self, ports: dict[str, int]) -> dict[str, str]:
        """As the stack's own processes have it, but for the ports of its servers."""
        theirs: dict[str, str] = psutil.Process(self.stack.pids()["worker"]).environ()
        del theirs[TAG]  # or the stack ends it with its own
        urls = {variable: self.stack.env[variable] for variable, _ in DEPENDENCIES.values()}
        for variable, port in ports.items():
            head, _, tail = urls[variable].rpartition("127.0.0.1:")
            urls[variable] = f"{head}127.0.0.1:{port}{tail.lstrip('0123456789')}"
        path = f"{self.stack.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return theirs | urls | {"PATH": path}
