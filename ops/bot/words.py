"""Words in the language of who reads them, and how values are spelt. HTML as Telegram takes it: what comes from elsewhere is escaped.

The texts themselves are in `ops.bot.texts`; `words.NAME` is the one of that name in the language that is spoken.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html import escape
from typing import Any

from django.conf import settings

from execution_app.gate.caps import plain
from ops.bot.texts import ENGLISH, LANGUAGES

EXPLORERS = {8453: "https://basescan.org/tx/", 84532: "https://sepolia.basescan.org/tx/"}
SHOWN_HASH = 10  # characters; the whole is behind the link, and in the trace
_HASH = re.compile(r"0x[0-9a-f]{64}", re.IGNORECASE)
_spoken: ContextVar[str] = ContextVar("vanta_bot_language", default=ENGLISH)


def __getattr__(name: str) -> str:
    """The text of this name in the language that is spoken now."""
    if name.startswith("_"):
        raise AttributeError(name)
    return text(name)


def text(name: str) -> str:
    """As `words.NAME`, for names that are made up of others. Raises AttributeError where there is none."""
    try:
        return LANGUAGES[_spoken.get()][name]
    except KeyError:
        raise AttributeError(f"no text is called {name}") from None


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak this language meanwhile, in this thread or task; one that is not known is English. `de-AT` is `de`."""
    token = _spoken.set(known_language(language))
    try:
        yield
    finally:
        _spoken.reset(token)


def known_language(language: str) -> str:
    short = language.lower().partition("-")[0]
    return short if short in LANGUAGES else ENGLISH


def language() -> str:
    return _spoken.get()


def reason(name: str) -> str:
    """Why an order was refused or waits, for people."""
    known = f"REASON_{name.upper()}"
    return text(known) if known in LANGUAGES[ENGLISH] else safe(name)


def transaction(tx_hash: str) -> str:
    """A link to the chain's explorer where it has one; blank for no hash."""
    if not tx_hash:
        return ""
    explorer = EXPLORERS.get(settings.ENVIRONMENT.chain_id)
    if explorer is None or not _HASH.fullmatch(tx_hash):
        return code(f"{tx_hash[:SHOWN_HASH]}\N{HORIZONTAL ELLIPSIS}")
    return f'<a href="{explorer}{tx_hash}">{tx_hash[:SHOWN_HASH]}\N{HORIZONTAL ELLIPSIS}</a>'


WELL, ILL = "\N{WHITE HEAVY CHECK MARK}", "\N{CROSS MARK}"
MOST_WORD = 200


def safe(text: object) -> str:
    """What comes from elsewhere, cut and escaped."""
    return escape(str(text)[:MOST_WORD], quote=False)


def code(text: object) -> str:
    return f"<code>{safe(text)}</code>"


def bullet_list(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"<b>{title}</b>", *lines])


def usdc(value: Decimal, *, signed: bool = False) -> str:
    """To the cent where it is not exact to it: what is shown is for people."""
    cents = value.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    sign = "+" if signed and cents > 0 else ""
    return f"{sign}{cents:,f} USDC"


def usd(price: Decimal) -> str:
    """A price, with every digit that says something."""
    whole, _, digits = plain(price).partition(".")
    return f"{int(whole):,}{'.' + digits if digits else ''} USD"


def cents(price: Decimal) -> Decimal:
    """An estimated price in as many digits as an estimate has: six at least, two decimals at least."""
    digits = max(2, 5 - price.adjusted()) if price else 2
    return price.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def cap(name: str) -> str:
    """A limit's name, for people."""
    known = f"LIMIT_{name.upper()}"
    return text(known) if known in LANGUAGES[ENGLISH] else safe(name)


def so_far(answers: Mapping[str, Any]) -> str:
    """What a conversation has come to, in one line."""
    parts = [safe(answers["symbol"])] if "symbol" in answers else []
    if "is_long" in answers:
        parts.append(f"<b>{side(is_long=answers['is_long'])}</b>")
    if "collateral_usdc" in answers:
        parts.append(f"{safe(answers['collateral_usdc'])} USDC")
    if "leverage_x" in answers:
        parts.append(f"{safe(answers['leverage_x'])}\N{MULTIPLICATION SIGN}")
    if "slippage_pct" in answers:
        parts.append(f"{safe(answers['slippage_pct'])} %")
    if "take_profit" in answers:
        parts.append(f"{text('TAKE_PROFIT')} {safe(answers['take_profit'] or text('NONE'))}")
    if "stop_loss" in answers:
        parts.append(f"{text('STOP_LOSS')} {safe(answers['stop_loss'] or text('NONE'))}")
    return ", ".join(parts)


def times(value: Decimal) -> str:
    return f"{plain(value)}\N{MULTIPLICATION SIGN}"


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasting(age: timedelta | float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = int(age.total_seconds() if isinstance(age, timedelta) else age)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"


def side(*, is_long: bool | None) -> str:
    return text({True: "SIDE_LONG", False: "SIDE_SHORT", None: "SIDE_CLOSE"}[is_long])
