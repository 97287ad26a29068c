"""What an intent would send, asked of the chain before a nonce is taken."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from django.conf import settings

from execution_app.book import absence, positions, simulation
from execution_app.book.prices import Market
from execution_app.engine import permissions
from execution_app.engine.drafts import ORDER_ENDED, of_margin, of_order, standing
from execution_app.engine.drafts import Plan as Plan  # noqa: PLC0414 - part of what is drawn here
from execution_app.engine.gateway import making
from execution_app.gate.admission import put_in_usdc
from execution_app.models import Position, TxIntent, Wallet
from execution_app.node import node_errors, rpc, signers
from execution_app.states import ORDER_CHANGES, Action, OrderType, Reason, SendOutcome
from execution_app.venues import onchain
from execution_app.venues.costs import levels_refusal
from execution_app.venues.orders import Kind, Terms

PASSING_REVERTS = frozenset(
    {"Pausable: paused", "MAX_PENDING_ORDERS", "EXECUTION_FEE_NOT_SENT", "DELEGATE_NOT_APPROVED"}
)


EXITS = (Action.CLOSE, Action.CANCEL_ORDER)
KINDS = {
    OrderType.MARKET: Kind.MARKET,
    OrderType.LIMIT: Kind.LIMIT,
    OrderType.STOP_LIMIT: Kind.STOP_LIMIT,
}
# What the trial of a message as a transaction may end with: nothing, or that the venue takes messages alone.
PASSING_MESSAGES = frozenset({"", "OnlyBatchedFlowAllowed"})


def draw(wallet: Wallet, intents: Sequence[TxIntent], market: Market) -> dict[int, Plan]:
    """A plan per intent id, each simulated on the node. Raises RpcFault or NodeError when the node is away."""
    closes = {i.pk: i.position for i in intents if i.position is not None}
    sighting = absence.look(list(closes.values())) if closes else None
    terms = standing([i for i in intents if i.action == Action.UPDATE_ORDER])
    drafts = {intent.pk: _draft(intent, market, sighting, terms) for intent in intents}
    sound = [(key, plan) for key, plan in drafts.items() if plan.problem is None]
    by_key = {intent.pk: intent for intent in intents}
    tried = [(key, plan) for key, plan in sound if plan.calldata]
    asked = [*permissions.calls(wallet), *(_question(wallet, by_key[key], plan) for key, plan in tried)]
    answers = rpc.read_batch(asked) if sound else []
    granted = permissions.read(wallet, answers[: permissions.CALLS]) if sound else None
    # Nothing that the delegate could call is like a message of new levels or of an increase: the views are all there is.
    for key in [key for key, plan in sound if not plan.calldata]:
        lacks = granted.missing(put_in_usdc(by_key[key])) if granted is not None else None
        if lacks is not None:
            drafts[key] = Plan(problem=lacks[0], detail=lacks[1], held=True)
    for (key, plan), answer in zip(tried, answers[permissions.CALLS :], strict=True):
        exits = by_key[key].action in EXITS
        drafts[key] = _judged(plan, answer, exits=exits, signs=making.goes(by_key[key]))
        # Only where the venue refuses it: what it takes for permitted is permitted.
        if drafts[key].problem is not None and granted is not None:
            lacking = granted.missing(put_in_usdc(by_key[key]))
            if lacking is not None:
                drafts[key] = Plan(problem=lacking[0], detail=lacking[1], held=True)
    for key, position in closes.items():
        if sighting is not None and drafts[key].problem is Reason.CLOSED_ELSEWHERE:
            drafts[key] = replace(drafts[key], absent_at_block=absence.remember(position, sighting))
    return drafts


def _draft(
    intent: TxIntent, market: Market, sighting: absence.Sighting | None, terms: dict[int, Terms]
) -> Plan:
    assert intent.trader is not None
    if intent.action in ORDER_CHANGES:
        return of_order(intent, intent.trader.address, terms)  # whatever the price is
    if unfit := market.problem(intent.symbol, Action(intent.action)):
        return Plan(problem=unfit.reason, detail=unfit.detail, final=unfit.final)
    price = market.prices[intent.symbol]
    close_usdc, opened_at = None, 0
    try:
        if intent.action == Action.OPEN:
            order = onchain.encode_open(_open_order(intent, intent.trader.address, price))
        else:
            assert intent.position is not None
            assert sighting is not None
            stored = sighting.trades[intent.position.pk]
            if stored is not None and not absence.is_there(intent.position, stored):
                return Plan(
                    problem=Reason.CLOSED_ELSEWHERE, detail="another trade is in the slot at the venue"
                )
            if stored is None and making.goes(intent):
                # A venue that takes messages alone says so to every trial, and nothing of the trade.
                return Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
            change = _of_trade(intent, intent.position, stored, market)
            if change is not None:
                return change
            close_usdc = _amount(intent, intent.position, stored)
            opened_at = 0 if stored is None else stored.opened_at
            order = onchain.encode_close(
                _close_order(intent.position, intent.trader.address, price, close_usdc)
            )
        calldata = onchain.encode_delegated(intent.trader.address, order)
    except ValueError as error:
        return Plan(problem=Reason.NOT_REPRESENTABLE, detail=str(error), final=True)
    return Plan(
        intent.limit_price or price,
        calldata,
        market.execution_fee_wei,
        close_usdc=close_usdc,
        position_id=intent.position_id,
        trade_opened_at=opened_at,
    )


def _of_trade(
    intent: TxIntent, position: Position, stored: onchain.OpenTrade | None, market: Market
) -> Plan | None:
    """What changes an open trade; None for a close."""
    price = market.prices[intent.symbol]
    if intent.action == Action.MARGIN:
        return of_margin(intent, position, stored, price)
    if intent.action == Action.LEVELS:
        return _levels(intent, position, stored, price)
    if intent.action == Action.INCREASE:
        return _increase(intent, position, stored, market)
    return None


def _levels(intent: TxIntent, position: Position, stored: onchain.OpenTrade | None, price: Decimal) -> Plan:
    """Nothing to call: what the venue would say to them is known from its rules."""
    if stored is None:
        return Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
    refusal = levels_refusal(
        price,
        stored.open_price,
        stored.leverage_x,
        intent.take_profit,
        intent.stop_loss,
        is_long=stored.is_long,
    )
    if refusal:
        return Plan(problem=Reason.VENUE_WOULD_CANCEL, detail=refusal, final=True)
    return Plan(price, position_id=position.pk, trade_opened_at=stored.opened_at)


def _increase(intent: TxIntent, position: Position, stored: onchain.OpenTrade | None, market: Market) -> Plan:
    """Nothing to call either. Its estimate says what the venue would refund; its levels are the trade's."""
    if stored is None:
        return Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade")
    if refusal := simulation.estimate(intent, market).refusal:
        return Plan(problem=Reason.VENUE_WOULD_CANCEL, detail=refusal, final=True)
    price = market.prices[intent.symbol]
    return Plan(price, position_id=position.pk, trade_opened_at=stored.opened_at)


