"""What consumed the nonces of a wallet, as far as the chain can still tell. Reads only; nothing is decided here."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from execution_app.book import positions
from execution_app.models import Chain, Position, TxIntent, TxSend, Wallet
from execution_app.node import history, signers
from execution_app.node.history import Counts, Found
from execution_app.states import (
    IN_FLIGHT,
    UNMINED,
    WAITING,
    Action,
    IntentState,
    Mode,
    OrderType,
    PositionState,
    Road,
    SendKind,
)
from execution_app.venues import onchain
from execution_app.venues.calldata import read_order
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import Kind
from execution_app.venues.scales import USDC_DIGITS, to_units

# More consumed nonces than this are no accident that one command should repair.
LIMIT = 1_000
PCT_DIGITS = 4  # what the columns of leverage and slippage hold
ORDER_TYPES = {
    Kind.MARKET: OrderType.MARKET,
    Kind.STOP_LIMIT: OrderType.STOP_LIMIT,
    Kind.LIMIT: OrderType.LIMIT,
}


class What(StrEnum):
    OURS = "ours"  # a hash that this database knows has a receipt; the next look at the chain applies it
    REPLACED = "replaced"  # the intent's own order under a hash that this database does not know
    CANCELLED = "cancelled"  # an empty transfer to itself filled the intent's slot
    LOST = "lost"  # the intent's slot went to something else
    WAITED = "waited"  # the order of an intent that waits here without a nonce
    UNASKED = "unasked"  # a sound order of this trader that no intent here asked for
    FOREIGN = "foreign"  # no order of ours
    UNSEEN = "unseen"  # no node can still say what it was


@dataclass(frozen=True)
class Use:
    """One consumed nonce. `intent` is who owns it, or who asked for what it did."""

    nonce: int
    what: What
    intent: TxIntent | None = None
    found: Found | None = None
    order: OpenOrder | CloseOrder | None = None


@dataclass(frozen=True)
class Uses:
    """All consumed nonces that this database cannot account for by itself, in their order."""

    counts: Counts
    next_nonce: int
    uses: list[Use] = field(default_factory=list)
    # A close that cannot be told before the book has followed what came before it; from there on nothing is explained.
    stops_at: int | None = None

    def of(self, *whats: What) -> list[Use]:
        return [use for use in self.uses if use.what in whats]


def look(wallet: Wallet) -> Uses:
    """Explain every final nonce of the wallet, or those up to a close that cannot be told yet.

    Raises RpcFault or NodeError unless every endpoint answers.
    """
    counts = history.counts(wallet.address)
    owned = TxIntent.objects.filter(wallet=wallet, state__in=sorted(UNMINED), nonce__lt=counts.final)
    uses = [_of_slot(wallet, intent, counts) for intent in owned.order_by("nonce")[:LIMIT]]
    taken: set[int] = set()
    for nonce in range(wallet.next_nonce, min(counts.final, wallet.next_nonce + LIMIT)):
        use = _of_unknown(wallet, nonce, counts, taken)
        if _is_too_early(wallet, use, uses, counts):
            return Uses(counts, wallet.next_nonce, uses, stops_at=nonce)
        if use.intent is not None:
            taken.add(use.intent.pk)
        uses.append(use)
    return Uses(counts, wallet.next_nonce, uses)


def _of_slot(wallet: Wallet, intent: TxIntent, counts: Counts) -> Use:
    assert intent.nonce is not None
    hashes = list(TxSend.objects.filter(intent=intent).order_by("attempt").values_list("tx_hash", flat=True))
    if history.has_receipt(hashes):
        return Use(intent.nonce, What.OURS, intent)
    found = history.find(wallet.address, intent.nonce, counts.final_block)
    return Use(intent.nonce, What.UNSEEN if found is None else taken_by(wallet, intent, found), intent, found)


def taken_by(wallet: Wallet, intent: TxIntent, found: Found) -> What:
    """What a transaction is to the slot of ours that it took: OURS, REPLACED, CANCELLED or LOST."""
    if TxSend.objects.filter(intent=intent, tx_hash=found.tx_hash).exists():
        return What.OURS  # whether nodes show its receipt or not
    if not found.raw:
        return What.LOST  # of a kind that we never sign, or bytes that are not what their hash says
    same = (found.to.lower(), found.data, found.value_wei) == (
        intent.to_address.lower(),
        bytes(intent.calldata or b""),
        int(intent.value_wei or 0),
    )
    if same:
        return What.REPLACED
    return What.CANCELLED if is_cancel(wallet, found) else What.LOST


def is_cancel(wallet: Wallet, found: Found) -> bool:
    """Whether the bytes are those by which we fill a slot."""
    ours = (wallet.address.lower(), b"", 0, signers.CANCEL_GAS)
    return (found.to.lower(), found.data, found.value_wei, found.gas_limit) == ours


def _of_unknown(wallet: Wallet, nonce: int, counts: Counts, taken: set[int]) -> Use:
    found = history.find(wallet.address, nonce, counts.final_block)
    if found is None:
        return Use(nonce, What.UNSEEN)
    order = read_order(found.data) if found.raw else None
    trader = wallet.trader
    if order is None or order.trader.lower() != trader.address.lower():
        return Use(nonce, What.FOREIGN, found=found)
    intent = _asked_for(wallet, order, taken)
    if intent is not None:
        return Use(nonce, What.WAITED, intent, found, order)
    sound = isinstance(order, OpenOrder) and _fits(order)
    return Use(nonce, What.UNASKED if sound else What.FOREIGN, None, found, order)


def _is_too_early(wallet: Wallet, use: Use, before: list[Use], counts: Counts) -> bool:
    """Whether it closes a trade that the book does not have as it was then, and somebody waits who may have asked for it.

    An earlier open or close of that trade has to be followed first. Called foreign, the close would be sent again.
    """
    order = use.order
    if not isinstance(order, CloseOrder):
        return False
    position = position_of(wallet, order)
    taken = {one.intent.pk for one in before if one.intent is not None}
    if not _may_have_meant(wallet, order, position, taken):
        return False
    earlier = [one.order for one in before if one.what in (What.WAITED, What.UNASKED)]
    if position is None:
        opened = any(isinstance(one, OpenOrder) and one.pair_index == order.pair_index for one in earlier)
        return opened or _may_open(wallet, order, counts)
    slot = order.pair_index, order.trade_index
    closed = any(isinstance(one, CloseOrder) and (one.pair_index, one.trade_index) == slot for one in earlier)
    # Where none of those who wait is free to have asked for it, something else is under way with the position.
    return closed or use.intent is None


def _may_open(wallet: Wallet, order: CloseOrder, counts: Counts) -> bool:
    """Whether an open that is under way on this pair may have become the trade.

    An order that rests may do so for weeks. One that still does where the book has followed what is final did not.
    """
    opens = TxIntent.objects.filter(
        wallet=wallet,
        action=Action.OPEN,
        symbol=onchain.PAIR_NAMES.get(order.pair_index),
        state__in=sorted(IN_FLIGHT | {IntentState.VENUE_CANCELLED}),
        settled_at=None,
    )
    if Chain.objects.filter(pk=wallet.chain_id, head_number__gte=counts.final_block).exists():
        # Not what the venue lists no more and whose end was not found.
        rests = positions.resting().filter(venue_order__scanned_to_block=None)
        opens = opens.exclude(pk__in=rests.values("pk"))
    return opens.exists()


def _waiting(wallet: Wallet, order: OpenOrder | CloseOrder, taken: set[int]) -> QuerySet[TxIntent]:
    symbol = onchain.PAIR_NAMES.get(order.pair_index)
    waiting = TxIntent.objects.filter(wallet=wallet, state__in=sorted(WAITING), symbol=symbol)
    # What goes by message took no nonce of the wallet, and can be given none.
    return (
        waiting.exclude(road=Road.GATEWAY)
        .exclude(pk__in=taken)
        .select_related("trader", "position")
        .order_by("id")
    )


def _may_have_meant(
    wallet: Wallet, order: CloseOrder, position: Position | None, taken: set[int]
) -> list[TxIntent]:
    """Closes that wait and name no other position."""
    waiting = _waiting(wallet, order, taken).filter(action=Action.CLOSE)
    return [intent for intent in waiting if intent.position in (None, position)]


def _asked_for(wallet: Wallet, order: OpenOrder | CloseOrder, taken: set[int]) -> TxIntent | None:
    """The oldest waiting intent that asks for exactly this; equal ones are as good as each other."""
    if isinstance(order, OpenOrder):
        waiting = _waiting(wallet, order, taken).filter(action=Action.OPEN, **type_of(order))
        return waiting.filter(
            is_long=order.is_long,
            collateral_usdc=order.collateral_usdc,
            leverage_x=order.leverage_x,
            slippage_pct=order.slippage_pct,
            take_profit=order.take_profit,
            stop_loss=order.stop_loss,
        ).first()
    position = position_of(wallet, order)
    if position is None:
        return None
    closes = [
        intent
        for intent in _may_have_meant(wallet, order, position, taken)
        if not positions.is_taken(position, intent)
    ]
    # What a share is of, and what is left to close, may have been another amount then: without one that takes exactly
    # this the first is taken for it, since to close again what was closed already would close what nobody asked for.
    exact = (intent for intent in closes if _takes(position, intent) == order.collateral_usdc)
    return next(exact, closes[0] if closes else None)


def _takes(position: Position, close: TxIntent) -> Decimal | None:
    """USDC of collateral that the close takes of the position as it is here; None for a share of nothing."""
    try:
        part_usdc = positions.part(position.collateral_usdc, close)
    except ValueError:
        return None
    return position.collateral_usdc if part_usdc is None else part_usdc


def type_of(order: OpenOrder) -> dict[str, Any]:
    """An open's type and trigger in our columns."""
    order_type = ORDER_TYPES[order.kind]
    rests = order_type is not OrderType.MARKET
    return {"order_type": order_type.value, "limit_price": order.wanted_price if rests else None}


