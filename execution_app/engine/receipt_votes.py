"""How a transaction ended, as every endpoint tells it: whether it reverted is the majority's to say.

A receipt is shown by one node and vouched for by its block, which says nothing of its status. Believed alone, a node that
calls a close reverted would have it sent again, and one that calls an open reverted would have its position forgotten.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from execution_app import meters
from execution_app.engine import mined
from execution_app.errors import Stale
from execution_app.models import TxReceipt
from execution_app.node import quorum

log = structlog.get_logger(__name__)
BATCH = 100

Shown = list[dict[str, Any]]


def ask(receipts: Sequence[TxReceipt]) -> Iterator[tuple[TxReceipt, Shown]]:
    """Each receipt with what endpoints show of the same bytes in the same block: one answer or none from each of them."""
    for start in range(0, len(receipts), BATCH):
        batch = receipts[start : start + BATCH]
        shown: dict[int, Shown] = {receipt.pk: [] for receipt in batch}
        calls = [("eth_getTransactionReceipt", (receipt.send.tx_hash,)) for receipt in batch]
        for _, answers in quorum.ask_each(calls):
            for receipt, answer in zip(batch, answers, strict=True):
                # Whether its block stands is found out elsewhere.
                if mined.shows(receipt.send, answer) and answer["blockHash"] == receipt.block_hash:
                    shown[receipt.pk].append(answer)
        yield from ((receipt, shown[receipt.pk]) for receipt in batch)


def _with_status(shown: Shown, status: int) -> Shown:
    return [answer for answer in shown if mined.status(answer) == status]


def correct(receipt: TxReceipt, shown: Shown) -> bool:
    """Take over the status that a majority tells; returns whether it is that of a success."""
    other = _with_status(shown, 1 - receipt.status)
    if len(other) < quorum.needed():
        return bool(receipt.status)
    row = mined.row_of(receipt.intent, receipt.send, other[0])
    told = {
        "status": row.status,
        "gas_used": row.gas_used,
        "effective_gas_price_wei": row.effective_gas_price_wei,
        "l1_fee_wei": row.l1_fee_wei,
    }
    same = TxReceipt.objects.filter(pk=receipt.pk, canonical=True, block_hash=receipt.block_hash)
    if same.filter(status=receipt.status).update(**told):
        meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
        log.error("a majority tells another end", intent=receipt.intent_id, was=receipt.status, **told)
    return bool(row.status)


def fullest(shown: Shown) -> dict[str, Any]:
    """Of successes the one with most logs. Raises Stale where no endpoint shows any."""
    successes = _with_status(shown, 1)
    if not successes:
        raise Stale("no endpoint shows a success of it in that block")
    return max(successes, key=lambda answer: len(answer["logs"]))


def is_reverted(receipt: TxReceipt, shown: Shown, finalized: int) -> bool:
    """Whether it may be called reverted for ever. What is older than nodes keep stands where nobody contradicts."""
    votes = len(_with_status(shown, 0))
    unopposed = votes == len(shown)
    return votes >= quorum.needed() or (unopposed and receipt.block_number < finalized - quorum.KEPT_BLOCKS)
