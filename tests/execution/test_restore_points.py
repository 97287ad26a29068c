"""Restore points, attacked by plain SQL: what was restored stays told, what a person accepts is accepted once."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone

__all__ = ["undone"]  # the fixture: one transaction that is rolled back
EARLIER, RESTORED, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"
ACCEPTED = {"untimed_accepted_at": LATER, "untimed_accepted_by": "ann"}


def point(**fields: object) -> int:
    row: rows.Row = {"snapshot_at": EARLIER, "restored_at": RESTORED, "backup_sha256": "a" * 64, "former": ""}
    row |= {"epoch": 2, "restored_by": "ann", "reason": "the disk is gone"}
    return rows.insert("restore_points", row | fields)


def accepted(**fields: object) -> int:
    pk = point()
    change("restore_points", pk, **(fields or ACCEPTED))
    return pk


ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("restored before its copy", "ck_restore_points_order", lambda: point(snapshot_at=LATER)),
    ("of no file", "ck_restore_points_sha256", lambda: point(backup_sha256="")),
    ("restored for nothing", "ck_restore_points_reason", lambda: point(reason="")),
    ("restored by nobody", "ck_restore_points_reason", lambda: point(restored_by="")),
    ("accepted by nobody", "ck_restore_points_untimed", lambda: accepted(untimed_accepted_at=LATER)),
    ("accepted at no time", "ck_restore_points_untimed", lambda: accepted(untimed_accepted_by="ann")),
    (
        "accepted before it was restored",
        "ck_restore_points_untimed",
        lambda: accepted(**ACCEPTED | {"untimed_accepted_at": EARLIER}),
    ),
    (
        "compared before it was restored",
        "ck_restore_points_reconciled",
        lambda: accepted(reconciled_at=EARLIER),
    ),
    ("born accepted", "nothing accepted", lambda: point(**ACCEPTED)),
    ("born compared", "nothing accepted", lambda: point(reconciled_at=LATER)),
    *(
        (f"another {name}", "never changes", lambda n=name, v=value: change("restore_points", point(), **{n: v}))
        for name, value in (
            ("snapshot_at", RESTORED), ("restored_at", LATER), ("backup_sha256", "b" * 64), ("former", "x"),
            ("epoch", 3), ("restored_by", "eve"), ("reason", "another"),
        )
    ),
    ("acceptance taken back", "stays so", lambda: change("restore_points", accepted(), untimed_accepted_at=None, untimed_accepted_by="")),
    ("accepted by another", "stays so", lambda: change("restore_points", accepted(), untimed_accepted_by="eve")),
    ("comparison taken back", "stays so", lambda: change("restore_points", accepted(reconciled_at=LATER), reconciled_at=None)),
    ("a restore forgotten", "rows are kept", lambda: delete("restore_points", point())),
    ("all restores forgotten", "rows are kept", lambda: rows.execute("TRUNCATE restore_points")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


def test_what_a_person_does_is_allowed() -> None:
    change("restore_points", accepted(), reconciled_at=LATER)
