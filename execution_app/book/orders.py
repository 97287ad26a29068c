"""What the venue did with an order: a keeper executes or refunds it, in a block that may still leave the chain."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import transaction

from execution_app import meters
from execution_app.book import displaced, growth, margins, openings, positions, protections, shadow
from execution_app.errors import Stale
from execution_app.models import Fill, Position, TxIntent, VenueOrder
from execution_app.models.arrays import rows_of
from execution_app.moves import Step, move, move_all
from execution_app.node import rpc
from execution_app.states import Action, IntentState, Mode, OrderState, PositionState, Reason
from execution_app.venues import calldata
from execution_app.venues.events import OrderCancelled, OrderExecuted, OrderRegistered, Registered
from execution_app.venues.increase_events import PositionIncreased
from execution_app.venues.orders import Terms

log = structlog.get_logger(__name__)
BY = "book"
_AS_ASKED: dict[str, Any] = dict.fromkeys(("limit_price", "slippage_pct", "take_profit", "stop_loss"))


def register(intent: TxIntent, event: Registered) -> None:
    """The venue took the order: mined → ordered."""
    with transaction.atomic():
        move(intent, IntentState.ORDERED, why=f"order {event.order_id}", by=BY)
        VenueOrder.objects.update_or_create(intent=intent, defaults=_fresh(event))


def register_all(registered: Sequence[tuple[TxIntent, OrderRegistered]]) -> None:
    """As `register`, for orders of which none is known yet; all of them or none, with the transaction they are stored in."""
    with transaction.atomic(savepoint=False):
        steps = [Step(intent, f"order {event.order_id}") for intent, event in registered]
        move_all(steps, IntentState.ORDERED, by=BY)
        rows_of(VenueOrder).bulk_create(
            VenueOrder(intent=intent, **_fresh(event)) for intent, event in registered
        )


def _fresh(event: Registered) -> dict[str, Any]:
    return {
        "venue": event.emitter,
        "order_id": event.order_id,
        "block_number": event.block_number,
        "block_hash": event.block_hash,
        "limit_index": event.limit_index if isinstance(event, OrderRegistered) else None,
        "rested_to_block": None,
        **_AS_ASKED,
        "state": OrderState.REGISTERED,
        "done_block_number": None,
        "done_block_hash": "",
        "scanned_to_block": None,
    }


def refund(order: VenueOrder, event: OrderCancelled) -> None:
    """The venue cancelled the order and gave the collateral back: ordered → venue_cancelled."""
    with transaction.atomic():
        move(order.intent, IntentState.VENUE_CANCELLED, why=f"order {order.order_id} refunded", by=BY)
        _done(order, OrderState.CANCELLED, event)


def execute(order: VenueOrder, event: OrderExecuted) -> None:
    """The venue executed the order: ordered → filled, with its fill and position.

    Raises Stale where the event's block has left the chain meanwhile, RpcFault or
    NodeError where the node cannot say when a close was, and LookupError, ValueError,
    ArithmeticError or DataError for an event of something that there cannot be.
    """
    intent = order.intent
    _check_event(intent, event)
    if not event.is_open and intent.position is not None:
        margins.follow_before(intent.position, event.opened_at, event.block_number)
    venue_timestamp = _timestamp(event)
    with transaction.atomic():
        move(intent, IntentState.FILLED, why=f"order {order.order_id} executed at {event.price:f}", by=BY)
        _done(order, OrderState.EXECUTED, event)
        position = openings.position_of(intent, event) if event.is_open else _closed(intent, event)
        if position is None:
            raise ValueError(f"order {order.order_id} closed a trade that nobody knows")
        if not event.is_open:
            displaced.tell(intent, position)
        fill = Fill.objects.create(
            intent=intent,
            position=position,
            action=Action.OPEN if event.is_open else Action.CLOSE,
            mode=Mode.LIVE,
            price=event.price,
            collateral_usdc=event.collateral_usdc,
            leverage_x=event.leverage_x,
            sent_to_trader_usdc=None if event.is_open else event.usdc_sent_to_trader,
            tx_hash=event.tx_hash,
            log_index=event.log_index,
            block_number=event.block_number,
            block_hash=event.block_hash,
            venue_timestamp=venue_timestamp,
        )
        shadow.compare(fill)
        if event.is_open:
            protections.begin(position, intent)
            positions.end_replaced(position)
            displaced.make_way(position, intent)
        positions.fold(position)
    side = "CLOSE" if not event.is_open else ("LONG" if event.is_long else "SHORT")
    meters.TRADES.labels(intent.symbol, side, Mode.LIVE.value).inc()


def increase(order: VenueOrder, event: PositionIncreased) -> None:
    """The venue carried an increase out: ordered → filled, with its fill; the position is larger from here on.

    Raises as `execute` does for what there cannot be.
    """
    intent = order.intent
    position = _grown(intent, event)
    with transaction.atomic():
        move(intent, IntentState.FILLED, why=f"order {order.order_id} executed at {event.price:f}", by=BY)
        _done(order, OrderState.EXECUTED, event)
        fill = Fill.objects.create(
            intent=intent,
            position=position,
            action=Action.INCREASE,
            mode=Mode.LIVE,
            price=event.price,
            collateral_usdc=event.collateral_usdc,
            leverage_x=event.leverage_x,
            open_price_after=event.open_price,
            leverage_after_x=event.held_leverage_x,
            tx_hash=event.tx_hash,
            log_index=event.log_index,
            block_number=event.block_number,
            block_hash=event.block_hash,
            venue_timestamp=datetime.fromtimestamp(event.opened_at, UTC),
        )
        shadow.compare(fill)
        positions.fold(position)
        protections.renew(position, reason=f"{intent.intent_key} increased it")
    meters.TRADES.labels(intent.symbol, "LONG" if event.is_long else "SHORT", Mode.LIVE.value).inc()


def _grown(intent: TxIntent, event: PositionIncreased) -> Position:
    """The position that the venue says it increased; not the intent's, where a reorg opened that one anew.

    A message names a slot alone. Where another trade was in it, that is paged, and the intent's position is corrected
    as any that the venue has otherwise.
    """
    assert intent.trader is not None
    asked = intent.position
    assert asked is not None
    stood_at = datetime.fromtimestamp(event.opened_at_before, UTC)
    slot = {"pair_index": event.pair_index, "trade_index": event.trade_index, "mode": Mode.LIVE}
    found = Position.objects.filter(
        trader=intent.trader, venue=event.emitter, venue_timestamp=stood_at, **slot
    )
    position = found.exclude(state=PositionState.VOID).order_by("opened_at").last() or asked
    before = event.open_price_before
    same = before in {position.open_price, position.grown_price}
    # Its owner may have increased it in between.
    same = same or growth.follow(position, before, event.block_number)
    agrees = (
        event.trader.lower() == intent.trader.address.lower()
        and (event.pair_index, event.trade_index) == (asked.pair_index, asked.trade_index)
        and event.is_long == position.is_long == intent.is_long
        and event.leverage_x == intent.leverage_x
        and event.collateral_usdc <= intent.collateral_usdc
        and same
    )
    if not agrees:
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.error("the venue increased another trade", intent=intent.pk, order=event.order_id)
    return position


def unregister(intent: TxIntent) -> None:
    """The block of an order, or of what was done to one, left the chain; take back all that followed from it."""
    with transaction.atomic():
        take_back(intent)
        VenueOrder.objects.filter(intent=intent).delete()
        keep_terms(intent)
        margins.take_back(intent)


def keep_terms(change: TxIntent) -> None:
    """What the order that `change` names stands at: as the last change on the chain left it, or else as its open asked.

    Nonces are executed in their order, so the last is the one with the highest.
    """
    if change.action != Action.UPDATE_ORDER:
        return
    # Locked before the changes are read: of two that follow at once, the later sees what the earlier did.
    order = VenueOrder.objects.select_for_update().filter(intent=change.target_id).first()
    if order is None:
        return
    made = TxIntent.objects.filter(target=change.target_id, action=Action.UPDATE_ORDER)
    made = made.filter(state=IntentState.CHANGED).exclude(reason=Reason.NO_ORDER)
    last = made.order_by("nonce").values_list("calldata", flat=True).last()
    terms = _AS_ASKED if last is None else asdict(calldata.read_terms(bytes(last)))
    VenueOrder.objects.filter(pk=order.pk).update(**terms)


def terms(order: TxIntent) -> Terms:
    """What an open that rests stands at, as far as we changed it; what its owner changed by hand shows when it fills."""
    row = VenueOrder.objects.filter(intent=order, limit_price__isnull=False).first()
    asked = row or order
    assert asked.limit_price is not None
    return Terms(asked.limit_price, asked.slippage_pct, asked.take_profit, asked.stop_loss)


def take_back(intent: TxIntent) -> None:
    """Remove the provisional fill and fold its position anew."""
    with transaction.atomic():
        fill = Fill.objects.filter(intent=intent).select_related("position").first()
        if fill is not None:
            if fill.action == Action.OPEN:
                margins.forget(fill.position)
            fill.delete()
            shadow.take_back(intent)
            positions.fold(fill.position)
            if fill.action == Action.OPEN:
                positions.empty(fill)
                positions.reopen_replaced(fill.position)
        VenueOrder.objects.filter(intent=intent).update(
            state=OrderState.REGISTERED, done_block_number=None, done_block_hash="", scanned_to_block=None
        )


def _check_event(intent: TxIntent, event: OrderExecuted) -> None:
    """The venue's report must be about what was asked; anything else is paged."""
    assert intent.trader is not None
    agrees = event.trader.lower() == intent.trader.address.lower() and event.is_open == (
        intent.action == Action.OPEN
    )
    if agrees and event.is_open:
        agrees = event.collateral_usdc == intent.collateral_usdc and event.leverage_x == intent.leverage_x
    elif agrees:
        agrees = event.collateral_usdc == intent.close_usdc
    if not agrees:
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.error("the venue's event does not match the intent", intent=intent.pk, order=event.order_id)


