"""Follow the chain head by head: what was consumed, mined, reorganised, made final.

One pass reads one node in a few batches, and all of them where something is not
there any more (node/quorum.py); it costs by consumed nonces and unsettled
intents, never by how much is pending. Two passes at once do no harm: every move
is guarded by the state it starts from.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet

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
# What has rested at the venue for long stands in blocks far below the final one: of these a part is asked at each head.
REST_TURNS = 64
MINED_STATES = (
    IntentState.MINED,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.CHANGED,
    IntentState.VENUE_CANCELLED,
)


# What stands in blocks, by intent: its receipt, its order, where that ended, and new levels; one look sees all as one.
_MINED = """SELECT intent.id, intent.nonce IS NULL, intent.state, receipt.block_number, receipt.block_hash,
    placed.block_number, placed.block_hash, placed.done_block_number, placed.done_block_hash
FROM tx_intents AS intent
LEFT JOIN tx_receipts AS receipt ON receipt.intent_id = intent.id AND receipt.canonical
LEFT JOIN venue_orders AS placed ON placed.intent_id = intent.id
WHERE intent.settled_at IS NULL AND intent.state = ANY(%s) AND intent.id > %s
AND (intent.state <> 'ordered' OR placed.rested_to_block IS NULL OR intent.id %% %s = %s)
ORDER BY intent.id LIMIT %s"""


# A message has no nonce and needs none; many may wait for finality, and fill no place of a slot. Of slots those alone
# that the chain has taken: however many others wait, or are parked, they keep none of these from being seen.
_SLOTS = """WITH slots AS MATERIALIZED (
    SELECT id, wallet_id, nonce FROM tx_intents WHERE settled_at IS NULL AND state = ANY(%s) AND nonce IS NOT NULL
) SELECT slots.id FROM slots JOIN unnest(%s::bigint[], %s::bigint[]) AS known (wallet_id, mined) USING (wallet_id)
WHERE slots.nonce < known.mined ORDER BY slots.id LIMIT %s"""
_MESSAGES = """SELECT EXISTS (SELECT FROM tx_intents WHERE settled_at IS NULL AND state = ANY(%s) AND nonce IS NULL),
    EXISTS (SELECT FROM tx_intents WHERE settled_at IS NULL AND state = 'ordered')"""
_NOTE = """UPDATE chains SET head_number = %s, head_hash = %s, reconciled_at = statement_timestamp(),
    reached_number = CASE WHEN %s THEN %s ELSE reached_number END,
    finalized_number = CASE WHEN %s AND (finalized_number < %s OR finalized_hash = '') THEN %s ELSE finalized_number END,
    finalized_hash = CASE WHEN %s AND (finalized_number < %s OR finalized_hash = '') THEN %s ELSE finalized_hash END
WHERE chain_id = %s RETURNING halted_reason"""


@dataclass(frozen=True)
class _Mined:
    """The blocks in which an intent's transaction and its order's end stand; None where there is no such block."""

    state: IntentState
    mined_in: Block | None
    ended_in: Block | None


def follow() -> Head:
    """One pass: compare, collect receipts, notice reorgs, read the venue's events, settle what is final.

    Raises Disagreement when chain and database do not describe the same past,
    RpcFault when no node answers; nothing is changed on guesswork.
    """
    chain = reconcile.expect_chain()
    mark = _mark(chain)
    try:
        head = watermark.look(mark)
    except Disagreement as problem:
        reconcile.halt(str(problem))
    except rpc.RpcFault:
        reconcile.halt_on_foreign_endpoints()
        raise
    reconcile.check_identity(head.chain_id, head.genesis_hash, chain)
    restored.compare()
    with rpc.reading_from(head.readers):
        _pass(head)
    if _note(head, mark):
        reconcile.resume(head.chain_id)
    return head


def _mark(chain: Chain | None) -> Mark:
    if chain is None:
        return Mark()
    final = chain.finalized_number if chain.finalized_hash else NOTHING_FINAL
    return Mark(chain.head_number, final, chain.finalized_hash, chain.reached_number)


def _pass(head: Head) -> None:
    counts = _counts(head)
    reconcile.check_wallets(counts)
    # First of all: an order id of a block that left may belong to another order by now.
    before = _mined(head)
    _, gone = _forget_reorganised(before, head.finalized)
    consumed, messages, ordered = _taken(counts)
    # What there is nothing of is not asked for; what another pass makes of it meanwhile, the next one finds.
    states = set(MINED_STATES) if gone else {one.state for one in before.values()}
    if consumed:
        apply_receipts(consumed, head.finalized)
    if consumed or IntentState.MINED in states:
        read_orders_again()
    if messages:
        following.follow(head)
    if consumed or messages or ordered or IntentState.MINED in states:
        venue_events.collect(head.number, head.block_hash)
    standing, gone_meanwhile = _forget_reorganised(_mined(head), head.finalized)
    settle(standing, head.finalized)
    if changed := [pk for pk, state in standing.items() if state is IntentState.CHANGED]:
        taken.settle(changed, head.finalized)
    if gone or gone_meanwhile:
        log.warning("blocks left the chain", intents=gone + gone_meanwhile, head=head.number)


def _note(head: Head, mark: Mark) -> bool:
    """What was acted on; the final block only ever goes on, and another pass may have gone further meanwhile.

    Says whether trading was halted until now.
    """
    further = head.finalized > mark.final and bool(head.finalized_hash)
    final = (further, head.finalized)
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            [
                *(head.number, head.block_hash),
                *(len(head.readers) >= quorum.needed(), head.number),
                *(*final, head.finalized, *final, head.finalized_hash),
                head.chain_id,
            ],
        )
        found = cursor.fetchone()
    return found is not None and bool(found[0])


def _taken(counts: dict[int, int]) -> tuple[list[TxIntent], bool, bool]:
    """Unmined intents whose nonce the chain has taken; whether there are messages, which have no nonce, and orders.

    What is pending is not read, however much it is.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SLOTS, [sorted(UNMINED), list(counts), list(counts.values()), BATCH])
        keys = [pk for (pk,) in cursor.fetchall()]
        cursor.execute(_MESSAGES, [sorted(UNMINED)])
        messages, ordered = cursor.fetchone()
    return list(TxIntent.objects.filter(pk__in=keys).order_by("id")) if keys else [], messages, ordered


