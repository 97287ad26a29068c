"""What a fold asks of a long book costs no more than what it asks of a short one, also before any statistics exist.

A database is without them after a restore, after a crash and in its first minute; a planner that knows nothing of the
rows joins whatever it likes, and read every position of a trader for every fill.
"""

import json

from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.book import positions
from execution_app.models import Fill, Position, Trader
from tests.execution import rows

LONG = 300
ROWS_A_NODE = 20  # that a step of a plan may read and throw away, over all its loops


def test_a_fold_reads_few_rows_of_a_long_book(database: None) -> None:
    trader = Trader.objects.get(pk=rows.trader())
    held = [
        rows.position(trader_id=trader.pk, trade_index=index, opened_at=f"2026-01-01T00:{index // 60:02}:{index % 60:02}Z")
        for index in range(LONG)
    ]  # fmt: skip
    for position_id in held:
        rows.fill(position_id=position_id, tx_hash=f"0x{position_id:064x}")
    forget_statistics("positions")
    forget_statistics("fills")
    assert Fill.objects.count() == LONG
    position = Position.objects.get(pk=held[0])
    with CaptureQueriesContext(connection) as asked:
        positions.fold(position)
        positions.end_replaced(position)
        positions.release_replaced(position)
    questions = [one["sql"] for one in asked.captured_queries if one["sql"].startswith(("SELECT", "WITH"))]
    assert len(questions) > 3
    for question in questions:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {question}")
            (plan,) = cursor.fetchone()
        most = _most_rows(json.loads(plan)[0]["Plan"] if isinstance(plan, str) else plan[0]["Plan"])
        assert most <= LONG + ROWS_A_NODE, f"{most} rows are read for one position: {question}"


def forget_statistics(table: str) -> None:
    """Whatever an earlier test made autovacuum learn."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_clear_relation_stats('public', %s)", [table])
        cursor.execute(
            "SELECT pg_clear_attribute_stats('public', %s, attname, false) FROM pg_stats"
            " WHERE schemaname = 'public' AND tablename = %s",
            [table, table],
        )


def _most_rows(node: dict[str, object]) -> int:
    """The most rows that one step of a plan touches, over all its loops."""
    loops = int(str(node["Actual Loops"]))
    read = float(str(node["Actual Rows"])) + float(str(node.get("Rows Removed by Filter", 0)))
    inner = node.get("Plans", [])
    assert isinstance(inner, list)
    return max([int(read * loops), *(_most_rows(one) for one in inner)])
