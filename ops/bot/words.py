"""Every text that the bot says, and how it spells values. HTML as Telegram takes it: what comes from elsewhere is escaped."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html import escape
from typing import Any

from execution_app.gate.caps import plain

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

TOP_OPEN, TOP_CLOSE = "Open", "Close"
NO_TRADER = (
    "there is no trader of your Telegram id yet. On the machine: manage.py trader add {user_id} --address 0x"
)
NO_WALLET = (
    "there is no delegate wallet that trades for you yet. On the machine: manage.py wallet create {user_id}"
)
TRADER_DISABLED = "your trader is disabled. On the machine: manage.py trader enable {user_id}"
NO_ACCOUNT_OF_TRADER = (
    "that needs a one-time code, and your Telegram id is tied to no account of the admin site. On the machine: "
    "manage.py telegram allow {user_id} {role} --account NAME"
)
COLLATERAL, LEVERAGE, SLIPPAGE, PERCENT, LEVEL = (
    "USDC",
    "The leverage",
    "The slippage",
    "The percentage",
    "A level",
)
TAKE_PROFIT, STOP_LOSS = "Take profit", "Stop loss"
NO_SYMBOL = "A symbol looks like BTC-USD, or BTC."
NO_MARKET = "{symbol} is not traded here. /markets lists what is."
NO_SIDE = "The side is long or short."
NO_NUMBER = "{what} must be a plain number with at most {digits} decimals, such as 5 or 2.5."
OUT_OF_RANGE = "{what} must be above 0 and at most {most}."
NO_SUCH_NAME = "What has a name is tp=, sl= or slip=."
SAID_TWICE = "One thing is said twice."
TOO_MANY_WORDS = "That are more words than an open has."
QUESTIONS = {
    "symbol": "<b>Which market?</b>",
    "side": "<b>Long or short?</b>",
    "collateral": "<b>How much USDC of collateral?</b> Press, or write a number.",
    "leverage": "<b>Which leverage?</b> Press, or write a number.",
    "slippage": "<b>How much slippage at most, in percent?</b> Press, or write a number.",
    "take_profit": "<b>Take profit at which price in USD?</b> Write it, or press none.",
    "stop_loss": "<b>Stop loss at which price in USD?</b> Write it, or press none.",
}
NONE, BACK, CANCEL = "none", "Back", "Cancel"
OPEN_IT, LEAVE_IT, SET_IT, HOW_FAR, QUOTE_ANEW = (
    "Open it",
    "Leave it",
    "Set it",
    "How far is it?",
    "Quote it anew",
)
FLOW_OVER = "That question is over. /open begins anew."
OPEN_THIS = "Open this?"
OFFER_SIZE = "{symbol} <b>{side}</b> {usdc} at {times}, {mode}"
OFFER_NOTIONAL = "Notional: {usdc}"
OFFER_PRICE = "Price: {price}, slippage up to {slippage} %"
OFFER_FILL = "Fill with the spread: about {price}\nFee to open: {fee}"
OFFER_LIQUIDATION = "Liquidation: about {price}"
NO_LIQUIDATION = "Liquidation: at no price above zero"
OFFER_CAP = "Left of {name}: {left} of {of}{unit}"
CAPS = {
    "notional_usdc": "notional an order",
    "collateral_usdc": "collateral an order",
    "leverage_x": "leverage",
    "exposure_usdc": "exposure",
    "open_positions": "open positions",
}
STOP_BEHIND_LIQUIDATION = (
    "the stop loss lies behind the liquidation at about {price}, so it would never be reached"
)
STOP_HOLDS = "an emergency stop holds, and nothing is opened or closed under it. /mode tells who set it"
REDUCE_ONLY_HOLDS = "reduce-only holds, and nothing is opened under it. /mode tells who set it"
SEE_WALLET = "/wallet tells the next step"
PRICE_MOVED = "the price went from {was} to {now} since the quote, further than the slippage that you allow"
CODE_WISHED = "This brings what you have at stake above {above}: write the 6 digits of your authenticator to open it. Good for 60 s."
LESS_PROTECTION = (
    "That is less protection than before: write the 6 digits of your authenticator to set it. Good for 60 s."
)
CODE_MISSING = (
    "that needs a one-time code now, since more is at stake than when it was quoted. Ask for another quote"
)
CODE_SHAPE = "I wait for the 6 digits of your authenticator. /open or another command begins something else."
LASTS = "Good for 60 s and for one tap."
QUOTE_LASTS = "Good for 60 s and for one tap. The caps and the mode are asked again then."
NO_QUOTE = "I know no such quote of yours under this message. Ask again."
QUOTE_USED = "that was decided already"
QUOTE_OLD = "this is older than 60 s. Ask again."
TAKEN = "Taken down as {key}. It goes the way of every order; /orders tells how far it is."
TAKEN_ONCE = "Taken down once, as {key}: it is {state} now."
DECIDED = "That was decided already. Nothing more was done."
NOT_CERTAIN = (
    "\N{WARNING SIGN} The database did not answer, so it is <b>not certain</b> whether that was taken down. Press the same "
    "button again: it counts once at most. /orders shows what is under way."
)
LEFT = "Left. Nothing was done."
WHICH_CLOSE = "Which one? One tap each, good for 60 s."
CLOSES_REFUSED = "\N{OCTAGONAL SIGN} A stop holds: what is asked for now is refused, and is asked for again once it is lifted."
CLOSE, TAKE_OUT = "Close", "Take out of"
CLOSE_LABEL = "{verb} #{number} {mode} {symbol} {side} {usdc} USDC"
AND_MORE = "and {count} more"
NO_SUCH_POSITION = "there is no position {number} of yours that is open"
SEVERAL_POSITIONS = "there are several; name one by its number: {numbers}"
LEVEL_OFFER = "<b>{title}</b> of #{number} {symbol} {side}: from {before} to {after}"
LEVEL_SET = "Set. /positions shows it."
LEVEL_CODE_MISSING = (
    "that is less protection than before, which needs a one-time code. Ask anew with /tp or /sl"
)
LEVEL_IS_SO = "it is so already"

WALLET, BALANCE, RISK, LOGS, USERS, PERFORMANCE = (
    "Wallet",
    "Balance",
    "Risk",
    "Newest entries",
    "People",
    "Performance",
)
YOUR_ADDRESS = "Your address: {address}"
YOUR_DELEGATE = "Trades for you: {address}"
NEXT_STEP = "<b>Next:</b> {step}"
ALL_DONE = "Nothing is to be done."
BALANCE_LINES = "USDC at your address: {usdc}\nThe venue may take: {allowance}\nAt stake, notional: {stake}\nGas of the delegate: {gas} ETH"
UNLIMITED = "without limit"
RISK_EXPOSURE = "{mode}: {positions} open, at stake {stake} notional, {collateral} collateral"
RISK_SYMBOL = "\N{BULLET} {mode} {symbol}: {long} long, {short} short"
RISK_LOSS = "Lost today (UTC), LIVE, as the caps count it: {usdc}"
NOTHING_REALISED = "Nothing was realised."
PERIOD = "{name}: {usdc} in {count} close(s), {won} won{unknown}"
UNKNOWN_PROCEEDS = ", {count} of unknown proceeds"
DAILY, WEEKLY, MONTHLY = "Realised by day (UTC)", "Realised by week (UTC)", "Realised by month (UTC)"
PERFORMED = "{mode}: {usdc} in {count} close(s), {won} won ({rate} %); mean {mean}, best {best}, worst {worst}; fees {fees}"
NOT_PERFORMED = "{mode}: no close yet"
EXPORTED = "{count} fill(s), the newest {most} at most."
NOTHING_TO_EXPORT = "There is no fill yet."
NO_LOGS = "Nothing was written down yet."
USER_LINE = "\N{BULLET} {user_id} <b>{role}</b> {label}{account}, by {by}, {at}"
AS_ACCOUNT = ", account {account}"
RECONCILED = "Book and venue agree about every live position."
DIFFERENCES = "Book and venue differ"
MISSING_LINE, UNKNOWN_LINE = "\N{BULLET} {what}", "\N{BULLET} the venue has {what} that no position here is"
FLATTEN = (
    "<b>Close every live position</b> of everybody ({count} now) and open nothing meanwhile: reduce-only is set first and "
    "stays. To do it write\n<code>/flatten yes{code} REASON</code>"
)
FLATTEN_STOPPED = "A stop holds, and nothing leaves under it. Reduce-only, resume, then /flatten."
FLATTENED = "All live positions are closed. Reduce-only holds."
NOT_FLATTENED = "\N{WARNING SIGN} {count} live position(s) or opens are still there after {seconds} s; their closes go on. Reduce-only holds. /positions, /orders"

CHALLENGE = (
    "{domain} asks you to bind this address to a Telegram account.\n\n"
    "Address: {address}\nTelegram id: {user_id}\nChain id: {chain_id}\nNonce: {nonce}\nExpires: {expires}\n\n"
    "This shows that you hold the address. It moves nothing and allows nobody to move anything."
)
BIND_USAGE = "/bind 0xYOURADDRESS"
SIGN_THIS = (
    "Sign this text, letter for letter, with the wallet of {address}. Any wallet can (personal_sign); your key never comes here:\n"
    "<pre>{text}</pre>\nThen send, within {minutes} min:\n<code>/bind {address} 0xSIGNATURE</code>"
)
NO_ADDRESS = "An address is 0x and 40 hex digits."
MISTYPED = "The address has a wrong checksum: it was mistyped."
NO_SIGNATURE = "A signature is 0x and hex digits, 130 of them where a key signs."
NO_CHALLENGE = "no challenge for that address is open, or its time is over. /bind {address} gives a new one"
OTHER_ADDRESS = "your trader has the address {address}, and that does not change while it exists"
ADDRESS_TAKEN = "that address is another person's"
BOUND = "Bound: {address} is yours. /wallet tells the next step."
BOUND_ALREADY = "{address} is bound to you already. /wallet tells the next step."
STILL_DISABLED = "\nYour trader is disabled. On the machine: <code>manage.py trader enable {user_id}</code>"
NOT_BOUND = "No address is bound to you. " + "Begin with <code>/bind 0xYOURADDRESS</code>"
UNBOUND = (
    "Unbound: nothing is traded for you any more, signals' orders included. The delegation at the venue ends only by "
    "your own wallet: setDelegate with the zero address. To trade again: /bind, then manage.py trader enable {user_id}"
)
STILL_OPEN = "{positions} position(s) are open and {orders} order(s) under way; close them first (/close), since nothing is closed for who is unbound"
BINDING_PROVED = "{sign} binding: proved {at}"
BINDING_BY_OPERATOR = (
    "{sign} binding: your address was told by an operator, not proved by you (/bind {address})"
)

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


def cents(price: Decimal) -> Decimal:
    """An estimated price in as many digits as an estimate has: six at least, two decimals at least."""
    digits = max(2, 5 - price.adjusted()) if price else 2
    return price.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def cap(name: str) -> str:
    return CAPS.get(name, name)


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
        parts.append(f"{TAKE_PROFIT} {safe(answers['take_profit'] or NONE)}")
    if "stop_loss" in answers:
        parts.append(f"{STOP_LOSS} {safe(answers['stop_loss'] or NONE)}")
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
    return {True: "LONG", False: "SHORT", None: "CLOSE"}[is_long]
