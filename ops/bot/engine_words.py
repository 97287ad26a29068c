"""What the engine writes in its own English, said in the language of whoever reads it.

Rows, refusals and /health hold whole sentences, and no code beside them. Each sentence that can come to the bot is
here as it is written there (a test compares), with the name of the text that says it. What nobody has translated is
said as it is: a strange word is better than none.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

from ops.bot import words
from ops.bot.engine_details import DETAILS

# `{text}` is a sentence of its own, whatever SPELLINGS names is spelt for people, and anything else in braces is one
# word that stays as it is.
SENTENCES: Mapping[str, str] = {
    # ops/watch: health
    "never seen": "NEVER_SEEN",
    "last seen {s} s ago": "LAST_SEEN",
    "last seen working {s} s ago": "LAST_WORKING",
    "{symbol} never seen": "PRICE_NEVER",
    "{symbol} {s} s old": "PRICE_OLD",
    "{symbol} {s} s old and {count} more": "PRICE_OLD_MORE",
    "{symbol} never seen and {count} more": "PRICE_NEVER_MORE",
    "no answer in time": "NO_ANSWER",
    "read-only": "READ_ONLY",
    "unknown while the database is away": "UNKNOWN_NOW",
    "chain and database were never compared": "NEVER_COMPARED",
    "halted: chain and database disagree": "DISAGREE",
    "chain and database not compared for {s} s": "NOT_COMPARED",
    "{count} halted": "HALTED_COUNT",
    "{count} {reason} for up to {s} s": "HELD_COUNT",
    "TELEGRAM_BOT_TOKEN is blank": "TOKEN_BLANK",
    "polling": "POLLING",
    "listening": "LISTENING",
    "endpoint {count}: {text}": "ENDPOINT",
    "wrong chain": "WRONG_CHAIN",
    "head is {s} s old": "HEAD_OLD",
    "not a JSON-RPC answer": "NOT_JSON",
    # execution_app/gate/modes: why the mode is what it is
    "this process does not watch the mode": "NOT_WATCHED",
    "the last look at Redis is too old": "LOOK_TOO_OLD",
    "redis: {text}": "REDIS_SAYS",
    "health streak {streak}": "STREAK",
    "emergency stop": "STOP_STANDS",
    "chain and database have not been compared yet": "NOT_YET_COMPARED",
    "chain and database have not been compared since this process started": "NOT_COMPARED_SINCE",
    "chain and database were last compared too long ago": "COMPARED_LONG_AGO",
    "database: {text}": "DATABASE_SAYS",
    "EXEC_MODE is DRY": "EXEC_MODE_DRY",
    "key exec_mode is unreadable": "KEY_UNREADABLE",
    "key exec_mode is of another epoch": "KEY_OTHER_EPOCH",
    "the epoch in Redis is not the database's": "EPOCH_OTHER",
    "DRY was set by an operator; Restrictions on the admin site says where": "DRY_SET",
    # execution_app/book/drift
    "the venue has no such trade": "NO_SUCH_TRADE",
    "{field} is {value}, the venue has {other}": "DIFFERS",
    # ops/rollout/wallet_check
    "disabled": "DISABLED",
    "manage.py trader enable {user_id}": "ENABLE",
    "enabled, trades from {address}": "ENABLED",
    "halted: {text}": "WALLET_HALTED",
    "not halted": "NOT_HALTED",
    "{eth} ETH, enough for about {count} orders": "GAS_FOR",
    "send {eth} ETH to {address}": "SEND_ETH",
    "no USDC": "NO_USDC",
    "the trader funds {address} with USDC": "FUND",
    "{usdc} USDC at the trader's address": "USDC_THERE",
    "the venue may not take any USDC": "NO_ALLOWANCE",
    "unlimited: the allowance is the bound of the loss should the delegate's key leak": "UNLIMITED_ALLOWANCE",
    "{usdc} USDC may be taken": "ALLOWANCE",
    "{address} calls approve({storage}, AMOUNT) on the USDC contract with a finite amount": "APPROVE",
    "the trader's delegate is {address}": "OTHER_DELEGATE",
    "ended {days} days ago": "DELEGATION_OVER",
    "ends in {days} days": "DELEGATION_ENDS",
    "lasts {days} days, longer than the 90 that are wise": "DELEGATION_LONG",
    "lasts another {days} days": "DELEGATION_LASTS",
    "the trader calls setDelegate({address}, EXPIRY) on {trading}, EXPIRY within 90 days": "SET_DELEGATE",
    "manage.py wallet adopt {user_id} shows what the chain knows": "ADOPT",
    # refusals: execution_app/engine/held, gate, book/protections, node/ownership, desks, ops/rollout/reconciling
    "no intent is called {key}": "NO_INTENT",
    "{key} is an open: an open is never approved, it waits for the mode until its max lag": "IS_OPEN",
    "{key} is no close: nothing else is approved": "NO_CLOSE",
    "{key} has no wallet": "KEY_NO_WALLET",
    "{key} is not held: it is {state}": "NOT_HELD",
    "{key} is not held: it is {state} {reason}": "NOT_HELD_BUT",
    "{key} waits for {reason}, not for the mode: {detail}": "WAITS_FOR",
    "{key} closes no live position": "CLOSES_NOTHING",
    "{key} is approved by {by} until {until} already": "APPROVED_ALREADY",
    "an emergency stop holds, and no approval passes it": "APPROVAL_STOP",
    "DRY was set by an operator, and no approval passes that": "APPROVAL_DRY",
    "{text}, and no approval passes that": "APPROVAL_LIMIT",
    "the audit log is busy, so nothing was approved; try again": "AUDIT_BUSY",
    "{name} has passkeys alone: use one, on the admin site": "PASSKEYS_ALONE",
    "{name} has no second factor: manage.py second_factor enrol {account}": "NO_FACTOR",
    "the code is wrong, used already, or comes too soon after a wrong one": "WRONG_CODE",
    "loosening needs a reason of at least {count} characters": "LONGER_REASON",
    "somebody has just changed position {position}; look again": "JUST_CHANGED",
    "there is no position {position}": "NO_POSITION",
    "position {position} is {state}": "POSITION_IS",
    "{field} must be above 0 and at most {most}": "FIELD_RANGE",
    "{field} has at most {digits} decimals": "FIELD_DECIMALS",
    "a change names a price, a slippage or a level": "CHANGES_NOTHING",
    "the take_profit of this position lies above its stop_loss": "ABOVE",
    "the take_profit of this position lies below its stop_loss": "BELOW",
    "{level} is crossed already; send a CLOSE instead": "CROSSED",
    "{level} is crossed already at {price}; send a CLOSE instead": "CROSSED_AT",
    "a signature has at most {bytes} bytes": "LONG_SIGNATURE",
    "that signature is not of {address}, or not of this text": "OTHER_SIGNATURE",
    "too few nodes agree now about what that contract thinks; try again in a minute": "FEW_NODES",
    "trader {user_id} has no delegate wallet": "NO_DELEGATE_WALLET",
    "the venue has no pair {symbol}": "NO_PAIR",
    "the venue has no price for {symbol}": "NO_VENUE_PRICE",
    "the node cannot say what the venue asks: {text}": "NODE_SILENT",
    "the node cannot say what the venue holds: {text}": "NODE_SILENT",
    "the venue's trades cannot be read: {text}": "TRADES_UNREAD",
    "position {position} on {symbol} is not what the venue holds": "POSITION_DIFFERS",
    "trade {slot} on {symbol} of trader {user_id}": "UNKNOWN_TRADE",
    **DETAILS,
}
BETWEEN = ("; ", ", ")  # several things that are told in one row
_APART = re.compile(r"; (?![^(]*\))")  # of several details: not what stands in brackets
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
COUNTED_S = 120
FREE = frozenset({"text", "detail"})
NUMBERS = frozenset(
    {
        *("s", "count", "days", "usdc", "eth", "most", "digits", "bytes", "price", "pct"),
        *("needed", "wei", "needed_wei", "kept_wei"),
    }
)
# What a cap counts: in its unit, or none.
AMOUNTS = frozenset({"amount", "asked", "limit"})
INSIDE = {
    **dict.fromkeys(("listed", "scoped", "where"), r"[^()]*"),
    "names": r"[a-z_, ]+",
    **dict.fromkeys(("when", "opens"), r"[0-9UTC: -]+"),
}
NAME = re.compile(r"\\\{([a-z_]+)\\\}")


def _pattern(sentence: str) -> re.Pattern[str]:
    def group(found: re.Match[str]) -> str:
        kind = found[1]
        return f"(?P<{kind}>{_spelling(kind)})"

    return re.compile(NAME.sub(group, re.escape(sentence)), re.DOTALL)


def _spelling(kind: str) -> str:
    if kind in FREE:
        return ".*"
    if kind in NUMBERS:
        return NUMBER.pattern
    if kind in AMOUNTS:
        return rf"{NUMBER.pattern}(?: USDC| wei)?"
    return INSIDE.get(kind, "[^ ]+?")


PATTERNS = [(_pattern(sentence), f"ENGINE_{name}") for sentence, name in SENTENCES.items()]


def said(sentence: object) -> str:
    """In the reader's language as far as it is known, escaped and cut as `words.safe` does."""
    text = str(sentence)[: words.MOST_WORD]
    return _translated(text) or next(
        (between.join(map(said, text.split(between))) for between in BETWEEN if between in text),
        words.safe(text),
    )


