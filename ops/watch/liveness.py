"""Whether a component lives: somebody beats for its main process, and a child of its pool does its work.

Apart from Django, since the health check of containers, which runs every half minute in each of them, asks it, too.
"""

from dataclasses import dataclass
from typing import Any

# Components whose main process only hands out work.
POOLS = ("worker", "tpsl")
# A row that no process beats for: it says when the newest backup was made and read back.
BACKUP = "backup"
# Another one: when the newest retention ended, with nothing refused.
RETENTION = "retention"
NO_PROCESS = (BACKUP, RETENTION)
# A child that has been busy with one task for longer counts as hanging; tasks are ended by force after 60 s.
STUCK_AFTER_S = 30

# Unix seconds of the database's clock. A child proves that it works by its beat while its task is young, else
# by the begin of that task. The first children get as long as a heartbeat may be old.
QUESTION = """
SELECT component, extract(epoch FROM clock_timestamp())::float8, extract(epoch FROM started_at)::float8,
    extract(epoch FROM at)::float8,
    extract(epoch FROM CASE WHEN component = ANY(%(pools)s)
        THEN least(at, greatest(worked_at, started_at)) ELSE at END)::float8
FROM heartbeats LEFT JOIN (
    SELECT component, max(CASE WHEN busy_since < clock_timestamp() - make_interval(secs => %(stuck_after_s)s)
        THEN busy_since ELSE at END) AS worked_at
    FROM pool_beats GROUP BY component
) AS pools USING (component)
ORDER BY component
"""
PARAMETERS: dict[str, Any] = {"pools": list(POOLS), "stuck_after_s": STUCK_AFTER_S}


@dataclass(frozen=True)
class Beat:
    """One row of the answer; the fields are its columns, in order."""

    component: str
    now_s: float
    started_at_s: float
    beat_at_s: float
    alive_at_s: float


def problem(beat: Beat | None, within_s: float) -> str:
    """Why a component does not count as alive; blank when it does."""
    if beat is None:
        return "never seen"
    if beat.now_s - beat.beat_at_s > within_s:
        return f"last seen {int(beat.now_s - beat.beat_at_s)} s ago"
    if beat.now_s - beat.alive_at_s > within_s:
        return f"last seen working {int(beat.now_s - beat.alive_at_s)} s ago"
    return ""
