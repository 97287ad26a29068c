"""What people type, as exact values: symbols, sides, numbers. Pure; each raises ValueError with the rule that is broken."""

import re
from decimal import Decimal

from ops.bot import words
from signals_app.payloads import MAX_LEVERAGE_X, MAX_PRICE, MAX_SLIPPAGE_PCT, MAX_USDC, SYMBOL

_NUMBER = re.compile(r"[0-9]{1,13}(\.[0-9]{1,10})?", re.ASCII)
_NONE = frozenset({"none", "off", "no", "-"})
SIDES = {"long": True, "buy": True, "short": False, "sell": False}


def as_symbol(word: str) -> str:
    """`btc` as people type it is BTC-USD."""
    upper = word.upper()
    return upper if "-" in upper else f"{upper}-USD"


def symbol(text: str) -> str:
    found = as_symbol(text)
    if not SYMBOL.fullmatch(found):
        raise ValueError(words.NO_SYMBOL)
    return found


def side(text: str) -> bool:
    """Whether it is long."""
    if text.lower() not in SIDES:
        raise ValueError(words.NO_SIDE)
    return SIDES[text.lower()]


def usdc(text: str) -> str:
    return number(words.COLLATERAL, text, 6, MAX_USDC)


def leverage(text: str) -> str:
    return number(words.LEVERAGE, text.lower().removesuffix("x"), 4, MAX_LEVERAGE_X)


def slippage(text: str) -> str:
    return number(words.SLIPPAGE, text.removesuffix("%"), 4, MAX_SLIPPAGE_PCT)


def percent(text: str) -> str:
    return number(words.PERCENT, text.removesuffix("%"), 4, Decimal(100))


def level(text: str) -> str | None:
    """A price in USD; None where there is to be none."""
    return None if text.lower() in {*_NONE, words.NONE} else number(words.LEVEL, text, 10, MAX_PRICE)


def number(what: str, text: str, digits: int, most: Decimal) -> str:
    """The number as it was written, exact."""
    if not _NUMBER.fullmatch(text) or len(text.partition(".")[2]) > digits:
        raise ValueError(words.NO_NUMBER.format(what=what, digits=digits))
    if not 0 < Decimal(text) <= most:
        raise ValueError(words.OUT_OF_RANGE.format(what=what, most=words.grouped(most)))
    return text
