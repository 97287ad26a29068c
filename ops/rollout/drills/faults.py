"""What may happen to Redis: it hangs, it is gone, it forgets everything, it comes back as it was before."""

import itertools
import json
import secrets
import tempfile
import time
from pathlib import Path
from typing import Protocol

from ops.rollout.drills.parts import REDIS, Parts
from ops.rollout.drills.report import Failed, NotInjected

KEY = "exec_mode"
CANARY = "drill:canary"
ANSWERS_WITHIN_S = 20.0
WRITTEN_WITHIN_S = 20.0
TRIES = 3


class RedisFault(Protocol):
    """`prepare` while all is well, `begin` and `end` around the fault; `end` is safe to repeat."""

    name: str
    # Redis is away from `begin` to `end`; else it is back already when `begin` returns.
    lasts: bool
    restarts: bool

    def prepare(self) -> None: ...

    def begin(self) -> None:
        """Raises NotInjected where Redis does not show the fault."""

    def end(self) -> None: ...


class Pause:
    """It takes connections and answers nobody, as a host that hangs."""

    name, lasts, restarts = "pause", True, False

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def prepare(self) -> None:
        require_stack_key(self._parts)

    def begin(self) -> None:
        self._parts.pause(REDIS)
        require_silence(self._parts)

    def end(self) -> None:
        self._parts.unpause(REDIS)
        await_answers(self._parts)


class Stop:
    """It is gone: connections are refused, until it is started again with its files."""

    name, lasts, restarts = "stop", True, True

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def prepare(self) -> None:
        require_stack_key(self._parts)

    def begin(self) -> None:
        self._parts.take_down(REDIS)
        require_silence(self._parts)

    def end(self) -> None:
        self._parts.bring_back(REDIS)
        await_answers(self._parts)


class Flush:
    """It forgets everything: mode, epoch, queues."""

    name, lasts, restarts = "flush", False, False

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def prepare(self) -> None:
        require_stack_key(self._parts)

    def begin(self) -> None:
        self._parts.redis("SET", CANARY, "1")
        self._parts.redis("FLUSHALL")
        if self._parts.redis("EXISTS", CANARY) != "0":
            raise NotInjected("Redis still knows what was there before FLUSHALL")

    def end(self) -> None:
        """Nothing to undo: the stack writes what it needs again."""


class OldDump:
    """It comes back with what it had persisted in `prepare`, when `exec_mode` carried LIVE."""

    name, lasts, restarts = "old-dump", False, True

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept = tempfile.TemporaryDirectory(prefix="vanta-drill-")
        self._canary = secrets.token_hex(8)
        self._copy = Path(self._kept.name)
        self.carried = ""

    def prepare(self) -> None:
        self.carried = require_stack_key(self._parts)
        value = json.loads(self.carried)
        if value.get("mode") != "LIVE" or value.get("emergency_stop"):
            raise NotInjected(f"there is no old LIVE to bring back: {KEY} carries {self.carried}")
        self._parts.redis("SET", CANARY, self._canary)
        self._save()
        self._parts.redis("DEL", CANARY)

    def _save(self) -> None:
        """Copy until the copy has the canary: a server whose disk is busy writes its log up to 2 s late."""
        deadline_s = time.monotonic() + WRITTEN_WITHIN_S
        for number in itertools.count():
            self._copy = Path(self._kept.name) / str(number)
            self._parts.save_redis(self._copy)
            if any(self._canary.encode() in log.read_bytes() for log in self._copy.rglob("*.aof")):
                return
            if time.monotonic() > deadline_s:
                raise NotInjected("Redis does not write its log, so there is no old copy to come back with")
            time.sleep(0.2)

    def begin(self) -> None:
        self._parts.take_down(REDIS)
        self._parts.put_back_redis(self._copy)
        self._parts.bring_back(REDIS)
        await_answers(self._parts)
        if self._parts.redis("GET", CANARY) != self._canary:
            raise NotInjected("Redis came back without what the old copy held")

    def end(self) -> None:
        self._parts.bring_back(REDIS)
        await_answers(self._parts)
        self._parts.redis("DEL", CANARY)
        self._kept.cleanup()


FAULTS: dict[str, type[Pause | Stop | Flush | OldDump]] = {
    fault.name: fault for fault in (Pause, Stop, Flush, OldDump)
}


def require_stack_key(parts: Parts) -> str:
    """The mode key, which shows that this is the stack's Redis. Raises NotInjected."""
    deadline_s = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        value = parts.redis("GET", KEY)
        if value.startswith("{"):
            return value
        if time.monotonic() > deadline_s:
            raise NotInjected(f"this Redis holds no {KEY}: it is not the stack's")
        time.sleep(0.1)


def require_silence(parts: Parts) -> None:
    """Raises NotInjected where Redis answers again and again."""
    for _ in range(TRIES):
        try:
            parts.redis("PING")
        except Failed:
            return
        time.sleep(0.1)
    raise NotInjected("Redis still answers: what was harmed is not the Redis of REDIS_URL")


def await_answers(parts: Parts) -> None:
    """Raises Failed where it does not come back."""
    deadline_s = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        try:
            parts.redis("PING")
        except Failed as error:
            if time.monotonic() > deadline_s:
                raise Failed(
                    f"Redis does not answer {ANSWERS_WITHIN_S:g} s after the fault: {error}"
                ) from error
            time.sleep(0.05)
        else:
            return
