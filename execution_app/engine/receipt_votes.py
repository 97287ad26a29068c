"""How a transaction ended, as every endpoint tells it: in which block and whether it reverted is the majority's to say.

A receipt is shown by one node and vouched for by its block, whose hash alone tells neither its status nor that it holds
the transaction. Believed alone, a node that calls a close reverted, or cancelled, would have it sent again, and one that
calls an open so would have its position forgotten.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from django.db import transaction

from execution_app import meters
from execution_app.engine import mined
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt
from execution_app.moves import move
from execution_app.node import quorum
from execution_app.states import IntentState, SendKind

log = structlog.get_logger(__name__)
BATCH = 100
BY = "receipts"
FACTS = ("block_number", "block_hash", "status", "gas_used", "effective_gas_price_wei", "l1_fee_wei")

Answer = dict[str, Any] | None


def ask(receipts: Sequence[TxReceipt]) -> Iterator[tuple[TxReceipt, list[Answer]]]:
    """Each receipt with what endpoints say of the same bytes: a receipt, in that block or another, or None for none.

    Who does not answer, or talks nonsense, is left out.
    """
    for start in range(0, len(receipts), BATCH):
        batch = receipts[start : start + BATCH]
        heard: dict[int, list[Answer]] = {receipt.pk: [] for receipt in batch}
        calls = [("eth_getTransactionReceipt", (receipt.send.tx_hash,)) for receipt in batch]
        for _, answers in quorum.ask_each(calls):
            for receipt, answer in zip(batch, answers, strict=True):
                if answer is None or mined.shows(receipt.send, answer):
                    heard[receipt.pk].append(answer)
        yield from ((receipt, heard[receipt.pk]) for receipt in batch)


def _there(receipt: TxReceipt, heard: list[Answer], status: int | None = None) -> list[dict[str, Any]]:
    """Of these, the receipts in the block that is known; with that status, where one is given."""
    there = [answer for answer in heard if answer is not None and answer["blockHash"] == receipt.block_hash]
    return [answer for answer in there if status is None or mined.status(answer) == status]


def correct(receipt: TxReceipt, heard: list[Answer]) -> bool:
    """Take over block and status that a majority tells; returns whether it is a success. Raises Stale where it moved on."""
    told = [answer for answer in heard if answer is not None]
    ends = Counter((answer["blockHash"], mined.status(answer)) for answer in told)
    known = receipt.block_hash, receipt.status
    (most, votes), *_ = ends.most_common(1) or [(known, 0)]
    if most == known or votes < quorum.needed():
        return bool(receipt.status)
    answer = next(one for one in told if (one["blockHash"], mined.status(one)) == most)
    row = mined.row_of(receipt.intent, receipt.send, answer)
    TxIntent.objects.select_for_update(no_key=True).get(pk=receipt.intent_id)  # first, as everywhere
    still(receipt)
    told_now = {name: getattr(row, name) for name in FACTS}
    TxReceipt.objects.filter(pk=receipt.pk).update(**told_now)
    log.error("a majority tells another end", intent=receipt.intent_id, was=known, **told_now)
    meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
    for name, value in told_now.items():
        setattr(receipt, name, value)
    return bool(receipt.status)


def still(receipt: TxReceipt) -> None:
    """Raise Stale where it is not what is stored any more; until the transaction ends it stays so."""
    same = TxReceipt.objects.filter(
        pk=receipt.pk, canonical=True, block_hash=receipt.block_hash, status=receipt.status
    )
    if not same.select_for_update().exists():
        raise Stale("another pass has found another receipt")


def fullest(receipt: TxReceipt, heard: list[Answer]) -> dict[str, Any]:
    """Of successes in its block the one with most logs. Raises Stale where no endpoint shows any."""
    successes = _there(receipt, heard, 1)
    if not successes:
        raise Stale("no endpoint shows a success of it in that block")
    return max(successes, key=lambda answer: len(answer["logs"]))


def is_final(receipt: TxReceipt, heard: list[Answer], finalized: int) -> bool:
    """Whether it may count for ever: for a cancel that it was mined there, else that it reverted there.

    What is older than nodes keep stands where a majority knows nothing of it any more and nobody contradicts.
    """
    cancel = receipt.send.kind == SendKind.CANCEL
    votes = len(_there(receipt, heard, None if cancel else 0))
    if votes >= quorum.needed():
        return True
    unopposed = votes + heard.count(None) == len(heard)
    is_old = receipt.block_number < finalized - quorum.KEPT_BLOCKS
    if is_old and unopposed and votes and len(heard) >= quorum.needed():
        return True
    log.warning("no majority for how it ended", intent=receipt.intent_id, block=receipt.block_number)
    return False


def is_denied(receipt: TxReceipt, heard: list[Answer]) -> bool:
    """Whether a majority has no receipt of it, or has it in another block: what is stored is one node's word."""
    return len(heard) - len(_there(receipt, heard)) >= quorum.needed()


def take_back(receipt: TxReceipt) -> None:
    """A majority has no receipt of it there, and the block is final: what stands in its slot is asked for anew."""
    try:
        with transaction.atomic():
            why = f"a majority does not have {receipt.send.tx_hash} in block {receipt.block_number}"
            move(receipt.intent, IntentState.PENDING_INCLUSION, why=why, by=BY)
            still(receipt)
            TxReceipt.objects.filter(pk=receipt.pk).update(canonical=False)
    except Stale:
        log.info("has moved on", intent=receipt.intent_id)
