"""Words in the language of who reads them, and how values are spelt. HTML as Telegram takes it: what comes from elsewhere is escaped.

The texts themselves are in `ops.bot.texts`; `words.NAME` is the one of that name in the language that is spoken.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html import escape
from typing import Any

from django.conf import settings

from execution_app.gate.caps import UNITS, plain
from execution_app.states import CapName
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
    return _named("REASON", name)


def state(name: str) -> str:
    """How far an order or a position is, or what was decided about a signal."""
    return _named("STATE", name)


def origin(name: str) -> str:
    """By which way something was done."""
    return _named("ORIGIN", name)


def role(name: str) -> str:
    """What somebody is here."""
    return _named("ROLE", name)


def restriction(name: str) -> str:
    return _named("RESTRICTION", name)


def finding(name: str) -> str:
    """What is looked at in a wallet."""
    return _named("FINDING", name)


def check(name: str) -> str:
    """A part of the stack."""
    return _named("CHECK", name)


def scope(name: str) -> str:
    """What a cap sums over."""
    return _named("SCOPE", name)


def audit(name: str) -> str:
    """What the audit log keeps."""
    return _named("AUDIT", name)


def order_type(name: str) -> str:
    """When the venue executes an open that is no market order."""
    return _named("TYPE", name)


def begun(sentence: str) -> str:
    """What stands behind a colon elsewhere, as a sentence of its own."""
    return f"{sentence[:1].upper()}{sentence[1:]}"


def field(name: str) -> str:
    """A column of a position, or a level of it."""
    return _named("FIELD", name)


def _named(prefix: str, name: str) -> str:
    known = f"{prefix}_{name.upper()}"
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
CENT, UNIT = Decimal("0.01"), Decimal("0.000001")


def safe(text: object) -> str:
    """What comes from elsewhere, cut and escaped."""
    return escape(str(text)[:MOST_WORD], quote=False)


def code(text: object) -> str:
    return f"<code>{safe(text)}</code>"


def bullet_list(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"<b>{title}</b>", *lines])


def usdc(value: Decimal, *, signed: bool = False) -> str:
    """To the cent, for people; what is less than ten of them with all its digits, or a small fee would be nothing."""
    shown = value.quantize(CENT if abs(value) >= 10 * CENT else UNIT, ROUND_HALF_EVEN)
    whole, _, digits = f"{shown:,f}".partition(".")
    text = f"{whole}.{digits.rstrip('0').ljust(2, '0')}" if shown else "0.00"
    sign = "+" if signed and shown > 0 else ""
    return f"{sign}{text} USDC"


def usd(price: Decimal) -> str:
    """A price, with every digit that says something."""
    return f"{grouped(price)} USD"


def eth(value: Decimal) -> str:
    """To a millionth: whoever pays gas counts orders, not wei."""
    return f"{grouped(value.quantize(UNIT, ROUND_HALF_EVEN))} ETH"


def grouped(value: Decimal) -> str:
    """Exact, thousands apart, without trailing zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def limited(name: CapName, value: Decimal) -> str:
    """A value of a cap, with its unit; a ban has none."""
    if name is CapName.BANNED:
        return text("CAP_BANNED")
    if name is CapName.LEVERAGE:
        return times(value)
    if name is CapName.GAS_PER_DAY:
        return eth(value.scaleb(-18))
    return f"{grouped(value)}{UNITS.get(name, '')}"


def cents(price: Decimal) -> Decimal:
    """An estimated price in as many digits as an estimate has: six at least, two decimals at least."""
    digits = max(2, 5 - price.adjusted()) if price else 2
    return price.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def cap(name: str) -> str:
    """A limit's name, for people."""
    return _named("LIMIT", name)


def so_far(answers: Mapping[str, Any]) -> str:
    """What a conversation has come to, in one line."""
    parts = [safe(answers["symbol"])] if "symbol" in answers else []
    if "is_long" in answers:
        parts.append(f"<b>{side(is_long=answers['is_long'])}</b>")
    if "collateral_usdc" in answers:
        parts.append(usdc(Decimal(answers["collateral_usdc"])))
    if "leverage_x" in answers:
        parts.append(times(Decimal(answers["leverage_x"])))
    if "slippage_pct" in answers:
        parts.append(text("SLIPPAGE_SO_FAR").format(slippage=safe(answers["slippage_pct"])))
    parts += [
        f"{text(name.upper())} {usd(Decimal(answers[name])) if answers[name] else text('NONE')}"
        for name in ("take_profit", "stop_loss")
        if name in answers
    ]
    return ", ".join(parts)


def percent(value: Decimal) -> str:
    return f"{grouped(value)} %"


def times(value: Decimal) -> str:
    return f"{plain(value)}\N{MULTIPLICATION SIGN}"


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime, day: date) -> str:
    """The time alone where the day is known."""
    at = at.astimezone(UTC)
    return f"{at:%H:%M:%S}" if at.date() == day else f"{at:%Y-%m-%d %H:%M:%S}"


def lasting(age: timedelta | float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = int(age.total_seconds() if isinstance(age, timedelta) else age)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"


def side(*, is_long: bool | None) -> str:
    return text({True: "SIDE_LONG", False: "SIDE_SHORT", None: "SIDE_CLOSE"}[is_long])
