"""Trades that the venue holds otherwise than the book: the book is corrected, and nothing is traded.

An owner takes a part out, adds margin, increases it or moves a level with their own key; a row may have been damaged. What
differs is noted with the block at which a majority of endpoints has it so, and taken over when that block is final
and still on the chain for a majority, as for trades that are there no more (`book/absence.py`). Not while anything
of ours is under way with the position: then the book is about to say the same. A position that was taken for ended
and whose trade is there opens again in the same way.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import audit, meters, reservations
from execution_app.audit_words import AuditAction
from execution_app.book import absence, bases, protections
from execution_app.book.absence import Sighting
from execution_app.book.positions import fold
from execution_app.book.replaced import is_replaced
from execution_app.models import Correction, Position, TxIntent
from execution_app.node import quorum
from execution_app.states import OWNING_NONCE, Mode, PositionEnd, PositionState
from execution_app.venues import onchain
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)
BATCH = 100
DOUBTED_FOR = timedelta(days=1)
THERE = "there"
_NOTHING_NOTED: dict[str, Any] = {"differs_at_block": None, "differs_at_hash": "", "differs_as": ""}


def doubted() -> list[Position]:
    """Positions that ended lately and nobody knows how, newest first: one that is there all the same opens again."""
    ended = Position.objects.filter(mode=Mode.LIVE, state=PositionState.CLOSED)
    lately = ended.filter(ended_by=PositionEnd.CLOSED_ELSEWHERE, updated_at__gt=Now() - DOUBTED_FOR)
    return list(lately.select_related("trader").order_by("-id")[:BATCH])


def consider(position: Position, sighting: Sighting, drift: str) -> bool:
    """Note how the venue's trade differs, or take that over once it is final; says whether it was taken over."""
    trade = sighting.trades[position.pk]
    seen = _spelled(trade) if trade is not None and drift and absence.is_there(position, trade) else ""
    if not _is_final(position, sighting, seen) or trade is None:
        return False
    return _take_over(position, trade, drift)


def reconsider(position: Position, sighting: Sighting) -> bool:
    """Open a position again that was taken for ended elsewhere, once the venue has its trade at a final block.

    Not where the book has a later trade of this slot: the venue counts seconds, so within one a slot may be opened,
    ended and opened again at the same price, and what is there is that trade.
    """
    trade = sighting.trades[position.pk]
    stands = trade is not None and absence.is_there(position, trade) and not is_replaced(position)
    known = position.venue_timestamp
    same = stands and known is not None and trade is not None and trade.opened_at == int(known.timestamp())
    if not _is_final(position, sighting, THERE if same else ""):
        return False
    with transaction.atomic():
        # Before all rows, as everywhere: what is at stake grows.
        reservations.lock()
        locked = Position.objects.select_for_update().get(pk=position.pk)
        if (
            locked.state != PositionState.CLOSED
            or locked.ended_by != PositionEnd.CLOSED_ELSEWHERE
            or is_replaced(locked)
        ):
            return False
        Position.objects.filter(pk=locked.pk).update(
            absent_at_block=None, missed_at_block=None, missed_at_hash="", **_NOTHING_NOTED
        )
        fold(locked)
        for intent_id in bases.staking(locked):
            reservations.take_up_again(intent_id)
        state = Position.objects.values_list("state", flat=True).get(pk=locked.pk)
        audit.record(
            AuditAction.POSITION_CORRECTED,
            f"position {locked.pk}",
            reason="the venue has its trade still",
            before={"state": locked.state, "ended_by": locked.ended_by},
            after={"state": state, "block": position.differs_at_block},
        )
    meters.POSITIONS_CORRECTED.labels(position.symbol).inc()
    log.warning("position corrected", position=position.pk, symbol=position.symbol, differed="it is there")
    return True


