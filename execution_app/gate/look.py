"""Everything in the database that rules the mode, by one statement, since every process looks several times a second."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection

from execution_app.models import Control
from execution_app.states import Origin, RestrictionKind

RECONCILED_WITHIN_S = 20

_SEEN = """SELECT control.epoch, held.kinds, held.origins, chain.halted_reason, chain.reconciled_at, statement_timestamp()
FROM control LEFT JOIN chains AS chain ON chain.chain_id = %s,
LATERAL (SELECT array_agg(kind ORDER BY id) AS kinds, array_agg(origin ORDER BY id) AS origins
    FROM mode_changes WHERE lifted_at IS NULL) AS held
WHERE control.id = 1"""


@dataclass(frozen=True)
class Seen:
    """As of `now`, by the database's clock. `halted` is None where the chain was never compared with the database."""

    epoch: int
    restrictions: frozenset[tuple[RestrictionKind, Origin]]
    halted: str | None
    reconciled_at: datetime | None
    now: datetime

    @property
    def kinds(self) -> frozenset[RestrictionKind]:
        return frozenset(kind for kind, _ in self.restrictions)

    def chain_problem(self, started_at: datetime) -> str:
        """Why chain and database do not permit a process that began then to trade; blank when they do."""
        if self.halted is None:
            return "chain and database have not been compared yet"
        if self.halted:
            return self.halted
        if self.reconciled_at is None or self.reconciled_at < started_at:
            return "chain and database have not been compared since this process started"
        if (self.now - self.reconciled_at).total_seconds() > RECONCILED_WITHIN_S:
            return "chain and database were last compared too long ago"
        return ""


def look() -> Seen:
    """Raises DatabaseError, or Control.DoesNotExist in a database without its one row."""
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, [settings.ENVIRONMENT.chain_id])
        row = cursor.fetchone()
    if row is None:
        raise Control.DoesNotExist
    epoch, kinds, origins, halted, reconciled_at, now = row
    held = zip(map(RestrictionKind, kinds or ()), map(Origin, origins or ()), strict=True)
    return Seen(epoch, frozenset(held), halted, reconciled_at, now)
