"""Ask the venue about registered orders: still pending, executed or refunded.

No cursor is kept. An order that the venue no longer lists as pending has left
an event between its own block and the head, and that stretch is read, so a
crash or a flush cannot step over it.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError

from execution_app import meters
from execution_app.book import orders
from execution_app.errors import Stale
from execution_app.models import VenueOrder
from execution_app.node import rpc
from execution_app.states import IntentState, OrderState
from execution_app.venues import events, onchain

log = structlog.get_logger(__name__)
BATCH = 2_000
LOG_SPAN = 1_000  # blocks per eth_getLogs; providers refuse more


def collect(head: int) -> None:
    """Apply what happened to outstanding orders up to this head."""
    outstanding = list(
        VenueOrder.objects.filter(state=OrderState.REGISTERED, intent__state=IntentState.ORDERED)
        .select_related("intent__trader", "intent__position")
        .order_by("order_id")[:BATCH]
    )
    ended = _no_longer_pending(outstanding, head)
    if not ended:
        return
    by_id = {order.order_id: order for order in ended}
    for entry in _logs(min(order.block_number for order in ended), head):
        event = events.decode(entry, trading_address=settings.ENVIRONMENT.venue_trading_address)
        order = by_id.get(event.order_id) if event is not None else None
        if order is None:
            continue
        try:
            if isinstance(event, events.OrderExecuted):
                orders.execute(by_id.pop(order.order_id), event)
            elif isinstance(event, events.OrderCancelled):
                orders.refund(by_id.pop(order.order_id), event)
        except Stale:
            continue
        except IntegrityError:
            # One order that the book cannot take must not keep all others from being followed.
            meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
            log.exception("the book refuses an event", intent=order.intent_id, order=order.order_id)
    for order in by_id.values():
        meters.INVARIANT_VIOLATIONS.labels("ended_order_has_event").inc()
        log.error("the venue dropped an order without an event", intent=order.intent_id, order=order.order_id)


def _no_longer_pending(outstanding: Sequence[VenueOrder], head: int) -> list[VenueOrder]:
    storage = settings.ENVIRONMENT.venue_storage_address
    calls: list[rpc.Call] = [
        (
            "eth_call",
            ({"to": storage, "data": "0x" + onchain.call_is_pending(order.order_id).hex()}, hex(head)),
        )
        for order in outstanding
    ]
    ended = []
    for order, answer in zip(outstanding, rpc.read_batch(calls), strict=True):
        if isinstance(answer, rpc.NodeError):
            raise answer
        if not onchain.read_is_pending(bytes.fromhex(str(answer)[2:])):
            ended.append(order)
    return ended


def _logs(start: int, head: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for low in range(start, head + 1, LOG_SPAN):
        span = {
            "address": settings.ENVIRONMENT.venue_trading_address,
            "fromBlock": hex(low),
            "toBlock": hex(min(low + LOG_SPAN - 1, head)),
        }
        found += rpc.read("eth_getLogs", span)
    return found
