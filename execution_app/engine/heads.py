"""Follow the chain head by head: what was consumed, mined, reorganised, made final.

One pass reads one node in a few batches and costs by consumed nonces and
unsettled intents, never by how much is pending. Two passes at once do no harm:
every move is guarded by the state it starts from.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from django.db import transaction
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import orders
from execution_app.engine import reconcile, restored, venue_events
from execution_app.engine.receipts import apply_receipts, read_orders_again, settle
from execution_app.errors import Stale
from execution_app.models import Chain, TxIntent, TxReceipt, VenueOrder, Wallet
from execution_app.moves import move
from execution_app.node import rpc
from execution_app.states import UNMINED, IntentState

log = structlog.get_logger(__name__)
BY = "heads"
BATCH = 2_000
MINED_STATES = (IntentState.MINED, IntentState.ORDERED, IntentState.FILLED, IntentState.VENUE_CANCELLED)


@dataclass(frozen=True)
class Head:
    """The block everything of one pass is read at, and the newest final one."""

    number: int
    block_hash: str
    finalized: int
    genesis_hash: str
    chain_id: int
    base_fee_wei: int


def look() -> Head:
    """Raises RpcFault or NodeError when no node answers properly."""
    latest, finalized, genesis, chain_id = rpc.read_batch(
        [
            ("eth_getBlockByNumber", ("latest", False)),
            ("eth_getBlockByNumber", ("finalized", False)),
            ("eth_getBlockByNumber", ("0x0", False)),
            ("eth_chainId", ()),
        ]
    )
    for answer in (latest, genesis, chain_id):
        if isinstance(answer, rpc.NodeError):
            raise answer
        if answer is None:
            raise rpc.RpcFault("the node knows no latest or no first block")
    known_final = isinstance(finalized, dict)
    return Head(
        number=int(latest["number"], 16),
        block_hash=latest["hash"],
        # Without a finalized block nothing is final yet; that only delays, it never lies.
        finalized=int(finalized["number"], 16) if known_final else -1,
        genesis_hash=genesis["hash"],
        chain_id=int(chain_id, 16),
        base_fee_wei=int(latest.get("baseFeePerGas", "0x0"), 16),
    )


def follow() -> Head:
    """One pass: compare, collect receipts, notice reorgs, read the venue's events, settle what is final.

    Raises Disagreement when chain and database do not describe the same past,
    RpcFault when no node answers; nothing is changed on guesswork.
    """
    head = look()
    reconcile.check_identity(head.chain_id, head.genesis_hash)
    restored.compare()
    counts = _counts(head)
    reconcile.check_wallets(counts)
    # First of all: an order id of a block that left may belong to another order by now.
    _, gone = _forget_reorganised()
    unmined = _unsettled(sorted(UNMINED))
    apply_receipts([intent for intent in unmined if _is_consumed(intent, counts)], head.finalized)
    read_orders_again()
    venue_events.collect(head.number)
    standing, gone_meanwhile = _forget_reorganised()
    settle(standing, head.finalized)
    reconcile.resume(head.chain_id)
    Chain.objects.filter(pk=head.chain_id).update(
        head_number=head.number,
        head_hash=head.block_hash,
        finalized_number=max(head.finalized, 0),
        reconciled_at=Now(),
    )
    if gone or gone_meanwhile:
        log.warning("blocks left the chain", intents=gone + gone_meanwhile, head=head.number)
    return head


def _unsettled(states: Iterable[str]) -> list[TxIntent]:
    return list(
        TxIntent.objects.filter(settled_at=None, state__in=states)
        .select_related("wallet")
        .order_by("id")[:BATCH]
    )


def _counts(head: Head) -> dict[int, int]:
    """Transactions the chain has from each wallet, by wallet id, at this head; balances are noted by the way."""
    wallets = list(Wallet.objects.filter(chain_id=head.chain_id))
    tag = hex(head.number)
    calls: list[rpc.Call] = [("eth_getTransactionCount", (wallet.address, tag)) for wallet in wallets]
    calls += [("eth_getBalance", (wallet.address, tag)) for wallet in wallets]
    answers = rpc.read_batch(calls)
    for answer in answers:
        if isinstance(answer, rpc.NodeError):
            raise answer
        if answer is None:
            raise rpc.RpcFault("the node does not know a wallet's count or balance")
    for wallet, balance in zip(wallets, answers[len(wallets) :], strict=True):
        Wallet.objects.filter(pk=wallet.pk).exclude(balance_wei=int(balance, 16)).update(
            balance_wei=int(balance, 16)
        )
    return {wallet.pk: int(count, 16) for wallet, count in zip(wallets, answers, strict=False)}


def _is_consumed(intent: TxIntent, counts: dict[int, int]) -> bool:
    assert intent.wallet_id is not None
    assert intent.nonce is not None
    return intent.nonce < counts.get(intent.wallet_id, 0)


def _forget_reorganised() -> tuple[list[int], list[int]]:
    """Take back what stood in blocks that are no longer on the chain.

    Returns the intents whose blocks all stand, and those that were taken back.
    Only the former may become final in this pass.
    """
    mined = _unsettled(MINED_STATES)
    receipts = {r.intent_id: r for r in TxReceipt.objects.filter(intent__in=mined, canonical=True)}
    done = {
        o.intent_id: o for o in VenueOrder.objects.filter(intent__in=mined, done_block_number__isnull=False)
    }
    numbers = {receipt.block_number for receipt in receipts.values()}
    numbers |= {int(order.done_block_number or 0) for order in done.values()}
    canonical = _hashes(sorted(numbers))
    standing, taken_back = [], []
    for intent in mined:
        mined_in, ended_in = receipts.get(intent.pk), done.get(intent.pk)
        try:
            if mined_in is not None and canonical[mined_in.block_number] != mined_in.block_hash:
                _unmine(intent, mined_in)
                taken_back.append(intent.pk)
            elif (
                ended_in is not None
                and canonical[int(ended_in.done_block_number or 0)] != ended_in.done_block_hash
            ):
                _unfill(intent, ended_in)
                taken_back.append(intent.pk)
            else:
                standing.append(intent.pk)
        except Stale:
            continue
    return standing, taken_back


def _unfill(intent: TxIntent, order: VenueOrder) -> None:
    """The keeper's block left the chain; the order itself still stands."""
    meters.REORGS.inc()
    with transaction.atomic():
        move(intent, IntentState.ORDERED, why=f"block {order.done_block_number} left the chain", by=BY)
        orders.take_back(intent)


def _hashes(numbers: list[int]) -> dict[int, str]:
    """Canonical hash of each block; blank where the chain is shorter now."""
    answers = rpc.read_batch([("eth_getBlockByNumber", (hex(number), False)) for number in numbers])
    found = {}
    for number, answer in zip(numbers, answers, strict=True):
        if isinstance(answer, rpc.NodeError):
            raise answer
        found[number] = answer["hash"] if answer else ""
    return found


def _unmine(intent: TxIntent, receipt: TxReceipt) -> None:
    meters.REORGS.inc()
    why = f"block {receipt.block_number} left the chain"
    with transaction.atomic():
        move(intent, IntentState.PENDING_INCLUSION, why=why, by=BY)
        TxReceipt.objects.filter(pk=receipt.pk).update(canonical=False)
        orders.unregister(intent)
