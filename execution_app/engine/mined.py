"""Receipts of many orders at once: stored with what the venue registered for them, or left to be stored one by one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import DataError, IntegrityError, transaction
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import orders
from execution_app.engine.waiting import database_now
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt, TxSend, VenueOrder
from execution_app.models.arrays import rows_of
from execution_app.models.kinds import MOST_WEI
from execution_app.moves import Step, move_all
from execution_app.states import Action, IntentState
from execution_app.venues import calldata, events, margin_events
from execution_app.venues.events import OrderCancelled, OrderRegistered, OrderUpdated
from execution_app.venues.margin_events import MarginUpdated

log = structlog.get_logger(__name__)
BY = "receipts"
BATCH = 100  # intents of one transaction
FROM = (IntentState.SENDING, IntentState.PENDING_INCLUSION)
HASH = re.compile("0x[0-9a-fA-F]{64}")
NUMBERS = ("blockNumber", "gasUsed")
# What one node can make of an order that is none, and what the book then says.
NONSENSE = (IntegrityError, DataError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError)

# What a successful change of an order that rests tells of it.
_CHANGES: dict[Action, tuple[type[OrderCancelled | OrderUpdated], str]] = {
    Action.CANCEL_ORDER: (OrderCancelled, "taken back"),
    Action.UPDATE_ORDER: (OrderUpdated, "changed"),
}

Shown = tuple[TxIntent, TxSend, dict[str, Any]]


def apply(shown: Sequence[Shown]) -> set[int]:
    """Store the first receipts of orders in a handful of queries; returns the intents whose receipt is stored.

    The others, and all of a batch of which one does not fit, are the caller's to store by themselves.
    """
    again = set(
        TxReceipt.objects.filter(intent__in=[intent for intent, _, _ in shown]).values_list(
            "intent_id", flat=True
        )
    )
    first = [one for one in shown if one[0].pk not in again]
    done: set[int] = set()
    for start in range(0, len(first), BATCH):
        batch = first[start : start + BATCH]
        _look_again([intent for intent, _, _ in batch])
        states = [intent.state for intent, _, _ in batch]
        try:
            _apply(batch)
        except (Stale, *NONSENSE) as problem:
            log.warning(
                "receipts are stored one by one", problem=f"{type(problem).__name__}: {problem}"[:300]
            )
            for (intent, _, _), state in zip(batch, states, strict=True):
                intent.state = state
            continue
        done |= {intent.pk for intent, _, _ in batch}
    return done


def _look_again(intents: Sequence[TxIntent]) -> None:
    """Take the states that they have come to meanwhile: an answer to their offer is often written down while nodes are asked.

    One that has gone elsewhere stays as it was seen, and is found to be stale.
    """
    states = TxIntent.objects.filter(pk__in=[intent.pk for intent in intents], state__in=FROM)
    by_key = dict(states.values_list("pk", "state"))
    for intent in intents:
        intent.state = by_key.get(intent.pk, intent.state)


def _apply(batch: Sequence[Shown]) -> None:
    rows = [row_of(intent, send, receipt) for intent, send, receipt in batch]
    whys = [
        f"{send.kind} {send.tx_hash} in block {row.block_number}, status {row.status}"
        for (_, send, _), row in zip(batch, rows, strict=True)
    ]
    registered = [(intent, registration(intent, receipt)) for intent, _, receipt in batch if status(receipt)]
    with transaction.atomic():
        TxSend.objects.filter(pk__in=[send.pk for _, send, _ in batch], held_at=None).update(held_at=Now())
        rows_of(TxReceipt).bulk_create(rows)
        steps = [Step(intent, why) for (intent, _, _), why in zip(batch, whys, strict=True)]
        move_all(steps, IntentState.MINED, by=BY)
        # With the receipt or not at all: a mined order is asked for its receipt only once.
        orders.register_all([(intent, event) for intent, event in registered if event is not None])
    now = database_now()
    for (intent, _, _), row in zip(batch, rows, strict=True):
        meters.TX_MINED.labels("ok" if row.status else "reverted").inc()
        meters.GAS_USED.inc(row.gas_used)
        meters.SIGNAL_TO_MINED.observe((now - intent.accepted_at).total_seconds())


def shows(send: TxSend, answer: Any) -> bool:
    """Whether a node's answer is a receipt of these bytes in a block, and one that can be kept."""
    if not isinstance(answer, dict) or answer.get("blockNumber") is None:
        return False
    try:
        numbers = [int(answer[name], 16) for name in NUMBERS]
        prices = [int(answer["effectiveGasPrice"], 16), int(answer.get("l1Fee") or "0x0", 16)]
        sound = (
            answer["transactionHash"].lower() == send.tx_hash
            and HASH.fullmatch(answer["blockHash"]) is not None
            and status(answer) in (0, 1)
            and all(0 <= number < 2**63 for number in numbers)
            and all(0 <= price < MOST_WEI for price in prices)
            and isinstance(answer["logs"], list)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
        log.error("no receipt of these bytes", hash=send.tx_hash, answered=str(answer)[:200])
    return sound


def status(receipt: dict[str, Any]) -> int:
    return int(receipt["status"], 16)


def had_succeeded(intent: TxIntent) -> bool:
    """In a block that a reorg took away: that it reverts now is news, which the alert on reverts would else never see."""
    return intent.transitions.filter(to_state__in=[IntentState.ORDERED, IntentState.CHANGED]).exists()


def row_of(intent: TxIntent, send: TxSend, receipt: dict[str, Any]) -> TxReceipt:
    """What is kept of a receipt that `shows` has let pass."""
    return TxReceipt(
        send=send,
        intent=intent,
        block_number=int(receipt["blockNumber"], 16),
        block_hash=receipt["blockHash"],
        status=status(receipt),
        gas_used=int(receipt["gasUsed"], 16),
        effective_gas_price_wei=int(receipt["effectiveGasPrice"], 16),
        l1_fee_wei=int(receipt.get("l1Fee") or "0x0", 16),
        canonical=True,
    )


@dataclass(frozen=True)
class Done:
    """What was done to an order that rests; `meant` says whether it was the one that was named."""

    why: str
    meant: bool


def change(intent: TxIntent, receipt: dict[str, Any]) -> Done | None:
    """What a successful receipt says was done to the order that the intent names; None, and it is counted, where it says nothing.

    A slot that had changed hands is said and counted, too: the order that was hit ends by its own event.
    """
    wanted, words = _CHANGES[Action(intent.action)]
    decoded = [events.decode(entry, trading_address=intent.to_address) for entry in receipt["logs"]]
    found = [event for event in decoded if isinstance(event, wanted)]
    order = VenueOrder.objects.filter(intent=intent.target).first()
    if (
        len(found) == 1
        and order is not None
        and found[0].order_id == order.order_id
        and _agrees(intent, found[0])
    ):
        return Done(f"order {order.order_id} is {words}", meant=True)
    meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
    log.error(
        "another order than the one that was meant", intent=intent.pk, orders=[e.order_id for e in found]
    )
    return Done(f"order {found[0].order_id} is {words}, which was not meant", meant=False) if found else None


def _agrees(intent: TxIntent, event: OrderCancelled | OrderUpdated) -> bool:
    """Whether a change made of the order what its bytes asked for."""
    if not isinstance(event, OrderUpdated):
        return True
    asked = calldata.read_terms(bytes(intent.calldata or b""))
    told = event.price, event.take_profit, event.stop_loss
    return told == (asked.limit_price, asked.take_profit, asked.stop_loss)


def margin(intent: TxIntent, receipt: dict[str, Any]) -> MarginUpdated | None:
    """The one change of margin that a successful receipt tells of; None, and it is counted, where it tells of none or of several."""
    decoded = [margin_events.decode(log, trading_address=intent.to_address) for log in receipt["logs"]]
    found = [event for event in decoded if event is not None]
    if len(found) == 1:
        return found[0]
    meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
    log.error("a successful receipt without exactly one change of margin", intent=intent.pk, found=len(found))
    return None


def registration(intent: TxIntent, receipt: dict[str, Any]) -> OrderRegistered | None:
    """The one order that a successful receipt tells of; None, and it is counted, where it tells of none or of several."""
    decoded = [events.decode(entry, trading_address=intent.to_address) for entry in receipt["logs"]]
    found = [event for event in decoded if isinstance(event, OrderRegistered)]
    if len(found) == 1:
        return found[0]
    meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
    log.error("a successful receipt without exactly one order", intent=intent.pk, orders=len(found))
    return None
