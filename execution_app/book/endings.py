"""How a trade ended that no close of ours ended, read from the venue's events: by its own level, liquidated, by its owner.

It is read where the trade's absence is final, so no reorg takes it back, and is believed of a majority of the endpoints.
Where no event is found the position ends all the same, as closed elsewhere and with no payout; what nodes show later
is added for a while.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book.positions import fold
from execution_app.book.replaced import replaced_at
from execution_app.models import Fill, Position
from execution_app.node import quorum, rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import Action, Mode, PositionEnd
from execution_app.venues import events
from execution_app.venues.events import OrderExecuted

log = structlog.get_logger(__name__)
SPANS_A_REQUEST = 10
SPANS = 50  # how far back from where it was missed: 28 h of blocks of 2 s
LEARN_FOR = timedelta(minutes=10)
LEARNT_A_LOOK = 50


@dataclass(frozen=True)
class Ending:
    """The event that ended a trade, and the time of its block."""

    kind: PositionEnd
    event: OrderExecuted
    at: datetime


def find(gone: dict[int, int]) -> dict[int, Ending]:
    """How positions ended that are missed at these final blocks, by position; without those of which no event tells.

    Raises nothing for a node's sake: who is not found now may be learnt later.
    """
    if not gone:
        return {}
    wanted = [_Wanted(row, gone[row.pk]) for row in _with_bounds(gone)]
    try:
        _search(wanted)
        return _confirmed({one.position.pk: one.best() for one in wanted if one.found})
    except (rpc.RpcFault, rpc.NodeError) as problem:
        log.warning("how a trade ended is not read", positions=sorted(gone), problem=str(problem))
        return {}


def learn() -> None:
    """Look again for those that ended lately, of which no event was found."""
    unknown = Position.objects.filter(
        ended_by=PositionEnd.CLOSED_ELSEWHERE, updated_at__gt=Now() - LEARN_FOR, mode=Mode.LIVE
    )
    gone = {}
    for position in unknown.order_by("-id")[:LEARNT_A_LOOK]:
        block_number = _missed_by(position)
        if block_number is not None:
            gone[position.pk] = block_number
    for pk, ending in find(gone).items():
        with transaction.atomic():
            position = Position.objects.select_for_update().get(pk=pk)
            if position.ended_by == PositionEnd.CLOSED_ELSEWHERE:
                write(position, ending)
                fold(position)


def write(position: Position, ending: Ending) -> bool:
    """Keep what ended the trade, as a fill of the position; the caller folds it, in its transaction, and holds its row.

    Says whether it is kept: another position has it already where False.
    """
    event = ending.event
    try:
        with transaction.atomic():
            Fill.objects.create(
                position=position,
                action=Action.CLOSE.value,
                mode=Mode.LIVE.value,
                ended_by=ending.kind.value,
                price=event.price,
                collateral_usdc=event.collateral_usdc,
                leverage_x=event.leverage_x,
                sent_to_trader_usdc=event.usdc_sent_to_trader,
                tx_hash=event.tx_hash,
                log_index=event.log_index,
                block_number=event.block_number,
                block_hash=event.block_hash,
                filled_at=ending.at,
                settled_at=Now(),
            )
    except IntegrityError:
        log.exception("an event is of two positions", position=position.pk, tx=event.tx_hash)
        return False
    meters.VENUE_ENDINGS.labels(position.symbol, ending.kind.value).inc()
    log.warning(
        "the venue ended a trade",
        position=position.pk,
        symbol=position.symbol,
        how=ending.kind.value,
        price=event.price,
        paid_usdc=event.usdc_sent_to_trader,
        tx=event.tx_hash,
    )
    return True


class _Wanted:
    """A position, the stretch of blocks in which its end stands, and what was found there."""

    def __init__(self, position: Position, missed_at: int) -> None:
        self.position = position
        self.low: int = max(position.filled_to or 0, position.corrected_to or 0)  # type: ignore[attr-defined]
        self.high = missed_at
        self.found: list[tuple[PositionEnd, OrderExecuted]] = []

    def take(self, kind: PositionEnd, event: OrderExecuted) -> None:
        mine = self.position
        slot = (event.trader.lower(), event.pair_index, event.trade_index)
        if slot != (mine.trader.address.lower(), mine.pair_index, mine.trade_index):
            return
        # Its owner may have increased it before, which the book has not taken over yet.
        if event.is_long != mine.is_long or event.open_price not in {mine.open_price, mine.grown_price}:
            return
        # In the block of the last fill, too: it may have been liquidated right after it.
        if self.low <= event.block_number <= self.high:
            self.found.append((kind, event))

    def best(self) -> tuple[PositionEnd, OrderExecuted]:
        """The first that took what was left: before it its owner may have taken parts, after it others had the slot."""
        found = sorted(self.found, key=lambda one: (one[1].block_number, one[1].log_index))
        left_usdc = self.position.collateral_usdc
        for kind, event in found:
            left_usdc -= event.collateral_usdc
            if kind is not PositionEnd.OWNER or left_usdc <= 0:
                return kind, event
        return found[-1]


def _with_bounds(keys: Iterable[int]) -> Iterable[Position]:
    rows = Position.objects.filter(pk__in=keys).select_related("trader")
    return rows.annotate(
        filled_to=Max("fills__block_number"), corrected_to=Max("corrections__block_number")
    ).order_by("id")


def _missed_by(position: Position) -> int | None:
    """The first final block at which the venue had it no more; None where that is not known for good."""
    known = [at for at in (position.absent_at_block, replaced_at(position)) if at is not None]
    return min(known, default=None)


def _search(wanted: Sequence[_Wanted]) -> None:
    """Read backwards from the last of them, until each has an end or none of its blocks is left to read."""
    high = max(one.high for one in wanted)
    floor = max(0, high - LOG_SPAN * SPANS + 1)
    while high >= floor and not all(one.found or one.low > high for one in wanted):
        tops = range(high, max(floor, high - LOG_SPAN * SPANS_A_REQUEST + 1) - 1, -LOG_SPAN)
        calls: list[rpc.Call] = [
            ("eth_getLogs", (_question(fromBlock=hex(max(floor, top - LOG_SPAN + 1)), toBlock=hex(top)),))
            for top in tops
        ]
        found: list[tuple[PositionEnd, OrderExecuted]] = []
        for answer in rpc.read_batch(calls):
            if isinstance(answer, rpc.NodeError):
                raise answer
            found += _decoded(answer)
        known = _known(event for _, event in found)
        for kind, event in found:
            if (event.tx_hash, event.log_index) not in known:
                for one in wanted:
                    one.take(kind, event)
        high -= LOG_SPAN * SPANS_A_REQUEST


def _known(found: Iterable[OrderExecuted]) -> set[tuple[str, int]]:
    """Events that the book has already, as fills of our own closes or of other positions."""
    hashes = {event.tx_hash for event in found}
    return set(Fill.objects.filter(tx_hash__in=hashes).values_list("tx_hash", "log_index"))


def _question(**where: str) -> dict[str, Any]:
    topics = ["0x" + topic.hex() for topic in events.ending_topics()]
    return {"address": settings.ENVIRONMENT.venue_trading_address, "topics": [topics], **where}


def _decoded(entries: Any) -> Iterator[tuple[PositionEnd, OrderExecuted]]:
    for entry in entries if isinstance(entries, list) else []:
        try:
            found = events.decode_ending(entry, trading_address=settings.ENVIRONMENT.venue_trading_address)
        except (ValueError, KeyError, TypeError, AttributeError):
            log.exception("a log of the venue cannot be read", hash=str(entry)[:120])
            continue
        if found is not None:
            yield found


def _confirmed(found: dict[int, tuple[PositionEnd, OrderExecuted]]) -> dict[int, Ending]:
    """Those that a majority of endpoints shows in the block that it has at that height."""
    blocks = sorted({(event.block_number, event.block_hash) for _, event in found.values()})
    calls: list[rpc.Call] = []
    for number, block_hash in blocks:
        calls += [
            ("eth_getBlockByNumber", (hex(number), False)),
            ("eth_getLogs", (_question(blockHash=block_hash),)),
        ]
    votes: Counter[tuple[str, datetime, tuple[PositionEnd, OrderExecuted]]] = Counter()
    for _, answers in quorum.ask_each(calls):
        for at, (_, block_hash) in enumerate(blocks):
            block, entries = answers[2 * at : 2 * at + 2]
            if isinstance(block, dict) and block["hash"] == block_hash:
                time = datetime.fromtimestamp(int(block["timestamp"], 16), UTC)
                votes.update((block_hash, time, one) for one in set(_decoded(entries)))
    sure = {}
    for pk, one in found.items():
        for (block_hash, time, told), count in votes.items():
            if told == one and block_hash == one[1].block_hash and count >= quorum.needed():
                sure[pk] = Ending(*one, time)
    return sure
