"""Ask the venue about registered orders: still pending, executed or refunded.

An order that the venue no longer lists as pending has left an event between its
own block and the head, and that stretch is read, so a crash or a flush cannot
step over it. Where the event is not found, or the book refuses it, the order
remembers how far was read: one such order costs a bounded look, not ever more.
From time to time it is read anew from its own block, since nodes may show a log
long after its block, and what kept the book from taking it may have gone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError
from django.db.models import Q

from execution_app import meters
from execution_app.book import orders
from execution_app.errors import Stale
from execution_app.models import Chain, VenueOrder
from execution_app.node import quorum, rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import IntentState, OrderState
from execution_app.venues import events, onchain
from execution_app.venues.increase_events import PositionIncreased

log = structlog.get_logger(__name__)
BATCH = 2_000
SPANS_A_PASS = 10
SAME_S = 2.0  # for so long at most what was said at a block is not asked again there
READ_AGAIN = 64  # blocks
READ_ANEW = 256  # blocks, while one look reads all of them; then whenever they have doubled
_Waiting = tuple[int, int, int | None]  # an order's key and id, and the slot in which it rests
# What an event raises that the venue cannot have written.
NONSENSE = (DataError, LookupError, ValueError, ArithmeticError)


@dataclass
class _Said:
    """Which orders still waited, by what was said at one block, which says the same again; nothing that anybody relies on.

    Whoever lags or lies about the head is asked again after a moment, however long the head stays.
    """

    where: tuple[str, str] = ("", "")  # the venue's storage, and the block's hash
    since_s: float = 0.0
    waiting: set[int] = field(default_factory=set)

    def at(self, storage: str, block_hash: str) -> set[int]:
        now_s = time.monotonic()
        if self.where != (storage, block_hash) or now_s - self.since_s > SAME_S:
            self.where, self.since_s, self.waiting = (storage, block_hash), now_s, set()
        return self.waiting


_said = _Said()
# Orders by key and block, with the head at which their end had no event for the first time; nothing that anybody relies on.
_missed: dict[tuple[int, str], int] = {}


def collect(head: int, block_hash: str) -> None:
    """Apply what happened to outstanding orders up to this head."""
    outstanding = VenueOrder.objects.filter(state=OrderState.REGISTERED, intent__state=IntentState.ORDERED)
    waiting = list(outstanding.order_by("-order_id").values_list("pk", "order_id", "limit_index"))
    # Apart: what rests for weeks, however much it is, must not keep what is executed at once from being asked about.
    at_once = [one for one in waiting if one[2] is None]
    asked = _turn(at_once, head) + _turn([one for one in waiting if one[2] is not None], head)
    slots = {pk: slot for pk, _, slot in asked}
    waits = _said.at(settings.ENVIRONMENT.venue_storage_address, block_hash)
    unsure = [(pk, order_id) for pk, order_id, _ in asked if order_id not in waits]
    gone = _no_longer_pending(unsure, head, waits)
    resting = [pk for pk, slot in slots.items() if slot is not None and pk not in gone]
    if resting:
        _note_rest(resting)
    if not gone:
        return
    ended = list(
        outstanding.filter(pk__in=gone)
        .select_related("intent__position")
        .prefetch_related("intent__trader")
        .order_by("order_id")
    )
    # Another pass may have been faster, and what stood in the row is not what was asked about.
    ended = [order for order in ended if order.order_id == gone[order.pk]]
    # Apart: an old one that nobody can tell the end of must not keep all later ones beyond what one look reads.
    reached = head - LOG_SPAN * SPANS_A_PASS
    if late := [one for one in ended if _start(one) > reached]:
        _look(late, head)
    if old := [one for one in ended if _start(one) <= reached]:
        try:
            _look(old, head)
        except rpc.NodeError as problem:
            # Such as a provider that has pruned old logs: the rest is followed.
            log.warning("the logs of old orders cannot be read", orders=len(old), problem=str(problem))


def _turn(waiting: list[_Waiting], head: int) -> list[_Waiting]:
    """As many as one look asks about; of more than that each has its turn, by the head's number."""
    if len(waiting) <= BATCH:
        return waiting
    first = head * BATCH % len(waiting)
    return [*waiting[first:], *waiting[:first]][:BATCH]


