"""The rules of the execution mode, as pure functions: the most restrictive word wins."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from execution_app.states import Mode, RestrictionKind

Kinds = frozenset[RestrictionKind]
NONE: Kinds = frozenset()
ABSENT = "key exec_mode is absent"


@dataclass(frozen=True)
class Reading:
    """What one look at Redis said.

    `imposes` and `lifts` are an operator's words there; the stack's own values
    carry the epoch under a seal and say nothing new. `healthy` counts towards the streak.
    `rewrite` asks the reader to put the stack's own value in place of what it read.
    `garbled` says that somebody's word stands there which nobody understands.
    """

    healthy: bool
    problem: str = ""
    imposes: Kinds = NONE
    lifts: Kinds = NONE
    rewrite: bool = False
    garbled: bool = False


def unreachable(problem: str) -> Reading:
    return Reading(healthy=False, problem=problem)


def garbled() -> Reading:
    return Reading(healthy=False, problem="key exec_mode is unreadable", garbled=True)


def read(raw_value: str | None, raw_epoch: str | None, database_epoch: int) -> Reading:
    """Judge the key `exec_mode` and the epoch beside it.

    An operator's restriction counts even beside a wrong epoch; an operator's
    lifting counts only beside the right one, since an old copy of Redis could
    carry it.
    """
    epoch_agrees = raw_epoch is not None and raw_epoch.strip() == str(database_epoch)
    if raw_value is None:
        return Reading(healthy=False, problem=ABSENT, rewrite=True)
    value = _parse(raw_value)
    if value is None:
        return garbled()
    if value.get("seal") == _seal(value):
        if epoch_agrees and value.get("epoch") == database_epoch:
            return Reading(healthy=True)
        return Reading(healthy=False, problem="key exec_mode is of another epoch", rewrite=True)
    imposes, lifts = _words(value)
    if not epoch_agrees:
        return Reading(
            healthy=False, problem="the epoch in Redis is not the database's", imposes=imposes, rewrite=True
        )
    return Reading(healthy=True, imposes=imposes, lifts=lifts)


def _parse(raw: str) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    # Not a set: asking one for a list, which JSON may hold, raises.
    if "mode" in value and value["mode"] not in ("DRY", "LIVE"):
        return None
    flags = ("emergency_stop", "reduce_only")
    if any(name in value and not isinstance(value[name], bool) for name in flags):
        return None
    return value


def _words(value: dict[str, Any]) -> tuple[Kinds, Kinds]:
    imposes: set[RestrictionKind] = set()
    lifts: set[RestrictionKind] = set()
    if "mode" in value:
        (imposes if value["mode"] == "DRY" else lifts).add(RestrictionKind.DRY)
    for name, kind in (
        ("emergency_stop", RestrictionKind.STOP),
        ("reduce_only", RestrictionKind.REDUCE_ONLY),
    ):
        if name in value:
            (imposes if value[name] else lifts).add(kind)
    return frozenset(imposes), frozenset(lifts)


def own_value(active: Kinds, epoch: int, updated_at: int) -> str:
    """The value the stack writes itself; the epoch marks it as its own."""
    value = {
        "mode": Mode.DRY if RestrictionKind.DRY in active else Mode.LIVE,
        "emergency_stop": RestrictionKind.STOP in active,
        "reduce_only": RestrictionKind.REDUCE_ONLY in active,
        "updated_at": updated_at,
        "epoch": epoch,
    }
    return json.dumps(value | {"seal": _seal(value)})


def _seal(value: dict[str, Any]) -> str:
    """Breaks when somebody edits the stack's own value by hand, so that their word counts as theirs."""
    sealed = {name: word for name, word in value.items() if name != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()[:16]


def tells(raw_value: str, active: Kinds) -> bool:
    """Whether a value names exactly these restrictions."""
    value = _parse(raw_value)
    return value is not None and _words(value)[0] == active


@dataclass(frozen=True)
class Snapshot:
    """What a process knows of Redis: the last reading and how many healthy ones came in a row."""

    taken_at_s: float  # time.monotonic() of the start of the last reading
    streak: int = 0
    problem: str = "not read yet"
    imposes: Kinds = NONE
    garbled: bool = False


def advance(snapshot: Snapshot, reading: Reading, taken_at_s: float) -> Snapshot:
    """One more reading: a healthy one adds to the streak, any other ends it."""
    if not reading.healthy:
        # What could not be understood may have been a stop: it stands until something else is read there.
        unclear = reading.garbled or (snapshot.garbled and not reading.rewrite)
        return Snapshot(taken_at_s, 0, reading.problem, snapshot.imposes | reading.imposes, unclear)
    # A healthy reading states the operator's whole present word, so it replaces the old one.
    return Snapshot(taken_at_s, snapshot.streak + 1, "", reading.imposes)


@dataclass(frozen=True)
class Ruling:
    """The mode that holds now, and why."""

    requested: Mode
    mode: Mode
    emergency_stop: bool
    reduce_only: bool
    reason: str
    streak: int = 0
    # Everything but Redis' health speaks for LIVE: what a person approved may go (gate/approval.py).
    only_redis: bool = False

    @property
    def degraded(self) -> bool:
        """LIVE is wanted, but not safe at the moment."""
        return self.requested is Mode.LIVE and self.mode is Mode.DRY


@dataclass(frozen=True)
class Limits:
    """What a process was started with."""

    bound: Mode
    streak_needed: int = 3
    snapshot_age_s: float = 1.0
    why: str = "EXEC_MODE is DRY"  # where the bound comes from


@dataclass(frozen=True)
class Facts:
    """Everything a ruling depends on besides time."""

    active: Kinds = NONE
    snapshot: Snapshot | None = None
    chain_problem: str = ""
    database_problem: str = ""


def rule(limits: Limits, facts: Facts, now_s: float) -> Ruling:
    """The effective mode: LIVE only when nothing at all speaks against it."""
    snapshot = facts.snapshot
    active = facts.active | (snapshot.imposes if snapshot else NONE)
    stop = RestrictionKind.STOP in active
    wants_live = limits.bound is Mode.LIVE and RestrictionKind.DRY not in active
    requested = Mode.LIVE if wants_live else Mode.DRY
    streak = snapshot.streak if snapshot else 0
    if facts.database_problem:
        reason = facts.database_problem
    elif limits.bound is Mode.DRY:
        reason = limits.why
    elif RestrictionKind.DRY in active:
        reason = "DRY was set by an operator; Restrictions on the admin site says where"
    elif snapshot is None:
        reason = "this process does not watch the mode"
    elif now_s - snapshot.taken_at_s > limits.snapshot_age_s:
        reason, streak = "the last look at Redis is too old", 0
    elif snapshot.problem:
        reason = f"redis: {snapshot.problem}"
    elif streak < limits.streak_needed:
        reason = f"health streak {streak}/{limits.streak_needed}"
    elif facts.chain_problem:
        reason = facts.chain_problem
    else:
        reason = ""
    mode = Mode.DRY if reason else Mode.LIVE
    if stop:
        reason = f"emergency stop; {reason}" if reason else "emergency stop"
    only_redis = bool(wants_live and reason and not stop) and _is_redis_alone(limits, facts, now_s)
    return Ruling(requested, mode, stop, RestrictionKind.REDUCE_ONLY in active, reason, streak, only_redis)


def _is_redis_alone(limits: Limits, facts: Facts, now_s: float) -> bool:
    """Whether this process looks at Redis in time, chain and database permit trading, and no word is misunderstood."""
    snapshot = facts.snapshot
    if snapshot is None or snapshot.garbled or facts.chain_problem or facts.database_problem:
        return False
    return now_s - snapshot.taken_at_s <= limits.snapshot_age_s
