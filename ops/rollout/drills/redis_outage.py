"""Drill 1: Redis fails under traffic, and execution falls to DRY at once; it comes back, and so does the mode."""

import time
from datetime import timedelta

from ops.rollout.drills import logs, witness
from ops.rollout.drills.faults import FAULTS, KEY, OldDump, RedisFault
from ops.rollout.drills.health import HealthWatch
from ops.rollout.drills.health import Mode as ModeAnswer
from ops.rollout.drills.parts import REDIS, WATCHERS, Mark
from ops.rollout.drills.report import Report
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.traffic import ACCEPTED, BUSY, Sender, Traffic

STOPPED = '{"mode":"DRY","emergency_stop":true}'
RELEASED = '{"mode":"LIVE","emergency_stop":false}'
STREAK = 3  # the contract's
# Their children watch the mode, and say in the rows that they live.
POOLS = ("worker", "tpsl")
ENDED_BY_CELERY = "Terminating it instead"
RECORDED_WITHIN_S = 5.0


def run(stage: Stage, faults: list[str]) -> None:
    watch = stage.watch()
    for name in faults:
        fault = FAULTS[name](stage.parts)
        stage.report.step(f"fault: {name}")
        sender = stage.sender(f"redis-{name}")
        open_before = stage.positions_open(stage.requested)
        mark, processes = stage.parts.mark(), stage.parts.identities()
        stage.undo.callback(fault.end)
        with Traffic(sender, stage.timing.every_s, insist=True):
            _wait_for_traffic(stage, sender)
            fault.prepare()
            if isinstance(fault, OldDump):
                _bring_back_an_old_live(stage, fault)
            elif fault.lasts:
                _take_away(stage, fault, watch, mark)
            else:
                _shake(stage, fault, mark)
        _check_afterwards(stage, sender, name)
        spared = frozenset({REDIS}) if fault.restarts else frozenset[str]()
        stage.check_processes(processes, spared=spared)
        stage.close_what_was_opened(sender, open_before)


def _wait_for_traffic(stage: Stage, sender: Sender) -> None:
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while len(sender.keys) < 2 and time.monotonic() < deadline_s:  # noqa: PLR2004 -- so that it flows
        time.sleep(0.05)
    stage.report.check("signals flow", bool(sender.keys), dict(sender.answers))


def _take_away(stage: Stage, fault: RedisFault, watch: HealthWatch, mark: Mark) -> None:
    """Redis is away for `seconds`: what /health, logs and rows say meanwhile and afterwards."""
    report, timing = stage.report, stage.timing
    began_at, began_s = witness.now(), time.monotonic()
    fault.begin()
    report.step(f"Redis is away ({fault.name}) for {timing.seconds:g} s; it answers nobody")
    time.sleep(max(0.0, began_s + timing.seconds - time.monotonic()))
    ended_at, ended_s = witness.now(), time.monotonic()
    _check_health_fell(report, watch, began_s, ended_s, timing.follow_s)
    # Of the same moment, and the children first: one that takes another's place when Redis is back has not fallen.
    pools = {name: witness.pool_pids(name) for name in POOLS}
    told = stage.logs_since(mark)
    fault.end()
    report.step("Redis is back")
    _await_mode(stage, fault)
    _check_phrase(stage, told, pools, once=not fault.restarts)
    early = began_at + timedelta(seconds=timing.follow_s)
    sent = witness.sent_between(early, ended_at)
    report.check(
        "nothing was signed or first broadcast while DRY",
        not sent,
        "; ".join(sent[:5]) or f"no send from {early:%H:%M:%S.%f} to {ended_at:%H:%M:%S.%f}",
    )
    _check_streaks(stage, mark, _fell(told), all_of_pools=True)


def _await_mode(stage: Stage, fault: RedisFault) -> None:
    stage.report.figure(f"{fault.name}: until mode {stage.requested} again", stage.await_back(), "s")


