"""Changes of the mode of the whole stack, each counted once, whoever saw it first.

Every process has a mode of its own and all of them follow one cause, some a second later than others. One
row holds the mode of the stack: DRY as soon as one process is in DRY, LIVE again once none has said DRY for
HOLD_S, so that whoever comes late to an end of DRY does not begin another. Whoever changes the row counts,
in the same statement.
"""

import time

from django.db import connection

from execution_app.gate.modes import Ruling
from execution_app.states import Mode

HOLD_S = 10  # more than any process needs to find out that the database or Redis is back
TELL_EVERY_S = 2.0
# A new process is in DRY until it knows better, and that is no change. By then it should.
BEGINNING_S = 30.0

# What is only counted must keep nobody waiting: a row that somebody holds is left to them.
_FALL = """
UPDATE stack_mode SET mode = 'DRY', dry_at = clock_timestamp(),
    changes = stack_mode.changes + (was.mode = 'LIVE')::int,
    changed_at = CASE was.mode WHEN 'LIVE' THEN clock_timestamp() ELSE stack_mode.changed_at END
FROM (
    SELECT id, mode FROM stack_mode
    WHERE mode = 'LIVE' OR dry_at < clock_timestamp() - make_interval(secs => %s)
    FOR UPDATE SKIP LOCKED
) AS was
WHERE stack_mode.id = was.id
"""
_RISE = """
UPDATE stack_mode SET mode = 'LIVE', changes = changes + 1, changed_at = clock_timestamp()
WHERE id IN (
    SELECT id FROM stack_mode
    WHERE mode = 'DRY' AND dry_at < clock_timestamp() - make_interval(secs => %s)
    FOR UPDATE SKIP LOCKED
)
"""


class ModeVoice:
    """What one process tells the stack about its mode; not for two threads."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._settled = False
        self._told: Mode | None = None
        self._told_at_s = float("-inf")

    def tell(self, ruling: Ruling) -> None:
        """Say the mode when it has changed, and every 2 s. Raises DatabaseError.

        What cannot be said while the database is away is said when it is back, once, since it is the mode
        that is told and not its change.
        """
        now_s = time.monotonic()
        wanted = ruling.mode is Mode.LIVE or ruling.requested is Mode.DRY
        self._settled = self._settled or wanted or now_s - self._begun_s > BEGINNING_S
        if not self._settled:
            return
        if ruling.mode is self._told and now_s - self._told_at_s < TELL_EVERY_S:
            return
        self._told, self._told_at_s = ruling.mode, now_s
        with connection.cursor() as cursor:
            if ruling.mode is Mode.LIVE:
                cursor.execute(_RISE, [HOLD_S])
            else:
                cursor.execute(_FALL, [TELL_EVERY_S])
