"""What the fields of a signal must say together, by its side; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPENING_SIDES = ("LONG", "SHORT")
PRICED_ORDERS = ("limit", "stop_limit")
INCREASE = "INCREASE"
# It has the leverage and the levels of its position, and is filled at once.
NOT_OF_INCREASES = (
    *("leverage_x", "reduce_usdc", "reduce_pct", "take_profit", "stop_loss"),
    *("trailing_stop_pct", "break_even_pct", "time_stop_s", "limit_price", "changes"),
)
CHANGE = "CHANGE"
MARGIN = "MARGIN"
MARGINS = ("deposit_usdc", "withdraw_usdc")
# What a CHANGE may say, of which it says one thing at least; and what of an order never changes.
CHANGEABLE = ("limit_price", "slippage_pct", "take_profit", "stop_loss")
# Of these a CHANGE may say 0, and then they go: null is not given, here as everywhere.
REMOVABLE = ("take_profit", "stop_loss")
UNCHANGEABLE = (
    *("collateral_usdc", "leverage_x", "reduce_usdc", "reduce_pct"),
    *("trailing_stop_pct", "break_even_pct", "time_stop_s", "order_type"),
)
# What a MARGIN does not say.
NOT_OF_MARGIN = (*UNCHANGEABLE, *CHANGEABLE, "changes")


@dataclass(frozen=True, slots=True)
class FieldError:
    """`message` names the limit and never repeats the value."""

    field: str
    message: str


def contradictions(values: dict[str, Any], given: set[str], faulty: set[str]) -> Iterator[FieldError]:
    """Yield what single fields cannot show; a field that has an error already is not judged again."""
    side, sound = values["side"], given - faulty
    if side == MARGIN:
        yield from _of_margin(given)
        return
    for name in MARGINS:
        if name in sound:
            yield FieldError(name, f"is allowed only with side {MARGIN}")
    if side == CHANGE:
        yield from _of_change(given)
        return
    if side == INCREASE:
        yield from _of_increase(values, given)
        return
    if "changes" in sound:
        yield FieldError("changes", f"is allowed only with side {CHANGE}")
    for name in REMOVABLE:
        if name in sound and not values[name]:
            yield FieldError(name, f"must be above 0; 0 takes a level away, with side {CHANGE} alone")
    yield from _of_size(side, given, sound)
    if "order_type" not in faulty:
        yield from _of_price(values["order_type"], given, sound)


def _of_change(given: set[str]) -> Iterator[FieldError]:
    if "changes" not in given:
        yield FieldError("changes", f"is required with side {CHANGE}")
    if not given & set(CHANGEABLE):
        yield FieldError("side", f"{CHANGE} needs one of {', '.join(CHANGEABLE)}")
    for name in UNCHANGEABLE:
        if name in given:
            yield FieldError(name, f"is not allowed with side {CHANGE}")


def _of_increase(values: dict[str, Any], given: set[str]) -> Iterator[FieldError]:
    if "collateral_usdc" not in given:
        yield FieldError("collateral_usdc", f"is required with side {INCREASE}")
    priced = values["order_type"] in PRICED_ORDERS
    for name in (*NOT_OF_INCREASES, *(("order_type",) if priced else ())):
        if name in given:
            yield FieldError(name, f"is not allowed with side {INCREASE}")


def _of_margin(given: set[str]) -> Iterator[FieldError]:
    if len(given & set(MARGINS)) != 1:
        yield FieldError("side", f"{MARGIN} needs one of {' and '.join(MARGINS)}")
    for name in NOT_OF_MARGIN:
        if name in given:
            yield FieldError(name, f"is not allowed with side {MARGIN}")


def _of_size(side: str | None, given: set[str], sound: set[str]) -> Iterator[FieldError]:
    # A CLOSE may carry collateral and leverage, since senders reuse one template; they have no effect.
    if side in OPENING_SIDES:
        for name in ("collateral_usdc", "leverage_x"):
            if name not in given:
                yield FieldError(name, f"is required with side {side}")
        for name in ("reduce_usdc", "reduce_pct"):
            if name in sound:
                yield FieldError(name, "is allowed only with side CLOSE")
    elif {"reduce_usdc", "reduce_pct"} <= sound:
        yield FieldError("reduce_pct", "excludes reduce_usdc")


def _of_price(order_type: str, given: set[str], sound: set[str]) -> Iterator[FieldError]:
    if order_type in PRICED_ORDERS and "limit_price" not in given:
        yield FieldError("limit_price", f"is required with order_type {order_type}")
    if order_type not in PRICED_ORDERS and "limit_price" in sound:
        yield FieldError("limit_price", f"is allowed only with order_type {' or '.join(PRICED_ORDERS)}")
