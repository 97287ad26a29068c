"""What our rows claim, held against whoever knows better: the sender, the bytes, the node, the chain and the payout in USDC.

Names go on from those of `tests/sent_bytes.py`: I19 what a node is said to hold it has received, and what it received
was announced; I20 a position is what its fills make of it; I21 an intent is what its signal asked, its bytes are what
the intent asks, and a part is the part that was asked; I22 what a fill, a receipt and a payout say is what the chain
says; I23 a message lapses on a final block alone, and its nonce is made of its intent's key; I24 a nonce that a node
has heard of is bound in the signer's journal to its order, which a restored database has to find there; I25 what ended
without a close of ours is over by a final block alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.conf import settings
from eth_utils.crypto import keccak

from execution_app.engine import signatures
from execution_app.models import Fill, TxIntent, VenueMessage
from execution_app.node import rpc
from execution_app.states import Action, IntentState, Mode, OrderType, PositionState, Road, SendKind
from execution_app.venues import events, messages, onchain, typed_data
from execution_app.venues.calldata import read_order
from execution_app.venues.increase_events import PositionIncreased
from execution_app.venues.messages import CloseMessage, IncreaseMessage, OpenMessage
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder, Kind
from signals_app.models import Signal
from tests import real_parts
from tests.proxy import Offer
from tests.rig import endpoint
from tests.whole_book import Book

SMALLEST_USDC = Decimal("0.000001")
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
KINDS = {
    OrderType.MARKET: Kind.MARKET,
    OrderType.LIMIT: Kind.LIMIT,
    OrderType.STOP_LIMIT: Kind.STOP_LIMIT,
}
TYPES = {Action.OPEN: typed_data.OPEN, Action.CLOSE: typed_data.CLOSE, Action.INCREASE: typed_data.INCREASE}


def check(offers: Iterable[Offer], book: Book, *, drained: bool = True) -> None:
    """Assert all of it. While work is half done (`drained` is False) only what a recovery may put right.

    What was signed, filled and paid stays as it is, and is looked at once, when all work is done.
    """
    received = {offer.tx_hash for offer in offers}
    _held(received, book)
    _bound(received, book)
    for position in book.positions.values():
        if position.mode == Mode.LIVE:
            _folded(position.pk, book)
    _absent(book)
    by_message = any(intent.road == Road.GATEWAY for intent in book.intents.values())
    letters = {one.intent_id: one for one in VenueMessage.objects.all()} if by_message else {}
    _lapsed([one for key, one in letters.items() if book.intents[key].state == IntentState.LAPSED])
    if not drained:
        return
    for intent in book.intents.values():
        if intent.calldata:
            _is_asked(intent, read_order(bytes(intent.calldata)))
        if intent.pk in letters:
            _is_asked(intent, _order_of(intent, letters[intent.pk]))
            _nonce_of_key(intent, letters[intent.pk])
    signals = {signal.intent_key: signal for signal in Signal.objects.exclude(decided_at=None)}
    _as_signalled(signals, book)
    _parts(signals, book)
    _on_chain(book)


def _held(received: set[str], book: Book) -> None:
    unheard = [s.pk for s in book.sends if s.held_at is not None and s.tx_hash not in received]
    assert not unheard, f"I19: no node ever received sends {unheard}, which one is said to hold"
    # A stop waits for what is announced, and names it: what leaves otherwise leaves behind its back.
    unsaid = [s.pk for s in book.sends if s.leased_at is None and s.tx_hash in received]
    assert not unsaid, f"I19: nodes received sends {unsaid}, which nobody had announced"


def _bound(received: set[str], book: Book) -> None:
    bound: dict[tuple[int, int], str] = {}
    for wallet in book.wallets.values():
        path = settings.ENVIRONMENT.signer_journal_dir / f"{wallet.chain_id}-{wallet.address.lower()}.journal"
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        for kind, nonce, order, _ in map(str.split, lines):
            if kind == "bound":
                bound[wallet.pk, int(nonce)] = order
    for send in book.sends:
        intent = send.intent
        if send.tx_hash not in received or intent.wallet_id is None or intent.nonce is None:
            continue
        order = signatures.slot_of(intent, SendKind.EXEC).order.hex()
        assert bound.get((intent.wallet_id, intent.nonce)) == order, (
            f"I24: nonce {intent.nonce} of intent {intent.pk} has left, and the journal binds it to nothing or another"
        )


def _folded(position_id: int, book: Book) -> None:
    position = book.positions[position_id]
    mine = [fill for fill in book.fills if fill.position_id == position_id]
    is_opened = any(fill.action == Action.OPEN for fill in mine)
    assert is_opened == (position.state != PositionState.VOID), (
        f"I20: position {position_id} is {position.state}, and its opening is {'' if is_opened else 'not '}in the book"
    )
    if position.state == PositionState.OPEN and _is_plain(position_id, book):
        left_usdc = sum((_signed(fill) for fill in mine), Decimal(0))
        assert left_usdc == position.collateral_usdc, (
            f"I20: position {position_id} has {position.collateral_usdc}, its fills leave {left_usdc}"
        )


def _absent(book: Book) -> None:
    missed_at = {p.pk: p.absent_at_block for p in book.positions.values() if p.absent_at_block is not None}
    if missed_at:
        final = int(endpoint().call("eth_getBlockByNumber", "finalized", False)["number"], 16)
        early = {pk: number for pk, number in missed_at.items() if number > final}
        assert not early, f"I25: positions are over by blocks that are not final: {early}"


def _is_plain(position_id: int, book: Book) -> bool:
    """Whether nothing but fills has changed its collateral."""
    return not book.corrections.get(position_id) and not book.margins.get(position_id)


def _signed(fill: Fill) -> Decimal:
    usdc: Decimal = fill.collateral_usdc
    return -usdc if fill.action == Action.CLOSE else usdc


def _order_of(intent: TxIntent, letter: VenueMessage) -> OpenOrder | CloseOrder | IncreaseOrder | None:
    if intent.action == Action.LEVELS:
        return None
    read = messages.decode(TYPES[Action(intent.action)], bytes(letter.content))
    return read.order if isinstance(read, OpenMessage | CloseMessage | IncreaseMessage) else None


def _is_asked(intent: TxIntent, order: OpenOrder | CloseOrder | IncreaseOrder | None) -> None:
    if intent.action == Action.OPEN:
        assert isinstance(order, OpenOrder), f"I21: open {intent.pk} signed {order}"
        rests = intent.order_type != OrderType.MARKET
        price = intent.limit_price if rests else intent.wanted_price
        asked: Any = (
            *_of_all(intent, price),
            *(bool(intent.is_long), intent.slippage_pct, intent.take_profit, intent.stop_loss),
            KINDS[OrderType(intent.order_type)],
        )
        said: Any = (
            *_said_of_all(order),
            *(order.is_long, order.slippage_pct, order.take_profit, order.stop_loss, order.kind),
        )
    elif intent.action == Action.INCREASE:
        assert isinstance(order, IncreaseOrder), f"I21: increase {intent.pk} signed {order}"
        asked = (*_of_all(intent, intent.wanted_price), intent.slippage_pct)
        said = (*_said_of_all(order), order.slippage_pct)
    elif intent.action == Action.CLOSE:
        assert isinstance(order, CloseOrder), f"I21: close {intent.pk} signed {order}"
        assert intent.trader is not None
        asked = (intent.trader.address, onchain.PAIRS[intent.symbol], intent.close_usdc)
        said = (order.trader, order.pair_index, order.collateral_usdc)
    else:
        return
    assert asked == said, f"I21: intent {intent.pk} asks for {asked}, its bytes for {said}"


def _of_all(intent: TxIntent, price: Decimal | None) -> tuple[Any, ...]:
    assert intent.trader is not None
    pair = onchain.PAIRS[intent.symbol]
    return intent.trader.address, pair, intent.collateral_usdc, intent.leverage_x, price


def _said_of_all(order: OpenOrder | IncreaseOrder) -> tuple[Any, ...]:
    return order.trader, order.pair_index, order.collateral_usdc, order.leverage_x, order.wanted_price


def _nonce_of_key(intent: TxIntent, letter: VenueMessage) -> None:
    """Counted here anew: a database that is restored has to come to the same one."""
    wallet = intent.wallet
    assert wallet is not None
    named = f"vanta intent {wallet.chain_id} {real_parts.deployment.trading.lower()} {intent.intent_key}"
    assert letter.nonce == "0x" + keccak(text=named).hex(), (
        f"I23: the message of intent {intent.pk} has a nonce that is not made of its key"
    )


def _as_signalled(signals: dict[str, Signal], book: Book) -> None:
    for intent in book.intents.values():
        signal = signals.get(intent.intent_key)
        if signal is None or signal.side not in ("LONG", "SHORT", "CLOSE"):
            continue
        opens = signal.side != "CLOSE"
        wanted: Any = (signal.tg_user_id, signal.source, signal.symbol, "open" if opens else "close")
        found: Any = (intent.tg_user_id, intent.source, intent.symbol, intent.action)
        if opens:
            wanted += (signal.side == "LONG", signal.collateral_usdc, signal.leverage_x, signal.order_type)
            found += (intent.is_long, intent.collateral_usdc, intent.leverage_x, intent.order_type)
            wanted += (signal.take_profit, signal.stop_loss, signal.trailing_stop_pct, signal.limit_price)
            found += (intent.take_profit, intent.stop_loss, intent.trailing_stop_pct, intent.limit_price)
        else:
            wanted += (signal.reduce_pct,)
            found += (intent.reduce_pct,)
        assert wanted == found, f"I21: intent {intent.pk} is {found}, its signal asked for {wanted}"
        if signal.slippage_pct is not None:
            assert intent.slippage_pct == signal.slippage_pct, f"I21: intent {intent.pk} has another slippage"
        if signal.max_lag_s is not None:
            latest = (signal.ts or signal.received_at) + timedelta(seconds=signal.max_lag_s)
            assert intent.expires_at is not None, f"I21: intent {intent.pk} never expires"
            assert intent.expires_at <= latest, f"I21: intent {intent.pk} outlives its max lag"


def _parts(signals: dict[str, Signal], book: Book) -> None:
    taken_usdc: dict[str, Decimal] = defaultdict(Decimal)
    held_usdc: dict[int, Decimal] = defaultdict(Decimal)
    in_order = sorted(book.fills, key=lambda fill: (fill.block_number or 0, fill.log_index or 0, fill.pk))
    for fill in in_order:
        intent = fill.intent
        if fill.mode == Mode.LIVE and fill.action == Action.CLOSE and intent is not None:
            taken_usdc[intent.intent_key.partition("#")[0]] += fill.collateral_usdc
            if intent.reduce_pct is not None and _is_plain(fill.position_id, book):
                part_usdc = held_usdc[fill.position_id] * intent.reduce_pct / 100
                part_usdc = part_usdc.quantize(SMALLEST_USDC, ROUND_DOWN)
                assert fill.collateral_usdc == part_usdc, (
                    f"I21: intent {intent.pk} closed {fill.collateral_usdc}, {intent.reduce_pct} % are {part_usdc}"
                )
        held_usdc[fill.position_id] += _signed(fill)
    for key, usdc in taken_usdc.items():
        signal = signals.get(key)
        if signal is not None and signal.reduce_usdc is not None:
            assert usdc <= signal.reduce_usdc, f"I21: {key} closed {usdc}, not {signal.reduce_usdc}"


def _lapsed(letters: Sequence[VenueMessage]) -> None:
    if not letters:
        return
    calls: list[rpc.Call] = [("eth_getBlockByNumber", ("finalized", False))]
    calls += [("eth_getBlockByNumber", (hex(one.unused_at_block or 0), False)) for one in letters]
    final, *blocks = endpoint().batch(calls)
    for letter, block in zip(letters, blocks, strict=True):
        seen_at = letter.unused_at_block
        is_final = seen_at is not None and seen_at <= int(final["number"], 16)
        assert is_final, f"I23: intent {letter.intent_id} lapsed on block {seen_at}, which is not final"
        assert block["hash"] == letter.unused_at_hash, (
            f"I23: intent {letter.intent_id} lapsed on a stale block"
        )


def _on_chain(book: Book) -> None:
    fills = [fill for fill in book.fills if fill.mode == Mode.LIVE and fill.intent_id is not None]
    hashes = list(
        dict.fromkeys([*(fill.tx_hash for fill in fills), *(row.send.tx_hash for row in book.receipts)])
    )
    if not hashes:
        return
    answers = endpoint().batch([("eth_getTransactionReceipt", (one,)) for one in hashes])
    shown = dict(zip(hashes, answers, strict=True))
    for row in book.receipts:
        said = shown[row.send.tx_hash]
        assert said is not None, f"I22: receipt {row.pk} is of a transaction that the chain has not"
        told = int(said["gasUsed"], 16), int(said["effectiveGasPrice"], 16)
        noted = row.gas_used, int(row.effective_gas_price_wei)
        assert noted == told, f"I22: receipt {row.pk} has gas and price {noted}, the chain {told}"
    _filled(fills, shown)


def _filled(fills: Sequence[Fill], shown: dict[str, Any]) -> None:
    paid_usdc: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for fill in fills:
        receipt = shown[fill.tx_hash]
        assert receipt is not None, f"I22: fill {fill.pk} stands in a block that has left the chain"
        assert receipt["blockHash"] == fill.block_hash, f"I22: fill {fill.pk} stands in a stale block"
        log = next((one for one in receipt["logs"] if int(one["logIndex"], 16) == fill.log_index), None)
        event = _read(log) if log else None
        assert isinstance(event, events.OrderExecuted | PositionIncreased), (
            f"I22: the venue tells of no fill {fill.pk}"
        )
        said = event.price, event.collateral_usdc, event.leverage_x
        noted = fill.price, fill.collateral_usdc, fill.leverage_x
        assert noted == said, f"I22: fill {fill.pk} is {noted}, the venue says {said}"
        if isinstance(event, events.OrderExecuted) and fill.action == Action.CLOSE:
            paid_usdc[fill.tx_hash, event.trader] += fill.sent_to_trader_usdc or Decimal(0)
    for (tx_hash, trader), usdc in paid_usdc.items():
        logs = shown[tx_hash]["logs"]
        if any(isinstance(_read(log), events.OrderCancelled) for log in logs):
            continue  # what a refund gave back is among it
        moved_usdc = sum((_received(log, trader) for log in logs), Decimal(0))
        assert usdc == moved_usdc, f"I22: {usdc} is booked as paid out by {tx_hash}, {moved_usdc} was"


def _read(log: dict[str, Any]) -> events.OrderEvent | None:
    return events.decode(log, trading_address=real_parts.deployment.trading)


def _received(log: dict[str, Any], trader: str) -> Decimal:
    """USDC that a log says the trader received."""
    is_usdc = log["address"].lower() == real_parts.deployment.usdc.lower()
    if not is_usdc or log["topics"][0] != TRANSFER or log["topics"][2][-40:] != trader[2:].lower():
        return Decimal(0)
    return Decimal(int(log["data"], 16)) * SMALLEST_USDC
