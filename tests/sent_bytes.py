"""What must hold of signed bytes, compared with what nodes received: what replaces what, in which order, and for whom.

Names go on from those of `tests/invariants.py`: I14 all bytes of a slot are the
same order or empty, and each newer attempt pays a tenth more in both fields; I15 no
order leaves for the first time after its cancel; I16 a halted wallet signs nothing;
I17 what is simulated touches no chain; I18 what was executed is what was asked for.
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import rlp  # type: ignore[import-untyped]
from django.conf import settings

from execution_app.models import TxSend
from execution_app.states import GROWING, Action, IntentState, Mode, SendKind
from tests.proxy import PRICE_BUMP_PCT, Offer
from tests.whole_book import Book

GWEI = 10**9


def check(offers: Sequence[Offer], book: Book) -> None:
    """Assert all of it; holds at any moment, also when work is half done."""
    slots: dict[int, list[TxSend]] = defaultdict(list)
    for send in sorted(book.sends, key=lambda one: (one.intent_id, one.attempt)):
        slots[send.intent_id].append(send)
    for sends in slots.values():
        _one_order(sends)
        _raised(sends)
        _cancel_is_last(sends, offers)
    _halted(book)
    _dry(book)
    _as_asked(book)


def _one_order(sends: Sequence[TxSend]) -> None:
    intent = sends[0].intent
    # A slot that a remote signer never signed may have nothing but its cancel.
    first = sends[0].kind
    assert first in (SendKind.EXEC, SendKind.CANCEL), f"I14: intent {intent.pk} begins with a {first}"
    attempts = [send.attempt for send in sends]
    assert attempts == list(range(len(sends))), f"I14: intent {intent.pk} has attempts {attempts}"
    wanted = (
        intent.to_address.lower(),
        int(intent.value_wei or 0),
        bytes(intent.calldata or b""),
        int(intent.gas_limit or 0),
    )
    for send in sends:
        said = _content(send)
        if send.kind == SendKind.CANCEL:
            assert intent.wallet is not None
            empty = (intent.wallet.address.lower(), 0, b"")
            assert said[:3] == empty, f"I14: cancel {send.pk} is no empty self-transfer"
        else:
            assert said == wanted, f"I14: {send.kind} {send.pk} is not the order of intent {intent.pk}"


def _content(send: TxSend) -> tuple[str, int, bytes, int]:
    """Receiver, value, data and gas of an EIP-1559 transaction."""
    fields: list[Any] = rlp.decode(bytes(send.raw)[1:])
    return "0x" + fields[5].hex(), int.from_bytes(fields[6]), bytes(fields[7]), int.from_bytes(fields[4])


def _raised(sends: Sequence[TxSend]) -> None:
    """Nodes take nothing less instead of what they hold. At the ceiling there is no more to give."""
    ceiling_wei = int(settings.ENVIRONMENT.max_fee_per_gas_gwei * GWEI)
    enough = 100 + PRICE_BUMP_PCT
    dear = [send.pk for send in sends if int(send.max_fee_wei) > ceiling_wei]
    assert not dear, f"I14: sends {dear} pay more than MAX_FEE_PER_GAS_GWEI"
    for older, newer in pairwise(sends):
        if newer.kind == SendKind.CANCEL and int(newer.max_fee_wei) == ceiling_wei:
            continue
        for name in ("max_fee_wei", "tip_wei"):
            before, after = int(getattr(older, name)), int(getattr(newer, name))
            assert after * 100 >= before * enough, (
                f"I14: attempt {newer.attempt} of intent {newer.intent_id} has {name} {after} after {before}"
            )


def _cancel_is_last(sends: Sequence[TxSend], offers: Sequence[Offer]) -> None:
    kinds = {send.tx_hash: send.kind for send in sends}
    seen: set[str] = set()
    cancelled = False
    for offer in offers:
        kind = kinds.get(offer.tx_hash)
        if kind is None:
            continue
        late = cancelled and kind != SendKind.CANCEL and offer.tx_hash not in seen
        assert not late, f"I15: {kind} {offer.tx_hash} left after the cancel of its slot"
        cancelled = cancelled or kind == SendKind.CANCEL
        seen.add(offer.tx_hash)


def _halted(book: Book) -> None:
    for send in book.sends:
        wallet = send.intent.wallet
        assert wallet is not None
        late = wallet.halted_reason and wallet.halted_at is not None and send.signed_at > wallet.halted_at
        assert not late, f"I16: wallet {wallet.pk} signed after it was halted"


def _dry(book: Book) -> None:
    signed = {send.intent_id for send in book.sends}
    simulated = [intent for intent in book.intents.values() if intent.mode == Mode.DRY]
    owning = [intent.pk for intent in simulated if intent.nonce is not None or intent.pk in signed]
    assert not owning, f"I17: a simulated intent owns a nonce or bytes: {owning}"


def _as_asked(book: Book) -> None:
    fills = [fill for fill in book.fills if fill.mode == Mode.LIVE and fill.intent_id is not None]
    for fill in book.fills:
        if fill.intent_id is None:
            ended = (fill.position.state, fill.position.ended_by) == ("closed", fill.ended_by)
            assert ended, f"I18: position {fill.position_id} did not end by what the venue says ended it"
    for fill in fills:
        intent = fill.intent
        assert intent is not None
        if intent.action in GROWING:
            asked: tuple[Any, ...] = (
                intent.collateral_usdc,
                intent.leverage_x,
                intent.is_long,
                intent.symbol,
            )
            got: tuple[Any, ...] = (
                fill.collateral_usdc,
                fill.leverage_x,
                fill.position.is_long,
                fill.position.symbol,
            )
        else:
            asked, got = (intent.close_usdc,), (fill.collateral_usdc,)
        assert asked == got, f"I18: intent {intent.pk} asked for {asked} and got {got}"
    filled = {
        intent.pk
        for intent in book.intents.values()
        if intent.mode == Mode.LIVE and intent.state == IntentState.FILLED
    }
    assert {fill.intent_id for fill in fills} == filled, "I18: fills and filled intents are not the same"
    taken: dict[int, Decimal] = defaultdict(Decimal)
    grown: dict[int, Decimal] = defaultdict(Decimal)
    for fill in fills:
        if fill.action != Action.OPEN:
            sums = grown if fill.action == Action.INCREASE else taken
            sums[fill.position_id] += fill.collateral_usdc
    for opening in fills:
        if opening.action != Action.OPEN:
            continue
        # Margin that its owner added is the owner's doing, and is in a correction.
        added = [row.collateral_usdc for row in book.corrections.get(opening.position_id, ())]
        # What went in later comes out as well.
        margins = [row.change_usdc for row in book.margins.get(opening.position_id, ())]
        put_in_usdc = max([opening.collateral_usdc, *added]) + grown[opening.position_id]
        put_in_usdc += sum(max(usdc, Decimal(0)) for usdc in margins)
        assert taken[opening.position_id] <= put_in_usdc, (
            f"I18: closes took {taken[opening.position_id]} out of position {opening.position_id}"
        )
