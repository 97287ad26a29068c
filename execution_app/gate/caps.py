"""What an opening order may not exceed, as pure functions. The environment is the ceiling."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from execution_app.states import CapName, CapScope, Reason

ENVIRONMENT = "environment"
PER_ORDER = (CapName.NOTIONAL, CapName.COLLATERAL, CapName.LEVERAGE)
SUMMED = (
    CapName.OPEN_POSITIONS,
    CapName.EXPOSURE,
    CapName.ORDERS_PER_MINUTE,
    CapName.DAILY_LOSS,
    CapName.GAS_PER_DAY,
)
REASONS = {
    CapName.BANNED: Reason.BANNED,
    CapName.NOTIONAL: Reason.NOTIONAL_ABOVE_CAP,
    CapName.COLLATERAL: Reason.COLLATERAL_ABOVE_CAP,
    CapName.LEVERAGE: Reason.LEVERAGE_ABOVE_CAP,
    CapName.OPEN_POSITIONS: Reason.OPEN_POSITIONS_AT_CAP,
    CapName.EXPOSURE: Reason.EXPOSURE_ABOVE_CAP,
    CapName.ORDERS_PER_MINUTE: Reason.ORDERS_PER_MINUTE_AT_CAP,
    CapName.DAILY_LOSS: Reason.DAILY_LOSS_AT_CAP,
    CapName.GAS_PER_DAY: Reason.GAS_PER_DAY_ABOVE_CAP,
}
UNITS = {
    CapName.NOTIONAL: " USDC",
    CapName.COLLATERAL: " USDC",
    CapName.EXPOSURE: " USDC",
    CapName.DAILY_LOSS: " USDC",
    CapName.GAS_PER_DAY: " wei",
}
# The variable that is a cap's ceiling.
VARIABLES = {
    CapName.NOTIONAL: "MAX_NOTIONAL_USDC",
    CapName.COLLATERAL: "MAX_COLLATERAL_USDC",
    CapName.LEVERAGE: "MAX_LEVERAGE",
    CapName.OPEN_POSITIONS: "MAX_OPEN_POSITIONS",
    CapName.EXPOSURE: "MAX_EXPOSURE_USDC",
    CapName.ORDERS_PER_MINUTE: "MAX_ORDERS_PER_MINUTE",
    CapName.DAILY_LOSS: "MAX_DAILY_LOSS_USDC",
    CapName.GAS_PER_DAY: "MAX_GAS_PER_DAY_WEI",
}
# Without these two nothing may be opened; any other cap that nobody set does not bind.
NEEDED = (CapName.NOTIONAL, CapName.LEVERAGE)


def plain(value: Decimal) -> str:
    """Exact, without exponent and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class Order:
    """An opening order, by what caps ask of it."""

    tg_user_id: int
    source: str
    symbol: str
    collateral_usdc: Decimal
    leverage_x: Decimal

    @property
    def notional_usdc(self) -> Decimal:
        return self.collateral_usdc * self.leverage_x

    def named(self, scope: CapScope) -> str:
        """What the order is called in a scope; blank in the one that holds all orders."""
        return {
            CapScope.GLOBAL: "",
            CapScope.TRADER: str(self.tg_user_id),
            CapScope.SOURCE: self.source,
            CapScope.SYMBOL: self.symbol,
        }[scope]


@dataclass(frozen=True)
class Limit:
    """One cap: its value in the unit of its name, where it holds, and who says so."""

    name: CapName
    value: Decimal
    scope: CapScope = CapScope.GLOBAL
    scope_value: str = ""
    origin: str = ENVIRONMENT  # or the row's number

    def holds_for(self, order: Order) -> bool:
        return self.scope_value == order.named(self.scope)

    def __str__(self) -> str:
        """The cap's name, value, scope and origin, for refusals."""
        title = VARIABLES[self.name] if self.origin == ENVIRONMENT else self.name.value
        scope = f"{self.scope.value} {self.scope_value}".strip()
        return f"{title} ({plain(self.value)}{UNITS.get(self.name, '')}; {scope}, {self.origin})"


@dataclass(frozen=True)
class Breach:
    """One refused limit: its reason code, and a sentence with the cap and what was asked."""

    reason: Reason
    detail: str


def effective(rows: Iterable[Limit], ceilings: dict[CapName, Decimal]) -> list[Limit]:
    """The caps that hold: every ceiling, and every row that is stricter. A row above its ceiling says nothing."""
    found = [Limit(name, value) for name, value in ceilings.items()]
    return found + [row for row in rows if row.name not in ceilings or row.value < ceilings[row.name]]


def order_breaches(order: Order, limits: Iterable[Limit], symbols: frozenset[str]) -> list[Breach]:
    """Every limit that an order breaks by itself, the lowest of each name; closing orders are never asked."""
    found = []
    if order.symbol not in symbols:
        allowed = ", ".join(sorted(symbols)) or "none"
        detail = f"symbol {order.symbol} is not in ALLOWED_SYMBOLS ({allowed})"
        found.append(Breach(Reason.SYMBOL_NOT_ALLOWED, detail))
    binding = [limit for limit in limits if limit.holds_for(order)]
    for limit in binding:
        if limit.name is CapName.BANNED:
            scope = f"{limit.scope.value} {limit.scope_value}".strip()
            detail = f"an open on {order.symbol} was asked; {scope} is banned (banned, {limit.origin})"
            found.append(Breach(Reason.BANNED, detail))
    asked = {
        CapName.NOTIONAL: ("notional", order.notional_usdc),
        CapName.COLLATERAL: ("collateral", order.collateral_usdc),
        CapName.LEVERAGE: ("leverage", order.leverage_x),
    }
    for name in PER_ORDER:
        words, value = asked[name]
        values = [limit for limit in binding if limit.name is name]
        lowest = min(values, key=lambda limit: limit.value, default=None)
        unit = UNITS.get(name, "")
        if lowest is None and name in NEEDED:
            detail = f"{words} {plain(value)}{unit} is above {VARIABLES[name]} (unset)"
            found.append(Breach(REASONS[name], detail))
        elif lowest is not None and value > lowest.value:
            found.append(Breach(REASONS[name], f"{words} {plain(value)}{unit} is above {lowest}"))
    return found


def breach(limit: Limit, used: Decimal, asked: Decimal, *, counted: bool = False) -> Breach | None:
    """Whether what is used and what is asked exceed a summed cap; without anything asked it is full at its value.

    `counted` says that what is asked is among what is used already.
    """
    total = used if counted else used + asked
    full = total > limit.value if asked else total >= limit.value
    if not full:
        return None
    unit = UNITS.get(limit.name, "")
    words = f"{limit.name.value} is {plain(used)}{unit} already"
    if asked:
        words = f"{limit.name.value} would be {plain(total)}{unit} with the {plain(asked)}{unit} asked"
    return Breach(REASONS[limit.name], f"{words}, above {limit}" if asked else f"{words}, the cap is {limit}")