def _amount(intent: TxIntent, position: Position, stored: onchain.OpenTrade | None) -> Decimal:
    """Collateral to close, where its owner may have added or taken some by hand that the book does not know of yet.

    All that the book has is all that is there, margin of the owner's included: it goes back to them, and else the book
    would end a trade that the venue still holds. A part is never more than is there. Raises ValueError where a
    percentage is less than the smallest amount of USDC.
    """
    held_usdc: Decimal = position.collateral_usdc
    there_usdc: Decimal = held_usdc if stored is None else stored.collateral_usdc
    part_usdc = positions.part(min(held_usdc, there_usdc), intent)
    return there_usdc if part_usdc is None or part_usdc >= held_usdc else part_usdc


def _open_order(intent: TxIntent, trader: str, price: Decimal) -> onchain.OpenOrder:
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    return onchain.OpenOrder(
        trader=trader,
        pair_index=onchain.PAIRS[intent.symbol],
        is_long=bool(intent.is_long),
        collateral_usdc=intent.collateral_usdc,
        leverage_x=intent.leverage_x,
        wanted_price=intent.limit_price or price,
        slippage_pct=intent.slippage_pct,
        take_profit=intent.take_profit,
        stop_loss=intent.stop_loss,
        kind=KINDS[OrderType(intent.order_type)],
    )


def _close_order(
    position: Position, trader: str, price: Decimal, collateral_usdc: Decimal
) -> onchain.CloseOrder:
    return onchain.CloseOrder(
        trader=trader,
        pair_index=position.pair_index,
        trade_index=position.trade_index,
        collateral_usdc=collateral_usdc,
        wanted_price=price,
    )


def _question(wallet: Wallet, intent: TxIntent, plan: Plan) -> rpc.Call:
    """Would the venue take it? A message is tried as the transaction of the same delegate, which needs no ETH for that."""
    method, (transaction, tag) = _estimate(wallet, plan)
    if not making.goes(intent):
        return method, (transaction, tag)
    return ("eth_call", (transaction, tag, {wallet.address: {"balance": hex(2**128)}}))


def _estimate(wallet: Wallet, plan: Plan) -> rpc.Call:
    transaction = {
        "from": wallet.address,
        "to": settings.ENVIRONMENT.venue_trading_address,
        "data": "0x" + plan.calldata.hex(),
        "value": hex(plan.value_wei),
    }
    return ("eth_estimateGas", (transaction, "latest"))


def _judged(plan: Plan, answer: object, *, exits: bool, signs: bool) -> Plan:
    name = onchain.revert_name(answer.data or answer.message) if isinstance(answer, rpc.NodeError) else ""
    if signs and name in PASSING_MESSAGES:
        return plan  # its gas is the operator's
    if not isinstance(answer, rpc.NodeError):
        least = int(str(answer), 16)
        if least > signers.MAX_GAS:
            detail = f"it needs {least} gas, no signature is made above {signers.MAX_GAS}"
            return Plan(problem=Reason.FEE_ABOVE_CEILING, detail=detail, held=True)
        # Orders behind one another change the cost of the next (a new trade slot), so the estimate gets room.
        wanted = least * (100 + settings.ENVIRONMENT.gas_margin_pct) // 100
        return replace(plan, gas_limit=min(wanted, signers.MAX_GAS))
    if name is None:
        # Not the venue's word: out of funds, a node that lags. It is asked again; a person has to see the former.
        return Plan(
            problem=Reason.INSUFFICIENT_GAS,
            detail=f"the node cannot simulate it: {answer.message[:200]}",
            held=node_errors.classify(answer) is SendOutcome.INSUFFICIENT_FUNDS,
        )
    if name == "NO_TRADE":
        return Plan(problem=Reason.CLOSED_ELSEWHERE, detail="the venue has no such trade (NO_TRADE)")
    if name == "NO_LIMIT":
        return ORDER_ENDED
    if name == "ALREADY_BEING_CLOSED":
        return Plan(problem=Reason.WAITS_FOR_EARLIER_CLOSE, detail=f"the venue says {name}")
    # An exit outlives what the venue, its owner or an operator will set right; and one node's word ends none: it may
    # be behind, the oracle may jump, the venue may pause in words of its own. Those are held, for a person to see.
    return Plan(
        problem=Reason.VENUE_REVERT,
        detail=name,
        final=not exits,
        held=exits and name not in PASSING_REVERTS,
    )
