"""Changes of the mode of the whole stack, each counted once, whoever saw it first.

Every process has a mode of its own and all of them follow one cause, some a second later than others. One
row holds the mode of the stack: DRY as soon as one process is in DRY, LIVE again once none has said DRY for
HOLD_S, so that whoever comes late to an end of DRY does not begin another. Whoever changes the row counts,
in the same statement.
"""

import time

from django.db import connection

from execution_app import audit
from execution_app.gate.modes import Ruling
from execution_app.states import Mode, ModeKind

HOLD_S = 10  # more than any process needs to find out that the database or Redis is back
TELL_EVERY_S = 2.0
# A new process is in DRY until it knows better, and that is no change. By then it should.
BEGINNING_S = 30.0

# What is only counted must keep nobody waiting: a row that somebody holds is left to them. Whoever changes the row
# writes the history in the same statement, so a change has one line there, whoever else saw it.
_FALL = """
WITH was AS (
    SELECT id, {mode} AS mode FROM stack_mode
    WHERE {mode} = 'LIVE' OR {dry_at} < clock_timestamp() - make_interval(secs => %s)
    FOR UPDATE SKIP LOCKED
), fallen AS (
    UPDATE stack_mode SET {mode} = 'DRY', {dry_at} = clock_timestamp() {count}
    FROM was WHERE stack_mode.id = was.id
    RETURNING was.mode AS was
)
INSERT INTO mode_history (kind, mode, at, reason, streak, epoch, said_by)
SELECT %s, 'DRY', clock_timestamp(), %s, %s, (SELECT epoch FROM control WHERE id = 1), %s FROM fallen WHERE was = 'LIVE'
"""
_RISE = """
WITH risen AS (
    UPDATE stack_mode SET {mode} = 'LIVE' {count}
    FROM (
        SELECT id, {mode} AS mode FROM stack_mode
        WHERE {mode} = 'DRY' AND {dry_at} < clock_timestamp() - make_interval(secs => %s)
        FOR UPDATE SKIP LOCKED
    ) AS was
    WHERE stack_mode.id = was.id
    RETURNING was.mode AS was
)
INSERT INTO mode_history (kind, mode, at, reason, streak, epoch, said_by)
SELECT %s, 'LIVE', clock_timestamp(), %s, %s, (SELECT epoch FROM control WHERE id = 1), %s FROM risen
"""
_COUNT = """, changes = stack_mode.changes + (was.mode <> '{to}')::int,
    changed_at = CASE was.mode WHEN '{to}' THEN stack_mode.changed_at ELSE clock_timestamp() END"""


def _statements(mode: str, dry_at: str, count: str) -> dict[Mode, str]:
    """One for each mode that is told."""
    return {
        Mode.DRY: _FALL.format(mode=mode, dry_at=dry_at, count=count.format(to="DRY")),
        Mode.LIVE: _RISE.format(mode=mode, dry_at=dry_at, count=count.format(to="LIVE")),
    }


STATEMENTS = {
    ModeKind.EFFECTIVE: _statements("mode", "dry_at", _COUNT),
    ModeKind.REQUESTED: _statements("requested", "requested_dry_at", ""),
}


class ModeVoice:
    """What one process tells the stack about its mode; not for two threads."""

    def __init__(self, component: str = "") -> None:
        self._component = component
        self._begun_s = time.monotonic()
        self._settled = False
        self._told: tuple[Mode, Mode] | None = None
        self._told_at_s = float("-inf")

    def tell(self, ruling: Ruling) -> None:
        """Say the modes when one has changed, and every 2 s. Raises DatabaseError.

        What cannot be said while the database is away is said when it is back, once, since it is the mode
        that is told and not its change.
        """
        now_s = time.monotonic()
        wanted = ruling.mode is Mode.LIVE or ruling.requested is Mode.DRY
        self._settled = self._settled or wanted or now_s - self._begun_s > BEGINNING_S
        if not self._settled:
            return
        modes = (ruling.requested, ruling.mode)
        if modes == self._told and now_s - self._told_at_s < TELL_EVERY_S:
            return
        self._told, self._told_at_s = modes, now_s
        said_by = f"{self._component} {audit.here()}".strip()[:150]
        with connection.cursor() as cursor:
            for kind, mode in zip((ModeKind.REQUESTED, ModeKind.EFFECTIVE), modes, strict=True):
                wait_s = HOLD_S if mode is Mode.LIVE else TELL_EVERY_S
                told = [wait_s, kind.value, ruling.reason[:400], ruling.streak, said_by]
                cursor.execute(STATEMENTS[kind][mode], told)
