"""Further intents of one request for a close: a share of it each, or the same again after a failure."""

from decimal import Decimal

from execution_app.book import positions
from execution_app.models import Position, TxIntent
from execution_app.moves import open_intent
from execution_app.states import Action

BY = "engine"


def ask_further(intent: TxIntent, position: Position | None, share_usdc: Decimal | None) -> TxIntent:
    """Another intent of the same request for a close; without a position it waits for an open that is not filled yet."""
    request = intent.intent_key.partition("#")[0]
    mine = TxIntent.objects.filter(
        trader=intent.trader, symbol=intent.symbol, pk__gt=positions.asked_at(intent)
    )
    number, created = mine.filter(intent_key__startswith=f"{request}#").count() + 2, False
    while not created:
        # A number that somebody else has just taken is another share's: whoever fails is asked again without the wallet.
        further, created = _open_further(intent, f"{request}#{number}", position, share_usdc)
        number += 1
    return further


def _open_further(
    intent: TxIntent, key: str, position: Position | None, share_usdc: Decimal | None
) -> tuple[TxIntent, bool]:
    return open_intent(
        key=key,
        by=BY,
        trader=intent.trader,
        wallet=intent.wallet,
        tg_user_id=intent.tg_user_id,
        source=intent.source,
        road=intent.road,
        action=Action.CLOSE.value,
        symbol=intent.symbol,
        slippage_pct=intent.slippage_pct,
        accepted_at=intent.accepted_at,
        position=position,
        only_position=intent.only_position,
        reduce_usdc=share_usdc,
        reduce_pct=intent.reduce_pct,
    )
