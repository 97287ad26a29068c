"""A change of the stack's mode counts once, however many processes see it, in whatever order."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import psycopg
import pytest
import redis as redis_py
from django.db import connection

from execution_app import audit
from execution_app.gate import changes
from execution_app.gate.changes import ModeVoice
from execution_app.gate.modes import Ruling
from execution_app.gate.watch import ModeWatch
from execution_app.models import ModeChange, StackMode
from execution_app.states import Mode
from tests import real_parts
from tests.execution import rows
from tests.execution.gate.test_watch import compared, look_until_live
from tests.redis_outages import frozen_redis

__all__ = ["compared"]  # a fixture

PROCESSES = 8
LIVE = Ruling(Mode.LIVE, Mode.LIVE, emergency_stop=False, reduce_only=False, reason="")
DEGRADED = Ruling(Mode.LIVE, Mode.DRY, emergency_stop=False, reduce_only=False, reason="redis: away")
DRY = Ruling(Mode.DRY, Mode.DRY, emergency_stop=False, reduce_only=False, reason="EXEC_MODE is DRY")


@pytest.fixture(autouse=True)
def _held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Still less than a beginning may take; what this machine loses decides nothing."""
    assert changes.HOLD_S == 10
    monkeypatch.setattr(changes, "HOLD_S", 25)


def stack() -> tuple[str, int]:
    row = StackMode.objects.get()
    return row.mode, row.changes


def told(kind: str = "effective") -> list[str]:
    """The history of a mode, oldest first."""
    return list(ModeChange.objects.filter(kind=kind).order_by("id").values_list("mode", flat=True))


def pass_seconds(seconds: int, *voices: ModeVoice) -> None:
    """For the database and for the timers of these processes."""
    rows.execute(
        "UPDATE stack_mode SET dry_at = dry_at - make_interval(secs => %s),"
        " requested_dry_at = requested_dry_at - make_interval(secs => %s)",
        seconds,
        seconds,
    )
    for voice in voices:
        voice._told_at_s -= seconds
        voice._begun_s -= seconds


def settled(count: int = PROCESSES) -> list[ModeVoice]:
    """Processes that have been in LIVE; so has the stack, and that was one change."""
    voices = [ModeVoice() for _ in range(count)]
    for voice in voices:
        voice.tell(LIVE)
    assert stack() == ("LIVE", 1)
    return voices


def test_a_start_into_live_is_one_change(database: None) -> None:
    voices = [ModeVoice() for _ in range(PROCESSES)]
    for voice in voices:
        voice.tell(DEGRADED)
    assert stack() == ("DRY", 0)
    for voice in voices:
        voice.tell(LIVE)
    assert stack() == ("LIVE", 1)


def test_a_new_or_recycled_process_is_no_change(database: None) -> None:
    others = settled()
    for _ in range(5):
        recycled = ModeVoice()
        recycled.tell(DEGRADED)
        pass_seconds(3, recycled, *others)
        recycled.tell(DEGRADED)
        recycled.tell(LIVE)
    assert stack() == ("LIVE", 1)


def test_a_process_that_never_arrives_is_a_change_once_it_should_have(database: None) -> None:
    settled()
    late = ModeVoice()
    late.tell(DEGRADED)
    pass_seconds(int(changes.BEGINNING_S) + 1, late)
    late.tell(DEGRADED)
    assert stack() == ("DRY", 2)


def test_an_outage_is_two_changes_in_whatever_order_it_is_seen(database: None) -> None:
    first, *others, last = settled()
    first.tell(DEGRADED)
    for voice in others:
        voice.tell(DEGRADED)
    assert stack() == ("DRY", 2)
    for voice in (first, *others):
        voice.tell(LIVE)
    last.tell(DEGRADED)  # it noticed when for the others all was over
    last.tell(LIVE)
    assert stack() == ("DRY", 2)
    pass_seconds(changes.HOLD_S + 1, first, *others, last)
    for voice in (first, *others, last):
        voice.tell(LIVE)
    assert stack() == ("LIVE", 3)


