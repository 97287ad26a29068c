"""`manage.py mode --history`: what became of the mode, who said so, and why."""

import pytest
from django.core.management import CommandError, call_command
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.gate import control
from execution_app.gate.changes import ModeVoice
from execution_app.states import Origin, RestrictionKind
from tests.execution.gate.test_changes import DEGRADED, DRY, LIVE
from tests.ops.rollout.test_switches import REASON, ann, code, run

__all__ = ["ann"]  # a fixture
Row = dict[str, object]


def history(capsys: pytest.CaptureFixture[str], *words: str) -> list[Row]:
    found: list[Row] = run(capsys, "mode", "--history", *words)
    return found


def test_changes_of_every_kind_are_told_newest_first(
    ann: TOTPDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert history(capsys) == []
    voice = ModeVoice("worker")
    voice.tell(LIVE)
    voice.tell(DEGRADED)
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="ann", reason="fills look wrong")
    voice.tell(DRY)
    call_command("mode", "LIVE", "--by", "ann", "--reason", REASON, "--code", code(ann))
    rows = history(capsys)
    assert [(row["what"], row["became"]) for row in rows] == [
        ("dry", "lifted"),
        ("requested", "DRY"),
        ("dry", "set"),
        ("effective", "DRY"),
        ("effective", "LIVE"),
        ("requested", "LIVE"),
    ]
    lifted, _, imposed, degraded, *_ = rows
    assert (lifted["who"], lifted["origin"], lifted["reason"], lifted["epoch"]) == (
        "ann",
        "command",
        REASON,
        1,
    )
    assert (imposed["who"], imposed["origin"], imposed["reason"]) == ("ann", "command", "fills look wrong")
    assert (degraded["reason"], degraded["streak"], degraded["epoch"]) == ("redis: away", 0, 1)
    assert str(degraded["who"]).startswith("worker ")
    assert all(row["at"] for row in rows)


def test_as_many_are_told_as_are_asked_for(database: None, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        control.impose(RestrictionKind.STOP, Origin.HTTP, by="http", reason="drill")
        control.lift(RestrictionKind.STOP, Origin.HTTP, by="http", reason="drill over")
    assert len(history(capsys)) == 4
    assert [row["became"] for row in history(capsys, "1")] == ["lifted"]
    assert history(capsys, "0") == []
    call_command("mode", "--history", "2")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "emergency_stop lifted" in lines[0]
    assert "by http (http)" in lines[1]


def test_to_show_is_not_to_change(database: None) -> None:
    with pytest.raises(CommandError, match="leave the wish out"):
        call_command("mode", "DRY", "--history")
    assert control.active() == []
