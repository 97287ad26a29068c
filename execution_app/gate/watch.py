"""Each process watches the mode for itself, so that nothing depends on another process being alive.

One thread per process reads Redis on its own connection and the database's
restrictions several times a second. Its snapshot is what the gate judges; a
process without the thread, or whose thread hangs, is in DRY by construction.
"""

import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime

import redis
import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from execution_app import patience
from execution_app.gate import control, modes
from execution_app.gate.beats import Pulse
from execution_app.gate.changes import ModeVoice
from execution_app.gate.hearing import Hearing
from execution_app.gate.look import Seen, look
from execution_app.gate.modes import Facts, Kinds, Limits, Reading, Ruling, Snapshot
from execution_app.states import Mode, Origin

log = structlog.get_logger(__name__)

KEY = "exec_mode"
EPOCH_KEY = "exec_mode_epoch"
INTERVAL_S = 0.25
REDIS_TIMEOUT_S = 0.3
DATABASE_TIMEOUT_S = 8.0  # longer than a lock is waited for

# Replace the value only while it is still what was read: an operator's SET in between must not be lost. Nor one of the
# same words, before which others have rewritten the key: whatever is taken over from it turns the epoch beside it.
_REWRITE = """
local now = redis.call('GET', KEYS[1])
-- MGET has nothing for a key of another kind, where GET would fail.
local beside = redis.call('MGET', KEYS[2])[1] or ''
if beside ~= ARGV[5] then
  return 0
end
if (now == false and ARGV[1] == '0') or (ARGV[1] == '1' and now == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[3])
  redis.call('SET', KEYS[2], ARGV[4])
  return 1
end
return 0
"""


@dataclass(frozen=True)
class ModeView:
    """What /health, pages and answers show."""

    mode: str
    requested: str
    emergency_stop: bool
    reduce_only: bool
    redis_health_streak: int
    reason: str


class ModeWatch:
    """The watching thread's state; one per process."""

    def __init__(self, component: str, *, pool_child: bool = False) -> None:
        self.component = component
        self.snapshot: Snapshot | None = None
        self.active: Kinds = modes.NONE
        self.set_in_redis: Kinds = modes.NONE
        self.chain_problem = "chain and database have not been compared yet"
        self.database_problem = ""
        self.started_at: datetime | None = None
        self._failing = False
        self._last_mode: Mode | None = None
        # The epoch in Redis, as it stands there, of the same reading as the word.
        self._beside: str | None = None
        self._pulse = Pulse(component, pool_child=pool_child)
        self._voice = ModeVoice(component)
        self._hearing = Hearing() if pool_child else None
        self._redis = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=None,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mode-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        patience.answer_within(DATABASE_TIMEOUT_S)
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(INTERVAL_S)
        connection.close()

    def look(self) -> None:
        """One reading of the database and of Redis, and what follows from it."""
        taken_at_s = time.monotonic()
        epoch = self._look_at_database()
        raw_value: str | None = None
        if epoch is None:
            reading = modes.unreachable("the database's epoch is unknown")
        else:
            raw_value, reading = self._look_at_redis(epoch)
        before = self.snapshot or Snapshot(taken_at_s)
        self.snapshot = modes.advance(before, reading, taken_at_s)
        ruling = self._say(reading)
        if epoch is not None:
            self._record(epoch, raw_value, reading)
            self._tell(ruling)

    def _look_at_database(self) -> int | None:
        try:
            connection.close_if_unusable_or_obsolete()
            seen = look()
            self._note(seen)
            self.chain_problem = seen.chain_problem(self._born(seen))
            self._pulse.beat()
            if self._hearing is not None:
                self._hearing.check(redis_is_healthy=bool(self.snapshot and self.snapshot.streak))
        except DatabaseError as error:
            connection.close()
            self.database_problem = f"database: {type(error).__name__}"
            return None
        self.database_problem = ""
        return seen.epoch

    def _note(self, seen: Seen) -> None:
        self.active = seen.kinds
        self.set_in_redis = frozenset(kind for kind, origin in seen.restrictions if origin is Origin.REDIS)

    def _born(self, seen: Seen) -> datetime:
        """When this process began, in the database's time; where that clock was set back behind it, when that was seen."""
        if self.started_at is None or seen.now < self.started_at:
            self.started_at = seen.now
        return self.started_at

    def _look_at_redis(self, epoch: int) -> tuple[str | None, Reading]:
        try:
            raw_value, raw_epoch = (_text(raw) for raw in self._redis.mget(KEY, EPOCH_KEY))
            self._beside = raw_epoch
        except UnicodeDecodeError:
            return None, modes.garbled()
        except (redis.RedisError, OSError) as error:
            return None, modes.unreachable(type(error).__name__)
        return raw_value, modes.read(raw_value, raw_epoch, epoch)

    def _record(self, epoch: int, raw_value: str | None, reading: Reading) -> None:
        """Carry an operator's word from Redis into the database, where a flush cannot reach it.

        Afterwards the stack's own value takes its place, with the new epoch. What restricts is recorded even
        where it seemed to hold: it may have been lifted since, or be about to be, by an older word.
        """
        beside = None if self._beside is None else self._beside.strip()
        try:
            for kind in reading.imposes:
                reason = f"set in Redis key {KEY}"
                imposed = control.impose(kind, Origin.REDIS, by="redis", reason=reason, beside=beside)
                # Not the database's own: where another word came in between, the lifting beside this one is too old.
                epoch += imposed.turned
            for kind in reading.lifts & self.set_in_redis:
                reason = f"lifted in Redis key {KEY}"
                control.lift(kind, Origin.REDIS, by="redis", reason=reason, epoch=epoch)
            if reading.imposes or reading.lifts:
                self._note(look())
            if (
                reading.rewrite
                or reading.imposes
                or reading.lifts
                or self._own_value_is_old(raw_value, reading)
            ):
                self._rewrite(raw_value, control.epoch())
        except DatabaseError as error:
            connection.close()
            self.database_problem = f"database: {type(error).__name__}"

    def _own_value_is_old(self, raw_value: str | None, reading: Reading) -> bool:
        """Whoever reads the key by hand should see the truth after a stop from elsewhere, too."""
        return reading.healthy and raw_value is not None and not modes.tells(raw_value, self.active)

    def _rewrite(self, seen: str | None, epoch: int) -> None:
        value = modes.own_value(self.active, epoch, int(time.time()))
        seen_flag = "0" if seen is None else "1"
        try:
            words = (seen_flag, seen or "", value, str(epoch), self._beside or "")
            self._redis.eval(_REWRITE, 2, KEY, EPOCH_KEY, *words)
        except (redis.RedisError, OSError) as error:
            log.warning("exec_mode was not rewritten", problem=type(error).__name__)

    def _say(self, reading: Reading) -> Ruling:
        """Log this process's own transitions, each once; returns what holds."""
        snapshot = self.snapshot
        assert snapshot is not None
        needed = settings.ENVIRONMENT.allow_live_after_streak
        # A fresh Redis at the start of a process is a beginning, not a failure.
        beginning = self._last_mode is None and reading.problem == modes.ABSENT
        if not reading.healthy and not self._failing and not beginning:
            self._failing = True
            log.error("FAILING SAFE TO DRY MODE", reason=reading.problem, component=self.component)
        if reading.healthy and snapshot.streak <= needed:
            said = f"health streak {snapshot.streak}/{needed}"
            log.info(said, component=self.component)
            self._failing = False
        ruling = self.ruling()
        if ruling.mode is not self._last_mode:
            if self._last_mode is not None:
                log.warning("mode changed", mode=ruling.mode, was=self._last_mode, reason=ruling.reason)
            self._last_mode = ruling.mode
        return ruling

    def _tell(self, ruling: Ruling) -> None:
        """Last of all, since nothing depends on it: what cannot be counted restricts nobody."""
        try:
            self._voice.tell(ruling)
        except DatabaseError as error:
            connection.close()
            log.warning("the mode was not told", problem=type(error).__name__)

    def ruling(self) -> Ruling:
        return modes.rule(limits(), self.facts(), time.monotonic())

    def facts(self) -> Facts:
        return Facts(self.active, self.snapshot, self.chain_problem, self.database_problem)


