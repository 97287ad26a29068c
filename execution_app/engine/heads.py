"""Follow the chain head by head: what was consumed, mined, reorganised, made final.

One pass reads one node in a few batches, and all of them where something is not
there any more (node/quorum.py); it costs by consumed nonces and unsettled
intents, never by how much is pending. Two passes at once do no harm: every move
is guarded by the state it starts from.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import orders
from execution_app.engine import reconcile, restored, venue_events, watermark
from execution_app.engine.gateway import following, taken
from execution_app.engine.receipts import apply_receipts, read_orders_again, settle
from execution_app.engine.watermark import NOTHING_FINAL, Head, Mark
from execution_app.errors import Disagreement, Stale
from execution_app.models import Chain, TxIntent, TxReceipt, VenueOrder, Wallet
from execution_app.moves import move
from execution_app.node import quorum, rpc
from execution_app.states import UNMINED, IntentState

Block = tuple[int, str]  # number and hash

log = structlog.get_logger(__name__)
BY = "heads"
BATCH = 2_000
# Of a row, its intent and the block that it stands in.
AT = ("intent_id", "block_number", "block_hash")
DONE_AT = ("intent_id", "done_block_number", "done_block_hash")
MINED_STATES = (
    IntentState.MINED,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.CHANGED,
    IntentState.VENUE_CANCELLED,
)


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
    apply_receipts(_consumed(counts), head.finalized)
    read_orders_again()
    following.follow(head)
    venue_events.collect(head.number)
    standing, gone_meanwhile = _forget_reorganised()
    settle(standing, head.finalized)
    taken.settle(standing, head.finalized)
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


def _unsettled(states: Iterable[str]) -> QuerySet[TxIntent]:
    return TxIntent.objects.filter(settled_at=None, state__in=states).order_by("id")


def _consumed(counts: dict[int, int]) -> list[TxIntent]:
    """Unmined intents whose nonce the chain has taken; what is pending is not read, however much it is."""
    # A message has no nonce and needs none; many may wait for finality.
    owned = _unsettled(sorted(UNMINED)).filter(nonce__isnull=False)
    slots = owned.values_list("pk", "wallet_id", "nonce")[:BATCH]
    keys = [pk for pk, wallet, nonce in slots if nonce is not None and nonce < counts.get(wallet or 0, 0)]
    return list(TxIntent.objects.filter(pk__in=keys).order_by("id")) if keys else []


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


def _forget_reorganised() -> tuple[list[int], list[int]]:
    """Take back what stood in blocks that a majority of endpoints has no longer on the chain.

    Returns the intents whose blocks all stand by such a majority, and those that
    were taken back. Only the former may become final in this pass.
    """
    mined = list(_unsettled(MINED_STATES).values_list("pk", "nonce")[:BATCH])
    keys = [pk for pk, _ in mined]
    orders_of = VenueOrder.objects.filter(intent__in=keys)
    stands = {
        pk: (number, block_hash)
        for pk, number, block_hash in TxReceipt.objects.filter(intent__in=keys, canonical=True).values_list(
            *AT
        )
    }
    # A message has no receipt of ours; its order stands in the block that registered it.
    stands |= {
        pk: (number, block_hash)
        for pk, number, block_hash in orders_of.filter(intent__nonce=None).values_list(*AT)
    }
    stands |= taken.blocks(keys)
    done = {
        pk: (number, block_hash)
        for pk, number, block_hash in orders_of.exclude(done_block_number=None).values_list(*DONE_AT)
    }
    votes, needed = (
        _votes(sorted({number for number, _ in (*stands.values(), *done.values())})),
        quorum.needed(),
    )

    def is_in(number: int, block_hash: str) -> bool:
        return votes[number][block_hash] >= needed

    def has_left(number: int, block_hash: str) -> bool:
        return votes[number].total() - votes[number][block_hash] >= needed

    standing, taken_back = [], []
    for pk in keys:
        mined_in, ended_in = stands.get(pk), done.get(pk)
        try:
            if mined_in is not None and has_left(*mined_in):
                _unmine(pk, mined_in)
                taken_back.append(pk)
            elif ended_in is not None and has_left(*ended_in):
                _unfill(pk, ended_in)
                taken_back.append(pk)
            elif (mined_in is None or is_in(*mined_in)) and (ended_in is None or is_in(*ended_in)):
                standing.append(pk)
        except Stale:
            continue
    return standing, taken_back


def _unfill(key: int, ended_in: Block) -> None:
    """The keeper's block left the chain; the order itself still stands."""
    number, block_hash = ended_in
    with transaction.atomic():
        intent = TxIntent.objects.get(pk=key)
        move(intent, IntentState.ORDERED, why=f"block {number} left the chain", by=BY)
        # Another pass may have found where it ended since.
        _still(VenueOrder.objects.filter(intent=intent, done_block_number=number, done_block_hash=block_hash))
        orders.take_back(intent)
    meters.REORGS.inc()


def _still(rows: QuerySet[Any]) -> None:
    """Raise Stale where what was judged is no longer there; the intent's row is ours, so it does not change any more."""
    if not rows.exists():
        raise Stale("it stands in another block by now")


def _votes(numbers: list[int]) -> dict[int, Counter[str]]:
    """Per block how many endpoints have which hash there; blank where the chain is shorter now."""
    votes: dict[int, Counter[str]] = {number: Counter() for number in numbers}
    for _, answers in quorum.ask_each([("eth_getBlockByNumber", (hex(number), False)) for number in numbers]):
        for number, answer in zip(numbers, answers, strict=True):
            if not isinstance(answer, rpc.NodeError):
                votes[number][answer["hash"] if answer else ""] += 1
    return votes


def _unmine(key: int, mined_in: Block) -> None:
    number, block_hash = mined_in
    intent = TxIntent.objects.get(pk=key)
    if intent.nonce is None:
        following.take_back(intent, number, block_hash)
    else:
        with transaction.atomic():
            move(intent, IntentState.PENDING_INCLUSION, why=f"block {number} left the chain", by=BY)
            receipt = TxReceipt.objects.filter(
                intent=intent, canonical=True, block_number=number, block_hash=block_hash
            )
            # Another pass may have found it in another block since.
            _still(receipt)
            receipt.update(canonical=False)
            orders.unregister(intent)
    meters.REORGS.inc()