def test_the_history_has_one_line_for_each_change_with_its_cause(database: None) -> None:
    first, *others = settled()
    assert (told("requested"), told()) == (["LIVE"], ["LIVE"])
    for voice in (first, *others):
        voice.tell(DEGRADED)
    away = ModeChange.objects.latest("id")
    assert (away.kind, away.mode, away.reason) == ("effective", "DRY", "redis: away")
    assert (away.streak, away.epoch) == (0, 1)
    assert away.said_by == audit.here()
    for _ in range(10):
        pass_seconds(3, first, *others)
        for voice in (first, *others):
            voice.tell(DEGRADED)
    assert (told("requested"), told()) == (["LIVE"], ["LIVE", "DRY"]), "what goes on is no change"
    for voice in (first, *others):
        voice.tell(DRY)
    assert (told("requested"), told()) == (["LIVE", "DRY"], ["LIVE", "DRY"])
    pass_seconds(changes.HOLD_S + 1, first, *others)
    for voice in (first, *others):
        voice.tell(LIVE)
    assert (told("requested"), told()) == (["LIVE", "DRY", "LIVE"], ["LIVE", "DRY", "LIVE"])


def test_a_mode_that_flaps_has_a_bounded_history(database: None) -> None:
    """Down at once, up only after HOLD_S: however often a process changes its mind, two lines in HOLD_S."""
    (voice,) = settled(1)
    for _ in range(50):
        voice.tell(DEGRADED)
        voice.tell(LIVE)
    assert told() == ["LIVE", "DRY"]


def test_while_one_process_is_in_dry_so_is_the_stack(database: None) -> None:
    """As beside a process that was started with another EXEC_MODE."""
    alone, *others = settled()
    for _ in range(10):
        for voice in (alone, *others):
            voice.tell(DRY if voice is alone else LIVE)
        pass_seconds(3, alone, *others)
    assert stack() == ("DRY", 2)


def test_a_process_that_died_in_dry_is_forgotten(database: None) -> None:
    died, *others = settled()
    died.tell(DEGRADED)
    assert stack() == ("DRY", 2)
    pass_seconds(changes.HOLD_S + 1, *others)
    others[0].tell(LIVE)
    assert stack() == ("LIVE", 3)


def test_a_restart_into_dry_is_one_change_and_one_into_live_none(database: None) -> None:
    settled()
    for voice in [ModeVoice() for _ in range(PROCESSES)]:
        voice.tell(DEGRADED)
        voice.tell(LIVE)
    assert stack() == ("LIVE", 1)
    for voice in [ModeVoice() for _ in range(PROCESSES)]:
        voice.tell(DRY)
    assert stack() == ("DRY", 2)


@pytest.mark.parametrize("ruling", [DRY, LIVE])
def test_all_at_once_are_one_change(database: None, ruling: Ruling) -> None:
    voices = settled()
    if ruling is LIVE:
        voices[0].tell(DEGRADED)
        pass_seconds(changes.HOLD_S + 1, *voices)
    together, before = Barrier(PROCESSES), stack()[1]

    def tell(voice: ModeVoice) -> None:
        connection.ensure_connection()
        together.wait(30)
        voice.tell(ruling)
        connection.close()

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(tell, voices))
    assert stack() == (ruling.mode, before + 1)
    assert told() == (["LIVE", "DRY", "LIVE"] if ruling is LIVE else ["LIVE", "DRY"])


def test_a_row_that_somebody_holds_keeps_nobody_waiting(database: None) -> None:
    (voice,) = settled(1)
    with psycopg.connect(real_parts.postgres.url) as holder:
        holder.execute("SELECT 1 FROM stack_mode FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 1000")
        voice.tell(DEGRADED)
    assert stack() == ("LIVE", 1)
    pass_seconds(3, voice)
    voice.tell(DEGRADED)
    assert stack() == ("DRY", 2), "said again until it was heard"


