"""What is told of the mode's past: each line with all it says, the newest of each kind, and not without end."""

from django.db import connection

from execution_app.gate import history
from execution_app.gate.history import Change
from tests.execution import rows


def at(seconds: int) -> str:
    return f"2026-01-01T00:00:{seconds:02}+00:00"


def lifting(seconds: int, subject: str, after: str | None) -> None:
    """As the audit log has it; its time is the database's, so it is set behind its back."""
    rows.audit_entry(action="restriction_lifted", subject=subject, reason="over", actor="eve", after=after)


def test_every_line_says_what_became_of_what_by_whom_and_why(database: None) -> None:
    rows.mode_change(at=at(1), reason="redis: away", streak=2, epoch=7, said_by="worker a/1")
    rows.restriction(set_at=at(2), origin="telegram", reason="too fast", set_by="bob")
    rows.audit_entry(action="login", subject="user ann")
    lifting(3, "dry of command", '{"epoch": 8}')
    lifting(4, "reduce_only of http", None)
    found = history.read(10)
    assert [change.became for change in found] == ["lifted", "lifted", "set", "DRY"], "the newest first"
    unknown, lifted, imposed, changed = found
    assert changed == Change(changed.at, "effective", "DRY", "redis: away", 2, 7, "worker a/1", "automatic")
    assert changed.at.isoformat() == at(1)
    assert imposed == Change(imposed.at, "emergency_stop", "set", "too fast", None, None, "bob", "telegram")
    assert imposed.at.isoformat() == at(2)
    assert lifted == Change(lifted.at, "dry", "lifted", "over", None, 8, "eve", "command")
    assert (unknown.what, unknown.epoch) == ("reduce_only", None)


def test_the_newest_of_each_kind_are_told(database: None) -> None:
    """However many there are of another kind, and in whatever order the database finds them."""
    for number in range(1, 4):
        rows.mode_change(at=at(number), epoch=number)
        rows.restriction(set_at=at(10 + number), origin=("http", "admin", "redis")[number - 1])
        lifting(20 + number, "dry of command", f'{{"epoch": {number}}}')
    rows.execute("UPDATE mode_changes SET lifted_at = now(), lifted_by = 'x' WHERE origin = 'redis'")
    assert [change.epoch for change in history.read(2)] == [3, 2]
    assert [change.epoch for change in history._of_the_stack(2)] == [3, 2]
    assert [change.origin for change in history._set(2)] == ["redis", "admin"]
    assert [change.epoch for change in history._lifted(1)] == [3]
    assert history.read(0) == history.read(-1) == []
    assert len(history.read(1)) == 1


def test_a_thousand_are_told_at_most(database: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mode_history (kind, mode, at, reason, streak, epoch, said_by)"
            " SELECT 'effective', 'DRY', now() - n * interval '1 second', '', 0, 1, 'test'"
            " FROM generate_series(1, 1002) AS n"
        )
    assert len(history.read(5_000)) == 1_000
    assert len(history.read(999)) == 999
