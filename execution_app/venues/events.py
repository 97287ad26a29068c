"""What the venue's logs say about an order: registered, executed or cancelled; increases are `increase_events.py`.

Logs are the JSON-RPC objects of receipts and eth_getLogs. A registered order is not a fill.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from execution_app.states import ENDED_BY_VENUE, PositionEnd
from execution_app.venues.increase_events import (
    INCREASED_DATA,
    REQUESTED_DATA,
    IncreaseRequested,
    PositionIncreased,
    increased,
    requested,
)
from execution_app.venues.logs import Event, Place, decoded, indexed_address, level, topic
from execution_app.venues.onchain import TRADE_TYPE
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, from_units
from execution_app.venues.words import checksummed, read_words

_REGISTERED_DATA = ("uint256", "bool", "uint256", "uint256", "bool", "bool", "uint256", "uint256")
_EXECUTED_DATA = ("uint256", TRADE_TYPE, "bool", "uint256", "uint256", "int256", "uint256", "bool")
_CANCELLED_DATA = ("uint256", "uint256")
# An order that rests: placed, triggered, given another price or levels, taken back.
_PLACED_DATA = ("uint256", "uint256", "uint256", "uint256", "bool", "uint256", "uint256", "uint256")
_TRIGGERED_DATA = (
    *("uint256", "uint256", TRADE_TYPE, "uint8"),
    *("uint256", "uint256", "int256", "uint256", "bool"),
)
_UPDATED_DATA = ("uint256",) * 7
_TAKEN_BACK_DATA = ("uint256",) * 4
# A LimitExecuted's own kinds: 3 opens, the others end a trade.
_OPENED = 3
_ENDS = dict(enumerate(ENDED_BY_VENUE[:3]))  # take profit, stop loss, liquidation


@dataclass(frozen=True, slots=True)
class OrderRegistered(Event):
    """MarketOrderInitiated or OpenLimitPlaced; for a close `collateral_usdc` is the amount to close.

    `limit_index` is the slot in which the order rests, None for a market order.
    """

    order_id: int
    trader: str
    pair_index: int
    is_open: bool
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    registered_at: int
    limit_index: int | None = None


@dataclass(frozen=True, slots=True)
class OrderExecuted(Event):
    """MarketExecuted, or LimitExecuted of an open. `price` is the fill, `position_size_usdc` the notional.

    For a close `collateral_usdc` is what this execution took out of the trade, `opened_at` the timestamp
    (unix s) the trade had before, `pnl_pct` in percent of the collateral, and `usdc_sent_to_trader` the
    payout after fees. For an open the last two are zero.
    """

    order_id: int
    trader: str
    pair_index: int
    trade_index: int
    is_open: bool
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    open_price: Decimal
    price: Decimal
    position_size_usdc: Decimal
    pnl_pct: Decimal
    usdc_sent_to_trader: Decimal
    opened_at: int
    take_profit: Decimal | None
    stop_loss: Decimal | None


@dataclass(frozen=True, slots=True)
class OrderCancelled(Event):
    """MarketOpenCanceled or OpenLimitCanceled: the collateral went back to the trader in full."""

    order_id: int
    trader: str
    pair_index: int


@dataclass(frozen=True, slots=True)
class OrderUpdated(Event):
    """OpenLimitUpdated: an order that rests has these terms from here on."""

    order_id: int
    trader: str
    pair_index: int
    price: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None


# What tells that an order waits for its keeper now.
Registered = OrderRegistered | IncreaseRequested
# What tells that one waits no more.
Ended = OrderExecuted | PositionIncreased | OrderCancelled
OrderEvent = Registered | OrderExecuted | PositionIncreased | OrderCancelled | OrderUpdated


def decode(
    log: Mapping[str, Any], *, trading_address: str | None = None, version: str = "rehearsal-v2"
) -> OrderEvent | None:
    """Read one log; None where it is not an order event of this venue version.

    Any contract can write such a log, so give `trading_address`, or check `emitter`. Logs that a node marks
    as removed by a reorg are None as well. Raises ValueError where topic and data disagree.
    """
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    reader = TOPICS[version].get(topics[0]) if topics else None
    if reader is None or log.get("removed"):
        return None
    if trading_address is not None and log["address"].lower() != trading_address.lower():
        return None
    return reader(_place(log), topics, bytes.fromhex(log["data"][2:]))


def _place(log: Mapping[str, Any]) -> Place:
    return {
        "emitter": checksummed(log["address"]),
        "tx_hash": log["transactionHash"],
        "log_index": int(log["logIndex"], 16),
        "block_number": int(log["blockNumber"], 16),
        "block_hash": log["blockHash"],
    }


def decode_ending(
    log: Mapping[str, Any], *, trading_address: str, version: str = "rehearsal-v2"
) -> tuple[PositionEnd, OrderExecuted] | None:
    """Read one log that may have ended a trade, by anybody's hand; None where it is none.

    A market close is its owner's here: whose order it was, and whether it took all, is for the caller to say. Raises
    ValueError where topic and data disagree.
    """
    event = decode(log, trading_address=trading_address, version=version)
    if isinstance(event, OrderExecuted):
        return None if event.is_open else (PositionEnd.OWNER, event)
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    if not topics or TOPICS[version].get(topics[0]) is not _triggered or log.get("removed"):
        return None
    if log["address"].lower() != trading_address.lower():
        return None
    order_id, _slot, trade, kind, *figures, _is_pnl = decoded(_TRIGGERED_DATA, bytes.fromhex(log["data"][2:]))
    if kind not in _ENDS:
        return None
    return _ENDS[kind], _execution(_place(log), order_id, trade, tuple(figures), is_open=False)


def ending_topics(version: str = "rehearsal-v2") -> list[bytes]:
    """Topics of the logs that `decode_ending` reads."""
    return [topic for topic, reader in TOPICS[version].items() if reader in (_executed, _triggered)]


def _registered(place: Place, topics: Sequence[bytes], data: bytes) -> OrderRegistered:
    pair, is_open, order_id, timestamp, is_long, _is_pnl, collateral, leverage = read_words(
        _REGISTERED_DATA, data
    )
    return OrderRegistered(
        **place,
        order_id=order_id,
        trader=indexed_address(topics),
        pair_index=pair,
        is_open=bool(is_open),
        is_long=bool(is_long),
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        registered_at=timestamp,
    )


def _executed(place: Place, _topics: Sequence[bytes], data: bytes) -> OrderExecuted:
    order_id, trade, is_open, price, size, pnl, sent, _is_pnl = decoded(_EXECUTED_DATA, data)
    return _execution(place, order_id, trade, (price, size, pnl, sent), is_open=is_open)


def _triggered(place: Place, _topics: Sequence[bytes], data: bytes) -> OrderExecuted | None:
    """What closes a trade by a level or by liquidation is no order of ours."""
    order_id, _slot, trade, kind, price, size, pnl, sent, _is_pnl = decoded(_TRIGGERED_DATA, data)
    return (
        _execution(place, order_id, trade, (price, size, pnl, sent), is_open=True)
        if kind == _OPENED
        else None
    )


def _execution(
    place: Place, order_id: int, trade: Sequence[Any], figures: tuple[int, ...], *, is_open: bool
) -> OrderExecuted:
    trader, pair, index, collateral, _size, open_price, is_long, leverage, tp, sl, opened_at = trade
    price, size, pnl, sent = figures
    return OrderExecuted(
        **place,
        order_id=order_id,
        trader=checksummed(trader),
        pair_index=pair,
        trade_index=index,
        is_open=is_open,
        is_long=is_long,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        open_price=from_units(open_price, VENUE_DIGITS),
        price=from_units(price, VENUE_DIGITS),
        position_size_usdc=from_units(size, USDC_DIGITS),
        pnl_pct=from_units(pnl, VENUE_DIGITS),
        usdc_sent_to_trader=from_units(sent, USDC_DIGITS),
        opened_at=opened_at,
        take_profit=level(tp),
        stop_loss=level(sl),
    )


def _placed(place: Place, topics: Sequence[bytes], data: bytes) -> OrderRegistered:
    pair, slot, order_id, timestamp, is_long, collateral, leverage, _price = decoded(_PLACED_DATA, data)
    return OrderRegistered(
        **place,
        order_id=order_id,
        trader=indexed_address(topics),
        pair_index=pair,
        is_open=True,
        is_long=is_long,
        collateral_usdc=from_units(collateral, USDC_DIGITS),
        leverage_x=from_units(leverage, VENUE_DIGITS),
        registered_at=timestamp,
        limit_index=slot,
    )


def _updated(place: Place, topics: Sequence[bytes], data: bytes) -> OrderUpdated:
    pair, _slot, order_id, price, tp, sl, _timestamp = decoded(_UPDATED_DATA, data)
    return OrderUpdated(
        **place,
        order_id=order_id,
        trader=indexed_address(topics),
        pair_index=pair,
        price=from_units(price, VENUE_DIGITS),
        take_profit=level(tp),
        stop_loss=level(sl),
    )


def _taken_back(place: Place, topics: Sequence[bytes], data: bytes) -> OrderCancelled:
    pair, _slot, order_id, _timestamp = decoded(_TAKEN_BACK_DATA, data)
    return OrderCancelled(**place, order_id=order_id, trader=indexed_address(topics), pair_index=pair)


def _cancelled(place: Place, topics: Sequence[bytes], data: bytes) -> OrderCancelled:
    order_id, pair = decoded(_CANCELLED_DATA, data)
    return OrderCancelled(**place, order_id=order_id, trader=indexed_address(topics), pair_index=pair)


_Reader = Callable[[Place, Sequence[bytes], bytes], OrderEvent | None]


def registering_topics(version: str = "rehearsal-v2") -> list[bytes]:
    """Topics of the logs that tell of a registered order; their second topic is the trader."""
    return [topic for topic, reader in TOPICS[version].items() if reader in (_registered, _placed, requested)]


def increasing_topics(version: str = "rehearsal-v2") -> list[bytes]:
    """Topics of the logs that tell of an increase that was carried out; their second topic is the trader."""
    return [topic for topic, reader in TOPICS[version].items() if reader is increased]


# One table per venue version: v2 on the live venue changed most topics and publishes no ABI, so it has no
# table here and must not borrow this one.
TOPICS: dict[str, dict[bytes, _Reader]] = {
    "rehearsal-v2": {
        topic("MarketOrderInitiated", "address,uint256,bool,uint256,uint256,bool,bool,uint256,uint256"): (
            _registered
        ),
        topic("MarketExecuted", ",".join(_EXECUTED_DATA)): _executed,
        topic("MarketOpenCanceled", "uint256,address,uint256"): _cancelled,
        topic("OpenLimitPlaced", ",".join(("address", *_PLACED_DATA))): _placed,
        topic("OpenLimitUpdated", ",".join(("address", *_UPDATED_DATA))): _updated,
        topic("OpenLimitCanceled", ",".join(("address", *_TAKEN_BACK_DATA))): _taken_back,
        topic("LimitExecuted", ",".join(_TRIGGERED_DATA)): _triggered,
        topic("IncreasePositionRequested", ",".join(("address", *REQUESTED_DATA))): requested,
        topic("PositionSizeIncreased", ",".join((INCREASED_DATA[0], "address", *INCREASED_DATA[1:]))): (
            increased
        ),
    }
}