def _check_health_fell(
    report: Report, watch: HealthWatch, began_s: float, ended_s: float, follow_s: float
) -> None:
    looks = [look for look in watch.between(began_s, ended_s) if look.mode]
    late = [look for look in looks if look.asked_at_s > began_s + follow_s]
    wrong = [look.mode for look in late if not _is_down(look.mode)]
    report.check(
        f"/health says DRY and streak 0 from {follow_s:g} s on",
        bool(late) and not wrong,
        wrong[:2] or f"{len(late)} answers, reason: {late[-1].mode['reason'] if late else 'none came'}",
    )
    last_s = watch.last(lambda mode: not _is_down(mode), began_s, ended_s)
    report.figure("last answer of /health that did not know yet", last_s or 0.0, "s after the fault")
    silent = len(watch.between(began_s, ended_s)) - len(looks)
    report.check("/health answered all the time", silent == 0, f"{len(looks)} answers, {silent} times none")


def _is_down(mode: ModeAnswer) -> bool:
    return bool(mode["mode"] == "DRY" and mode["redis_health_streak"] == 0)


def _fell(told: dict[str, str]) -> dict[str, set[int]]:
    return {name: set(logs.by_process(text, logs.FALL)) for name, text in told.items()}


def _check_phrase(stage: Stage, told: dict[str, str], pools: dict[str, set[int]], *, once: bool) -> None:
    """Each process that executes or serves says it, and says it again only after Redis was well in between."""
    fell = _fell(told)
    quiet = [name for name in WATCHERS if not fell[name]]
    quiet += [f"{name} {sorted(m)}" for name, members in pools.items() if (m := members - fell[name])]
    evidence = f"silent: {quiet}" if quiet else {name: len(pids) for name, pids in fell.items()}
    stage.report.check(f"every process logs `{logs.FALL}`", not quiet, evidence)
    times = {
        f"{name} {pid}": count
        for name, text in told.items()
        for pid, count in logs.by_process(text, logs.FALL).items()
        if count > (1 if once else 1 + logs.streaks(text).get(pid, []).count(1))
    }
    stage.report.check("each process says it once", not times, times or "once each")


def _check_streaks(stage: Stage, mark: Mark, fell: dict[str, set[int]], *, all_of_pools: bool) -> None:
    """Whoever fell climbs 1, 2, 3.

    A child of a worker may end meanwhile: Celery ends what runs and can no longer be acknowledged, and says
    so. Then the one that takes its place climbs. One that is gone without that word has crashed.
    """
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while True:
        told = stage.logs_since(mark)
        pools = {name: witness.pool_pids(name) for name in POOLS}
        climbing = {name: pids & pools.get(name, pids) for name, pids in fell.items()}
        if all_of_pools:
            climbing |= pools
        missing = [
            f"{name} {pid}: {logs.streaks(told[name]).get(pid, [])}\n{logs.of_mode(told[name], pid)}"
            for name, pids in climbing.items()
            for pid in sorted(pids)
            if not logs.has_climbed(told[name], pid)
        ]
        if not missing or time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    for name in POOLS:
        _check_replaced(stage, name, fell[name] - pools[name], told[name].count(ENDED_BY_CELERY))
    count = sum(len(pids) for pids in climbing.values())
    evidence = "; ".join(missing) or f"{count} processes"
    stage.report.check(
        "every process that fell logs its health streak from 1 on", count > 0 and not missing, evidence
    )


def _check_replaced(stage: Stage, name: str, gone: set[int], ended_by_celery: int) -> None:
    if gone:
        stage.report.check(
            f"children of {name} that are gone were ended by Celery, which lost Redis in the middle of a task",
            len(gone) <= ended_by_celery,
            f"gone: {sorted(gone)}; the log tells of {ended_by_celery}",
        )