def _text(raw: bytes | str | None) -> str | None:
    return raw.decode() if isinstance(raw, bytes) else raw


_watch: ModeWatch | None = None
_owner_pid = 0


def start(component: str, *, pool_child: bool = False) -> ModeWatch:
    """Begin to watch in this process; again in the same process changes nothing."""
    global _watch, _owner_pid
    patience.guard()
    if _watch is None or _owner_pid != os.getpid():
        _watch, _owner_pid = ModeWatch(component, pool_child=pool_child), os.getpid()
        _watch.start()
    return _watch


def stop() -> None:
    """End watching, so that this process falls to DRY."""
    global _watch  # noqa: PLW0603
    if _watch is not None and _owner_pid == os.getpid():
        _watch.stop()
    _watch = None


def limits() -> Limits:
    environment = settings.ENVIRONMENT
    bound = Mode(environment.exec_mode)
    why = "EXEC_MODE is DRY"
    if environment.force_dry:
        bound, why = Mode.DRY, "FORCE_DRY is set"
    elif _force_dry_file():
        bound, why = Mode.DRY, f"the file {environment.force_dry_path} is there"
    return Limits(bound, environment.allow_live_after_streak, why=why)


def _force_dry_file() -> bool:
    """The switch for the worst day: it needs neither database nor Redis. What cannot be looked at is there."""
    try:
        settings.ENVIRONMENT.force_dry_path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def snapshot() -> Snapshot | None:
    return _watch.snapshot if _watch is not None and _owner_pid == os.getpid() else None


def process_facts() -> Facts:
    if _watch is None or _owner_pid != os.getpid():
        return Facts()
    return _watch.facts()


def view() -> ModeView:
    """The effective mode as this process sees it; never raises."""
    ruling = modes.rule(limits(), process_facts(), time.monotonic())
    return ModeView(
        mode=ruling.mode.value,
        requested=ruling.requested.value,
        emergency_stop=ruling.emergency_stop,
        reduce_only=ruling.reduce_only,
        redis_health_streak=ruling.streak,
        reason=ruling.reason,
    )


def effective_mode() -> str:
    return view().mode


def chain_problem(seen: Seen | None = None) -> str:
    """Why chain and database do not permit trading, asked afresh or as it was just seen; blank when they do."""
    if _watch is None or _owner_pid != os.getpid() or _watch.started_at is None:
        return "this process does not watch the mode"
    return (seen or look()).chain_problem(_watch.started_at)
