"""I9, replayed: what was at stake at every commit, from the log that a trigger writes, and what is at stake now."""

from collections import defaultdict
from decimal import Decimal

from execution_app.models import Fill, Reservation, RiskLog
from execution_app.states import TERMINAL, IntentState, Mode, PositionState
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
            open_usdc[position.mode] += position.collateral_usdc * position.leverage_x
    for mode in Mode:
        at_stake = sum((row.notional_usdc for row in book.reservations if row.mode == mode), NOTHING)
        logged = book.logged_usdc.get(mode.value, NOTHING)
        assert at_stake == open_usdc[mode], f"I9: {mode} {at_stake} is reserved, {open_usdc[mode]} is open"
        assert logged == at_stake, f"I9: the log says {logged}, {at_stake} is reserved"


def check_held(book: Book | None = None) -> None:
    """At any moment: what may still become exposure, or is some, is reserved; nothing is released before it is final."""
    book = book or whole_book.read()
    for held in book.reservations:
        intent = held.intent
        state = IntentState(intent.state)
        refunded = state is IntentState.VENUE_CANCELLED and intent.settled_at is not None
        over = state in TERMINAL - {IntentState.SIMULATED} or refunded
        opening = book.fill_of.get(intent.pk)
        if over:
            assert held.released_at is not None, f"I9: intent {intent.pk} is {state}, and holds a reservation"
        elif opening is None:
            assert held.notional_usdc == held.asked_usdc, (
                f"I9: intent {intent.pk} is {state}, and {held.notional_usdc} of {held.asked_usdc} is reserved"
            )
        elif opening.position.state == PositionState.OPEN and opening.position.absent_at_block is None:
            position = opening.position
            least_usdc = position.collateral_usdc * position.leverage_x
            assert held.notional_usdc >= least_usdc, (
                f"I9: position {position.pk} is {least_usdc}, and {held.notional_usdc} is reserved"
            )
        _released_late(held, opening, book)


def _released_late(held: Reservation, opening: Fill | None, book: Book) -> None:
    if held.released_at is None:
        return
    final_at = held.intent.settled_at
    assert final_at is not None, f"I9: intent {held.intent_id} was released and is not final"
    assert held.released_at >= final_at, f"I9: intent {held.intent_id} was released before it was final"
    if opening is not None and opening.position.absent_at_block is None:
        ended = opening.position
        closes = [fill for fill in book.closes_of(ended.pk) if fill.settled_at is not None]
        held_usdc, corrections = opening.collateral_usdc, book.corrections.get(ended.pk, [])
        if corrections:
            held_usdc = corrections[-1].collateral_usdc
            closes = [fill for fill in closes if (fill.block_number or 0) > corrections[-1].block_number]
        done = sum((fill.collateral_usdc for fill in closes), NOTHING) >= held_usdc
        slot = (ended.trader_id, ended.pair_index, ended.trade_index, opening.mode)
        replaced = any(
            (one.trader_id, one.pair_index, one.trade_index, one.mode) == slot
            and one.opened_at > ended.opened_at
            for one in book.positions.values()
        )
        assert done or replaced, f"I9: intent {held.intent_id} was released with a position open"
