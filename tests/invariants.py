"""What must hold after every scenario, read from the chain and from what nodes received, then from our tables.

Names are those of the design: I1 at most one canonical execution per intent, I2
slot and intent one to one, I3 every hash a node received is stored, I4 no gap,
I5 nonces in reservation order, I6 settled only on final canonical blocks, I7
nothing leaves a final state, I8 nothing new leaves under a stop, I9 what is
reserved is what is open, I13 positions equal the venue's storage; I14 to I18 are
those of `tests/sent_bytes.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from execution_app.models import Archive, IntentTransition, TxIntent, Wallet
from execution_app.node import rpc
from execution_app.states import MOVES, TERMINAL, IntentState, Mode, PositionState, Road, SendKind
from execution_app.venues import events, onchain
from tests import real_parts, sent_bytes, stakes, whole_book
from tests.proxy import Offer, Proxy, read_raw
from tests.rig import endpoint, rpc_call
from tests.whole_book import Book


@dataclass(frozen=True)
class Stop:
    """When a stop was in force, time.monotonic(), and the hashes that its call named as possibly leaving."""

    imposed_at_s: float
    lifted_at_s: float = float("inf")
    in_flight: Collection[str] = ()


@dataclass(frozen=True)
class Mined:
    """A transaction of a wallet, in a canonical block."""

    tx_hash: str
    nonce: int
    block_number: int
    block_hash: str
    succeeded: bool
    orders: tuple[int, ...]


@dataclass
class Seen:
    """One look at the chain: everything of one wallet."""

    count: int
    finalized: int
    hashes: dict[int, str]  # canonical block hash by number
    mined: list[Mined] = field(default_factory=list)


def check(
    proxy: Proxy | None = None,
    *,
    stops: Sequence[Stop] = (),
    foreign: Collection[str] = (),
    drained: bool = True,
    first_block: int | None = None,
) -> Book:
    """Assert every invariant for every wallet; the message names the one that is broken. Returns what was read for it.

    `foreign` are hashes that the test itself sent with a wallet's key. `drained`
    says that all work is done, so every intent is settled, every slot mined and
    the book equal to the venue. `first_block` spares a look at blocks from before
    the wallets existed.
    """
    offers = list(proxy.log) if proxy else []
    # What is on the chain was in the book before.
    seen_of = {
        address: look(address, first_block) for address in Wallet.objects.values_list("address", flat=True)
    }
    book = whole_book.read()
    for wallet in book.wallets.values():
        seen = seen_of[wallet.address]
        mine = [offer for offer in offers if offer.sender == wallet.address]
        _slots(wallet, book)
        executed_once(wallet, seen, foreign, book)
        _known_hashes(mine, seen, foreign, book)
        _no_gap(wallet, seen, foreign, book, drained=drained)
        _finality(wallet, seen, book)
        if drained:
            _positions(wallet, book)
    _order_of_nonces(book)
    _histories(book)
    _stops(offers, stops)
    sent_bytes.check(offers, book)
    stakes.check_held(book)
    if drained:
        stakes.check(book)
        unsettled = [(i.pk, i.state, i.reason) for i in book.intents.values() if i.settled_at is None]
        assert not unsettled, f"I10: unsettled {unsettled}"
    return book


def look(address: str, first_block: int | None = None) -> Seen:
    """Walk every block since the venue was deployed, or from a later one."""
    node = endpoint()
    head = int(rpc_call("eth_blockNumber"), 16)
    first = real_parts.deployment.deployed_at_block if first_block is None else first_block
    *blocks, finalized, count = node.batch(
        [
            *(("eth_getBlockByNumber", (hex(n), True)) for n in range(first, head + 1)),
            ("eth_getBlockByNumber", ("finalized", False)),
            ("eth_getTransactionCount", (address, "latest")),
        ]
    )
    found = [
        transaction
        for block in blocks
        for transaction in block["transactions"]
        if transaction["from"].lower() == address.lower()
    ]
    receipts = node.batch([("eth_getTransactionReceipt", (t["hash"],)) for t in found])
    return Seen(
        count=int(count, 16),
        finalized=int(finalized["number"], 16),
        hashes={int(block["number"], 16): block["hash"] for block in blocks},
        mined=[_mined(transaction, receipt) for transaction, receipt in zip(found, receipts, strict=True)],
    )


def executions(wallet: Wallet) -> list[Mined]:
    """Canonical transactions of the wallet in which the venue took an order."""
    return [mined for mined in look(wallet.address).mined if mined.orders]


def _mined(transaction: dict[str, Any], receipt: dict[str, Any]) -> Mined:
    orders = []
    for entry in receipt["logs"]:
        event = events.decode(entry, trading_address=real_parts.deployment.trading)
        if isinstance(event, events.OrderRegistered):
            orders.append(event.order_id)
    return Mined(
        tx_hash=transaction["hash"],
        nonce=int(transaction["nonce"], 16),
        block_number=int(transaction["blockNumber"], 16),
        block_hash=transaction["blockHash"],
        succeeded=int(receipt["status"], 16) == 1,
        orders=tuple(orders),
    )


def _slots(wallet: Wallet, book: Book) -> None:
    nonces = Counter(intent.nonce for intent in book.of_wallet(wallet) if intent.nonce is not None)
    doubled = [nonce for nonce, times in nonces.items() if times > 1]
    assert not doubled, f"I2: nonces with two intents: {doubled}"
    for send in book.sends:
        if send.intent.wallet_id != wallet.pk:
            continue
        said = read_raw("0x" + bytes(send.raw).hex())
        assert said.tx_hash == send.tx_hash, f"stored hash of send {send.pk} is not its bytes'"
        assert said.sender == wallet.address, f"send {send.pk} is signed by {said.sender}"
        assert said.nonce == send.intent.nonce, (
            f"I2: intent {send.intent_id} owns slot {send.intent.nonce}, send {send.pk} is for {said.nonce}"
        )


def executed_once(wallet: Wallet, seen: Seen, foreign: Collection[str], book: Book) -> None:
    """I1, counted from the orders that the venue registered in canonical blocks."""
    sends = {send.tx_hash: send for send in book.sends if send.intent.wallet_id == wallet.pk}
    intents = book.of_wallet(wallet)
    by_intent: dict[int, list[str]] = defaultdict(list)
    for mined in seen.mined:
        if mined.tx_hash in foreign:
            continue
        send = sends.get(mined.tx_hash)
        assert send is not None, f"I3: {mined.tx_hash} is on the chain and not in tx_sends"
        assert len(mined.orders) <= 1, f"I1: {mined.tx_hash} registered orders {mined.orders}"
        if mined.orders:
            assert send.kind != SendKind.CANCEL, f"a cancel registered an order: {mined.tx_hash}"
            by_intent[send.intent_id].append(mined.tx_hash)
    twice = {key: hashes for key, hashes in by_intent.items() if len(hashes) > 1}
    assert not twice, f"I1: executed twice: {twice}"
    filled = {
        intent.pk
        for intent in intents
        # Of messages: tests/letters.py
        if intent.mode == Mode.LIVE and intent.state == IntentState.FILLED and intent.road != Road.GATEWAY
    }
    # No pass may know yet that a block has left the chain.
    filled -= {row.intent_id for row in book.receipts if seen.hashes.get(row.block_number) != row.block_hash}
    assert filled <= by_intent.keys(), f"filled without an execution: {filled - by_intent.keys()}"
    ended = {intent.pk for intent in intents if intent.state in TERMINAL}
    assert not ended & by_intent.keys(), f"ended unexecuted, yet executed: {ended & by_intent.keys()}"


def _known_hashes(offers: Sequence[Offer], seen: Seen, foreign: Collection[str], book: Book) -> None:
    ours = {send.tx_hash for send in book.sends}
    received = {offer.tx_hash for offer in offers} | {mined.tx_hash for mined in seen.mined}
    unknown = received - ours - set(foreign)
    assert not unknown, f"I3: nodes received hashes that are not in tx_sends: {sorted(unknown)}"


def _no_gap(wallet: Wallet, seen: Seen, foreign: Collection[str], book: Book, *, drained: bool) -> None:
    owned = sorted(intent.nonce for intent in book.of_wallet(wallet) if intent.nonce is not None)
    # What the test itself sent has no intent, unless it took an intent's slot.
    spent = {mined.nonce for mined in seen.mined if mined.tx_hash in foreign} - set(owned)
    slots = sorted([*owned, *(nonce for nonce in spent if nonce < wallet.next_nonce)])
    assert slots == list(range(wallet.next_nonce)), f"I4: next_nonce {wallet.next_nonce}, slots {owned}"
    if not foreign:
        assert seen.count <= wallet.next_nonce, f"I4: chain count {seen.count} above {wallet.next_nonce}"
        if drained:
            assert seen.count == wallet.next_nonce, f"I4: chain count {seen.count} of {wallet.next_nonce}"


def _order_of_nonces(book: Book) -> None:
    last: dict[int, int] = {}
    for reserved in book.moves:
        wallet_id, nonce = reserved.intent.wallet_id, reserved.intent.nonce
        if reserved.to_state != IntentState.RESERVED or reserved.intent.road == Road.GATEWAY:
            continue  # messages are spent in no order
        assert wallet_id is not None
        assert nonce is not None
        assert nonce > last.get(wallet_id, -1), f"I5: nonce {nonce} was reserved after {last[wallet_id]}"
        last[wallet_id] = nonce


def _finality(wallet: Wallet, seen: Seen, book: Book) -> None:
    receipts = {receipt.intent_id: receipt for receipt in book.receipts}
    by_hash = {mined.tx_hash: mined for mined in seen.mined}
    for intent in book.of_wallet(wallet):
        if intent.settled_at is None or intent.nonce is None or intent.state == IntentState.LOST_NONCE:
            continue
        receipt = receipts.get(intent.pk)
        assert receipt is not None, f"I6: intent {intent.pk} settled as {intent.state} without a receipt"
        _final(intent, receipt.block_number, receipt.block_hash, seen)
        mined = by_hash.get(receipt.send.tx_hash)
        assert mined is not None, (
            f"I6: intent {intent.pk} settled on {receipt.send.tx_hash}, not on the chain"
        )
        assert mined.succeeded == bool(receipt.status), f"receipt of intent {intent.pk} has another status"
        if intent.state in (IntentState.FILLED, IntentState.VENUE_CANCELLED):
            order = book.orders[intent.pk]
            assert mined.orders == (order.order_id,), f"intent {intent.pk} holds another order"
            assert order.done_block_number is not None
            _final(intent, order.done_block_number, order.done_block_hash, seen)


def _final(intent: TxIntent, number: int, block_hash: str, seen: Seen) -> None:
    assert number <= seen.finalized, f"I6: intent {intent.pk} settled, block {number} > {seen.finalized}"
    assert seen.hashes.get(number) == block_hash, f"I6: intent {intent.pk} settled on a stale block {number}"


def _histories(book: Book) -> None:
    paths: dict[int, list[IntentTransition]] = defaultdict(list)
    for line in book.moves:
        paths[line.intent_id].append(line)
    archived = set(Archive.objects.filter(table_name="intent_transitions").values_list("day", flat=True))
    for intent in book.intents.values():
        if (
            not paths[intent.pk]
            and intent.settled_at
            and intent.settled_at.astimezone(UTC).date() in archived
        ):
            continue  # all of its moves left with its day, see docs/backups.md
        state = ""
        for line in paths[intent.pk]:
            assert line.from_state == state, f"I7: intent {intent.pk} history breaks at {line}"
            if state:
                assert line.to_state in MOVES[IntentState(state)], f"I7: intent {intent.pk} made {line}"
            # The move into a terminal state is itself what settles; a fill settles later, by itself.
            late = (
                line.to_state not in TERMINAL
                and intent.settled_at is not None
                and line.at > intent.settled_at
            )
            assert not late, f"I7: intent {intent.pk} moved by {line} after it was settled"
            state = line.to_state
        assert state == intent.state, f"I7: intent {intent.pk} is {intent.state}, its history ends at {state}"


def _stops(offers: Sequence[Offer], stops: Sequence[Stop]) -> None:
    first: dict[str, float] = {}
    for offer in offers:
        first.setdefault(offer.tx_hash, offer.at_s)
    for stop in stops:
        new = [
            tx_hash
            for tx_hash, at_s in first.items()
            if stop.imposed_at_s < at_s < stop.lifted_at_s and tx_hash not in stop.in_flight
        ]
        assert not new, f"I8: first broadcast under a stop: {new}"


def _positions(wallet: Wallet, book: Book) -> None:
    held = {
        (
            p.pair_index,
            p.trade_index,
            p.collateral_usdc,
            p.leverage_x,
            p.open_price,
            p.is_long,
            int(p.venue_timestamp.timestamp()) if p.venue_timestamp else None,
        )
        for p in book.positions.values()
        if (p.trader_id, p.mode, p.state) == (wallet.trader_id, Mode.LIVE, PositionState.OPEN)
    }
    stored = {
        (t.pair_index, t.trade_index, t.collateral_usdc, t.leverage_x, t.open_price, t.is_long, t.opened_at)
        for t in open_trades(wallet.trader.address)
    }
    assert held == stored, f"I13: we hold {held - stored} that the venue has not, it has {stored - held}"


def open_trades(trader: str) -> list[onchain.OpenTrade]:
    """Everything that the venue's storage holds for a trader."""
    storage = real_parts.deployment.storage
    node = endpoint()
    pairs = sorted(onchain.PAIRS.values())
    counts = node.batch([rpc.eth_call(storage, onchain.call_open_trades_count(trader, p)) for p in pairs])
    found: list[onchain.OpenTrade] = []
    for pair, answer in zip(pairs, counts, strict=True):
        wanted, index = onchain.read_uint(bytes.fromhex(answer[2:])), 0
        here: list[onchain.OpenTrade] = []
        while len(here) < wanted:
            calls = [
                rpc.eth_call(storage, onchain.call_open_trade(trader, pair, at))
                for at in range(index, index + 10)
            ]
            trades = (onchain.read_open_trade(bytes.fromhex(raw[2:])) for raw in node.batch(calls))
            here += [trade for trade in trades if trade is not None]
            index += 10
            assert index < 5_000, f"the venue counts {wanted} trades and stores {len(here)}"
        found += here
    return found
