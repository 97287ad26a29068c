"""What a signal may say: parsed JSON in, exact values out. Pure; every limit of a field is here.

The limits are data as well as code: the API's description is made from FIELDS.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from execution_app.errors import Refused
from signals_app.sides import CHANGE as CHANGE  # noqa: PLC0414 - part of what a signal may say, as the next ones
from signals_app.sides import CHANGEABLE as CHANGEABLE  # noqa: PLC0414
from signals_app.sides import INCREASE as INCREASE  # noqa: PLC0414
from signals_app.sides import MARGIN as MARGIN  # noqa: PLC0414
from signals_app.sides import MARGINS as MARGINS  # noqa: PLC0414
from signals_app.sides import NOT_OF_INCREASES as NOT_OF_INCREASES  # noqa: PLC0414
from signals_app.sides import NOT_OF_MARGIN as NOT_OF_MARGIN  # noqa: PLC0414
from signals_app.sides import OPENING_SIDES as OPENING_SIDES  # noqa: PLC0414
from signals_app.sides import PRICED_ORDERS as PRICED_ORDERS  # noqa: PLC0414
from signals_app.sides import REMOVABLE as REMOVABLE  # noqa: PLC0414
from signals_app.sides import UNCHANGEABLE as UNCHANGEABLE  # noqa: PLC0414
from signals_app.sides import FieldError as FieldError  # noqa: PLC0414
from signals_app.sides import contradictions
from signals_app.strict_json import MAX_NUMBER_CHARS, canonical, plain

MAX_USDC = Decimal(1_000_000_000)
MAX_LEVERAGE_X = Decimal(1_000)
MAX_SLIPPAGE_PCT = Decimal(80)  # the venue's own limit
MAX_PERCENT = Decimal(100)
MAX_PRICE = Decimal(1_000_000_000_000)
MAX_INT64 = 2**63 - 1
MAX_LAG_S = 86_400
MAX_TIME_STOP_S = 31_536_000
MAX_META_BYTES = 4_096
MAX_META_NESTING = 5
MAX_ERRORS = 100
DEFAULT_SLIPPAGE_PCT = Decimal("0.5")
FIRST_YEAR, LAST_YEAR = 2000, 2199

SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
SIGNAL_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SYMBOL = re.compile(r"[A-Z0-9]{1,15}-[A-Z]{3,5}")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
DEFAULT_ORDER_TYPE = "market"


class Invalid(Refused):
    """The JSON is not a signal; `errors` has every fault that was found."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class _Fault(ValueError):  # noqa: N818  (a fault of the value; FieldError is what it becomes)
    """One value is out of its limits."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A valid signal; the field names are those of the body and of the table's columns."""

    source: str
    signal_id: str
    tg_user_id: int
    symbol: str
    side: str
    collateral_usdc: Decimal | None
    leverage_x: Decimal | None
    slippage_pct: Decimal | None
    reduce_usdc: Decimal | None
    reduce_pct: Decimal | None
    take_profit: Decimal | None
    stop_loss: Decimal | None
    trailing_stop_pct: Decimal | None
    break_even_pct: Decimal | None
    time_stop_s: int | None
    order_type: str
    limit_price: Decimal | None
    changes: str | None
    deposit_usdc: Decimal | None
    withdraw_usdc: Decimal | None
    max_lag_s: int | None
    ts: datetime | None
    meta: dict[str, object]

    @property
    def intent_key(self) -> str:
        return f"sig:{self.source}:{self.signal_id}"

    @property
    def sha256(self) -> str:
        """Hex digest of the canonical content: equal for every spelling of the same signal.

        What was not given is left out, so a later optional field does not turn
        the repeats of older signals into conflicts.
        """
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: value for name, value in content.items() if value is not None}
        return hashlib.sha256(canonical(given).encode()).hexdigest()


def read(document: object) -> Payload:
    """Build the payload from parsed JSON; null counts as not given. Raises Invalid with every error."""
    if not isinstance(document, dict):
        raise Invalid([FieldError("", "the body must be a JSON object")])
    values: dict[str, Any] = dict.fromkeys(FIELDS)
    values |= {"slippage_pct": DEFAULT_SLIPPAGE_PCT, "order_type": DEFAULT_ORDER_TYPE, "meta": {}}
    errors: list[FieldError] = []
    given = {name for name, value in document.items() if value is not None}
    for name, read_field in FIELDS.items():
        if name in given:
            try:
                values[name] = read_field(document[name])
            except _Fault as fault:
                errors.append(FieldError(name, str(fault)))
        elif name in REQUIRED:
            errors.append(FieldError(name, "is required"))
    if values["side"] in {CHANGE, MARGIN} and "slippage_pct" not in given:
        values["slippage_pct"] = None  # stays as it is, or there is none
    faulty = {error.field for error in errors}
    errors += contradictions(values, given, faulty)
    errors += _unknown([name for name in document if name not in FIELDS])
    if errors:
        raise Invalid(errors)
    return Payload(**values)


