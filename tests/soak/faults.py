"""What goes wrong, how often, and for how long; a seed decides, so a run can be had again (not its timing)."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]

from ops.rehearsal.parts.anvil import is_whole
from ops.rehearsal.rpc import Node, NodeUnreachableError
from tests.chaos import outages
from tests.detours import COMPONENTS, DEPENDENCIES, DetouredStack
from tests.proxy import Faults as Lies
from tests.soak.watched import Watched
from tests.tcp_proxy import Fault

WEIGHTS = {"kill": 40, "partition": 20, "redis": 15, "postgres": 10, "lying node": 10, "clock": 5}
KILLED = ("webhook", "worker", "tpsl", "beat", "keeper", "webhook child", "worker child", "anvil")
PARTITIONS = (Fault.REFUSE, Fault.RESET, Fault.BLACK_HOLE, Fault.HALF_OPEN, Fault.SLOW)
LIES = ("answers lost", "5xx", "unknown error", "already known", "wrong hash", "twice")
PARTITION_S = (1.0, 4.0)
JUMP_S = (1, 20)
WHOLE_STATE_S = 5.0


@dataclass
class Happened:
    """Times are time.monotonic(). A kill ends with the kill: to start again is part of recovering.

    One that is `idle` met what was down already by an earlier one, and one that is neither that nor `done` failed
    itself, with a traceback on stderr: nobody has to recover from these.
    """

    kind: str
    what: str
    began_s: float
    ended_s: float = 0.0
    done: bool = False
    idle: bool = False

    @property
    def failed(self) -> bool:
        return not (self.done or self.idle)

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass
class Faults:
    """One begins every `every_s`; long ones overlap with those that follow."""

    stack: DetouredStack
    dice: random.Random
    every_s: float
    happened: list[Happened] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        self._running: list[threading.Thread] = []
        self._thread = Watched("faults", self._run)

    @property
    def died_of(self) -> str:
        return self._thread.died_of

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        for running in self._running:
            running.join()
        for way in self.stack.ways.values():
            way.mend()
        self.stack.node.faults = Lies()

    def _run(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s += self.every_s
            if self._ended.wait(max(0.0, due_s - time.monotonic())):
                return
            kind = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            self._begin(kind, *self._choose(kind))

    def _begin(self, kind: str, what: str, harm: Callable[[], bool]) -> None:
        happened = Happened(kind, what, time.monotonic())
        self.happened.append(happened)

        def work() -> None:
            harmed = harm()
            happened.ended_s = time.monotonic()
            happened.done, happened.idle = harmed, not harmed

        running = threading.Thread(target=work, daemon=True)
        running.start()
        self._running = [thread for thread in self._running if thread.is_alive()] + [running]

    def _choose(self, kind: str) -> tuple[str, Callable[[], bool]]:
        """What, and how: that answers whether there was anything to harm."""
        dice, stack = self.dice, self.stack
        if kind == "kill":
            name = dice.choice(KILLED)
            return name, lambda: kill(stack, name)
        if kind == "redis":
            what = dice.choice(("restart", "FLUSHALL", "empty"))
            return what, lambda: harm_redis(stack, what)
        if kind == "postgres":
            return "immediate stop", lambda: outages.restart_postgres(stack)
        lasts_s = dice.uniform(*PARTITION_S)
        if kind == "lying node":
            lie = dice.choice(LIES)
            return lie, lambda: self._lie(lie, lasts_s)
        if kind == "clock":
            jump_s = dice.randint(*JUMP_S)
            return f"chain +{jump_s} s", lambda: jump(stack, jump_s)
        dependency, fault = dice.choice(sorted(DEPENDENCIES)), dice.choice(PARTITIONS)
        who = dice.choice([*COMPONENTS, "all"])
        whom = COMPONENTS if who == "all" else (who,)
        return f"{dependency} {fault} for {who}", lambda: self._part(whom, dependency, fault, lasts_s)

    def _part(self, whom: tuple[str, ...], dependency: str, fault: Fault, lasts_s: float) -> bool:
        ways = [self.stack.ways[name, dependency] for name in whom]
        mine = [way for way in ways if way.fault is Fault.NONE]  # the others are parted already
        for way in mine:
            way.inject(fault)
        time.sleep(lasts_s if mine else 0)
        for way in mine:
            way.mend()
        return bool(mine)

    def _lie(self, lie: str, lasts_s: float) -> bool:
        faults = self.stack.node.faults
        if lie == "answers lost":
            faults.lose_next = 3
        elif lie == "5xx":
            faults.http_5xx_next = 10
        elif lie == "unknown error":
            faults.refuse_next = 3
        elif lie == "twice":
            faults.duplicate = True
        else:
            faults.lie = lie
        time.sleep(lasts_s)
        faults.duplicate, faults.lie = False, ""
        return True


def kill(stack: DetouredStack, name: str) -> bool:
    if name == "anvil":
        return kill_node(stack)
    parent, _, child = name.partition(" ")
    if not child:
        return outages.kill(stack, parent) > 0
    with suppress(psutil.NoSuchProcess, KeyError, IndexError):  # it is being started just now
        psutil.Process(stack.pids()[parent]).children()[0].kill()
        return True
    return False


def harm_redis(stack: DetouredStack, what: str) -> bool:
    if what == "FLUSHALL":
        return outages.flush(stack)
    if what == "restart":
        return outages.kill(stack, "valkey") > 0
    with suppress(FileNotFoundError):  # it is being started just now
        outages.empty_redis(stack)
        return True
    return False


def kill_node(stack: DetouredStack) -> bool:
    """At a moment when its state is on the disk: what was final must stay, or it would be another chain.

    False where no such moment came.
    """
    state = stack.folder / "chain" / "state.json"
    deadline_s = time.monotonic() + WHOLE_STATE_S
    while time.monotonic() < deadline_s:
        written_ns = state.stat().st_mtime_ns
        while state.stat().st_mtime_ns == written_ns and time.monotonic() < deadline_s:
            time.sleep(0.02)
        pid = outages.kill(stack, "anvil", signal.SIGSTOP)
        whole = pid and is_whole(state.read_bytes())
        with suppress(ProcessLookupError):  # another of these may have been faster
            if whole:
                os.kill(pid, signal.SIGKILL)
                stack.node.reset_pool()
                return True
            if pid:
                os.kill(pid, signal.SIGCONT)
    return False


def jump(stack: DetouredStack, forward_s: int) -> bool:
    with suppress(NodeUnreachableError):  # it is being started just now
        Node(stack.env["BASE_RPC_URL"]).request("evm_increaseTime", forward_s)
        return True
    return False