def _shake(stage: Stage, fault: RedisFault, mark: Mark) -> None:
    """Gone and back in one moment: whoever looks in that moment falls, and climbs again."""
    fault.begin()
    stage.report.step(f"{fault.name} is done")
    deadline_s = time.monotonic() + RECORDED_WITHIN_S
    while not any(_fell(stage.logs_since(mark)).values()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    fell = _fell(stage.logs_since(mark))
    count = sum(len(pids) for pids in fell.values())
    stage.report.check("somebody noticed and fell to DRY", count > 0, {n: len(p) for n, p in fell.items()})
    stage.report.left_out("what is sent meanwhile: one process writes the key again before others look")
    _await_mode(stage, fault)
    _check_streaks(stage, mark, fell, all_of_pools=False)


def _bring_back_an_old_live(stage: Stage, fault: OldDump) -> None:
    """An older Redis, from before a stop and DRY, lifts neither."""
    report = stage.report
    report.step(f"the copy was taken while {KEY} carried {fault.carried}")
    stage.undo.callback(_release, stage)
    stage.parts.redis("SET", KEY, STOPPED)
    _await_restrictions({"emergency_stop of redis", "dry of redis"})
    time.sleep(stage.timing.follow_s)
    then = witness.moment()
    report.step(f"stopped and set to DRY through Redis: {witness.restrictions()}")
    began_s = time.monotonic()
    fault.begin()
    report.step("Redis is back with the old copy")
    with HealthWatch(stage.health) as watch:
        stage.health.await_mode(
            lambda mode: mode["redis_health_streak"] >= STREAK, stage.timing.recovery_s, f"streak of {STREAK}"
        )
        time.sleep(min(stage.timing.seconds, 10.0))
    looks = [look.mode for look in watch.between(began_s, time.monotonic()) if look.mode]
    wrong = [mode for mode in looks if not mode["emergency_stop"] or mode["mode"] != "DRY"]
    report.check(
        "the old LIVE brought neither LIVE nor an end of the stop",
        bool(looks) and not wrong,
        wrong[:2] or f"{len(looks)} answers",
    )
    held = set(witness.restrictions())
    wanted = {"emergency_stop of redis", "dry of redis"}
    report.check("stop and DRY are recorded still", held >= wanted, sorted(held))
    told = stage.parts.redis("GET", KEY)
    report.check(f"{KEY} tells of the stop again", '"emergency_stop": true' in told, told)
    signed = witness.signed_since(then) + witness.left_since(then, ())
    report.check("nothing was signed or first broadcast", not signed, "; ".join(signed) or "no send")
    _release(stage)
    report.step("lifted in Redis, by the opposite word")
    _await_mode(stage, fault)


def _await_restrictions(wanted: set[str]) -> None:
    deadline_s = time.monotonic() + RECORDED_WITHIN_S
    while not set(witness.restrictions()) >= wanted and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _release(stage: Stage) -> None:
    """Say the opposite word until it counts: only one beside the right epoch does."""
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while any(held.endswith("of redis") for held in witness.restrictions()):
        stage.parts.redis("SET", KEY, RELEASED)
        time.sleep(0.5)
        if time.monotonic() > deadline_s:
            break


def _check_afterwards(stage: Stage, sender: Sender, name: str) -> None:
    report = stage.report
    refused = {status: count for status, count in sender.answers.items() if status not in {ACCEPTED, BUSY}}
    report.check(
        "every signal was answered 202, some after a 503 and coming again", not refused, dict(sender.answers)
    )
    report.figure(f"{name}: slowest answer to a signal", sender.slowest_s, "s")
    began_s = time.monotonic()
    found = witness.await_ends(sender.keys, stage.timing.settle_s)
    report.figure(f"{name}: until all signals were settled", time.monotonic() - began_s, "s")
    stopped = found.get("rejected/emergency_stop", 0) if name == OldDump.name else 0
    done = found["filled"] + found["simulated"] + stopped
    report.check("every signal was executed or simulated", done == len(sender.keys), dict(found))
    stage.check_executed_once(sender)