@pytest.mark.usefixtures("own_limits")
def test_the_watch_counts_an_outage_of_redis(compared: None, valkey: redis_py.Redis) -> None:
    watchers = [ModeWatch(f"test-{number}") for number in range(3)]
    for watcher in watchers:
        look_until_live(watcher)
    assert stack() == ("LIVE", 1)
    with frozen_redis():
        for watcher in watchers:
            watcher.look()
    assert stack() == ("DRY", 2)
    for watcher in watchers:
        look_until_live(watcher)
    pass_seconds(changes.HOLD_S + 1, *(watcher._voice for watcher in watchers))
    for watcher in watchers:
        watcher.look()
    assert stack() == ("LIVE", 3)


def test_an_outage_of_the_database_is_counted_once_it_is_back(compared: None, valkey: redis_py.Redis) -> None:
    watchers = [ModeWatch(f"test-{number}") for number in range(3)]
    for watcher in watchers:
        look_until_live(watcher)
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        for watcher in watchers:
            watcher.look()
            watcher.look()
            assert watcher.ruling().mode is Mode.DRY
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port
    assert stack() == ("LIVE", 1)
    for watcher in watchers:
        look_until_live(watcher)  # the first has its streak before the last one looks at all
    assert stack() == ("DRY", 2)
    pass_seconds(changes.HOLD_S + 1, *(watcher._voice for watcher in watchers))
    watchers[0].look()
    assert stack() == ("LIVE", 3)


def test_what_cannot_be_counted_restricts_nobody(compared: None, valkey: redis_py.Redis) -> None:
    watcher = ModeWatch("test")
    rows.execute("ALTER TABLE stack_mode RENAME TO stack_mode_away")
    try:
        look_until_live(watcher)
        watcher.look()
        assert watcher.ruling().mode is Mode.LIVE
    finally:
        rows.execute("ALTER TABLE stack_mode_away RENAME TO stack_mode")
    watcher._voice._told_at_s = float("-inf")
    watcher.look()
    assert stack() == ("LIVE", 1)


def test_a_mode_that_lasts_is_told_every_two_seconds(database: None) -> None:
    """Not more often, so that eight processes do not keep the row busy; and at once where it changes."""
    (voice,) = settled(1)

    def told_at(passed_s: float) -> object:
        voice._told_at_s = time.monotonic() - passed_s
        voice.tell(DEGRADED)
        return StackMode.objects.get().dry_at

    first = told_at(60)
    rows.execute("UPDATE stack_mode SET dry_at = dry_at - interval '10 seconds'")
    before = StackMode.objects.get().dry_at
    assert before != first
    assert told_at(-60) == before, "however slow this machine is"
    assert told_at(2.1) != before


def test_a_beginning_lasts_half_a_minute(database: None) -> None:
    settled()
    late = ModeVoice()
    late._begun_s = time.monotonic() - 15
    late.tell(DEGRADED)
    assert stack() == ("LIVE", 1)
    late._begun_s -= 15.5
    late.tell(DEGRADED)
    assert stack() == ("DRY", 2)


def test_long_words_are_cut_to_their_columns(database: None) -> None:
    voice = ModeVoice("w" * 1_000)
    voice.tell(replace(LIVE, streak=3))
    voice.tell(replace(DEGRADED, reason="r" * 1_000))
    row = ModeChange.objects.latest("id")
    assert (row.reason, row.said_by) == ("r" * 400, "w" * 150)
    assert list(ModeChange.objects.order_by("id").values_list("streak", flat=True)) == [3, 3, 0]


def test_when_the_mode_changed_last_is_kept(database: None) -> None:
    (voice,) = settled(1)
    changed_at = StackMode.objects.get().changed_at
    voice.tell(DRY)
    row = StackMode.objects.get()
    assert (row.mode, row.requested, row.changes) == ("DRY", "DRY", 2)
    assert changed_at is not None
    assert row.changed_at is not None
    assert row.changed_at > changed_at
    pass_seconds(3, voice)
    voice.tell(DRY)
    assert StackMode.objects.get().changed_at == row.changed_at
