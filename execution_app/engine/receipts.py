"""Receipts: which of a slot's transactions the chain took, and when that is final."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from execution_app import meters, reservations
from execution_app.book import margins, orders, positions
from execution_app.engine import exits, lost_nonces, mined, receipt_votes
from execution_app.engine.waiting import database_now
from execution_app.errors import Stale
from execution_app.models import Fill, TxIntent, TxReceipt, TxSend
from execution_app.moves import move
from execution_app.node import quorum, rpc
from execution_app.states import ORDER_CHANGES, ORDERS, Action, IntentState, Reason, SendKind
from execution_app.venues.margin_events import MarginUpdated

log = structlog.get_logger(__name__)
BY = "receipts"
ENDED = (IntentState.FILLED, IntentState.VENUE_CANCELLED)
AGAIN = 50  # receipts read again in one pass
SEEN = (
    *("intent", "block_number", "block_hash", "status", "gas_used"),
    *("effective_gas_price_wei", "l1_fee_wei", "canonical"),
)


Shown = tuple[TxSend, dict[str, Any]]
Denied = set[tuple[int, str]]  # receipts, by their send and block hash


def apply_receipts(consumed: list[TxIntent], finalized: int) -> None:
    """Find which hash of each consumed slot was mined. All hashes of a slot are asked, always."""
    sends: dict[int, list[TxSend]] = defaultdict(list)
    for send in TxSend.objects.filter(intent__in=consumed).order_by("attempt"):
        sends[send.intent_id].append(send)
    flat = [send for intent in consumed for send in sends[intent.pk]]
    answers = rpc.read_batch([("eth_getTransactionReceipt", (send.tx_hash,)) for send in flat])
    found: dict[int, list[Shown]] = defaultdict(list)
    for send, answer in zip(flat, answers, strict=True):
        if isinstance(answer, rpc.NodeError):
            raise answer
        if mined.shows(send, answer):
            found[send.intent_id].append((send, answer))
    denied = _denied(found)
    for shown in found.values():
        shown[:] = _without(denied, shown)
    done = mined.apply(
        [(intent, *found[intent.pk][0]) for intent in consumed if _is_plain(intent, found[intent.pk])]
    )
    for intent in consumed:
        if intent.pk in done:
            continue
        try:
            _apply(intent, found[intent.pk], finalized, denied)
        except Stale:
            continue
        except mined.NONSENSE:
            # Such as an order id that another intent holds until its block is known to have left, or a receipt
            # that is none: what concerns one intent must not keep the others from being followed.
            meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
            log.exception("the book refuses a receipt", intent=intent.pk)


def _is_plain(intent: TxIntent, shown: list[Shown]) -> bool:
    """Whether its order was mined under one hash, as nearly all are; many of these are stored together."""
    return (
        len(shown) == 1
        and shown[0][0].kind != SendKind.CANCEL
        and intent.state in mined.FROM
        and intent.action in ORDERS
    )


def _denied(found: dict[int, list[Shown]]) -> Denied:
    """Receipts that a majority of endpoints has another block for, of those that cannot all be true or were taken back.

    A node may show for long what was mined on a fork that has left, and would be believed anew at every look.
    """
    stored = TxReceipt.objects.filter(intent__in=found, canonical=False).values_list("send_id", "block_hash")
    left = set(stored) if found else set()
    doubted = {
        (send.pk, receipt["blockHash"]): receipt["blockNumber"]
        for shown in found.values()
        for send, receipt in shown
        if len(shown) > 1 or (send.pk, receipt["blockHash"]) in left
    }
    calls = [("eth_getBlockByNumber", (number, False)) for number in doubted.values()]
    against: Counter[tuple[int, str]] = Counter()
    for _, blocks in quorum.ask_each(calls):
        for key, block in zip(doubted, blocks, strict=True):
            against[key] += isinstance(block, dict) and block.get("hash") not in (None, key[1])
    return {key for key, votes in against.items() if votes >= quorum.needed()}


def _without(denied: Denied, shown: list[Shown]) -> list[Shown]:
    return [(send, receipt) for send, receipt in shown if (send.pk, receipt["blockHash"]) not in denied]


def _apply(intent: TxIntent, shown: list[Shown], finalized: int, denied: Denied) -> None:
    if len(shown) > 1:
        # One nonce cannot be mined twice on one chain: the node contradicts itself.
        meters.INTENT_DUPLICATE.inc()
        log.error("two receipts for one slot", intent=intent.pk, hashes=[send.tx_hash for send, _ in shown])
        return
    shown = shown or _ask_others(intent, finalized, denied)
    if not shown:
        return
    send, receipt = shown[0]
    status = mined.status(receipt)
    with transaction.atomic():
        TxSend.objects.filter(pk=send.pk, held_at=None).update(held_at=Now())
        _store(intent, send, receipt)
        if intent.state == IntentState.SIGNED:
            log.warning("mined, though this database never offered it", intent=intent.pk, hash=send.tx_hash)
        first = not intent.transitions.filter(to_state=IntentState.MINED).exists()
        why = f"{send.kind} {send.tx_hash} in block {int(receipt['blockNumber'], 16)}, status {status}"
        move(intent, IntentState.MINED, why=why, by=BY)
        if status and send.kind != SendKind.CANCEL:
            # With the receipt or not at all: a mined order is asked for its receipt only once.
            _register(intent, receipt)
    if first or (not status and mined.had_succeeded(intent)):
        meters.TX_MINED.labels("ok" if status else "reverted").inc()
    if first:
        meters.GAS_USED.inc(int(receipt["gasUsed"], 16))
        meters.SIGNAL_TO_MINED.observe((database_now() - intent.accepted_at).total_seconds())


def _store(intent: TxIntent, send: TxSend, receipt: dict[str, Any]) -> None:
    row = mined.row_of(intent, send, receipt)
    seen = {name: getattr(row, name) for name in SEEN}
    try:
        with transaction.atomic():
            TxReceipt.objects.update_or_create(send=send, defaults=seen)
    except IntegrityError:
        meters.INTENT_DUPLICATE.inc()
        log.exception("a second canonical execution of one intent", intent=intent.pk, hash=send.tx_hash)
        raise Stale(f"intent {intent.pk} has a canonical receipt already") from None


def _register(intent: TxIntent, receipt: dict[str, Any]) -> None:
    if intent.action in ORDER_CHANGES:
        _change(intent, mined.change(intent, receipt))
        return
    if intent.action == Action.MARGIN:
        _margin(intent, mined.margin(intent, receipt))
        return
    event = mined.registration(intent, receipt)
    if event is not None:
        orders.register(intent, event)


def _change(intent: TxIntent, done: mined.Done | None) -> None:
    """The order that was named is as it says now; another one that was hit is not followed, and its end tells the rest."""
    if done is None:
        return
    told = {"reason": "" if done.meant else Reason.NO_ORDER.value}
    with transaction.atomic():
        move(intent, IntentState.CHANGED, why=done.why, by=BY, **told)
        orders.keep_terms(intent)


def _margin(intent: TxIntent, event: MarginUpdated | None) -> None:
    if event is None or margins.is_early(intent, event):
        return  # it is read again at the next look
    with transaction.atomic():
        if margins.apply(intent, event):
            move(intent, IntentState.CHANGED, why=f"{event.change_usdc:f} USDC of margin", by=BY, reason="")
            return
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.error("another trade than the one that was meant", intent=intent.pk)
        why = "the margin of another trade was changed, which was not meant"
        move(intent, IntentState.CHANGED, why=why, by=BY, reason=Reason.NO_POSITION.value)


def read_orders_again() -> None:
    """Hear every endpoint about receipts that came without an order.

    The one that was asked may not have indexed all logs yet, or may say that it reverted although it did not.
    """
    bare = TxReceipt.objects.filter(
        canonical=True, intent__state=IntentState.MINED, intent__settled_at=None
    ).exclude(send__kind=SendKind.CANCEL)
    # Any of them: those that no endpoint shows, however many, keep none of the others from being heard.
    rows = [
        receipt
        for status in (1, 0)
        for receipt in bare.filter(status=status).select_related("intent", "send").order_by("?")[:AGAIN]
    ]
    for receipt, heard in receipt_votes.ask(rows):
        try:
            with transaction.atomic():
                if receipt_votes.correct(receipt, heard):
                    _register(receipt.intent, receipt_votes.fullest(receipt, heard))
                    receipt_votes.still(receipt)
        except Stale:
            continue
        except mined.NONSENSE:
            meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
            log.exception("the book refuses a receipt", intent=receipt.intent_id)


def _ask_others(intent: TxIntent, finalized: int, denied: Denied) -> list[Shown]:
    """The slot is consumed and the node shows no receipt of ours: what any other shows is a receipt all the same.

    Where none does, only a majority for which a final block consumed the nonce lets anything follow from that.
    """
    assert intent.wallet is not None
    log.warning("consumed by none of ours, as far as this node knows", intent=intent.pk, nonce=intent.nonce)
    sends = list(intent.sends.order_by("attempt"))
    calls: list[rpc.Call] = [("eth_getTransactionCount", (intent.wallet.address, hex(max(finalized, 0))))]
    calls += [("eth_getTransactionReceipt", (send.tx_hash,)) for send in sends]
    votes = 0
    for _, (count, *receipts) in quorum.ask_each(calls):
        shown = [(s, r) for s, r in zip(sends, receipts, strict=True) if mined.shows(s, r)]
        shown = _without(denied, shown)
        if shown:
            return shown
        if not any(receipts):
            votes += _is_above(count, int(intent.nonce or 0))
    # Of a halted wallet it may be ours all the same, from a database that is gone: `wallet adopt` tells them apart.
    if votes >= quorum.needed() and not intent.wallet.halted_reason:
        lost_nonces.conclude(intent, sends[-1].tx_hash if sends else "", finalized)
    return []


def _is_above(count: Any, nonce: int) -> bool:
    try:
        return int(count, 16) > nonce
    except (ValueError, TypeError):  # what is no number says nothing
        return False


def settle(standing: Mapping[int, IntentState], finalized: int) -> None:
    """Make final what stands in final blocks. `standing` are the intents whose blocks this pass saw on the chain."""
    mined_ = [pk for pk, state in standing.items() if state in (IntentState.MINED, IntentState.CHANGED)]
    ended = [pk for pk, state in standing.items() if state in ENDED]
    if mined_:
        _settle_transactions(mined_, finalized)
    if ended:
        _settle_orders(ended, finalized)


def _settle_transactions(standing: Collection[int], finalized: int) -> None:
    """Of cancels, and of what was reverted, as a majority says."""
    rows = TxReceipt.objects.filter(
        intent__in=standing,
        canonical=True,
        block_number__lte=finalized,
        intent__state__in=[IntentState.MINED, IntentState.CHANGED],
        intent__settled_at=None,
    ).select_related("intent", "send")
    ended = []
    for receipt in rows:
        if receipt.intent.state == IntentState.CHANGED:
            _settle_change(receipt)
        elif receipt.send.kind == SendKind.CANCEL or not receipt.status:
            ended.append(receipt)  # else its order is still to be read from the receipt
    for receipt, heard in receipt_votes.ask(ended):
        if receipt_votes.is_final(receipt, heard, finalized):
            _settle_transaction(receipt)
        elif receipt_votes.is_denied(receipt, heard):
            receipt_votes.take_back(receipt)


def _settle_transaction(receipt: TxReceipt) -> None:
    cancelled = receipt.send.kind == SendKind.CANCEL
    final = IntentState.FINAL_CANCELLED if cancelled else IntentState.FINAL_REVERTED
    try:
        with transaction.atomic():
            told = {} if cancelled else margins.why_reverted(receipt.intent)
            move(receipt.intent, final, why=f"block {receipt.block_number} is final", by=BY, **told)
            exits.ask_again(receipt.intent)
    except Stale:
        log.info("has moved on", intent=receipt.intent_id)


def _settle_change(receipt: TxReceipt) -> None:
    changed = TxIntent.objects.filter(pk=receipt.intent_id, state=IntentState.CHANGED, settled_at=None)
    margin = receipt.intent.action == Action.MARGIN
    with transaction.atomic():
        settled = changed.update(settled_at=Now(), updated_at=Now())
        if settled and margin:
            margins.settle_of(receipt.intent)
    if settled:
        log.info("settled", intent=receipt.intent_id, state="changed", block=receipt.block_number)


def _settle_orders(standing: Collection[int], finalized: int) -> None:
    ended = TxIntent.objects.filter(
        pk__in=standing,
        state__in=ENDED,
        settled_at=None,
        venue_order__done_block_number__lte=finalized,
    ).annotate(done=F("venue_order__done_block_number"))
    # As they happened: what a final close releases is of an open that is final, too.
    for intent in ended.order_by("done", "id"):
        with transaction.atomic():
            settled = TxIntent.objects.filter(pk=intent.pk, state=intent.state, settled_at=None).update(
                settled_at=Now(), updated_at=Now()
            )
            fill = Fill.objects.filter(intent=intent, settled_at=None).select_related("position").first()
            if settled and fill is not None:
                Fill.objects.filter(pk=fill.pk).update(settled_at=Now())
                positions.fold(fill.position)
                if fill.action == Action.OPEN:
                    positions.release_replaced(fill.position)
                exits.ask_rest(intent, fill.position_id)
            elif settled:
                # A refund is over only now. Where there is a fill, its position's fold has followed it.
                reservations.follow(intent.pk)
            if settled and intent.state == IntentState.VENUE_CANCELLED:
                exits.ask_again(intent)
        if settled:
            log.info("settled", intent=intent.pk, state=intent.state, block=intent.done)
