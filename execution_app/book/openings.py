"""Which row of the book a trade is that the venue has opened: one of its own, or the one that a reorg left void."""

from datetime import UTC, datetime, timedelta
from typing import Any

from execution_app.models import Position, TxIntent
from execution_app.states import Mode, OrderType, PositionState
from execution_app.venues import onchain
from execution_app.venues.events import OrderExecuted


def position_of(intent: TxIntent, event: OrderExecuted) -> Position:
    """The row of the trade that `event` opened for `intent`; its fill is stored, and it is folded, by who calls.

    Blocks that come instead of others often have their seconds, and what is opened anew in one of them need not be what
    was there before: another price, or another order in the slot. Only a void row of the same order that says the same is
    taken again.
    """
    assert intent.trader is not None
    slot: dict[str, Any] = {
        "trader": intent.trader,
        "venue": event.emitter,
        "pair_index": event.pair_index,
        "trade_index": event.trade_index,
        "mode": Mode.LIVE,
    }
    opened_at = datetime.fromtimestamp(event.opened_at, UTC)
    fixed = {
        "is_long": event.is_long,
        "open_price": event.price,
        "collateral_usdc": event.collateral_usdc,
        "leverage_x": event.leverage_x,
    }
    second = Position.objects.filter(
        **slot, opened_at__gte=opened_at, opened_at__lt=opened_at + timedelta(seconds=1)
    ).order_by("opened_at")
    void = second.filter(state=PositionState.VOID, absent_at_block=None, opened_by=intent, **fixed)
    same = void.first()
    if same is not None:
        return same
    # The venue counts seconds: what has a slot in one of them after something else is told apart by 1 µs.
    last = second.last()
    return Position.objects.create(
        **slot,
        **fixed,
        **_levels(intent, event),
        opened_at=opened_at if last is None else last.opened_at + timedelta(microseconds=1),
        symbol=onchain.PAIR_NAMES[event.pair_index],
        state=PositionState.VOID,  # until its opening fill is stored and folded
    )


def _levels(intent: TxIntent, event: OrderExecuted) -> dict[str, Any]:
    """The trade's, as it opens: an order that rested may have been given others, by us or by its owner."""
    source = intent if intent.order_type == OrderType.MARKET else event
    return {"take_profit": source.take_profit, "stop_loss": source.stop_loss}