def _note_rest(resting: list[int]) -> None:
    """What rests at the head has no end in a final block, so these are never read for it; written once in a look's reach."""
    final = Chain.objects.filter(pk=settings.ENVIRONMENT.chain_id).values_list("finalized_number").first()
    if final is None or final[0] is None:
        return
    due = Q(rested_to_block=None) | Q(rested_to_block__lt=final[0] - LOG_SPAN)
    rested = VenueOrder.objects.filter(due, pk__in=resting, block_number__lt=final[0] - LOG_SPAN)
    rested.filter(state=OrderState.REGISTERED).update(rested_to_block=final[0])


def _forget_rest(missing: list[VenueOrder]) -> set[int]:
    """Of these, those of which a node once said that they rested, perhaps behind their end: they are read from their own block."""
    rested = [order.pk for order in missing if order.rested_to_block is not None]
    if rested:
        log.warning("no end where these were said to rest; they are read from their beginning", orders=rested)
        VenueOrder.objects.filter(pk__in=rested, state=OrderState.REGISTERED).update(
            rested_to_block=None, scanned_to_block=None
        )
    return set(rested)


def _look(ended: list[VenueOrder], head: int) -> None:
    """Read what became of these from the first of them on, as far as one look goes."""
    start = min(_start(order) for order in ended)
    end = min(head, start + LOG_SPAN * SPANS_A_PASS - 1)
    done: set[int] = set()
    missing = _apply({order.order_id: order for order in ended}, _logs(start, end), done)
    sure = not missing or _others_have_none(missing, start, end, done)
    later = _ended_later(missing, head) if sure and end == head else set()
    for order in missing:
        if sure and end == head and order.scanned_to_block is None and order.pk not in later:
            meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event").inc()
            log.error(
                "the venue dropped an order without an event", intent=order.intent_id, order=order.order_id
            )
    anew = _forget_rest([one for one in missing if one.pk not in later]) if sure and end == head else set()
    for order in [one for one in ended if one.pk not in done | later | anew] if sure else ():
        standing = VenueOrder.objects.filter(pk=order.pk, state=OrderState.REGISTERED)
        standing.filter(block_hash=order.block_hash).update(scanned_to_block=_read_to(order, end, head))


def _apply(by_id: dict[int, VenueOrder], entries: list[dict[str, Any]], done: set[int]) -> list[VenueOrder]:
    """Execute or refund what these logs say, and note the keys of those orders; returns those of which they say nothing."""
    for entry in entries:
        event = _decoded(entry)
        order = by_id.get(event.order_id) if event is not None else None
        if order is None:
            continue
        try:
            if isinstance(event, events.OrderExecuted):
                orders.execute(order, event)
            elif isinstance(event, PositionIncreased):
                orders.increase(order, event)
            elif isinstance(event, events.OrderCancelled):
                orders.refund(order, event)
            else:
                continue
            done.add(order.pk)
        except Stale as moved:
            # Its block has left the chain; the next look finds what stands there now.
            log.info("an event has left the chain", order=order.order_id, why=str(moved))
        except (IntegrityError, *NONSENSE) as problem:
            # One order that the book cannot take must not keep all others from being followed.
            meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
            log.exception("the book refuses an event", intent=order.intent_id, order=order.order_id)
            if isinstance(problem, NONSENSE):
                order.intent.refresh_from_db(fields=["state"])
                continue  # other endpoints are asked
        del by_id[order.order_id]
    return list(by_id.values())


def _start(order: VenueOrder) -> int:
    """The first block to read; some are read again, for nodes that index late and for short reorgs."""
    read_to: int = order.scanned_to_block or 0
    return max(order.block_number, order.rested_to_block or 0, read_to - READ_AGAIN)


def _read_to(order: VenueOrder, end: int, head: int) -> int:
    """How far its blocks count as read, now that they were until `end`: not at all, where they are due to be read anew."""
    before: int | None = order.scanned_to_block
    if before is None or end < head or head - before > READ_AGAIN:
        return end  # not at the head, or only just there
    born: int = order.block_number
    return born if _stage(head - born) > _stage(before - born) else end


