"""One trial: a child walks until it dies at a point, another one recovers, and the parent looks at what is left."""

import gc
import os
import re
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import connection

from execution_app.errors import Retryable
from execution_app.models import Position, TxIntent, TxSend
from execution_app.node.rpc import NodeError
from execution_app.states import Mode, PositionState
from signals_app.models import Signal
from tests import claims, invariants, letters
from tests.crash.bench import SOURCE, Bench
from tests.crash.door import Note
from tests.crash.lent import lent
from tests.crash.points import Points, instrument
from tests.crash.scenario import Scenario, nothing
from tests.invariants import Stop

ROUNDS = 6  # of sweeps and blocks, within which every intent ends
POSITION_ID = re.compile(r"^tpsl:\d+:")  # another one at each stage
ORDER_ID = re.compile(r"@[0-9]+\.")  # of an order that a close takes back
ROUNDS_HELD = 2  # where something stays held for a person, whatever goes on around it


@dataclass(frozen=True)
class Place:
    """Where to die: the so manieth time at this label. A blank label is nowhere."""

    label: str = ""
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.label} #{self.occurrence}" if self.occurrence > 1 else self.label


@dataclass(frozen=True)
class Walked:
    """Labels in the order in which they were reached, places that were passed inside of a transaction, and the end.

    `elsewhere` says at which points somebody waited in vain: another road was taken.
    """

    labels: list[str]
    within: list[str]
    died: bool
    elsewhere: str = ""


@dataclass(frozen=True)
class Trial:
    """What one death brought about; `problem` is blank when nothing was wrong afterwards.

    `elsewhere` is what a walk says that did not come to its place, as `Walked` has it.
    """

    scenario: str
    fault: str
    place: Place
    reached: bool
    rounds: int = 0
    problem: str = ""
    took_s: float = 0.0
    elsewhere: str = ""


@dataclass(frozen=True)
class Ended:
    signal: int
    code: int
    lines: list[str] = field(default_factory=list)


def set_stage(bench: Bench, scenario: Scenario) -> None:
    """Do once what the scenario needs before its road begins, and put it away."""
    bench.take_back("base")

    def prepare(_: int) -> None:
        bench.start_process()
        scenario.before(bench)

    if scenario.before is not nothing:
        ended = in_child(prepare)
        assert ended == Ended(0, 0, ended.lines), "\n".join(ended.lines[-40:])
    bench.put_away()


def run(bench: Bench, scenario: Scenario, fault: str, place: Place) -> Trial:
    """Die at this place and recover; the scenario's stage has been put away."""
    begun_s = time.monotonic()
    walked = walk(bench, scenario, fault, place)
    rounds, problem = 0, ""
    if walked.died:
        # Some of what is wrong is put right by recovery, and was wrong all the same.
        problem = judge(bench, scenario, finished=False)
        if not problem:
            rounds, problem = recover(bench, scenario)
        problem = problem or judge(bench, scenario)
    took_s = round(time.monotonic() - begun_s, 3)
    return Trial(scenario.name, fault, place, walked.died, rounds, problem, took_s, walked.elsewhere)


def walk(bench: Bench, scenario: Scenario, fault: str, place: Place) -> Walked:
    """Walk from the stage in a child. Raises AssertionError where it ended by another error."""
    bench.take_back()

    def go(said: int) -> None:
        if not scenario.boots:
            bench.go_on(scenario.mode)
        if fault:
            bench.steer("trouble", fault)
        points = Points(said, place.label, place.occurrence)
        instrument(points, bench.door.url)
        try:
            bench.points, bench.boots = points, scenario.boots
            if scenario.boots:
                bench.boot()
            scenario.walk(bench)
        except (Retryable, NodeError):
            if not fault:
                raise
        if not fault and points.missed():
            os.write(said, f"elsewhere nobody was met at {points.missed()}\n".encode())
        bench.await_helpers()

    ended = in_child(go)
    died = ended.signal == signal.SIGKILL
    assert died or not (ended.signal or ended.code), "\n".join(ended.lines[-40:])

    def told(word: str) -> list[str]:
        return [line.removeprefix(f"{word} ") for line in ended.lines if line.startswith(f"{word} ")]

    return Walked(told("point"), told("within"), died, "; ".join(told("elsewhere")))


def recover(bench: Bench, scenario: Scenario) -> tuple[int, str]:
    """A fresh process sweeps; returns the rounds it took, and what went wrong."""

    def sweep(said: int) -> None:
        bench.steer("calm")
        bench.start_process(scenario.mode)
        for number in range(1, (ROUNDS if scenario.finished else ROUNDS_HELD) + 1):
            scenario.again(bench)
            bench.age()
            bench.sweep()
            if not bench.is_done():
                (bench.live_on_unseen if number == 1 else bench.live_on)()
            if bench.is_done():
                os.write(said, f"rounds {number}\n".encode())
                return
        if not scenario.finished:
            os.write(said, f"rounds {ROUNDS_HELD}\n".encode())
            return
        left = list(TxIntent.objects.filter(settled_at=None).values_list("pk", "state", "reason_detail"))
        raise AssertionError(f"stuck, I10: after {ROUNDS} rounds there is left {left}")

    ended = in_child(sweep)
    if ended.code or ended.signal:
        return 0, "recovery: " + (ended.lines or ["it said nothing"])[-1]
    return int(ended.lines[-1].split()[1]), ""


