"""Follow the chain head by head: what was consumed, mined, reorganised, made final.

One pass reads one node in a few batches, and all of them where something is not
there any more (node/quorum.py); it costs by consumed nonces and unsettled
intents, never by how much is pending. Two passes at once do no harm: every move
is guarded by the state it starts from.
"""

from collections import Counter
from collections.abc import Iterable

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import orders
from execution_app.engine import reconcile, restored, venue_events, watermark
from execution_app.engine.gateway import following
from execution_app.engine.receipts import apply_receipts, read_orders_again, settle
from execution_app.engine.watermark import NOTHING_FINAL, Head, Mark
from execution_app.errors import Disagreement, Stale
from execution_app.models import Chain, TxIntent, TxReceipt, VenueOrder, Wallet
from execution_app.moves import move
from execution_app.node import quorum, rpc
from execution_app.states import UNMINED, IntentState

log = structlog.get_logger(__name__)
BY = "heads"
BATCH = 2_000
MINED_STATES = (IntentState.MINED, IntentState.ORDERED, IntentState.FILLED, IntentState.VENUE_CANCELLED)


def follow() -> Head:
    """One pass: compare, collect receipts, notice reorgs, read the venue's events, settle what is final.

    Raises Disagreement when chain and database do not describe the same past,
    RpcFault when no node answers; nothing is changed on guesswork.
    """
    mark = _mark()
    try:
        head = watermark.look(mark)
    except Disagreement as problem:
        reconcile.halt(str(problem))
    except rpc.RpcFault:
        reconcile.halt_on_foreign_endpoints()
        raise
    reconcile.check_identity(head.chain_id, head.genesis_hash)
    restored.compare()
    with rpc.reading_from(head.readers):
        _pass(head)
    _note(head, mark)
    return head


def _mark() -> Mark:
    chain = reconcile.expect_chain()
    if chain is None:
        return Mark()
    final = chain.finalized_number if chain.finalized_hash else NOTHING_FINAL
    return Mark(chain.head_number, final, chain.finalized_hash)


def _pass(head: Head) -> None:
    counts = _counts(head)
    reconcile.check_wallets(counts)
    # First of all: an order id of a block that left may belong to another order by now.
    _, gone = _forget_reorganised()
    unmined = _unsettled(sorted(UNMINED))
    apply_receipts([intent for intent in unmined if _is_consumed(intent, counts)], head.finalized)
    read_orders_again()
    following.follow(head)
    venue_events.collect(head.number)
    standing, gone_meanwhile = _forget_reorganised()
    settle(standing, head.finalized)
    reconcile.resume(head.chain_id)
    if gone or gone_meanwhile:
        log.warning("blocks left the chain", intents=gone + gone_meanwhile, head=head.number)


def _note(head: Head, mark: Mark) -> None:
    """What was acted on; the final block only ever goes on."""
    chain = Chain.objects.filter(pk=head.chain_id)
    if head.finalized > mark.final and head.finalized_hash:
        # Another pass may have gone on further meanwhile.
        chain.filter(Q(finalized_number__lt=head.finalized) | Q(finalized_hash="")).update(
            finalized_number=head.finalized, finalized_hash=head.finalized_hash
        )
    chain.update(head_number=head.number, head_hash=head.block_hash, reconciled_at=Now())


def _unsettled(states: Iterable[str]) -> list[TxIntent]:
    return list(TxIntent.objects.filter(settled_at=None, state__in=states).order_by("id")[:BATCH])


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
    counts = {wallet.pk: int(count, 16) for wallet, count in zip(wallets, answers, strict=False)}
    for wallet in wallets:
        counts[wallet.pk] = _unless_too_low(wallet, counts[wallet.pk], tag)
    return counts


def _unless_too_low(wallet: Wallet, count: int, tag: str) -> int:
    """A count below what was final here is no proof by one node: others that show more are believed."""
    settled = reconcile.settled_nonce(wallet)
    if settled is None or count > settled:
        return count
    found = [
        int(answers[0], 16)
        for _, answers in quorum.ask_each([("eth_getTransactionCount", (wallet.address, tag))])
        if isinstance(answers[0], str)
    ]
    if sum(one <= settled for one in found) >= quorum.needed():
        return count
    highest = max(found, default=count)
    if highest <= settled:
        raise rpc.RpcFault(f"too few endpoints answer that nonce {settled} of {wallet.address} is consumed")
    log.error("an endpoint counts less than was final here", wallet=wallet.address, count=count, others=found)
    return highest


