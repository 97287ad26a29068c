"""When one process tells its mode, and what each statement says; the rows that come of it have tests of their own."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Self

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app import audit
from execution_app.gate import changes
from execution_app.gate.changes import STATEMENTS, ModeVoice
from execution_app.gate.modes import Ruling
from execution_app.models import ModeChange, StackMode
from execution_app.states import Mode, ModeKind
from tests.execution import rows

LIVE = Ruling(Mode.LIVE, Mode.LIVE, emergency_stop=False, reduce_only=False, reason="", streak=3)
DEGRADED = replace(LIVE, mode=Mode.DRY, reason="redis: away", streak=0)
DRY = replace(DEGRADED, requested=Mode.DRY, reason="EXEC_MODE is DRY")


class Voice:
    """A process's voice, its clock, and whether it says anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, component: str = "test") -> None:
        self.now_s = 50.0
        monkeypatch.setattr(changes, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.voice = ModeVoice(component)

    def says(self, ruling: Ruling, after_s: float = 0.0) -> bool:
        self.now_s += after_s
        with CaptureQueriesContext(connection) as asked:
            self.voice.tell(ruling)
        assert len(asked) in (0, 2)
        return len(asked) == 2


@pytest.fixture
def voice(database: None, monkeypatch: pytest.MonkeyPatch) -> Voice:
    return Voice(monkeypatch)


def test_a_beginning_in_dry_is_told_after_half_a_minute(voice: Voice) -> None:
    """Until then the process does not know better; from then on, and once it is told, it does."""
    assert [voice.says(DEGRADED, s) for s in (0.0, 15.0, 14.0)] == [False, False, False]
    assert voice.says(DEGRADED, 2.0)


@pytest.mark.parametrize("first", [LIVE, DRY])
def test_a_beginning_ends_with_what_is_wanted(voice: Voice, first: Ruling) -> None:
    assert not voice.says(DEGRADED)
    assert voice.says(first)
    assert voice.says(DEGRADED), "and it ends for good"


def test_a_mode_is_told_when_it_changes_and_every_two_seconds(voice: Voice) -> None:
    assert voice.says(LIVE)
    assert [voice.says(LIVE, s) for s in (0.0, 1.75, 0.25, 1.75, 0.125, 0.125)] == [
        *(False, False, True, False, False, True),
    ]  # fmt: skip
    assert voice.says(DEGRADED, 0.125), "the mode has changed"
    assert not voice.says(replace(DEGRADED, reason="another"), 0.125), "why it is so, has, and nothing else"
    assert voice.says(DRY, 0.125), "what is asked for has changed"


def test_what_is_told_says_why_and_by_whom(voice: Voice) -> None:
    voice.says(LIVE)
    voice.says(replace(DEGRADED, reason="r" * 401))
    told = ModeChange.objects.order_by("id").values_list(
        "kind", "mode", "reason", "streak", "epoch", "said_by"
    )
    by = f"test {audit.here()}"
    assert list(told) == [
        ("requested", "LIVE", "", 3, 1, by),
        ("effective", "LIVE", "", 3, 1, by),
        ("effective", "DRY", "r" * 400, 0, 1, by),
    ]


def test_a_process_without_a_component_is_told_by_its_place(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Voice(monkeypatch, "").says(LIVE)
    assert set(ModeChange.objects.values_list("said_by", flat=True)) == {audit.here()}


@pytest.mark.parametrize(("ruling", "waits"), [(LIVE, [10, 10]), (DEGRADED, [10, 2.0]), (DRY, [2.0, 2.0])])
def test_dry_is_said_again_soon_and_live_only_after_a_while(
    voice: Voice, monkeypatch: pytest.MonkeyPatch, ruling: Ruling, waits: list[float]
) -> None:
    voice.says(LIVE)
    executed: list[tuple[str, list[object]]] = []

    class Cursor:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def execute(self, statement: str, values: list[object]) -> None:
            executed.append((statement, values))

    monkeypatch.setattr(changes, "connection", SimpleNamespace(cursor=Cursor))
    voice.now_s += 2.0
    voice.voice.tell(replace(ruling, streak=5))
    kinds = (ModeKind.REQUESTED, ModeKind.EFFECTIVE)
    modes = (ruling.requested, ruling.mode)
    assert [statement for statement, _ in executed] == [
        STATEMENTS[kind][mode] for kind, mode in zip(kinds, modes, strict=True)
    ]
    assert [values[:4] for _, values in executed] == [
        [wait, kind.value, ruling.reason, 5] for wait, kind in zip(waits, kinds, strict=True)
    ]


def test_a_statement_is_of_its_mode_and_counts_towards_it() -> None:
    """Made anew, as at import; the requested mode is told and not counted."""
    effective = changes._statements("mode", "dry_at", changes._COUNT)
    requested = changes._statements("requested", "requested_dry_at", "")
    assert {ModeKind.EFFECTIVE: effective, ModeKind.REQUESTED: requested} == STATEMENTS
    for mode in Mode:
        assert f"(was.mode <> '{mode.value}')::int" in effective[mode]
        assert f"CASE was.mode WHEN '{mode.value}' THEN" in effective[mode]
        assert f"SET mode = '{mode.value}'" in effective[mode]
        assert f"SET requested = '{mode.value}'" in requested[mode]
        assert "changes" not in requested[mode]
        assert "{" not in effective[mode] + requested[mode]


def test_the_row_changes_once_and_says_when(voice: Voice) -> None:
    def row() -> tuple[str, str, int]:
        found = StackMode.objects.get()
        return found.mode, found.requested, found.changes

    voice.says(LIVE)
    assert row() == ("LIVE", "LIVE", 1)
    changed_at = StackMode.objects.get().changed_at
    voice.says(LIVE, 3.0)
    assert (row(), StackMode.objects.get().changed_at) == (("LIVE", "LIVE", 1), changed_at)
    voice.says(DEGRADED)
    assert row() == ("DRY", "LIVE", 2)
    voice.says(DRY)
    assert row() == ("DRY", "DRY", 2)
    voice.says(LIVE)
    assert row() == ("DRY", "DRY", 2), "not before nobody has said DRY for a while"
    back = "dry_at - interval '11 seconds', requested_dry_at = requested_dry_at - interval '11 seconds'"
    rows.execute(f"UPDATE stack_mode SET dry_at = {back}")
    voice.says(LIVE, 3.0)
    assert row() == ("LIVE", "LIVE", 3)
