"""What is held now: how much, why, and for how long; for gauges and for /health."""

from dataclasses import dataclass

from django.db import connection

from execution_app.states import OTHER_REASON, IntentState, Reason

# An intent is held at most once in its life, so the move tells since when.
_QUESTION = """
SELECT i.reason, count(*), coalesce(extract(epoch FROM clock_timestamp() - min(t.at)), 0)
FROM tx_intents i LEFT JOIN intent_transitions t ON t.intent_id = i.id AND t.to_state = i.state
WHERE i.state = %s AND i.settled_at IS NULL
GROUP BY i.reason ORDER BY 3 DESC
"""


@dataclass(frozen=True)
class Hold:
    """Intents that wait for one reason; `oldest_s` is for how long the first of them has been held."""

    reason: str
    count: int
    oldest_s: float


def read() -> list[Hold]:
    """Longest first; a word that is no reason code is told as `other`. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute(_QUESTION, [IntentState.HELD.value])
        rows = cursor.fetchall()
    return [
        Hold(reason if reason in tuple(Reason) else OTHER_REASON, count, float(age_s))
        for reason, count, age_s in rows
    ]
