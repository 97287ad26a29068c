"""Trades in our traders' names that no order of ours opened: by their own hand, or from before they came to us.

For people to see. Nothing here decides about money, so one node's word is enough, and the next look corrects it.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db.models.functions import Now

from execution_app.models import ExternalTrade, Position, Trader, TxIntent
from execution_app.node import rpc
from execution_app.states import OWNING_NONCE, Action, Mode, PositionState
from execution_app.venues import onchain
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)
TRADERS_A_LOOK = 20
EVERY_S = 5
SLOTS = 64  # read of one pair, whatever the venue counts
Slot = tuple[int, int]  # pair_index, trade_index


def keep() -> None:
    """Look at some traders' slots, all of them in turn, and write down what is not ours. Raises RpcFault or NodeError."""
    venue = settings.ENVIRONMENT.venue_trading_address
    if not venue:
        return
    traders = list(Trader.objects.filter(wallet__chain_id=settings.ENVIRONMENT.chain_id).order_by("id"))
    turns = -(-len(traders) // TRADERS_A_LOOK)
    begin = TRADERS_A_LOOK * (int(time.time() / EVERY_S) % turns) if turns else 0
    for trader in traders[begin : begin + TRADERS_A_LOOK]:
        _keep(trader, venue)


def _keep(trader: Trader, venue: str) -> None:
    ours = set(
        Position.objects.filter(trader=trader, mode=Mode.LIVE, state=PositionState.OPEN).values_list(
            "pair_index", "trade_index"
        )
    )
    # What an order of ours is opening just now will be ours when its event is read.
    opening = TxIntent.objects.filter(
        trader=trader, action=Action.OPEN, settled_at=None, state__in=sorted(OWNING_NONCE)
    )
    unclear = {onchain.PAIRS[symbol] for symbol in opening.values_list("symbol", flat=True)}
    found = {
        slot: trade
        for slot, trade in _held(trader.address, ours, unclear).items()
        if slot not in ours and not _was_ours(trader, slot, trade)
    }
    known = {
        (row.pair_index, row.trade_index): row
        for row in ExternalTrade.objects.filter(trader=trader, venue=venue, gone_at=None)
        if row.pair_index not in unclear
    }
    for slot, row in known.items():
        trade = found.get(slot)
        if trade is None or (row.is_long, row.open_price) != (trade.is_long, trade.open_price):
            ExternalTrade.objects.filter(pk=row.pk).update(gone_at=Now())
            log.info("an external trade has gone", trader=trader.pk, symbol=row.symbol)
        else:
            ExternalTrade.objects.filter(pk=row.pk).update(**_state(trade))
            del found[slot]
    for (pair, index), trade in found.items():
        ExternalTrade.objects.create(
            trader=trader,
            venue=venue,
            symbol=onchain.PAIR_NAMES[pair],
            pair_index=pair,
            trade_index=index,
            is_long=trade.is_long,
            open_price=trade.open_price,
            **_state(trade),
        )
        log.warning("an external trade", trader=trader.pk, symbol=onchain.PAIR_NAMES[pair], index=index)


def _held(address: str, ours: set[Slot], unclear: set[int]) -> dict[Slot, OpenTrade]:
    """The trades of those pairs on which the venue counts more than are ours."""
    pairs = sorted(set(onchain.PAIRS.values()) - unclear)
    storage = settings.ENVIRONMENT.venue_storage_address
    counts = rpc.read_batch(
        [rpc.eth_call(storage, onchain.call_open_trades_count(address, pair)) for pair in pairs]
    )
    slots: list[Slot] = []
    for pair, counted in zip(pairs, map(_bytes, counts), strict=True):
        count, own = onchain.read_uint(counted), [index for at, index in ours if at == pair]
        if count > len(own):
            # An index is the lowest free one, so no trade lies far behind what is held.
            slots += [(pair, index) for index in range(min(max([count, *own]) + count + 1, SLOTS))]
    answers = rpc.read_batch(
        [rpc.eth_call(storage, onchain.call_open_trade(address, *slot)) for slot in slots]
    )
    return dict(_trades(slots, answers))


def _trades(slots: list[Slot], answers: list[Any]) -> Iterator[tuple[Slot, OpenTrade]]:
    for slot, answer in zip(slots, answers, strict=True):
        trade = onchain.read_open_trade(_bytes(answer))
        if trade is not None:
            yield slot, trade


def _was_ours(trader: Trader, slot: Slot, trade: OpenTrade) -> bool:
    """Whether it is a position of ours that the book has as ended: `book/corrections.py` deals with it."""
    return Position.objects.filter(
        trader=trader,
        mode=Mode.LIVE,
        pair_index=slot[0],
        trade_index=slot[1],
        is_long=trade.is_long,
        open_price=trade.open_price,
        venue_timestamp=datetime.fromtimestamp(trade.opened_at, UTC),
    ).exists()


def _state(trade: OpenTrade) -> dict[str, Any]:
    return {
        "collateral_usdc": trade.collateral_usdc,
        "leverage_x": trade.leverage_x,
        "venue_timestamp": datetime.fromtimestamp(trade.opened_at, UTC),
    }


def _bytes(answer: object) -> bytes:
    if isinstance(answer, rpc.NodeError):
        raise answer
    return bytes.fromhex(str(answer).removeprefix("0x"))
