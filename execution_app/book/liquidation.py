"""Simulated positions end as the venue ends real ones whose loss is too large: all collateral is gone, and nobody is asked.

It is the venue's doing, so neither a stop nor the gate holds it up. A price that lay beyond between two looks, one a
second, is not seen, as the venue's keeper would not have seen it.
"""

from collections.abc import Mapping
from decimal import Decimal

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book.positions import fold
from execution_app.models import Fill, Position, Wallet
from execution_app.states import Action, Mode, PositionEnd, PositionState
from execution_app.venues.costs import liquidation_price

log = structlog.get_logger(__name__)


def simulated_symbols() -> set[str]:
    """Symbols of open simulated positions."""
    return set(_held().order_by().values_list("symbol", flat=True).distinct())


def carry_out(prices: Mapping[str, Decimal]) -> int:
    """Liquidate what these prices (USD, by symbol, fresh ones alone) are beyond; returns how many."""
    held = _held().filter(symbol__in=prices)
    rows = held.values_list("pk", "symbol", "open_price", "leverage_x", "is_long")
    found = [
        (pk, prices[symbol])
        for pk, symbol, open_price, leverage_x, is_long in rows
        if _is_beyond(prices[symbol], open_price, leverage_x, is_long=is_long)
    ]
    return sum(_liquidate(pk, price) for pk, price in found)


def _held() -> QuerySet[Position]:
    return Position.objects.filter(mode=Mode.DRY, state=PositionState.OPEN)


def _is_beyond(price: Decimal, open_price: Decimal, leverage_x: Decimal, *, is_long: bool) -> bool:
    level = liquidation_price(open_price, leverage_x, is_long=is_long)
    return level is not None and (price <= level if is_long else price >= level)


def _liquidate(pk: int, price: Decimal) -> bool:
    with transaction.atomic():
        # As whoever closes in simulation does: else both might end it.
        trader_id = Position.objects.values_list("trader_id", flat=True).get(pk=pk)
        list(Wallet.objects.select_for_update(no_key=True).filter(trader_id=trader_id).order_by("pk"))
        position = Position.objects.select_for_update().get(pk=pk)
        if position.state != PositionState.OPEN:
            return False
        Fill.objects.create(
            position=position,
            action=Action.CLOSE.value,
            mode=Mode.DRY.value,
            ended_by=PositionEnd.LIQUIDATION.value,
            price=price,
            collateral_usdc=position.collateral_usdc,
            leverage_x=position.leverage_x,
            fee_usdc=0,
            sent_to_trader_usdc=0,
            tx_hash=f"dry:liquidation:{pk}",
            log_index=0,
            settled_at=Now(),
        )
        fold(position)
    meters.VENUE_ENDINGS.labels(position.symbol, PositionEnd.LIQUIDATION.value).inc()
    log.warning("a simulated position is liquidated", position=pk, symbol=position.symbol, price=price)
    return True