def _exact(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and len(value) <= MAX_NUMBER_CHARS and NUMBER.fullmatch(value):
        try:
            return Decimal(value)
        except InvalidOperation:
            raise _Fault("has an exponent out of range") from None
    raise _Fault(f"must be a number, or a decimal string of at most {MAX_NUMBER_CHARS} characters")


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact number above zero; `or_nothing` lets 0 through, of which its side says whether it means anything."""

    decimals: int
    maximum: Decimal
    or_nothing: bool = False

    def __call__(self, value: object) -> Decimal:
        number = _exact(value)
        if self.or_nothing and number == 0:
            return Decimal(0)
        if not 0 < number <= self.maximum:
            raise _Fault(f"must be above 0 and at most {self.maximum:f}")
        # Judged before it is spelled out: 1e-999999 would be a megabyte of zeros.
        if number.adjusted() < -self.decimals or len(plain(number).partition(".")[2]) > self.decimals:
            raise _Fault(f"has more than {self.decimals} decimals")
        return Decimal(plain(number))


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from one."""

    maximum: int

    def __call__(self, value: object) -> int:
        number = _exact(value)
        if not 1 <= number <= self.maximum or number != int(number):
            raise _Fault(f"must be a whole number from 1 to {self.maximum}")
        return int(number)


@dataclass(frozen=True, slots=True)
class Text:
    """Characters of one pattern, which the words describe."""

    pattern: re.Pattern[str]
    words: str

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise _Fault(f"must be {self.words}")
        return value


@dataclass(frozen=True, slots=True)
class OneOf:
    """One word of a list."""

    words: tuple[str, ...]
    any_case: bool = False

    def __call__(self, value: object) -> str:
        # Beyond ASCII, other letters fold to these: a long s is an upper-case S.
        if isinstance(value, str) and self.any_case and value.isascii():
            value = value.upper()
        if not isinstance(value, str) or value not in self.words:
            raise _Fault(f"must be one of {', '.join(self.words)}")
        return value


def read_instant(value: object) -> datetime:
    """Read RFC 3339; what is finer than a microsecond is dropped, as a clock reading and not an amount."""
    fault = _Fault(f"must be an RFC 3339 time with zone, in the years {FIRST_YEAR} to {LAST_YEAR}")
    if not isinstance(value, str) or not RFC3339.fullmatch(value.upper()):
        raise fault
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError:
        raise fault from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise fault
    return instant.astimezone(UTC)


def read_meta(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Fault("must be a JSON object")
    for item in _items(value, nesting=1):
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, Decimal) and abs(item.adjusted()) > MAX_NUMBER_CHARS:
            raise _Fault(f"has a number with more than {MAX_NUMBER_CHARS} digits")
    if len(canonical(value).encode()) > MAX_META_BYTES:
        raise _Fault(f"has more than {MAX_META_BYTES} bytes as JSON")
    return cast("dict[str, object]", value)


def _items(value: object, nesting: int) -> Iterator[object]:
    """Yield every key and every scalar."""
    if not isinstance(value, dict | list):
        yield value
        return
    if nesting > MAX_META_NESTING:
        raise _Fault(f"is nested more than {MAX_META_NESTING} deep")
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value:
        yield from _items(item, nesting + 1)


def _check_text(text: str) -> None:
    """Refuse what PostgreSQL cannot store as text."""
    if "\x00" in text:
        raise _Fault("must not contain the NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _Fault("must not contain half of a surrogate pair")


def _unknown(names: list[str]) -> Iterator[FieldError]:
    for name in names[:MAX_ERRORS]:
        yield FieldError(name[:64], "is not a known field")
    if len(names) > MAX_ERRORS:
        yield FieldError("", f"and {len(names) - MAX_ERRORS} more unknown fields")


REQUIRED = frozenset({"source", "signal_id", "tg_user_id", "symbol", "side"})
FIELDS: dict[str, Callable[[object], object]] = {
    "source": Text(SOURCE, "1 to 64 characters of A-Z a-z 0-9 . _ -"),
    "signal_id": Text(SIGNAL_ID, "1 to 128 characters of A-Z a-z 0-9 . _ - :"),
    "tg_user_id": Whole(MAX_INT64),
    "symbol": Text(SYMBOL, "a pair in upper case like BTC-USD: 1 to 15 of A-Z 0-9, a dash, 3 to 5 of A-Z"),
    "side": OneOf((*OPENING_SIDES, "CLOSE", INCREASE, CHANGE, MARGIN), any_case=True),
    "collateral_usdc": Amount(6, MAX_USDC),
    "leverage_x": Amount(4, MAX_LEVERAGE_X),
    "slippage_pct": Amount(4, MAX_SLIPPAGE_PCT),
    "reduce_usdc": Amount(6, MAX_USDC),
    "reduce_pct": Amount(4, MAX_PERCENT),
    "take_profit": Amount(10, MAX_PRICE, or_nothing=True),
    "stop_loss": Amount(10, MAX_PRICE, or_nothing=True),
    "trailing_stop_pct": Amount(4, MAX_PERCENT),
    "break_even_pct": Amount(4, MAX_PERCENT),
    "time_stop_s": Whole(MAX_TIME_STOP_S),
    "order_type": OneOf((DEFAULT_ORDER_TYPE, *PRICED_ORDERS)),
    "limit_price": Amount(10, MAX_PRICE),
    "changes": Text(SIGNAL_ID, "1 to 128 characters of A-Z a-z 0-9 . _ - :"),
    "deposit_usdc": Amount(6, MAX_USDC),
    "withdraw_usdc": Amount(6, MAX_USDC),
    "max_lag_s": Whole(MAX_LAG_S),
    "ts": read_instant,
    "meta": read_meta,
}