def _stage(age: int) -> int:
    """Grows with the age in blocks, less and less often: what is read anew in all is a small multiple of the age."""
    return min(age, LOG_SPAN * SPANS_A_PASS) // READ_ANEW + age.bit_length()


def _decoded(entry: Any) -> events.OrderEvent | None:
    try:
        return events.decode(entry, trading_address=settings.ENVIRONMENT.venue_trading_address)
    except (ValueError, KeyError, TypeError, AttributeError):
        # One log that cannot be read must not keep all orders from being followed.
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        told = entry.get("transactionHash") if isinstance(entry, dict) else entry
        log.exception("a log of the venue cannot be read", hash=str(told)[:80])
        return None


def _no_longer_pending(outstanding: Sequence[tuple[int, int]], head: int, waits: set[int]) -> dict[int, int]:
    """Of keys and order ids, those whose order the venue does not list any more; ids of the others go to `waits`."""
    storage = settings.ENVIRONMENT.venue_storage_address
    calls: list[rpc.Call] = [
        ("eth_call", ({"to": storage, "data": "0x" + onchain.call_is_pending(order_id).hex()}, hex(head)))
        for _, order_id in outstanding
    ]
    ended = {}
    for (key, order_id), answer in zip(outstanding, rpc.read_batch(calls), strict=True):
        try:
            if isinstance(answer, rpc.NodeError):
                raise answer
            pending = onchain.read_is_pending(bytes.fromhex(str(answer)[2:]))
        except (rpc.NodeError, ValueError) as problem:
            log.warning("the venue does not say whether an order waits", order=order_id, problem=str(problem))
            continue
        if pending:
            waits.add(order_id)
        else:
            ended[key] = order_id
    return ended


def _others_have_none(missing: list[VenueOrder], start: int, end: int, done: set[int]) -> bool:
    """Apply what any endpoint has about these orders; says whether a majority answered, and so the rest has no event."""
    answered = 0
    for _, answers in quorum.ask_each(_spans(start, end)):
        if all(isinstance(answer, list) for answer in answers):
            answered += 1
            missing[:] = _apply(
                {order.order_id: order for order in missing}, [one for a in answers for one in a], done
            )
    return answered >= quorum.needed()


def _ended_later(missing: list[VenueOrder], head: int) -> set[int]:
    """Of these, whose end stands above the head: a node may answer for one block out of the next one's state.

    They are the next look's, and nothing is applied. Where the node does not say, none of them is judged by this one,
    nor is any that no look at an earlier head missed: the next block may be under way, and tell its logs when it is done.
    """
    unread = [order for order in missing if order.scanned_to_block is None]
    fresh = {order.order_id: order.pk for order in unread}
    if not fresh:
        return set()
    for old in [key for key, at in _missed.items() if at < head - READ_AGAIN]:
        del _missed[old]
    if new := {one.pk for one in unread if _missed.setdefault((one.pk, one.block_hash), head) >= head}:
        return new | _ended_later([one for one in missing if one.pk not in new], head)
    address = settings.ENVIRONMENT.venue_trading_address
    span = {"address": address, "fromBlock": hex(head), "toBlock": "latest"}
    try:
        found = [_decoded(entry) for entry in _read("eth_getLogs", (span,))]
    except rpc.NodeError as problem:
        log.warning("no logs above the head", head=head, problem=str(problem))
        return set(fresh.values())
    told = {event.order_id for event in found if isinstance(event, events.Ended)}
    return {key for order_id, key in fresh.items() if order_id in told}


def _logs(start: int, head: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for method, params in _spans(start, head):
        found += _read(method, params)
    return found


def _read(method: str, params: Sequence[Any]) -> list[Any]:
    found = rpc.read(method, *params)
    if not isinstance(found, list):
        raise rpc.RpcFault(f"logs that are no list: {str(found)[:80]}")
    return found


def _spans(start: int, head: int) -> list[rpc.Call]:
    address = settings.ENVIRONMENT.venue_trading_address
    return [
        (
            "eth_getLogs",
            ({"address": address, "fromBlock": hex(low), "toBlock": hex(min(low + LOG_SPAN - 1, head))},),
        )
        for low in range(start, head + 1, LOG_SPAN)
    ]
