"""How the bot's notices get on: read from its rows, so nobody has to ask the bot itself.

By SQL, since what is watched does not import who does it; each reader raises DatabaseError.
"""

from django.db import connection
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Families = list[Metric]

_QUEUED = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::float8
FROM telegram_notices WHERE due_at IS NOT NULL
"""
_TALLIES = "SELECT name, number FROM telegram_tallies WHERE name IN ('delivered', 'failed', 'unsigned')"


def notices() -> Families:
    """What waits and since when, and what was delivered and given up since the database began."""
    with connection.cursor() as cursor:
        cursor.execute(_QUEUED)
        queued, oldest_s = cursor.fetchone()
        cursor.execute(_TALLIES)
        tallies = dict(cursor.fetchall())
    return [
        GaugeMetricFamily("vanta_telegram_queued", "Notices of the bot that have to leave.", float(queued)),
        GaugeMetricFamily(
            "vanta_telegram_oldest_age_seconds",
            "For how long the oldest notice has been waiting to leave.",
            max(0.0, float(oldest_s)),
        ),
        CounterMetricFamily(
            "vanta_telegram_delivered",
            "Notices and edits that Telegram took.",
            float(tallies.get("delivered", 0)),
        ),
        CounterMetricFamily(
            "vanta_telegram_failed",
            "Notices that were given up: refused, or their chat is closed.",
            float(tallies.get("failed", 0)),
        ),
        CounterMetricFamily(
            "vanta_telegram_unsigned",
            "Posts to the bot's webhook that came without its secret.",
            float(tallies.get("unsigned", 0)),
        ),
    ]
