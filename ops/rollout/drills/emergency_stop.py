"""Drill 4: stop through every surface while slots are in flight; nothing leaves after it, and it ends cleanly."""

import itertools
import time
from collections import Counter

from execution_app.states import Mode
from ops.rollout.drills import logs, telegram, witness
from ops.rollout.drills.faults import FAULTS, RedisFault
from ops.rollout.drills.health import HealthWatch, Look
from ops.rollout.drills.health import Mode as ModeAnswer
from ops.rollout.drills.operator import Operator
from ops.rollout.drills.parts import REDIS
from ops.rollout.drills.report import CannotRun, Failed, NotInjected
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.surfaces import SURFACES, Meaning, Surface, Telegram
from ops.rollout.drills.traffic import ACCEPTED, BUSY, Sender, Traffic
from ops.rollout.drills.witness import Moment

NO_FAULT = "none"
EACH = "each"  # another fault under each surface, in turn
# Fast enough that slots are in flight whenever the stop comes.
CROWD_EVERY_S = 0.1
POLL_S = 0.02
# Ways in which a signal from before the stop may end; a simulation that was decided may outwait its max lag under it.
BEFORE = {"filled", "simulated", "rejected/emergency_stop", "final_cancelled", "expired"}


def run(stage: Stage, through: list[str], redis: list[str]) -> None:
    if Telegram.name in through and (why := telegram.obstacle()):
        stage.report.left_out(why)
        through = [name for name in through if name != Telegram.name]
        if not through:
            raise CannotRun(why)
    operator = Operator()
    operator.create()
    stage.undo.callback(operator.remove, stage.health.url)
    for name, fault in pairs(through, redis):
        operator.enrol()
        surface = SURFACES[name](stage, operator)
        _drill(stage, surface, None if fault == NO_FAULT else FAULTS[fault](stage.parts))
    if not stage.live:
        stage.report.left_out("slots in flight and first broadcasts: there are none in DRY")


def pairs(through: list[str], redis: list[str]) -> list[tuple[str, str]]:
    """Every surface with every fault; with EACH every surface once, with another fault for each."""
    if redis == [EACH]:
        return list(zip(through, itertools.cycle((NO_FAULT, *FAULTS)), strict=False))
    return [(name, fault) for fault in redis for name in through]


def _drill(stage: Stage, surface: Surface, fault: RedisFault | None) -> None:
    report = stage.report
    report.step(f"stop through {surface.name}, Redis fault: {fault.name if fault else NO_FAULT}")
    sender = stage.sender(f"stop-{surface.name}")
    open_before = {mode: stage.positions_open(mode) for mode in Mode}
    mark, processes = stage.parts.mark(), stage.parts.identities()
    if fault:
        stage.undo.callback(fault.end)
        fault.prepare()
    lifting = _Lifting(stage, surface)
    stage.undo.callback(lifting.at_last)
    then, told = _stop_in_a_crowd(stage, surface, sender)
    before = len(sender.keys)
    with HealthWatch(stage.health) as watch, Traffic(sender, stage.timing.every_s, insist=True):
        began_s = time.monotonic()
        time.sleep(min(stage.timing.seconds, 2.0))
        if fault:
            _harm(stage, fault)
        time.sleep(min(stage.timing.seconds, 2.0))
        _check_health(stage, watch, surface.meaning, began_s)
    under = sender.keys[before:]
    _check_refused(stage, surface.meaning, sender, under)
    _check_nothing_left(stage, then, told)
    if surface.meaning.emergency_stop:
        stage.check_said(mark, "worker", logs.STOP)
        _check_held(stage, surface.meaning)
    else:
        stage.close_what_was_opened(sender, open_before[Mode.DRY], Mode.DRY)
    lifting.now()
    _check_recovery(stage, surface, sender)
    stage.check_processes(processes, spared=frozenset({REDIS} if fault and fault.restarts else ()))
    stage.close_what_was_opened(sender, open_before[stage.requested])


class _Lifting:
    """The stop is lifted once: by the drill in its turn, or at the end whatever happened."""

    def __init__(self, stage: Stage, surface: Surface) -> None:
        self._stage, self._surface = stage, surface
        self._pending = True

    def now(self) -> None:
        refused = self._surface.resume()
        self._pending = False
        for words in refused:
            self._stage.report.check("resuming without right is refused", True, words)
        self._stage.report.step(f"resumed through {self._surface.name}")

    def at_last(self) -> None:
        if self._pending and self._is_set():
            self._surface.resume()
            self._stage.report.step(f"undone: resumed through {self._surface.name}")

    def _is_set(self) -> bool:
        wanted = self._surface.meaning.restriction
        return not wanted or wanted in witness.restrictions()


def _stop_in_a_crowd(stage: Stage, surface: Surface, sender: Sender) -> tuple[Moment, list[str]]:
    """Press while signals arrive and slots are in flight; answers what was so when the stop was said to hold."""
    report = stage.report
    with Traffic(sender, CROWD_EVERY_S, insist=True):
        waiting = _await_slots(stage)
        pressed_s = time.monotonic()
        told = surface.stop()
        returned_s = time.monotonic()
        if surface.meaning.holds_after_s:
            time.sleep(surface.meaning.holds_after_s)
        then = witness.moment()
    report.figure(f"{surface.name}: the call took", returned_s - pressed_s, "s")
    report.step(f"stopped at {then.at:%H:%M:%S.%f}; next nonces {then.next_nonces}, chain {then.pending}")
    if stage.live:
        evidence = (
            f"before the call {waiting}, when it held {then.in_flight}, may still leave: {told or 'none'}"
        )
        report.check("slots were in flight when the stop came", bool(waiting), evidence)
    took_s = stage.health.await_mode(
        lambda mode: _holds(mode, surface.meaning), stage.timing.recovery_s, f"{surface.name} stops"
    )
    report.figure(f"{surface.name}: until every web worker says so", took_s, "s")
    return then, told


