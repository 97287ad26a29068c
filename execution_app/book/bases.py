"""Where the fold of a position begins: at its opening, or where the whole trade was last known as the venue has it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from execution_app.models import Correction, Fill, MarginChange, Position
from execution_app.states import GROWING

Base = Correction | MarginChange
# A correction is the trade after all of its block.
LAST = 2**31 - 1


def newest(corrected: Correction | None, changes: Iterable[MarginChange]) -> Base | None:
    """The one that stands last; None where the opening is all there is."""
    known: list[Base] = [row for row in (corrected, *changes) if row is not None]
    return max(known, key=place, default=None)


def place(row: Base | Fill) -> tuple[int, int, int]:
    """By which things of one position happened one after the other: on the chain, or in our own book where it is simulated."""
    if row.block_number is not None:
        return row.block_number, LAST if isinstance(row, Correction) else row.log_index, 0
    if isinstance(row, MarginChange):
        return 0, 2 * (row.after_fill or 0) + 1, row.pk
    return 0, 2 * row.pk, 0


def after(fills: Iterable[Fill], base: Base | None) -> list[Fill]:
    return [fill for fill in fills if base is None or place(fill) > place(base)]


def left_usdc(opening: Fill, growing: Sequence[Fill], closing: Sequence[Fill], base: Base | None) -> Decimal:
    """USDC of collateral that is still in the trade; 0 or less where all of it was closed."""
    held_usdc: Decimal = (base or opening).collateral_usdc
    return held_usdc + _usdc(after(growing, base)) - _usdc(after(closing, base))


def leverage_x(opening: Fill, growing: Sequence[Fill], base: Base | None) -> Decimal:
    """The trade's leverage: what the last that changed it left, be that an increase, margin or a correction."""
    found: Decimal = (base or opening).leverage_x
    for fill in after(growing, base):
        found = fill.leverage_after_x
    return found


def put_in_usdc(opening: Fill, growing: Sequence[Fill], changes: Iterable[MarginChange]) -> Decimal:
    """What the trade was given in all, less what was taken out of it before it was closed: none of that is profit or loss.

    Never below zero: more may have been taken out than we know to have been put in, where a correction stands for the rest.
    """
    given_usdc: Decimal = opening.collateral_usdc + _usdc(growing)
    return max(given_usdc + sum((change.change_usdc for change in changes), Decimal(0)), Decimal(0))


def refreshed(fills: Iterable[Fill], base: Base | None) -> datetime | None:
    """The trade's time as the venue's storage has it."""
    times = [fill.venue_timestamp for fill in after(fills, base) if fill.venue_timestamp]
    if times:
        return times[-1]
    return None if base is None else base.venue_timestamp


def staking(*held: Position) -> list[int]:
    """Intents that may have something at stake in these: what opened them, what increased them, and margin put in by us."""
    parts = Fill.objects.filter(position__in=held, action__in=GROWING, intent__isnull=False)
    margin = MarginChange.objects.filter(position__in=held, intent__isnull=False)
    found = parts.order_by().values_list("intent_id").union(margin.order_by().values_list("intent_id"))
    return sorted(pk for (pk,) in found)


def _usdc(fills: Iterable[Fill]) -> Decimal:
    return sum((fill.collateral_usdc for fill in fills), Decimal(0))