def judge(bench: Bench, scenario: Scenario, *, finished: bool | None = None, alone: bool = False) -> str:
    """What is wrong with the end, in one line; blank when nothing is. A half done one is `finished=False`."""
    is_drained = scenario.finished if finished is None else finished
    try:
        book = invariants.check(
            bench.door,
            stops=_windows(bench.door.notes, "stop", "resume")
            + _windows(bench.door.notes, "dry", "live")
            + _halts(),
            foreign=[
                tx_hash for note in bench.door.notes if note.word == "foreign" for tx_hash in note.hashes
            ],
            drained=is_drained,
            first_block=bench.first_block,
        )
        letters.check(
            bench.gateway.posts,
            first_block=bench.stage_block,
            drained=is_drained,
        )
        claims.check(bench.door.log, book, drained=is_drained)
        if finished is None:
            _ends(scenario, _certain(scenario) if alone else scenario.ends)
    except AssertionError as broken:
        return str(broken).splitlines()[0]
    return ""


def _windows(notes: Sequence[Note], begins: str, ends: str) -> list[Stop]:
    """The times in which nothing new may leave. To begin again while one holds changes nothing."""
    found: list[Stop] = []
    since: Note | None = None
    for note in notes:
        if note.word == begins and since is None:
            since = note
        elif note.word == ends and since is not None:
            found.append(Stop(since.at_s, note.at_s, since.hashes))
            since = None
    return found + ([Stop(since.at_s, in_flight=since.hashes)] if since is not None else [])


def _halts() -> list[Stop]:
    """Since when a wallet is halted: nothing new of it leaves, nor does what was signed before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - halted_at)::float FROM wallets WHERE halted_reason <> ''"
        )
        return [Stop(time.monotonic() - since_s) for (since_s,) in cursor.fetchall()]


def _certain(scenario: Scenario) -> dict[str, frozenset[str]]:
    """The ends where nothing was in the way."""
    others = {
        name: one for name, one in scenario.ends.items() if name.removesuffix("?") not in scenario.alone
    }
    return {**others, **scenario.alone}


def judge_replaced(scenario: Scenario) -> str:
    """As `judge`, where a walk has ended all by itself, without a death and trouble.

    What is replaced too early, or again and again, costs money; what is never replaced blocks the wallet.
    """
    found = tuple(TxSend.objects.filter(attempt__gt=0).order_by("kind").values_list("kind", flat=True))
    if scenario.replaced in (None, found):
        return ""
    return f"wrong end: bytes were replaced by {list(found)}, not by {list(scenario.replaced or ())}"


def _ends(scenario: Scenario, ends: Mapping[str, frozenset[str]]) -> None:
    """Every signal has led to an intent, and every intent is where the scenario ends."""
    states: dict[str, set[str]] = {}
    for key, state, reason in TxIntent.objects.values_list("intent_key", "state", "reason"):
        name = ORDER_ID.sub("@", POSITION_ID.sub("tpsl:", key.removeprefix(f"sig:{SOURCE}:")))
        states.setdefault(name, set()).add(f"{state}:{reason}")
    known = set(Signal.objects.values_list("signal_id", flat=True))
    for name, allowed in ends.items():
        signal_id = name.removesuffix("?")
        found = states.pop(signal_id, set())
        if not name.endswith("?"):
            if not {"#", ":", "@"} & set(signal_id):
                assert signal_id in known, f"lost: signal {signal_id} is not stored"
            assert found, f"lost: {signal_id} has led to no intent"
        wrong = {one for one in found if one not in allowed and one.partition(":")[0] not in allowed}
        assert not wrong, f"wrong end: {signal_id} ended {sorted(wrong)}, not {sorted(allowed)}"
    strange = {key: found for key, found in states.items() if key not in ends}
    assert not strange, f"duplicated: nobody asked for {strange}"
    if scenario.left is not None:
        held = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).count()
        assert held == scenario.left, f"wrong end: {held} positions are open, not {scenario.left}"


def in_child(work: Callable[[int], None]) -> Ended:
    """Run it in a forked process that never comes back; it is given a file for its lines."""
    said = os.memfd_create("said")  # outlives whoever writes, and wakes nobody meanwhile
    reader, writer = os.pipe()  # ends with the last of its kind: it may have forked others
    lent.prepare()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            gc.disable()
            lent.take()
            work(said)
            code = 0
        except BaseException:  # noqa: BLE001  (a child must not return into whoever forked it, whatever happened)
            os.write(said, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    died = os.WIFSIGNALED(status)
    # At once, since others may wait for its locks. Points lie between statements; where else it ended nobody knows.
    lent.take_back(between_statements=status == 0 or (died and os.WTERMSIG(status) == signal.SIGKILL))
    with os.fdopen(reader, "rb") as pipe:
        pipe.read()
    os.lseek(said, 0, os.SEEK_SET)
    with os.fdopen(said, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    return Ended(os.WTERMSIG(status) if died else 0, 0 if died else os.WEXITSTATUS(status), lines)