def _await_slots(stage: Stage) -> dict[str, int]:
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while stage.live:
        waiting = witness.in_flight()
        if sum(waiting.values()) > 1:
            return waiting
        if time.monotonic() > deadline_s:
            raise NotInjected("no slot came to be in flight, so a stop would show nothing")
        time.sleep(POLL_S)
    return {}


def _holds(mode: ModeAnswer, meaning: Meaning) -> bool:
    if meaning.emergency_stop:
        return bool(mode["emergency_stop"])
    return mode["mode"] == Mode.DRY and "the file" in str(mode["reason"])


def _harm(stage: Stage, fault: RedisFault) -> None:
    """Redis fails while the stop holds, and is back again."""
    fault.begin()
    stage.report.step(f"Redis fault {fault.name} under the stop")
    if fault.lasts:
        time.sleep(stage.timing.seconds)
    fault.end()
    stage.health.await_mode(
        lambda mode: mode["redis_health_streak"] >= 3,  # noqa: PLR2004 -- the contract's
        stage.timing.recovery_s,
        "Redis is healthy again",
    )
    stage.report.step("Redis is healthy again")


def _check_health(stage: Stage, watch: HealthWatch, meaning: Meaning, began_s: float) -> None:
    """No answer, not one, said otherwise while the stop held."""

    def looks() -> list[Look]:
        return [look for look in watch.between(began_s, time.monotonic()) if look.mode]

    # On a busy machine a look at a part may be late for a while; a stop by itself makes none fail.
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while not any(look.status == "ok" for look in looks()) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    found = looks()
    wrong = [look.mode for look in found if not _holds(look.mode, meaning)]
    said = "emergency_stop true" if meaning.emergency_stop else "DRY because of the file"
    stage.report.check(
        f"/health says {said} all the time", bool(found) and not wrong, wrong[:2] or f"{len(found)} answers"
    )
    ok = sum(look.status == "ok" for look in found)
    failing = Counter(words for look in found for words in look.failing).most_common(3)
    evidence = [f"ok {ok} times of {len(found)}", *(f"{count} x {words}" for words, count in failing)]
    stage.report.check("/health is ok under it", ok > 0, "; ".join(evidence))


def _check_refused(stage: Stage, meaning: Meaning, sender: Sender, under: list[str]) -> None:
    report = stage.report
    refused = {status: count for status, count in sender.answers.items() if status not in {ACCEPTED, BUSY}}
    report.check(
        "every signal was answered 202, some after a 503 and coming again",
        bool(under) and not refused,
        dict(sender.answers),
    )
    found = witness.await_ends(under, stage.timing.settle_s)
    report.check(f"signals that came under it ended {meaning.end}", set(found) == {meaning.end}, dict(found))


def _check_nothing_left(stage: Stage, then: Moment, told: list[str]) -> None:
    """Rows and chain, from when the stop was said to hold until just before it is lifted."""
    report = stage.report
    signed = witness.signed_since(then)
    report.check("nothing was signed after it", not signed, "; ".join(signed[:5]) or "no new row in tx_sends")
    left = witness.left_since(then, told)
    unoffered = f"{len(then.unoffered)} had not been offered"
    report.check(
        "nothing was broadcast for the first time after it", not left, "; ".join(left[:5]) or unoffered
    )
    nonces = witness.next_nonces()
    report.check("no nonce was taken after it", nonces == then.next_nonces, nonces)
    pending = witness.counts("pending")
    grown = {a: n for a, n in pending.items() if n > then.pending.get(a, 0) + len(told)}
    report.check("the chain got nothing new from our wallets", not grown, grown or pending)


def _check_held(stage: Stage, meaning: Meaning) -> None:
    held = witness.restrictions()
    stage.report.check("PostgreSQL holds the stop", meaning.restriction in held, held)


def _check_recovery(stage: Stage, surface: Surface, sender: Sender) -> None:
    report = stage.report
    report.figure(f"{surface.name}: until mode {stage.requested} again", stage.await_back(), "s")
    held = witness.restrictions()
    report.check("nothing restricts execution any more", not held, held or "none")
    status, key = sender.open()
    began_s = time.monotonic()
    found = witness.await_ends([key], stage.timing.settle_s)
    wanted = "filled" if stage.live else "simulated"
    report.check("a signal is executed again", found == Counter({wanted: 1}), f"{status}, {dict(found)}")
    report.figure(f"{surface.name}: until that one was settled", time.monotonic() - began_s, "s")
    try:
        ends = witness.await_ends(sender.keys, stage.timing.settle_s)
    except Failed as error:
        report.check("every signal is settled", False, error)
        return
    odd = set(ends) - BEFORE
    report.check("every signal is settled, and none in an odd way", not odd, dict(ends))
    stage.check_executed_once(sender)
