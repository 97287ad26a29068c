"""Words in the language of who reads them, and how values are spelt. HTML as Telegram takes it: what comes from elsewhere is escaped.

The texts themselves are in `ops.bot.texts`; `words.NAME` is the one of that name in the language that is spoken.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html import escape

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


STRANGER = (
    "Hello. This is a private trading bot, and you are not on its list, so it does nothing for you. "
    "If you should be on it, give the operator your Telegram id: <code>{user_id}</code>"
)
GREETING = (
    "<b>Vanta</b> turns trading signals into trades, within caps, behind a stop.\n"
    "You are {role} here. Nothing is traded by /start. /help lists what you may ask."
)
HELP = "<b>What you may ask</b>\n{lines}"
UNKNOWN = "I do not know that. /help lists what you may ask."
NOT_YOURS = "That needs the role {role}; yours is {mine}. Nothing was done."
USAGE = "Usage: <code>{usage}</code>"
DATABASE_AWAY = "The database does not answer, so nothing was done. Try again in a minute."
FAILED = "That went wrong on our side and was logged. Ask /status before you repeat it."
TOO_MANY = "That was more at once than I take from one person: some of it was left undone. A /stop never is."
NODE_AWAY = "No node says that now. Try again in a minute."

STOPPED = "\N{OCTAGONAL SIGN} <b>Stopped.</b> Nothing new is signed or sent from now on.{rest}\n/resume tells how to go on."
WAS_STOPPED = "\N{OCTAGONAL SIGN} <b>Stopped already</b> from Telegram, and still so. Nothing new is signed or sent.{rest}"
STOP_LEFT = "\nMay still have left: {hashes}"
STOP_SIGNER = "\nWas at the signer, whose answer is thrown away: {slots}"
NOT_STOPPED_YET = (
    "\N{WARNING SIGN} <b>Not stopped yet</b>: the database does not answer. I try again every second and tell you. "
    "Without the database nothing can be signed; <code>touch switch/FORCE_DRY</code> on the host holds even so."
)
REDUCE_ONLY = "Reduce-only: only what lowers exposure passes now."
REDUCE_ONLY_WAS = "Reduce-only was set from Telegram already."
NO_RESUME = (
    "A stop is not lifted from a phone here (TELEGRAM_MAY_RESUME is not set). On the machine:\n"
    "<code>manage.py telegram lift emergency_stop --by NAME --reason WHY --code CODE</code>\n{holding}"
)
RESUMED = "Lifted what Telegram had set.\n{holding}"
NOT_RESUMED = "Telegram had set nothing of the kind; nothing changed.\n{holding}"
REFUSED = "Refused: {why}"
NO_ACCOUNT = (
    "Your Telegram id is tied to no account of the admin site, so no one-time code of yours is known. On the machine: "
    "<code>manage.py telegram allow {user_id} operator --account NAME</code>"
)
APPROVED = "Approved: {key} may go LIVE for {seconds} s, if nothing but Redis' health keeps it."
REJECTED = "Rejected: {key} ends, and is not executed."
NOT_HELD = "{key} is not held."
NOTHING_HELD = "Nothing is held."

NOTHING_HOLDS = "No restriction holds."
NO_POSITIONS = "No open positions."
NO_ORDERS = "Nothing is under way."
NO_SIGNALS = "No signals yet."
NO_HISTORY = "Nothing has ended yet."
NO_PRICE = "No price of {symbol} is known here. /markets lists what is traded."
NO_CAPS = "No cap is set, so nothing may be opened."
NOT_FOUND = "I find no {what} {name}."

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
    return {True: "LONG", False: "SHORT", None: "CLOSE"}[is_long]