def _is_final(position: Position, sighting: Sighting, seen: str) -> bool:
    """Whether the venue had it like this at a final block of most endpoints; else that is noted, or forgotten."""
    noted_at = position.differs_at_block
    if not seen:
        _note(position, None, "", "")
        return False
    if noted_at is not None and seen == position.differs_as:
        if noted_at > sighting.finalized:
            return False
        votes = absence.finality(noted_at, position.differs_at_hash)
        if votes[True] >= quorum.needed():
            return True
        if votes[False] < quorum.needed():
            return False
    if _is_so_for_most(position, sighting, seen):
        _note(position, sighting.block_number, sighting.block_hash, seen)
    return False


def _take_over(position: Position, trade: OpenTrade, drift: str) -> bool:
    block_number, block_hash = position.differs_at_block, position.differs_at_hash
    assert block_number is not None
    with transaction.atomic():
        position = Position.objects.select_for_update().get(pk=position.pk)
        newer = position.fills.filter(Q(settled_at=None) | Q(block_number__gt=block_number))
        ours = TxIntent.objects.filter(position=position, settled_at=None, state__in=sorted(OWNING_NONCE))
        if position.state != PositionState.OPEN or position.mode != Mode.LIVE:
            return False
        margin = position.margin_changes.filter(Q(settled_at=None) | Q(block_number__gt=block_number))
        if newer.exists() or ours.exists() or margin.exists():
            return False
        if position.corrections.filter(block_number__gte=block_number):
            return False
        held = {
            "collateral_usdc": trade.collateral_usdc,
            "leverage_x": trade.leverage_x,
            "open_price": trade.open_price,
            "take_profit": trade.take_profit,
            "stop_loss": trade.stop_loss,
        }
        before_price = position.open_price
        before = {name: _words(getattr(position, name)) for name in held}
        Correction.objects.create(
            position=position,
            block_number=block_number,
            block_hash=block_hash,
            venue_timestamp=datetime.fromtimestamp(trade.opened_at, UTC),
            differed=drift,
            **held,
        )
        Position.objects.filter(pk=position.pk).update(drift="", grown_price=None, **_NOTHING_NOTED)
        fold(position)
        if trade.open_price != before_price:
            # What had fired for the smaller one, and closed that, watches the whole again.
            protections.renew(position, reason="its owner increased it")
        after = {name: _words(value) for name, value in held.items()} | {"block": block_number}
        audit.record(
            AuditAction.POSITION_CORRECTED,
            f"position {position.pk}",
            reason=drift,
            before=before,
            after=after,
        )
    meters.POSITIONS_CORRECTED.labels(position.symbol).inc()
    log.warning("position corrected", position=position.pk, symbol=position.symbol, differed=drift)
    return True


def _is_so_for_most(position: Position, sighting: Sighting, seen: str) -> bool:
    """Whether a majority of endpoints has the very block of the sighting, and the trade like this at it."""
    number = hex(sighting.block_number)
    votes = 0
    calls = [("eth_getBlockByNumber", (number, False)), absence.question(position, number)]
    for _, (block, raw) in quorum.ask_each(calls):
        if isinstance(block, dict) and block["hash"] == sighting.block_hash and isinstance(raw, str):
            trade = onchain.read_open_trade(bytes.fromhex(raw[2:]))
            there = absence.is_there(position, trade)
            votes += there and trade is not None and seen in {THERE, _spelled(trade)}
    return votes >= quorum.needed()


def _spelled(trade: OpenTrade) -> str:
    """All of a trade that may change in its life, as one word to compare."""
    values = (
        *(trade.collateral_usdc, trade.leverage_x, trade.open_price),
        *(trade.take_profit, trade.stop_loss, trade.opened_at),
    )
    return " ".join(map(str, values))


def _words(value: object) -> str | None:
    return None if value is None else f"{value:f}"


def _note(position: Position, block_number: int | None, block_hash: str, seen: str) -> None:
    noted = (position.differs_at_block, position.differs_at_hash, position.differs_as)
    if noted != (block_number, block_hash, seen):
        Position.objects.filter(pk=position.pk).update(
            differs_at_block=block_number, differs_at_hash=block_hash, differs_as=seen
        )
