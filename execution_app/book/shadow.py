"""Every LIVE order estimated as a simulation would fill it, before it leaves, and compared with what the venue made of it."""

from datetime import datetime
from decimal import Decimal

import structlog
from django.db import connection

from execution_app import meters
from execution_app.book import simulation
from execution_app.book.prices import Market
from execution_app.models import Fill, Shadow, TxIntent
from execution_app.models.protection import HIGHEST_PRICE
from execution_app.states import GROWING
from execution_app.venues import costs

log = structlog.get_logger(__name__)
MOST_USDC = Decimal(10**17)
MOST_PCT = Decimal(10**9)
_GAP_PLACES = Decimal("0.000001")
_NO_GAP = {"price_gap_pct": None, "fee_gap_usdc": None, "delay_ms": None}


def cast(intent: TxIntent, market: Market, close_usdc: Decimal | None) -> Shadow | None:
    """The estimate of an order that is about to be signed, not stored yet; by the estimator of simulated fills.

    None where what the venue says of its costs is nonsense: no order waits for its estimate, least of all an exit.
    """
    try:
        found = simulation.estimate(intent, market, close_usdc)
    except (ValueError, ArithmeticError) as problem:
        log.warning("an order without an estimate", intent=intent.pk, problem=str(problem)[:200])
        return None
    prices_usd = (found.oracle_price, found.price)
    if not (all(0 < usd < HIGHEST_PRICE for usd in prices_usd) and 0 <= found.fee_usdc < MOST_USDC):
        log.warning("an order without an estimate", intent=intent.pk, price=found.price, fee=found.fee_usdc)
        return None
    return Shadow(
        intent=intent,
        oracle_price=found.oracle_price,
        price=found.price,
        fee_usdc=found.fee_usdc,
        refusal=found.refusal[:200],
    )


def compare(fill: Fill) -> None:
    """Store how far a LIVE fill was from its estimate, in the transaction of the fill; nothing where it has none.

    An order of before shadows were cast, or of a restored database, has none.
    """
    row = Shadow.objects.filter(intent=fill.intent).first()
    if row is None:
        return
    buys = fill.position.is_long == (fill.action in GROWING)
    worse = fill.price - row.price if buys else row.price - fill.price
    gap_pct, fee_gap_usdc = worse * 100 / row.price, fee_usdc(fill) - row.fee_usdc
    if not (abs(gap_pct) < MOST_PCT and abs(fee_gap_usdc) < MOST_USDC):
        # No fill is refused by the book for the sake of a figure.
        log.error(
            "a fill that is nothing like its estimate", intent=fill.intent_id, pct=gap_pct, fee=fee_gap_usdc
        )
        return
    price_gap_pct = gap_pct.quantize(_GAP_PLACES)
    delay_ms = max(0, round((_now() - row.estimated_at).total_seconds() * 1000))
    Shadow.objects.filter(pk=row.pk).update(
        price_gap_pct=price_gap_pct, fee_gap_usdc=fee_gap_usdc, delay_ms=delay_ms
    )
    meters.SHADOW_PRICE_GAP.observe(float(price_gap_pct))
    meters.SHADOW_FEE_GAP.observe(float(fee_gap_usdc))
    meters.SHADOW_DELAY.observe(delay_ms / 1000)


def take_back(intent: TxIntent) -> None:
    """The fill left the chain, and its gap with it."""
    Shadow.objects.filter(intent=intent).update(**_NO_GAP)


def fee_usdc(fill: Fill) -> Decimal:
    """What the venue kept of a LIVE fill: of the collateral put in, or of what a close at its price was worth."""
    if fill.action in GROWING:
        held_usdc: Decimal = fill.collateral_usdc
        assert fill.intent is not None  # only what the venue closed by itself has none
        asked_usdc: Decimal = fill.intent.collateral_usdc or held_usdc
        return asked_usdc - held_usdc
    position = fill.position
    worth = costs.proceeds(
        fill.collateral_usdc,
        fill.leverage_x,
        position.open_price,
        fill.price,
        simulation.NO_COSTS,
        is_long=position.is_long,
    )
    return worth.paid_usdc - (fill.sent_to_trader_usdc or Decimal(0))


def _now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert isinstance(now, datetime)
    return now
