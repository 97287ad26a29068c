"""What makes a trade larger: increases of ours as fills of its position, those of its owner's own hand as the venue tells them.

An increase blends the trade's opening price, by which a trade is known elsewhere (`book/absence.py`). So where the
venue has another one in the slot, its logs are asked whether an increase led there from the price in the book.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Now

from execution_app.book import reopened
from execution_app.models import Correction, Fill, Position, TxIntent
from execution_app.node import quorum, rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import IN_FLIGHT, Action, IntentState
from execution_app.venues import events
from execution_app.venues.increase_events import PositionIncreased
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)
# Behind the deadline of an increase: within this long its keeper, too, has carried it out, or does not.
KEEPER_MS = 30_000
SPANS = 10


def is_under_way(position: Position) -> bool:
    """Whether an increase of ours has left that may be part of the position any moment, so that no close knows its size.

    Bounded by its deadline, whatever became of it: no exit waits for what the venue does not carry out.
    """
    asked = _asked(position).filter(settled_at=None, state__in=sorted(IN_FLIGHT))
    # Behind its deadline a block that shows it unused is enough, long before that is final.
    waited_for = asked.filter(message__unused_at_block=None)
    # No block shows what the keeper leaves alone; where the database's clock was set back, neither does its deadline.
    ahead = Now() + timedelta(milliseconds=KEEPER_MS)
    waited_for = waited_for.exclude(state=IntentState.ORDERED, message__made_at__gt=ahead)
    latest_ms = waited_for.aggregate(latest=Max("message__deadline_ms"))["latest"]
    return latest_ms is not None and latest_ms + KEEPER_MS >= _now_ms()


def _asked(position: Position) -> QuerySet[TxIntent]:
    """Increases of ours that are, or may become, part of it: their messages name a slot and no row of the book."""
    mine = Q(position=position) | reopened.asked_of_void(position)
    return TxIntent.objects.filter(mine, action=Action.INCREASE)


def open_price(
    position: Position, opening: Fill, later: list[Fill], corrected: Correction | None
) -> dict[str, object]:
    """The trade's opening price, where it may ever have changed; as before where a reorg took that back.

    `later` are increases from behind the correction, in the order of the chain.
    """
    if later:
        return {"open_price": later[-1].open_price_after}
    if corrected is not None and corrected.open_price is not None:
        return {"open_price": corrected.open_price}
    if corrected is None and position.open_price != opening.price and _asked(position).exists():
        return {"open_price": opening.price}
    return {}


def is_of(position: Position, trade: OpenTrade) -> bool:
    """Whether side and opening price are this position's: the book's, or what its owner's own increase made of it."""
    return trade.is_long == position.is_long and trade.open_price in {
        position.open_price,
        position.grown_price,
    }


def follow(position: Position, open_price: Decimal, block_number: int) -> bool:
    """Note an opening price that increases, one after the other, have led to by this block, by most endpoints' logs.

    Says whether they have. Not further back than SPANS stretches of logs: what was increased longer
    ago while nobody looked is another trade to the book. Raises RpcFault where no node answers.
    """
    known_at = max(
        position.fills.aggregate(at=Max("block_number"))["at"] or 0,
        position.corrections.aggregate(at=Max("block_number"))["at"] or 0,
    )
    first = max(known_at, block_number - LOG_SPAN * SPANS + 1, 0)
    votes = 0
    for _, answers in quorum.ask_each(_spans(position, first, block_number)):
        if all(isinstance(answer, list) for answer in answers):
            told = [_increase(position, entry) for answer in answers for entry in answer]
            votes += _leads_to(position, open_price, [event for event in told if event is not None])
    if votes < quorum.needed():
        return False
    Position.objects.filter(pk=position.pk).update(grown_price=open_price)
    position.grown_price = open_price
    log.warning("increased by its owner", position=position.pk, symbol=position.symbol, open_price=open_price)
    return True


def _leads_to(position: Position, open_price: Decimal, told: list[PositionIncreased]) -> bool:
    prices = {position.open_price}
    for event in sorted(told, key=lambda one: (one.block_number, one.log_index)):
        if event.open_price_before in prices:
            prices.add(event.open_price)
    return open_price in prices


def _spans(position: Position, first: int, last: int) -> list[rpc.Call]:
    """Increases of this trader in these blocks."""
    span = {
        "address": settings.ENVIRONMENT.venue_trading_address,
        "topics": [
            ["0x" + topic.hex() for topic in events.increasing_topics()],
            "0x" + position.trader.address[2:].lower().rjust(64, "0"),
        ],
    }
    return [
        (
            "eth_getLogs",
            ({**span, "fromBlock": hex(low), "toBlock": hex(min(low + LOG_SPAN - 1, last))},),
        )
        for low in range(first, last + 1, LOG_SPAN)
    ]


def _increase(position: Position, entry: dict[str, Any]) -> PositionIncreased | None:
    """The increase of this position's slot that a log tells of; None for any other, and for what cannot be read."""
    try:
        event = events.decode(entry, trading_address=settings.ENVIRONMENT.venue_trading_address)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(event, PositionIncreased):
        return None
    slot = (event.trader.lower(), event.pair_index, event.trade_index)
    return (
        event
        if slot == (position.trader.address.lower(), position.pair_index, position.trade_index)
        else None
    )


def _now_ms() -> int:
    """By the database's clock, as ages are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(cursor.fetchone()[0])
