"""I9, replayed: what was at stake at every commit, from the log that a trigger writes, and what is at stake now."""

from collections import defaultdict
from decimal import ROUND_CEILING, Decimal

from execution_app.book import bases
from execution_app.models import Correction, Fill, MarginChange, Position, Reservation, RiskLog
from execution_app.reservations import at_stake
from execution_app.states import TERMINAL, Action, IntentState, Mode, PositionState
from tests import whole_book
from tests.whole_book import Book

NOTHING = Decimal(0)


def highest(mode: Mode = Mode.LIVE, **of: object) -> Decimal:
    """The greatest sum that the log's changes ever made, of reservations such as `symbol="BTC-USD"`.

    Also asserts that the totals which the transactions saw agree with the sums wherever the stake grew.
    """
    total, whole, most = NOTHING, NOTHING, NOTHING
    chosen = set(Reservation.objects.filter(mode=mode, **of).values_list("pk", flat=True))
    for line in RiskLog.objects.filter(mode=mode).order_by("id"):
        whole += line.change_usdc
        if line.change_usdc > 0:
            assert line.total_usdc >= whole, f"I9: line {line.pk} saw {line.total_usdc}, the log says {whole}"
        if line.reservation_id in chosen:
            total += line.change_usdc
            most = max(most, total)
    return most


def most_at_once(mode: Mode = Mode.LIVE, **of: object) -> int:
    """How many reservations of that kind were ever held at the same time."""
    chosen = set(Reservation.objects.filter(mode=mode, **of).values_list("pk", flat=True))
    held: set[int] = set()
    most = 0
    for line in RiskLog.objects.filter(mode=mode, reservation__in=chosen).order_by("id"):
        (held.add if line.notional_usdc else held.discard)(line.reservation_id)
        most = max(most, len(held))
    return most


def check(book: Book | None = None) -> None:
    """Once all is done, what is at stake is exactly what is open, and the log adds up to it."""
    book = book or whole_book.read()
    open_usdc: dict[str, Decimal] = defaultdict(Decimal)
    for position in book.positions.values():
        if position.state == PositionState.OPEN:
            open_usdc[position.mode] += at_stake(position.collateral_usdc, position.leverage_x)
            open_usdc[position.mode] += margin_usdc(position, book)
    for mode in Mode:
        reserved = sum((row.notional_usdc for row in book.reservations if row.mode == mode), NOTHING)
        logged = book.logged_usdc.get(mode.value, NOTHING)
        assert reserved == open_usdc[mode], f"I9: {mode} {reserved} is reserved, {open_usdc[mode]} is open"
        assert logged == reserved, f"I9: the log says {logged}, {reserved} is reserved"


def margin_usdc(position: Position, book: Book) -> Decimal:
    """What of the margin that we put in is in the trade still: withdrawals take from it, closes and corrections in proportion."""
    happened: list[Fill | MarginChange | Correction] = [
        *(fill for fill in book.fills if fill.position_id == position.pk),
        *book.margins.get(position.pk, []),
        *book.corrections.get(position.pk, []),
    ]
    held_usdc, ours_usdc = NOTHING, NOTHING
    for row in sorted(happened, key=bases.place):
        if isinstance(row, MarginChange):
            if row.intent_id is not None or row.change_usdc < 0:
                ours_usdc = max(ours_usdc + row.change_usdc, NOTHING)
            held_usdc = row.collateral_usdc
        elif isinstance(row, Correction):
            held_usdc, ours_usdc = row.collateral_usdc, min(ours_usdc, row.collateral_usdc)
        elif row.action == Action.CLOSE:
            left_usdc = max(held_usdc - row.collateral_usdc, NOTHING)
            part = ours_usdc * left_usdc / held_usdc if held_usdc else NOTHING
            ours_usdc, held_usdc = part.quantize(Decimal("1e-10"), ROUND_CEILING), left_usdc
        else:
            held_usdc += row.collateral_usdc
    return ours_usdc


def check_held(book: Book | None = None) -> None:
    """At any moment: what may still become exposure, or is some, is reserved; nothing is released before it is final."""
    book = book or whole_book.read()
    _whole(book)
    for held in book.reservations:
        intent = held.intent
        state = IntentState(intent.state)
        refunded = state is IntentState.VENUE_CANCELLED and intent.settled_at is not None
        over = state in TERMINAL - {IntentState.SIMULATED} or refunded
        opening = book.fill_of.get(intent.pk)
        if over:
            assert held.released_at is not None, f"I9: intent {intent.pk} is {state}, and holds a reservation"
        elif opening is None and intent.pk in book.margin_of:
            assert held.notional_usdc <= held.asked_usdc, f"I9: margin {intent.pk} grew"
        elif opening is None:
            assert held.notional_usdc == held.asked_usdc, (
                f"I9: intent {intent.pk} is {state}, and {held.notional_usdc} of {held.asked_usdc} is reserved"
            )
        _released_late(held, opening, book)


def _whole(book: Book) -> None:
    """What opened a position and what increased it hold all of it together."""
    held_usdc: dict[int, Decimal] = defaultdict(Decimal)
    for held in book.reservations:
        opening = book.fill_of.get(held.intent_id) or book.margin_of.get(held.intent_id)
        if opening is not None:
            held_usdc[opening.position_id] += held.notional_usdc
    for pk, reserved_usdc in held_usdc.items():
        position = book.positions[pk]
        if position.state == PositionState.OPEN and position.absent_at_block is None:
            least_usdc = at_stake(position.collateral_usdc, position.leverage_x)
            assert reserved_usdc >= least_usdc, (
                f"I9: position {pk} is {least_usdc}, and {reserved_usdc} is reserved"
            )


def _released_late(held: Reservation, opening: Fill | None, book: Book) -> None:
    if held.released_at is None:
        return
    final_at = held.intent.settled_at
    assert final_at is not None, f"I9: intent {held.intent_id} was released and is not final"
    assert held.released_at >= final_at, f"I9: intent {held.intent_id} was released before it was final"
    if opening is not None and opening.position.absent_at_block is None:
        ended = opening.position
        closes = [fill for fill in book.closes_of(ended.pk) if fill.settled_at is not None]
        corrected = max(book.corrections.get(ended.pk, []), key=bases.place, default=None)
        base = bases.newest(corrected, book.margins.get(ended.pk, []))
        grown = bases.after(book.increases_of(ended.pk), base)
        held_usdc = (base or opening).collateral_usdc + sum((fill.collateral_usdc for fill in grown), NOTHING)
        closed_usdc = sum((fill.collateral_usdc for fill in bases.after(closes, base)), NOTHING)
        # Of an increase a part that was closed is enough: what closes take out is taken from the newest.
        done = closed_usdc >= held_usdc or (opening.action == Action.INCREASE and bool(closes))
        slot = (ended.trader_id, ended.pair_index, ended.trade_index, opening.mode)
        replaced = any(
            (one.trader_id, one.pair_index, one.trade_index, one.mode) == slot
            and one.opened_at > ended.opened_at
            for one in book.positions.values()
        )
        assert done or replaced, f"I9: intent {held.intent_id} was released with a position open"