def is_known(sentence: str) -> bool:
    return any(pattern.fullmatch(sentence) for pattern, _ in PATTERNS)


def knows(detail: str) -> bool:
    """Whether all of an order's detail is known; it may be several sentences."""
    return all(map(is_known, _sentences(detail)))


def detail(told: str) -> str:
    """An order's detail in the reader's language, each of its sentences."""
    return "; ".join(_translated(one) or words.safe(one) for one in _sentences(told))


def _sentences(told: str) -> list[str]:
    """Several sentences stand behind one another, and some have a semicolon of their own."""
    if is_known(told):
        return [told]
    parts, found = _APART.split(told), list[str]()
    while parts:
        ends = range(1, len(parts) + 1)
        many = next((end for end in ends if is_known("; ".join(parts[:end]))), 1)
        found.append("; ".join(parts[:many]))
        del parts[:many]
    return found


def _translated(text: str) -> str | None:
    for pattern, name in PATTERNS:
        found = pattern.fullmatch(text)
        if found is not None:
            return words.text(name).format(
                **{key: _spelt(key, value) for key, value in found.groupdict().items()}
            )
    return None


def _spelt(kind: str, value: str) -> str:
    if kind in SPELLINGS:
        return SPELLINGS[kind](value)
    return words.grouped(Decimal(value)) if kind in NUMBERS else words.safe(value)


