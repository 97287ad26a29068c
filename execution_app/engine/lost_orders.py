"""An order that the venue took and whose end never comes: an operator ends its intent, with the venue's own proof.

Asked of every endpoint at one final block, and again at its head: the order is
not pending, no log tells of its end, and the venue holds no trade that it could
have become. A close is asked for again afterwards, an open is not.
"""

from dataclasses import dataclass, field

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit, reservations
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.engine import exits
from execution_app.errors import Refused, Stale
from execution_app.models import Position, TxIntent, VenueOrder, Wallet
from execution_app.moves import move
from execution_app.node import rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import Action, IntentState, Mode, OrderState, PositionState, Reason
from execution_app.venues import events, onchain

log = structlog.get_logger(__name__)
SPANS = 1_000
SLOTS = 2_000  # trade slots of one pair that are looked at


@dataclass(frozen=True)
class Proof:
    """What all endpoints say of the order; it is lost where `against` is empty."""

    intent: TxIntent
    order: VenueOrder
    block_number: int
    block_hash: str
    endpoints: int
    against: list[str] = field(default_factory=list)


def examine(key: str) -> Proof:
    """Look; where the logs tell its end, have them read anew, and change nothing else.

    Raises Refused for another intent, RpcFault or NodeError unless every endpoint answers.
    """
    order = VenueOrder.objects.filter(intent__intent_key=key, intent__state=IntentState.ORDERED)
    order = order.select_related("intent__trader", "intent__wallet", "intent__position")
    found = order.first()
    if found is None:
        raise Refused(f"{key} has no order that waits for its end")
    endpoints = rpc.endpoints()
    finals = [endpoint.call("eth_getBlockByNumber", "finalized", False) for endpoint in endpoints]
    if None in finals:
        raise rpc.RpcFault("an endpoint knows no final block")
    number = min(int(block["number"], 16) for block in finals)
    block_hash, against = "", []
    for endpoint in endpoints:
        block = endpoint.call("eth_getBlockByNumber", hex(number), False)
        if block is None or (block_hash and block["hash"] != block_hash):
            raise rpc.RpcFault(f"the endpoints do not agree on block {number}")
        block_hash = block["hash"]
        said = _against(endpoint, found, number)
        against += [f"endpoint {endpoint.position}: {words}" for words in said]
    return Proof(found.intent, found, number, block_hash, len(endpoints), against)


def _against(endpoint: rpc.Endpoint, order: VenueOrder, final_block: int) -> list[str]:
    if order.block_number > final_block:
        return [f"block {order.block_number} of the order is not final yet"]
    storage = settings.ENVIRONMENT.venue_storage_address
    pending_call = {"to": storage, "data": "0x" + onchain.call_is_pending(order.order_id).hex()}
    for tag in (hex(final_block), "latest"):
        pending = endpoint.call("eth_call", pending_call, tag)
        if onchain.read_is_pending(bytes.fromhex(pending[2:])):
            return [f"order {order.order_id} is pending at the venue ({tag})"]
    if _has_event(endpoint, order):
        VenueOrder.objects.filter(pk=order.pk, state=OrderState.REGISTERED).update(scanned_to_block=None)
        return [
            f"the end of order {order.order_id} is in the venue's logs; the next look at the chain reads it"
        ]
    if order.intent.action == Action.OPEN and (trade := _unexplained_trade(endpoint, order.intent)):
        return [trade]
    return []


def _has_event(endpoint: rpc.Endpoint, order: VenueOrder) -> bool:
    trading = settings.ENVIRONMENT.venue_trading_address
    head = int(endpoint.call("eth_blockNumber"), 16)
    if head - order.block_number > LOG_SPAN * SPANS:
        raise Refused(f"order {order.order_id} is more than {LOG_SPAN * SPANS} blocks old")
    for low in range(order.block_number, head + 1, LOG_SPAN):
        span = {"address": trading, "fromBlock": hex(low), "toBlock": hex(min(low + LOG_SPAN - 1, head))}
        for entry in endpoint.call("eth_getLogs", span):
            try:
                event = events.decode(entry, trading_address=trading)
            except (ValueError, KeyError, TypeError):
                return True  # a log that cannot be read may be the one
            ended = isinstance(event, events.Ended)
            if ended and event is not None and event.order_id == order.order_id:
                return True
    return False


def _unexplained_trade(endpoint: rpc.Endpoint, intent: TxIntent) -> str:
    """A trade of this trader that the order may have become: on its pair and side, and not in the book."""
    assert intent.trader is not None
    storage, pair = settings.ENVIRONMENT.venue_storage_address, onchain.PAIRS[intent.symbol]
    count = {"to": storage, "data": "0x" + onchain.call_open_trades_count(intent.trader.address, pair).hex()}
    wanted = onchain.read_uint(bytes.fromhex(endpoint.call("eth_call", count, "latest")[2:]))
    known = set(
        Position.objects.filter(
            trader=intent.trader, pair_index=pair, mode=Mode.LIVE, state=PositionState.OPEN
        ).values_list("trade_index", flat=True)
    )
    seen = 0
    for index in range(SLOTS):
        if seen >= wanted:
            return ""
        call = {
            "to": storage,
            "data": "0x" + onchain.call_open_trade(intent.trader.address, pair, index).hex(),
        }
        trade = onchain.read_open_trade(bytes.fromhex(endpoint.call("eth_call", call, "latest")[2:]))
        seen += trade is not None
        if trade is not None and trade.is_long == intent.is_long and index not in known:
            return f"the venue holds trade {index} on {intent.symbol}, which the book does not know"
    return f"the venue counts {wanted} trades on {intent.symbol}, more than {SLOTS} slots show"


def end(proof: Proof, *, by: str, reason: str) -> None:
    """End the intent as the venue's refund would. The caller has checked the second factor.

    Raises Refused where something speaks against it, Stale where it moved on.
    """
    if proof.against:
        raise Refused("; ".join(proof.against))
    intent, order = proof.intent, proof.order
    with transaction.atomic(durable=True):
        if intent.wallet_id is not None:
            Wallet.objects.select_for_update(no_key=True).get(pk=intent.wallet_id)
        if not VenueOrder.objects.filter(
            pk=order.pk, state=OrderState.REGISTERED, block_hash=order.block_hash
        ).exists():
            raise Stale(f"order {order.order_id} has moved on")
        why = f"order {order.order_id} is lost, by block {proof.block_number} of {proof.endpoints} endpoint(s): {reason}"
        told = {"reason": Reason.ORDER_LOST.value, "reason_detail": why[:400]}
        move(intent, IntentState.VENUE_CANCELLED, why=why, by=by, **told)
        VenueOrder.objects.filter(pk=order.pk).update(
            state=OrderState.CANCELLED, done_block_number=proof.block_number, done_block_hash=proof.block_hash
        )
        TxIntent.objects.filter(pk=intent.pk, settled_at=None).update(settled_at=Now(), updated_at=Now())
        reservations.follow(intent.pk)
        exits.ask_again(intent)
        audit.record(
            AuditAction.INTENT_DECIDED,
            intent.intent_key,
            reason=reason,
            before={"state": IntentState.ORDERED.value, "order": order.order_id},
            after={
                "state": intent.state,
                "reason": intent.reason,
                "final_block": proof.block_number,
                "final_hash": proof.block_hash,
                "endpoints": proof.endpoints,
            },
            who=audit.by(by, AuditOrigin.COMMAND),
        )
    log.warning("an order is lost", intent=intent.pk, order=order.order_id, by=by)
