"""What any venue is to whoever trades: its words, exact, and what each way of reaching it can do.

Submitting and ending are two things. `open`, `close` and `change_levels` say that an order was taken down under
its key, and nothing of how it ends; `poll` says that. USDC, prices and factors are Decimals, times are aware
datetimes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from execution_app.errors import Refused

DEFAULT_SLIPPAGE_PCT = Decimal("0.5")
DEFAULT_MAX_LAG_S = 60  # how old an open may be that nobody gave another limit


class Action(StrEnum):
    """What a venue may be asked to do."""

    OPEN_MARKET = "open_market"
    OPEN_LIMIT = "open_limit"
    OPEN_STOP_LIMIT = "open_stop_limit"
    CLOSE = "close"
    CLOSE_PART = "close_part"
    CHANGE_LEVELS = "change_levels"
    CHANGE_MARGIN = "change_margin"
    CANCEL_ORDER = "cancel_order"
    CHANGE_ORDER = "change_order"
    INCREASE = "increase"


class Outcome(StrEnum):
    """How an order stands. The last four are no more asked for, except UNKNOWN, which proves nothing."""

    PENDING = "pending"  # taken down, and under way or waiting for its turn
    FILLED = "filled"  # the venue executed it; `final` says whether a reorg may still take that back
    CANCELLED = "cancelled"  # it ended without effect, and nobody was at fault
    FAILED = "failed"  # it was refused or reverted
    UNKNOWN = "unknown"  # it may have arrived: never a reason to send another one


class UnsupportedError(Refused):
    """The adapter cannot do that; nothing was written down or sent."""

    def __init__(self, adapter: str, action: Action, field: str = "") -> None:
        """`field` is the one of the request that asks for it, blank where the verb does."""
        asked = f" (field {field})" if field else ""
        super().__init__(f"{adapter} does not support {action.value}{asked}")
        self.adapter = adapter
        self.action = action
        self.field = field


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An order to open, under the asker's own key: the same key again is the same order.

    `limit_price` is for limit and stop-limit orders alone. What has not taken a nonce
    within `max_lag_s` is opened no more.
    """

    key: str
    symbol: str
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    slippage_pct: Decimal = DEFAULT_SLIPPAGE_PCT
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    action: Action = Action.OPEN_MARKET
    limit_price: Decimal | None = None
    max_lag_s: int = DEFAULT_MAX_LAG_S


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """An order to close a position by our number; all of it, or `reduce_usdc` of its collateral."""

    key: str
    position: int
    reduce_usdc: Decimal | None = None


@dataclass(frozen=True, slots=True)
class IncreaseRequest:
    """More of a position by our number: this much collateral, at the leverage that it has.

    What has not left within `max_lag_s` does not any more.
    """

    key: str
    position: int
    collateral_usdc: Decimal
    slippage_pct: Decimal = DEFAULT_SLIPPAGE_PCT
    max_lag_s: int = DEFAULT_MAX_LAG_S


@dataclass(frozen=True, slots=True)
class LevelsRequest:
    """Both levels of a position anew; None means none."""

    key: str
    position: int
    take_profit: Decimal | None
    stop_loss: Decimal | None


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Take back the open of the key `order`, which rests at the venue; it ends as CANCELLED, or has filled before."""

    key: str
    order: str


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """Other terms for the open of the key `order`, which rests at the venue; None leaves one as it is, a level of 0 goes."""

    key: str
    order: str
    limit_price: Decimal | None = None
    slippage_pct: Decimal | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None


@dataclass(frozen=True, slots=True)
class MarginRequest:
    """USDC of collateral into a position by our number, above zero, or out of it; its notional stays."""

    key: str
    position: int
    change_usdc: Decimal


@dataclass(frozen=True, slots=True)
class Market:
    """What can be traded: the venue's own number of it, and whether this stack may open it."""

    symbol: str
    pair_index: int
    may_open: bool


@dataclass(frozen=True, slots=True)
class Price:
    """In USD. `age_s` is by the clock of whoever published it."""

    symbol: str
    price: Decimal
    age_s: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A trade as the venue has it; `slot` is the venue's number of it within the market."""

    symbol: str
    slot: int
    is_long: bool
    collateral_usdc: Decimal
    leverage_x: Decimal
    open_price: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """An order was taken down under its key; `is_new` is False where it had been before."""

    key: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Report:
    """How the order of a key stands; a fill's fields are None until there is one.

    `fill_price` is in USD, `position` our number of what was opened or closed.
    """

    key: str
    outcome: Outcome
    final: bool
    detail: str
    position: int | None = None
    fill_price: Decimal | None = None
    filled_usdc: Decimal | None = None


class Venue(Protocol):
    """One trader's way to a venue. Every verb may raise Retryable when a part of it is away; then nothing happened.

    Verbs that the table of `capabilities` lacks raise UnsupportedError before anything is written down or sent.
    """

    name: str

    @property
    def capabilities(self) -> frozenset[Action]:
        """What it can do, as in CAPABILITIES."""

    def market(self, symbol: str) -> Market:
        """Raises Refused for a symbol that the venue does not list."""

    def price(self, symbol: str) -> Price:
        """Raises Retryable where there is none; whether it is too old is the asker's to say."""

    def holdings(self) -> Sequence[Holding]:
        """Every open trade of the trader in the markets that this stack trades."""

    def open(self, request: OpenRequest) -> Submission:
        """Take down an open. Raises Refused where it can never be one."""

    def close(self, request: CloseRequest) -> Submission:
        """Take down a close. Raises Refused where the position is not this trader's, or not this adapter's."""

    def increase(self, request: IncreaseRequest) -> Submission:
        """Take down an increase. Raises Refused as `close` does."""

    def change_levels(self, request: LevelsRequest) -> Submission:
        """Take down new levels. Raises Refused as `close` does."""

    def cancel(self, request: CancelRequest) -> Submission:
        """Take down a cancel. Raises Refused where that order does not rest at the venue."""

    def change(self, request: ChangeRequest) -> Submission:
        """Take down other terms. Raises Refused as `cancel` does, and for terms that no order can have."""

    def change_margin(self, request: MarginRequest) -> Submission:
        """Take down a change of margin. Raises Refused as `close` does, and for no amount."""

    def poll(self, key: str) -> Report:
        """Raises Refused for a key that was never taken down."""


_MARKET_ORDERS = frozenset({Action.OPEN_MARKET, Action.CLOSE, Action.CLOSE_PART})
# v2 took the call for new levels away: they are changed by a signed message alone. Of increases no call is known.
CAPABILITIES: Mapping[str, frozenset[Action]] = {
    "onchain": _MARKET_ORDERS
    | {
        Action.OPEN_LIMIT,
        Action.OPEN_STOP_LIMIT,
        Action.CANCEL_ORDER,
        Action.CHANGE_ORDER,
        Action.CHANGE_MARGIN,
    },
    "gateway": _MARKET_ORDERS | {Action.CHANGE_LEVELS, Action.INCREASE},
    # Its levels are watched by ours alone (book/protections.py), and changed there.
    "paper": _MARKET_ORDERS | {Action.INCREASE, Action.CHANGE_MARGIN},
}


def require(adapter: str, action: Action, field: str = "") -> None:
    """Raises UnsupportedError, with the field that asks for it, unless the table has it."""
    if action not in CAPABILITIES[adapter]:
        raise UnsupportedError(adapter, action, field)