def _value(spelt: str) -> str:
    """What a column holds: a number, a side, or nothing."""
    if spelt in {"True", "False"}:
        return words.side(is_long=spelt == "True")
    if spelt == "None":
        return words.text("NONE")
    return words.grouped(Decimal(spelt)) if NUMBER.fullmatch(spelt) else words.safe(spelt)


def _amount(spelt: str) -> str:
    number, _, unit = spelt.partition(" ")
    value = Decimal(number)
    if unit == "wei":
        return _eth(number)
    return words.usdc(value) if unit else words.grouped(value)


def _eth(wei: str) -> str:
    return words.grouped(Decimal(wei).scaleb(-18)) + " ETH"


def _lasting(seconds: str) -> str:
    """As it stands while it can be counted, else in the largest unit that fits."""
    lasts_s = Decimal(seconds)
    return f"{words.grouped(lasts_s)} s" if lasts_s < COUNTED_S else words.lasting(float(lasts_s))


def _cap(name: str) -> str:
    """A cap's name; an order alone is called by the first word of it."""
    return words.cap(
        {"notional": "notional_usdc", "collateral": "collateral_usdc", "leverage": "leverage_x"}.get(
            name, name
        )
    )


def _where(spelt: str) -> str:
    """For whom a cap holds, and who says so."""
    scope, apart, origin = spelt.rpartition(", ")
    row = origin.removeprefix("cap ")
    by = words.CAP_OF_HOUSE if row == origin else words.CAP_ROW.format(number=words.safe(row))
    return _scope(scope) + apart + by


def _scope(spelt: str) -> str:
    kind, _, name = spelt.partition(" ")
    return f"{words.scope(kind)} {words.safe(name)}".strip()


def _moment(spelt: str) -> str:
    try:
        return words.moment(datetime.fromisoformat(spelt))
    except ValueError:
        return words.safe(spelt)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "s": _lasting,
    "text": said,
    "reason": words.reason,
    "state": words.state,
    "usdc": lambda value: words.usdc(Decimal(value)),
    "eth": lambda value: words.eth(Decimal(value)).removesuffix(" ETH"),
    "field": words.field,
    "level": words.field,
    "value": _value,
    "other": _value,
    "needed": lambda value: words.usdc(Decimal(value)),
    "wei": _eth,
    "needed_wei": _eth,
    "kept_wei": _eth,
    "amount": _amount,
    "asked": _amount,
    "limit": _amount,
    "cap": _cap,
    "where": _where,
    "scoped": _scope,
    "at": _moment,
    "until": _moment,
    "order_type": words.order_type,
    "times": lambda value: words.times(Decimal(value.removesuffix("x"))),
    # To be copied by a tap.
    "address": words.code,
    "storage": words.code,
    "trading": words.code,
}
