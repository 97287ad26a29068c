"""What a plan is, and the drafts of what is done to an order that rests and to the margin of a position."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from execution_app.models import Position, TxIntent, VenueOrder
from execution_app.node import rpc
from execution_app.states import Action, Reason
from execution_app.venues import onchain
from execution_app.venues.calls import (
    Margin,
    encode_cancel_limit,
    encode_update_limit,
    encode_update_margin,
)
from execution_app.venues.costs import Held, margin_terms
from execution_app.venues.orders import Terms


@dataclass(frozen=True)
class Plan:
    """A transaction without nonce and fee, or the reason why there is none.

    `final` says that asking again would not help, `held` that a person can.
    """

    wanted_price: Decimal = Decimal(0)
    calldata: bytes = b""
    value_wei: int = 0
    gas_limit: int = 0
    close_usdc: Decimal | None = None
    position_id: int | None = None
    # What its trade would have after a change of its margin.
    leverage_x: Decimal = Decimal(0)
    # When the trade to close was stored, unix seconds; a message names it.
    trade_opened_at: int = 0
    problem: Reason | None = None
    detail: str = ""
    final: bool = False
    # Somebody has to set it right: the intent is held meanwhile.
    held: bool = False
    # A final block at which the venue had not the trade that is to be closed.
    absent_at_block: int | None = None


ORDER_ENDED = Plan(
    problem=Reason.WAITS_FOR_EARLIER_ORDER, detail="the order has ended at the venue (NO_LIMIT)"
)


def of_order(intent: TxIntent, trader: str, standing: dict[int, Terms]) -> Plan:
    """Of the slot in which its order rests; `order_changes` has seen that no other order can be in it by then."""
    placed = VenueOrder.objects.filter(intent=intent.target_id).values_list("limit_index", "order_id").first()
    slot, order_id = placed or (None, 0)
    if slot is None:
        return Plan(problem=Reason.WAITS_FOR_EARLIER_ORDER, detail="the order is not at the venue yet")
    pair = onchain.PAIRS[intent.symbol]
    if intent.action == Action.CANCEL_ORDER:
        storage = settings.ENVIRONMENT.venue_storage_address
        (pending,) = rpc.read_views([(storage, onchain.call_is_pending(order_id))])
        if not onchain.read_is_pending(pending):
            # The trial would not say so where its owner has placed another one in that slot by hand.
            return Plan(problem=Reason.WAITS_FOR_EARLIER_ORDER, detail="the order has ended at the venue")
        return Plan(calldata=onchain.encode_delegated(trader, encode_cancel_limit(pair, slot)))
    held = standing.get(intent.pk)
    if held is None:
        return ORDER_ENDED
    try:
        order = encode_update_limit(
            pair,
            slot,
            intent.limit_price or held.limit_price,
            intent.new_slippage_pct or held.slippage_pct,
            take_profit=held.take_profit if intent.take_profit is None else intent.take_profit,
            stop_loss=held.stop_loss if intent.stop_loss is None else intent.stop_loss,
        )
    except ValueError as error:
        return Plan(problem=Reason.NOT_REPRESENTABLE, detail=str(error), final=True)
    return Plan(calldata=onchain.encode_delegated(trader, order))


def standing(changes: Sequence[TxIntent]) -> dict[int, Terms]:
    """What the venue has now of the orders that are to be changed, by the change; what stays is taken from there."""
    numbers = dict(
        VenueOrder.objects.filter(intent__in=[change.target_id for change in changes]).values_list(
            "intent_id", "order_id"
        )
    )
    known = [change for change in changes if change.target_id in numbers]
    storage = settings.ENVIRONMENT.venue_storage_address
    calls = [
        rpc.eth_call(storage, onchain.call_pending_order(numbers[change.target_id or 0])) for change in known
    ]
    found = {}
    for change, answer in zip(known, rpc.read_batch(calls) if calls else [], strict=True):
        if isinstance(answer, rpc.NodeError):
            raise answer
        terms = onchain.read_terms(bytes.fromhex(str(answer).removeprefix("0x")))
        if terms is not None:
            found[change.pk] = terms
    return found


def of_margin(intent: TxIntent, position: Position, stored: onchain.OpenTrade | None, price: Decimal) -> Plan:
    """Of the trade as the venue has it, whose notional stays. The prices it is held against are the venue's own here."""
    assert intent.trader is not None
    assert intent.margin_usdc is not None
    if stored is None:
        return Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
    after = margin_terms(
        Held(stored.collateral_usdc, stored.leverage_x, stored.open_price),
        intent.margin_usdc,
        price,
        stored.stop_loss,
        is_long=stored.is_long,
    )
    if after.refusal:
        return Plan(problem=Reason.VENUE_WOULD_CANCEL, detail=after.refusal, final=True)
    return Plan(
        calldata=margin_call(intent, position),
        position_id=position.pk,
        leverage_x=after.leverage_x,
    )


def margin_call(intent: TxIntent, position: Position) -> bytes:
    """The call data of a change of margin; the same whenever it is made."""
    assert intent.trader is not None
    assert intent.margin_usdc is not None
    way = Margin.DEPOSIT if intent.margin_usdc > 0 else Margin.WITHDRAW
    slot = position.pair_index, position.trade_index
    call = encode_update_margin(*slot, way, abs(intent.margin_usdc), [])
    return onchain.encode_delegated(intent.trader.address, call)
