"""Exits that nobody signalled: a person leaves everything, or an exit came to nothing and is asked for again."""

from decimal import Decimal

import structlog
from django.db.models import Q

from execution_app.book import displaced
from execution_app.engine.further import ask_further
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import GROWING, IN_FLIGHT, Action, IntentState, Mode, PositionState

log = structlog.get_logger(__name__)

# Each costs gas; what failed this often needs a person. A message that lapsed cost nothing and took its minute: a
# gateway that is away for some is no reason to leave a position without its exit.
MAX_FAILURES = 3
COSTLY = (IntentState.FINAL_REVERTED, IntentState.FINAL_CANCELLED, IntentState.VENUE_CANCELLED)
SLIPPAGE_PCT = Decimal("0.5")


def ask_again(failed: TxIntent) -> TxIntent | None:
    """Open another intent of the same request for a close that reverted, was refunded or cancelled in its slot.

    Runs in the transaction that makes the failure final. None for an open, and for
    a request that has failed MAX_FAILURES times.
    """
    if failed.action != Action.CLOSE:
        return None
    request = failed.intent_key.partition("#")[0]
    mine = TxIntent.objects.filter(trader=failed.trader, symbol=failed.symbol, position=failed.position)
    asked = mine.filter(Q(intent_key=request) | Q(intent_key__startswith=f"{request}#"))
    if asked.filter(state__in=COSTLY).count() >= MAX_FAILURES:
        log.error("an exit failed for the last time; the position stays open", intent=failed.pk)
        return None
    again = ask_further(failed, failed.position, failed.reduce_usdc)
    log.warning("an exit is asked for again", intent=again.pk, key=again.intent_key, failed=failed.pk)
    return again


def ask_rest(filled: TxIntent, position_id: int) -> TxIntent | None:
    """Open another intent of the same request where a close of all has left something: an increase was carried out before it.

    Runs in the transaction that makes the fill final. None for what closed all, or was to close a part. Where it took
    another trade than was meant (`book/displaced.py`) nobody has asked for the rest of that one to go; but the one that
    was meant is asked for again where a reorg dealt the slots out anew, and it may stand in another one.
    """
    if filled.action != Action.CLOSE:
        return None
    closed = Position.objects.get(pk=position_id)
    if displaced.took_another(filled, closed):
        meant = Position.objects.filter(pk=filled.position_id or 0, state=PositionState.VOID).first()
        if meant is None:
            return None
        again = ask_further(filled, meant, filled.reduce_usdc)
        log.warning("what a close missed is asked for again", intent=again.pk, key=again.intent_key)
        return again
    whole = filled.reduce_usdc is None and filled.reduce_pct is None
    if not whole or closed.state != PositionState.OPEN:
        return None
    rest = ask_further(filled, closed, None)
    log.warning("a close has left something, and that is asked for", intent=rest.pk, key=rest.intent_key)
    return rest


def ask(position: Position, *, key: str, by: str, reduce_pct: Decimal | None = None) -> int | None:
    """As `ask_intent`; returns the close's wallet."""
    close = ask_intent(position, key=key, by=by, reduce_pct=reduce_pct)
    return None if close is None else close.wallet_id


def ask_intent(
    position: Position,
    *,
    key: str,
    by: str,
    reduce_usdc: Decimal | None = None,
    reduce_pct: Decimal | None = None,
) -> TxIntent | None:
    """The one intent of this key that closes a position, or a part of it, and never another in its place.

    All of it, or so much of its collateral, or that share of it. None without a wallet.
    """
    wallet = Wallet.objects.filter(trader=position.trader).first()
    if wallet is None:
        return None
    close, _ = open_intent(
        key=key,
        by=by,
        trader=position.trader,
        wallet=wallet,
        tg_user_id=position.trader.tg_user_id,
        action=Action.CLOSE.value,
        symbol=position.symbol,
        slippage_pct=SLIPPAGE_PCT,
        position=position,
        only_position=True,
        reduce_usdc=reduce_usdc,
        reduce_pct=reduce_pct,
    )
    return close


def opens_under_way() -> int:
    """Opens that own a nonce and may still become LIVE positions, and increases that may make one larger."""
    owning = TxIntent.objects.filter(action__in=GROWING, mode=Mode.LIVE, state__in=sorted(IN_FLIGHT))
    return owning.filter(settled_at=None).count()
