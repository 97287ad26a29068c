"""How fast a source may send: a token bucket per source and kind.

Rows in PostgreSQL hold over all processes and restarts. Opens and closes have
buckets of their own, so a flood of opens never holds up a close. Sources that
nobody granted anything share one bucket: whoever holds the default secret
chooses names freely, and would have as many buckets as names.
"""

import math
from typing import Any

from django.db import connection

from signals_app.models import DEFAULT_BURST, DEFAULT_PER_MINUTE
from signals_app.payloads import Payload

# `abs`, since a clock set back must not leave a bucket empty until it has caught up.
_LEVEL = (
    "LEAST(door.burst, b.tokens + abs(extract(epoch FROM clock_timestamp() - b.refilled_at)) * door.per_s)"
)
# Who pays from which bucket, and its size.
_DOOR = """
SELECT CASE WHEN s.name IS NOT NULL OR EXISTS (SELECT FROM source_grants g WHERE g.source = %(source)s)
            THEN %(source)s ELSE '' END AS payer,
       COALESCE(CASE %(kind)s WHEN 'close' THEN s.close_burst ELSE s.open_burst END, %(burst)s) AS burst,
       COALESCE(CASE %(kind)s WHEN 'close' THEN s.closes_per_minute ELSE s.opens_per_minute END,
                %(per_minute)s) / 60.0 AS per_s
FROM (VALUES (1)) AS one LEFT JOIN sources s ON s.name = %(source)s
"""
# Its commit does not wait for the disk: the row is locked until then, and all signals of a source would
# queue for one disk (measured: 400 a second instead of 1,400). A crash gives back a few tokens.
_SPEND = """
WITH door AS ({door} WHERE {condition})
INSERT INTO source_buckets AS b (source, kind, tokens, refilled_at)
SELECT payer, %(kind)s, burst - 1, clock_timestamp() FROM door
ON CONFLICT ON CONSTRAINT uq_source_buckets DO UPDATE
SET tokens = (SELECT {level} - 1 FROM door), refilled_at = clock_timestamp()
WHERE (SELECT {level} >= 1 FROM door)
RETURNING set_config('synchronous_commit', 'off', true)
"""
_WAIT = f"""
WITH door AS ({_DOOR})
SELECT (1 - {_LEVEL}) / door.per_s FROM door
LEFT JOIN source_buckets b ON b.source = door.payer AND b.kind = %(kind)s
"""  # noqa: S608  (constants only)


def spend(payload: Payload, condition: str, more: dict[str, Any]) -> bool:
    """Take one token, waiting for whoever takes one now; False when there is none or the condition fails.

    Commits by itself, and must: a transaction around it would not wait for the disk either.
    """
    assert not connection.in_atomic_block
    with connection.cursor() as cursor:
        statement = _SPEND.format(door=_DOOR, condition=condition, level=_LEVEL)
        cursor.execute(statement, _parameters(payload) | more)
        return cursor.fetchone() is not None


def wait_s(payload: Payload) -> int:
    """Whole seconds, at least one, until the bucket that refused has a token again."""
    with connection.cursor() as cursor:
        cursor.execute(_WAIT, _parameters(payload))
        row = cursor.fetchone()
    return max(1, math.ceil(row[0] or 0)) if row else 1


def _parameters(payload: Payload) -> dict[str, Any]:
    return {
        "source": payload.source,
        "kind": "close" if payload.side == "CLOSE" else "open",
        "burst": DEFAULT_BURST,
        "per_minute": DEFAULT_PER_MINUTE,
    }
