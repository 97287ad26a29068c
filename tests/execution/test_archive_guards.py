"""What was archived may leave, and nothing else; attacked by plain SQL."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction

from execution_app.states import IntentState
from ops.rollout import retention
from tests.execution import rows
from tests.execution.test_constraints import change, delete, undone

__all__ = ["undone"]  # the fixture
DAY = "2026-01-01"  # on which `rows.intent_in` settles intents, and `released` reservations
OLD = f"{DAY}T00:00:00Z"


def archive(table: str, *ids: int, **fields: object) -> int:
    row: rows.Row = {"table_name": table, "day": DAY, "part": 1, "file": f"{table}.gz", "sha256": "a" * 64}
    row |= {"rows": len(ids) or 1, "first_id": min(ids, default=1), "last_id": max(ids, default=1)}
    return rows.insert("archives", row | fields)


def move(state: IntentState = IntentState.REJECTED) -> int:
    return rows.transition(intent_id=rows.intent_in(state))


def line(*, released: bool = True) -> int:
    reservation = rows.reservation()
    if released:
        change("risk_reservations", reservation, state="released", notional_usdc=0, released_at=OLD)
    return int(rows.one("SELECT min(id) FROM risk_log WHERE reservation_id = %s", reservation))


def estimate() -> int:
    intent = rows.intent_in(IntentState.FINAL_REVERTED)
    return rows.insert("shadow_fills", {"intent_id": intent, "oracle_price": 1, "price": 1, "fee_usdc": 0})


def signal(**fields: object) -> int:
    row: rows.Row = {"meta": '{"a": 1}', "received_at": OLD, "decided_at": OLD, "decision": "rejected"}
    return rows.signal(**(row | fields))


def after(
    table: str, make: Callable[[], int], attack: Callable[[int], object], **fields: object
) -> Callable[[], None]:
    """The attack on a row whose archive is there but for what the fields say."""

    def attacked() -> None:
        pk = make()
        archive(table, pk, **fields)
        attack(pk)

    return attacked


def gone(table: str) -> Callable[[int], None]:
    return lambda pk: delete(table, pk)


def emptied(pk: int) -> None:
    change("signals", pk, meta="{}")


T, R, S, G = "intent_transitions", "risk_log", "shadow_fills", "signals"
ATTACKS: list[tuple[str, str, Callable[[], object]]] = [
    ("two of a part", "uq_archives_part", lambda: [archive(T), archive(T)]),
    ("another table", "ck_archives_table_name", lambda: archive("tx_sends")),
    ("a hash that is none", "ck_archives_sha256", lambda: archive(T, sha256="A" * 64)),
    ("an archive of nothing", "ck_archives_rows", lambda: archive(T, rows=0)),
    ("more rows than ids", "ck_archives_rows", lambda: archive(T, rows=2)),
    ("a part before the first", "ck_archives_rows", lambda: archive(T, part=0)),
    ("edited", "stays told", lambda: change("archives", archive(T), sha256="b" * 64)),
    ("forgotten", "stays told", lambda: delete("archives", archive(T))),
    ("of lately", "younger than 35 days", lambda: archive(T, day=rows.one("SELECT current_date - 34"))),
    ("moves that nobody archived", "append-only, until it is archived", lambda: delete(T, move())),
    ("moves of another day", "until it is archived", after(T, move, gone(T), day="2026-01-02")),
    ("moves beside the archive", "until it is archived", after(T, move, gone(T), first_id=1, last_id=1)),
    ("moves under another table's", "until it is archived", after(T, move, gone(T), table_name=R)),
    (
        "moves of what is not settled",
        "until it is archived",
        after(T, lambda: move(IntentState.PENDING_INCLUSION), gone(T)),
    ),
    ("moves edited", "append-only", after(T, move, lambda pk: change(T, pk, why="nothing happened"))),
    ("a log that nobody archived", "until it is archived", lambda: delete(R, line())),
    ("a log of what is held", "until it is archived", after(R, lambda: line(released=False), gone(R))),
    ("a log edited", "append-only", after(R, line, lambda pk: change(R, pk, change_usdc=0))),
    ("an estimate that nobody archived", "until it is archived", lambda: delete(S, estimate())),
    ("what a sender added", "never changes", lambda: emptied(signal())),
    ("what another day's added", "never changes", after(G, signal, emptied, day="2026-01-02")),
    ("another content in its place", "never changes", after(G, signal, lambda pk: change(G, pk, meta='{"b": 1}'))),
    ("more than was archived", "never changes", after(G, signal, lambda pk: change(G, pk, meta="{}", symbol="X"))),
    (
        "a signal nobody decided",
        "never changes",
        after(G, lambda: signal(decided_at=None, decision=""), emptied),
    ),
    ("an archived signal itself", "signals are kept", after(G, signal, gone(G))),
    ("an archived intent itself", "intents are kept", after(T, move, lambda pk: rows.execute(
        "DELETE FROM tx_intents WHERE id = (SELECT intent_id FROM intent_transitions WHERE id = %s)", pk))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "attack"), [(words, attack) for _, words, attack in ATTACKS], ids=[name for name, *_ in ATTACKS]
)
def test_the_database_refuses(words: str, attack: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=words), transaction.atomic():
        attack()


@pytest.mark.parametrize(
    ("table", "make", "leave"),
    [(T, move, gone(T)), (R, line, gone(R)), (S, estimate, gone(S)), (G, signal, emptied)],
    ids=[T, R, S, G],
)
def test_what_is_archived_leaves(table: str, make: Callable[[], int], leave: Callable[[int], None]) -> None:
    pk = make()
    archive(table, pk)
    leave(pk)
    left = (
        "SELECT count(*) FROM signals WHERE id = %s AND meta <> '{}'"
        if table == G
        else f"SELECT count(*) FROM {table} WHERE id = %s"
    )
    assert rows.one(left, pk) == 0


def test_the_database_and_the_command_keep_the_same_days() -> None:
    archive(T, day=rows.one("SELECT (now() AT TIME ZONE 'UTC')::date - %s", retention.LEAST_DAYS))
    with pytest.raises(IntegrityError, match="younger"), transaction.atomic():
        archive(
            T, day=rows.one("SELECT (now() AT TIME ZONE 'UTC')::date - %s", retention.LEAST_DAYS - 1), part=2
        )


def test_nothing_of_the_archives_is_emptied() -> None:
    with pytest.raises(IntegrityError, match="TRUNCATE"), transaction.atomic():
        rows.execute("TRUNCATE archives")