def _is_consumed(intent: TxIntent, counts: dict[int, int]) -> bool:
    if intent.nonce is None:
        return False  # a message, which needs none
    assert intent.wallet_id is not None
    return intent.nonce < counts.get(intent.wallet_id, 0)


def _forget_reorganised() -> tuple[list[int], list[int]]:
    """Take back what stood in blocks that a majority of endpoints has no longer on the chain.

    Returns the intents whose blocks all stand by such a majority, and those that
    were taken back. Only the former may become final in this pass.
    """
    mined = _unsettled(MINED_STATES)
    receipts: dict[int, TxReceipt | VenueOrder] = {
        r.intent_id: r for r in TxReceipt.objects.filter(intent__in=mined, canonical=True)
    }
    found = list(VenueOrder.objects.filter(intent__in=mined).select_related("intent"))
    # A message has no receipt of ours; its order stands in the block that registered it.
    receipts |= {o.intent_id: o for o in found if o.intent.nonce is None}
    done = {o.intent_id: o for o in found if o.done_block_number is not None}
    numbers = {receipt.block_number for receipt in receipts.values()}
    numbers |= {int(order.done_block_number or 0) for order in done.values()}
    votes, needed = _votes(sorted(numbers)), quorum.needed()

    def is_in(number: int, block_hash: str) -> bool:
        return votes[number][block_hash] >= needed

    def has_left(number: int, block_hash: str) -> bool:
        return votes[number].total() - votes[number][block_hash] >= needed

    standing, taken_back = [], []
    for intent in mined:
        mined_in, ended_in = receipts.get(intent.pk), done.get(intent.pk)
        try:
            if mined_in is not None and has_left(*_mined_at(mined_in)):
                _unmine(intent, mined_in)
                taken_back.append(intent.pk)
            elif ended_in is not None and has_left(*_done_at(ended_in)):
                _unfill(intent, ended_in)
                taken_back.append(intent.pk)
            elif (mined_in is None or is_in(*_mined_at(mined_in))) and (
                ended_in is None or is_in(*_done_at(ended_in))
            ):
                standing.append(intent.pk)
        except Stale:
            continue
    return standing, taken_back


def _mined_at(receipt: TxReceipt | VenueOrder) -> tuple[int, str]:
    return receipt.block_number, receipt.block_hash


def _done_at(order: VenueOrder) -> tuple[int, str]:
    return int(order.done_block_number or 0), order.done_block_hash


def _unfill(intent: TxIntent, order: VenueOrder) -> None:
    """The keeper's block left the chain; the order itself still stands."""
    meters.REORGS.inc()
    with transaction.atomic():
        move(intent, IntentState.ORDERED, why=f"block {order.done_block_number} left the chain", by=BY)
        orders.take_back(intent)


def _votes(numbers: list[int]) -> dict[int, Counter[str]]:
    """Per block how many endpoints have which hash there; blank where the chain is shorter now."""
    votes: dict[int, Counter[str]] = {number: Counter() for number in numbers}
    for _, answers in quorum.ask_each([("eth_getBlockByNumber", (hex(number), False)) for number in numbers]):
        for number, answer in zip(numbers, answers, strict=True):
            if not isinstance(answer, rpc.NodeError):
                votes[number][answer["hash"] if answer else ""] += 1
    return votes


def _unmine(intent: TxIntent, receipt: TxReceipt | VenueOrder) -> None:
    meters.REORGS.inc()
    if isinstance(receipt, VenueOrder):
        following.take_back(receipt)
        return
    why = f"block {receipt.block_number} left the chain"
    with transaction.atomic():
        move(intent, IntentState.PENDING_INCLUSION, why=why, by=BY)
        TxReceipt.objects.filter(pk=receipt.pk).update(canonical=False)
        orders.unregister(intent)
