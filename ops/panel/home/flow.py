"""How fast signals become trades, and what waits in line."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from ops.panel import words
from ops.panel.home.box import BAD, WARN, Line
from ops.panel.home.safety import listed
from ops.watch import gauges

NEWEST = 2_000  # orders looked at, the newest first
SLOW_S = 60.0
DEEP = 1_000
# Of orders mined within the last hour; the steps are all measured from the stored intent.
_MINED = """
SELECT count(*),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM s.at - i.accepted_at)::float8),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM r.seen_at - i.accepted_at)::float8)
FROM (SELECT intent_id, seen_at FROM tx_receipts WHERE canonical AND seen_at > now() - interval '1 hour'
    ORDER BY seen_at DESC LIMIT %(newest)s) r
JOIN tx_intents i ON i.id = r.intent_id
LEFT JOIN LATERAL (SELECT min(offered_at) AS at FROM tx_sends WHERE intent_id = i.id) s ON true
"""
_FILLED = """
SELECT count(*),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM f.filled_at - i.accepted_at)::float8)
FROM (SELECT intent_id, filled_at FROM fills WHERE mode = 'LIVE' AND filled_at > now() - interval '1 hour'
    ORDER BY filled_at DESC LIMIT %(newest)s) f
JOIN tx_intents i ON i.id = f.intent_id
"""
# What rests at the venue waits for its price, and for however long.
_WAITING = """
SELECT count(*) FILTER (WHERE state IN ('pending', 'held')), count(*) FILTER (WHERE nonce IS NOT NULL),
    extract(epoch FROM clock_timestamp() - min(accepted_at))::float8
FROM tx_intents WHERE settled_at IS NULL AND NOT (state = 'ordered' AND order_type <> 'market')
"""


def latency(_now: datetime) -> Sequence[Line]:
    """p50 and p99 of each step over the last hour, LIVE; no lines when nothing was mined."""
    mined, broadcast_s, mined_s = _ask(_MINED)
    filled, filled_s = _ask(_FILLED)
    lines = []
    if mined:
        lines += [_step("to broadcast", broadcast_s, mined), _step("to mined", mined_s, mined)]
    if filled:
        lines.append(_step("to filled", filled_s, filled))
    return lines


def _ask(question: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(question, {"newest": NEWEST})
        row: tuple[Any, ...] = cursor.fetchone()
    return row


def _step(name: str, seconds: Sequence[float] | None, count: int) -> Line:
    if seconds is None:
        return Line(name, "not known", f"orders: {count:,}")
    half_s, most_s = seconds
    value = f"p50 {words.age(half_s)} · p99 {words.age(most_s)}"
    orders = f"orders: the newest {count:,}" if count == NEWEST else f"orders: {count:,}"
    return Line(name, value, orders, WARN if most_s > SLOW_S else "")


def line_up(_now: datetime) -> Sequence[Line]:
    """Intents that are not settled, and messages that wait in each queue."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        waiting, owning, oldest_s = cursor.fetchone()
    href = listed("execution_app_txintent", "settled_at__isempty=1")
    lines = [
        Line("waiting for a nonce", f"{waiting:,}", "pending or held", href=href),
        Line("with a nonce, not settled", f"{owning:,}", "until their blocks are final", href=href),
        Line("oldest unsettled", words.age(oldest_s) if oldest_s is not None else "none"),
    ]
    depths = {
        sample.labels["queue"]: int(sample.value)
        for family in gauges.read_queues()
        for sample in family.samples
    }
    if not depths:
        return [*lines, Line("queues", "not known", "Redis does not answer; rows hold the work", BAD)]
    named = ", ".join(f"{queue} {depth:,}" for queue, depth in depths.items())
    total = sum(depths.values())
    return [*lines, Line("messages in queues", f"{total:,}", named, WARN if total > DEEP else "")]