def _timestamp(event: OrderExecuted) -> datetime:
    """What the venue's storage holds as the trade's time afterwards: a partial close refreshes it."""
    if event.is_open:
        return datetime.fromtimestamp(event.opened_at, UTC)
    block = rpc.read("eth_getBlockByHash", event.block_hash, False)
    if block is None:
        raise Stale(f"block {event.block_number} has left the chain")
    return datetime.fromtimestamp(int(block["timestamp"], 16), UTC)


def _done(
    order: VenueOrder, state: OrderState, event: OrderExecuted | PositionIncreased | OrderCancelled
) -> None:
    VenueOrder.objects.filter(pk=order.pk).update(
        state=state, done_block_number=event.block_number, done_block_hash=event.block_hash
    )


def _closed(intent: TxIntent, event: OrderExecuted) -> Position | None:
    """The trade that the venue says it closed; not the intent's, where a reorg opened that one anew.

    Nor the row that it had before: blocks that came instead of others may have their seconds.
    """
    same_slot = Position.objects.filter(
        trader=intent.trader,
        venue=event.emitter,
        pair_index=event.pair_index,
        trade_index=event.trade_index,
        mode=Mode.LIVE,
    )
    stood_at = datetime.fromtimestamp(event.opened_at, UTC)
    stood = same_slot.filter(venue_timestamp=stood_at).exclude(state=PositionState.VOID)
    return stood.order_by("opened_at").last() or intent.position
