"""The venue's own levels follow what is set here: asked for as an intent, where orders go by messages."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models.functions import Now

from execution_app.models import Position, Protection, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import Action, Mode, Road
from execution_app.venues.interface import DEFAULT_MAX_LAG_S, DEFAULT_SLIPPAGE_PCT

log = structlog.get_logger(__name__)


def follow(position: Position, row: Protection) -> None:
    """Ask for the take profit and the stop of this version at the venue, in the transaction that begins it.

    Nothing for a simulated position, nor where the venue has them already, nor on a road on which it takes none:
    there ours are watched beside its own.
    """
    wanted = row.take_profit, row.stop_loss
    if position.mode != Mode.LIVE or Road(settings.ENVIRONMENT.venue) is not Road.GATEWAY:
        return
    # What is under way may become the venue's levels after all: then those it has now are asked for anew.
    under_way = TxIntent.objects.filter(position=position, action=Action.LEVELS, settled_at=None).exists()
    if wanted == (position.take_profit, position.stop_loss) and not under_way:
        return
    wallet = Wallet.objects.filter(trader=position.trader).first()
    if wallet is None:
        log.error("levels stay ours alone: the trader has no wallet", position=position.pk)
        return
    open_intent(
        key=f"tpsl:{position.pk}:{row.version}:levels",
        by=row.set_by[:64],
        trader=position.trader,
        wallet=wallet,
        tg_user_id=position.trader.tg_user_id,
        road=Road.GATEWAY.value,
        action=Action.LEVELS.value,
        symbol=position.symbol,
        slippage_pct=DEFAULT_SLIPPAGE_PCT,
        position=position,
        take_profit=row.take_profit,
        stop_loss=row.stop_loss,
        # An earlier message is waited for until its deadline.
        expires_at=Now() + timedelta(seconds=DEFAULT_MAX_LAG_S * (3 if under_way else 1)),
    )