def position_of(wallet: Wallet, order: CloseOrder) -> Position | None:
    """The open LIVE position of the slot that a close names; None where the book has none."""
    return _of_slot_named(wallet, order).filter(state=PositionState.OPEN).first()


def last_of(wallet: Wallet, order: CloseOrder) -> Position | None:
    """The LIVE position that had the slot last, open or not."""
    return _of_slot_named(wallet, order).exclude(state=PositionState.VOID).order_by("opened_at").last()


def _of_slot_named(wallet: Wallet, order: CloseOrder) -> QuerySet[Position]:
    slot = {"pair_index": order.pair_index, "trade_index": order.trade_index}
    return Position.objects.filter(trader=wallet.trader, mode=Mode.LIVE, **slot)


def _fits(order: OpenOrder) -> bool:
    """Whether the book's columns can hold it exactly."""
    try:
        to_units(order.leverage_x, PCT_DIGITS, "leverage_x")
        to_units(order.slippage_pct, PCT_DIGITS, "slippage_pct")
        to_units(order.collateral_usdc, USDC_DIGITS, "collateral_usdc")
    except ValueError:
        return False
    return order.pair_index in onchain.PAIR_NAMES


def kind_of(use: Use, *, first: bool) -> SendKind:
    """What the found bytes are to their slot; `first` says that it has no others here."""
    if use.what is What.CANCELLED:
        return SendKind.CANCEL
    return SendKind.BUMP if use.what is What.REPLACED and not first else SendKind.EXEC
