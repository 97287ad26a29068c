"""When whoever waits is looked at, and until when it is wanted; by the database's clock."""

from datetime import datetime, timedelta

from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models import TxIntent

RETRY_S = 0.5
NOT_LATE = timedelta(0)
# The longest that DRY_KEEPER_DELAY_MS may say: of who seems to wait for more, the clock was set back.
KEEPER_MOST = timedelta(minutes=1)
# Within this long behind its time the venue's keeper has executed an order, or does not.
KEEPER_PATIENCE = timedelta(seconds=30)


def due(late: timedelta = NOT_LATE) -> Q:
    """Whose turn it is, or was `late` ago. Nobody waits for more than RETRY_S: of who seems to, the clock was set back."""
    put_off = Now() + timedelta(seconds=RETRY_S)
    return Q(next_try_at=None) | Q(next_try_at__lte=Now() - late) | Q(next_try_at__gt=put_off)


def executable() -> Q:
    """All but simulated orders that their keeper has not come to yet."""
    beyond = Now() + KEEPER_MOST
    return Q(keeper_due_at=None) | Q(keeper_due_at__lte=Now()) | Q(keeper_due_at__gt=beyond)


def ends_at(intent: TxIntent) -> datetime | None:
    """Until when it is wanted that has no nonce. What a simulation's keeper has is late by the keeper's doing alone."""
    expires_at: datetime | None = intent.expires_at
    if expires_at is None or intent.keeper_due_at is None:
        return expires_at
    return max(expires_at, intent.keeper_due_at + KEEPER_PATIENCE)
