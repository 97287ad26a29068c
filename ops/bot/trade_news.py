"""What rows of the machine tell of trades: each move of an order, each replacement, each level that was hit."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Max

from execution_app.models import (
    Fill,
    IntentTransition,
    ProtectionTrigger,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
)
from execution_app.states import ORDER_CHANGES, Action, IntentState, SendKind
from ops.bot.models import Event
from ops.bot.notices import News

S = IntentState
Read = Sequence[tuple[int, News | None]]

# States that are told; the others are ways between them.
EVENTS: dict[IntentState, Event] = {
    S.PENDING: Event.ACCEPTED,
    S.HELD: Event.ACCEPTED,
    S.REJECTED: Event.REFUSED,
    S.EXPIRED: Event.REFUSED,
    S.NO_OP: Event.REFUSED,
    S.PENDING_INCLUSION: Event.SENT,
    S.MINED: Event.MINED,
    S.FILLED: Event.FILLED,
    S.CHANGED: Event.FILLED,
    S.SIMULATED: Event.FILLED,
    S.VENUE_CANCELLED: Event.REVERTED,
    S.FINAL_REVERTED: Event.REVERTED,
    S.FINAL_CANCELLED: Event.REVERTED,
    S.LOST_NONCE: Event.REVERTED,
    S.LAPSED: Event.REVERTED,
}
# What a reorganised block takes back is told where it stood.
TAKEN_BACK = frozenset({S.MINED, S.ORDERED, S.FILLED, S.CHANGED, S.VENUE_CANCELLED})


def moves(after: int, top: int, most: int) -> Read:
    rows = list(
        IntentTransition.objects.filter(id__gt=after, id__lte=top)
        .select_related("intent__trader", "intent__position")
        .order_by("id")[:most]
    )
    told = [row for row in rows if row.to_state in EVENTS]
    fills = _fills(row.intent_id for row in told)
    hashes = _hashes(row.intent_id for row in told)
    failed = _failed(row.intent_id for row in told if row.to_state == S.MINED)
    return [(row.pk, _move(row, fills, hashes, failed)) for row in rows]


def _move(
    row: IntentTransition, fills: dict[int, Fill], hashes: dict[int, str], failed: set[int]
) -> News | None:
    state = IntentState(row.to_state)
    if state not in EVENTS:
        return None
    intent, event = row.intent, EVENTS[state]
    facts: dict[str, Any] = {"state": state.value}
    if state is S.CHANGED and intent.action in ORDER_CHANGES:
        changes = intent.action == Action.UPDATE_ORDER
        facts = {"state": "order_changed" if changes else "order_taken_back"}
    if intent.action == Action.MARGIN and state in (S.CHANGED, S.SIMULATED):
        facts = {"state": "margin_changed" if state is S.CHANGED else "margin_simulated"}
    if state is S.PENDING_INCLUSION and row.from_state in TAKEN_BACK:
        event, facts = Event.MINED, {"state": "taken_back"}
    if row.pk in failed:
        event, facts = Event.REVERTED, {"state": "mined_reverted"}
    elif event in (Event.REFUSED, Event.REVERTED) or state is S.HELD:
        facts["reason"] = intent.reason
    if event in (Event.SENT, Event.MINED, Event.REVERTED) and intent.pk in hashes:
        facts["hash"] = hashes[intent.pk]
    fill = fills.get(intent.pk)
    if event is Event.FILLED and fill is not None:
        facts |= _filled(fill)
    return _of(intent, event, f"move {row.pk}", row.at, facts)


def replacements(after: int, top: int, most: int) -> Read:
    """Bytes that took the place of others in a slot."""
    rows = (
        TxSend.objects.filter(id__gt=after, id__lte=top).select_related("intent__trader", "intent__position")
    ).order_by("id")[:most]
    return [(row.pk, _replacement(row)) for row in rows]


def _replacement(row: TxSend) -> News | None:
    if row.kind == SendKind.EXEC:
        return None
    facts = {"state": row.kind, "hash": row.tx_hash, "max_fee_wei": str(row.max_fee_wei)}
    return _of(row.intent, Event.REPLACED, f"send {row.pk}", row.signed_at, facts)


def levels(after: int, top: int, most: int) -> Read:
    rows = (
        ProtectionTrigger.objects.filter(id__gt=after, id__lte=top)
        .select_related("intent__trader", "intent__position", "protection__position")
        .order_by("id")[:most]
    )
    return [(row.pk, _level(row)) for row in rows]


def _level(row: ProtectionTrigger) -> News:
    facts = {
        "kind": row.kind,
        "price": _plain(row.price),
        "level": _plain(row.level),
        "position": row.protection.position_id,
    }
    return News(
        Event.LEVEL,
        thread=f"level {row.pk}",
        key=f"level {row.pk}",
        at=row.at,
        owner=row.intent.tg_user_id,
        about=_about(row.intent),
        facts=facts,
    )


def _of(intent: TxIntent, event: Event, key: str, at: Any, facts: dict[str, Any]) -> News:
    return News(
        event,
        thread=f"trade {intent.pk}",
        key=key,
        at=at,
        owner=intent.tg_user_id,
        about=_about(intent),
        facts=facts,
    )


def _about(intent: TxIntent) -> dict[str, Any]:
    """What of an order never changes."""
    levels = intent.action == Action.LEVELS and intent.position is not None
    is_long = intent.position.is_long if levels and intent.position else intent.is_long
    if intent.target is not None:
        is_long = intent.target.is_long
    return {
        "symbol": intent.symbol,
        # A close has none: that is what it is called.
        "is_long": is_long,
        "collateral_usdc": _plain(intent.collateral_usdc),
        "leverage_x": _plain(intent.leverage_x),
        "intent_key": intent.intent_key,
        "owner": intent.tg_user_id,
        "whose": str(intent.trader) if intent.trader is not None else f"trader {intent.tg_user_id}",
    }


def _filled(fill: Fill) -> dict[str, Any]:
    pnl_usdc = None
    if fill.action == Action.CLOSE and fill.sent_to_trader_usdc is not None:
        pnl_usdc = fill.sent_to_trader_usdc - fill.collateral_usdc
    return {
        "mode": fill.mode,
        "price": _plain(fill.price),
        "fee_usdc": _plain(fill.fee_usdc),
        "filled_usdc": _plain(fill.collateral_usdc),
        "pnl_usdc": _plain(pnl_usdc),
        "position": fill.position_id,
    }


def _fills(intents: Iterable[int]) -> dict[int, Fill]:
    found = Fill.objects.filter(intent_id__in=set(intents))
    return {fill.intent_id: fill for fill in found if fill.intent_id is not None}


def _hashes(intents: Iterable[int]) -> dict[int, str]:
    """The transaction that was mined or, where none was, the newest that was sent; a message has its digest."""
    ids = set(intents)
    found: dict[int, str] = {}
    for row in VenueMessage.objects.filter(intent_id__in=ids).only("intent_id", "tracking_id"):
        if row.tracking_id:
            found[row.intent_id] = row.tracking_id
    for send in TxSend.objects.filter(intent_id__in=ids).order_by("attempt").only("intent_id", "tx_hash"):
        found[send.intent_id] = send.tx_hash
    receipts = TxReceipt.objects.filter(intent_id__in=ids, canonical=True)
    found |= dict(receipts.values_list("intent_id", "send__tx_hash"))
    return found


def _failed(intents: Iterable[int]) -> set[int]:
    """The moves into a block in which a transaction reverted, which is told long before that is final.

    A receipt is of the last such move: what a reorg took back before it had not reverted.
    """
    reverted = TxReceipt.objects.filter(intent_id__in=set(intents), canonical=True, status=0).values(
        "intent_id"
    )
    mined = IntentTransition.objects.filter(intent_id__in=reverted, to_state=S.MINED)
    return set(mined.values("intent_id").annotate(last=Max("id")).values_list("last", flat=True))


def _plain(value: object) -> str | None:
    return None if value is None else format(value, "f")
