"""Trades that the venue has no more although no close of ours ended them: liquidated, or closed by their owner.

The block at which a majority of endpoints missed one is remembered, and the
position ends when that block is final and still on the chain for a majority. So no node is asked for old state,
which most do not keep for as long as finality takes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from execution_app.book import endings, growth
from execution_app.book.positions import fold
from execution_app.models import Position, TxIntent
from execution_app.node import quorum, rpc
from execution_app.states import OWNING_NONCE, Mode, PositionState
from execution_app.venues import onchain
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sighting:
    """What the venue had at one block: per position id its trade, None for an empty slot."""

    block_number: int
    block_hash: str
    finalized: int
    trades: dict[int, OpenTrade | None]


def look(held: Sequence[Position]) -> Sighting:
    """Read the slots of these positions at one block. Raises RpcFault or NodeError."""
    latest, finalized = rpc.read_batch(
        [("eth_getBlockByNumber", ("latest", False)), ("eth_getBlockByNumber", ("finalized", False))]
    )
    if isinstance(latest, rpc.NodeError):
        raise latest
    calls = [question(position, latest["number"]) for position in held]
    trades = {}
    for position, answer in zip(held, rpc.read_batch(calls) if calls else [], strict=True):
        if isinstance(answer, rpc.NodeError):
            raise answer
        trades[position.pk] = onchain.read_open_trade(bytes.fromhex(str(answer)[2:]))
    known_final = isinstance(finalized, dict)
    return Sighting(
        int(latest["number"], 16),
        latest["hash"],
        int(finalized["number"], 16) if known_final else -1,
        trades,
    )


def is_there(position: Position, trade: OpenTrade | None) -> bool:
    """Whether the trade in the slot is this one: its side is for life, and its opening price but for increases."""
    return trade is not None and growth.is_of(position, trade)


def remember(position: Position, sighting: Sighting) -> int | None:
    """Note whether the trade was missed; returns the final block at which it was, or None so far."""
    if is_there(position, sighting.trades[position.pk]) or _has_grown(position, sighting):
        _note(position, None, "")
        return None
    if position.fills.filter(block_number__gt=sighting.block_number).exists():
        return None  # who is behind its last fill says nothing of it
    seen_at, seen_hash = position.missed_at_block, position.missed_at_hash
    if seen_at is not None and position.fills.filter(block_number__gt=seen_at).exists():
        seen_at = None  # a node that lagged behind missed it
    if seen_at is not None and seen_at <= sighting.finalized:
        votes = finality(seen_at, seen_hash)
        if votes[True] >= quorum.needed():
            return seen_at
        if votes[False] >= quorum.needed():
            seen_at = None
    if seen_at is None and _is_missed_by_most(position, sighting):
        _note(position, sighting.block_number, sighting.block_hash)
    return None


def _has_grown(position: Position, sighting: Sighting) -> bool:
    """Whether the trade in the slot is what increases made of this one.

    Asked when it is missed first, and again before that ends it: to read logs at every look, as long as a block needs
    to be final, would cost more than it tells.
    """
    trade, missed_at = sighting.trades[position.pk], position.missed_at_block
    if trade is None or trade.is_long != position.is_long:
        return False
    if missed_at is not None and missed_at > sighting.finalized:
        return False
    return growth.follow(position, trade.open_price, sighting.block_number)


def finality(number: int, block_hash: str) -> Counter[bool | None]:
    """How many endpoints have this block as a final one (True), or another in its place (False)."""
    votes: Counter[bool | None] = Counter()
    calls = [("eth_getBlockByNumber", (hex(number), False)), ("eth_getBlockByNumber", ("finalized", False))]
    for _, (block, finalized) in quorum.ask_each(calls):
        if not isinstance(block, dict) or not isinstance(finalized, dict):
            votes[None] += 1
        elif block["hash"] != block_hash:
            votes[False] += 1
        else:
            votes[True if int(finalized["number"], 16) >= number else None] += 1
    return votes


def _is_missed_by_most(position: Position, sighting: Sighting) -> bool:
    """Whether a majority of endpoints has the very block of the sighting, and no such trade at it."""
    number = hex(sighting.block_number)
    votes = 0
    for _, (block, raw) in quorum.ask_each(
        [("eth_getBlockByNumber", (number, False)), question(position, number)]
    ):
        if isinstance(block, dict) and block["hash"] == sighting.block_hash and isinstance(raw, str):
            votes += not is_there(position, onchain.read_open_trade(bytes.fromhex(raw[2:])))
    return votes >= quorum.needed()


def question(position: Position, block: str) -> rpc.Call:
    """What the venue's storage holds in the slot of this position, at a block."""
    place = (position.trader.address, position.pair_index, position.trade_index)
    storage = settings.ENVIRONMENT.venue_storage_address
    return ("eth_call", ({"to": storage, "data": "0x" + onchain.call_open_trade(*place).hex()}, block))


def _note(position: Position, block_number: int | None, block_hash: str) -> None:
    if (position.missed_at_block, position.missed_at_hash) != (block_number, block_hash):
        Position.objects.filter(pk=position.pk).update(
            missed_at_block=block_number, missed_at_hash=block_hash
        )


def end(position: Position, block_number: int, ending: endings.Ending | None = None) -> bool:
    """Close a LIVE position that the venue had not at this final block, by what event where one is known; says whether it could be.

    Not while fills or closes of ours are less final than that block: the venue
    may not have had the trade yet, or we may have ended it ourselves.
    """
    with transaction.atomic():
        position = Position.objects.select_for_update().get(pk=position.pk)
        newer = position.fills.filter(Q(settled_at=None) | Q(block_number__gt=block_number))
        ours = TxIntent.objects.filter(position=position, settled_at=None, state__in=sorted(OWNING_NONCE))
        if position.state != PositionState.OPEN or position.mode != Mode.LIVE:
            return False
        # Whose margin was changed later was there.
        if newer.exists() or ours.exists() or position.margin_changes.filter(block_number__gt=block_number):
            return False
        Position.objects.filter(pk=position.pk).update(absent_at_block=block_number, drift="")
        if ending is not None:
            endings.write(position, ending)
        fold(position)
    if ending is None:
        log.warning("closed elsewhere", position=position.pk, symbol=position.symbol, block=block_number)
    return True