def _counts(head: Head) -> dict[int, int]:
    """Transactions the chain has from each wallet, by wallet id, at this head; balances are noted by the way."""
    wallets = reconcile.with_settled_nonces("wallets.chain_id = %s", head.chain_id)
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
        if wallet.balance_wei != int(balance, 16):
            Wallet.objects.filter(pk=wallet.pk).update(balance_wei=int(balance, 16))
    counts = {wallet.pk: int(count, 16) for wallet, count in zip(wallets, answers, strict=False)}
    for wallet in wallets:
        counts[wallet.pk] = _unless_too_low(wallet, wallet.settled_nonce, counts[wallet.pk], tag)
    return counts


def _unless_too_low(wallet: Wallet, settled: int | None, count: int, tag: str) -> int:
    """A count below what was final here is no proof by one node: others that show more are believed."""
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


def _forget_reorganised(mined: dict[int, _Mined], final: int) -> tuple[dict[int, IntentState], list[int]]:
    """Take back what stood in blocks that a majority of endpoints has no longer on the chain.

    Returns the states of intents whose blocks all stand by such a majority, and the intents
    that were taken back. Only the former may become final in this pass. At or below the final
    block a node that has none has forgotten it, and says nothing: what rested may be older than
    what nodes keep, and stands where nobody contradicts.
    """
    blocks = {block[0] for one in mined.values() for block in (one.mined_in, one.ended_in) if block}
    votes, needed = _votes(sorted(blocks)), quorum.needed()

    def is_in(number: int, block_hash: str) -> bool:
        for_it = votes[number][block_hash]
        unopposed = for_it == votes[number].total() - votes[number][""]
        return for_it >= needed or (unopposed and number < final - quorum.KEPT_BLOCKS)

    def has_left(number: int, block_hash: str) -> bool:
        silent = votes[number][""] if number <= final else 0
        return votes[number].total() - votes[number][block_hash] - silent >= needed

    standing, taken_back = {}, []
    for pk, one in mined.items():
        mined_in, ended_in = one.mined_in, one.ended_in
        try:
            if mined_in is not None and has_left(*mined_in):
                _unmine(pk, mined_in)
                taken_back.append(pk)
            elif ended_in is not None and has_left(*ended_in):
                _unfill(pk, ended_in)
                taken_back.append(pk)
            elif (mined_in is None or is_in(*mined_in)) and (ended_in is None or is_in(*ended_in)):
                standing[pk] = one.state
        except Stale:
            continue
    return standing, taken_back


def _mined(head: Head) -> dict[int, _Mined]:
    """What the chain has of ours and is not final, by intent: all of it, but for what rests at the venue for long."""
    rows: list[tuple[Any, ...]] = []
    turn = REST_TURNS, head.number % REST_TURNS
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_MINED, [[*MINED_STATES], rows[-1][0] if rows else 0, *turn, BATCH])
            some = cursor.fetchall()
            rows += some
            if len(some) < BATCH:
                break
    found = {}
    for pk, is_message, state, receipt_at, receipt_in, order_at, order_in, done_at, done_in in rows:
        # A message has no receipt of ours; its order stands in the block that registered it.
        number, block_hash = (order_at, order_in) if is_message else (receipt_at, receipt_in)
        found[pk] = _Mined(
            IntentState(state),
            None if number is None else (number, block_hash),
            None if done_at is None else (done_at, done_in),
        )
    changed = [pk for pk, one in found.items() if one.state is IntentState.CHANGED]
    for pk, seen_in in taken.blocks(changed).items() if changed else ():
        found[pk] = replace(found[pk], mined_in=seen_in)
    return found


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
