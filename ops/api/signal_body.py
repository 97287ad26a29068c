"""The body of a signal, from the very limits that `signals_app.payloads` enforces."""

from collections.abc import Callable
from typing import Any

from ops.api.shapes import Json, either, named, whole
from signals_app import payloads
from signals_app.payloads import Amount, OneOf, Text, Whole
from signals_app.strict_json import MAX_NUMBER_CHARS

ABOUT = {
    "source": "Who sends. The secret that signs must stand for this name.",
    "signal_id": "The sender's own name of this signal; for one content, for ever.",
    "tg_user_id": "The trader's Telegram id.",
    "symbol": "The venue's pair.",
    "side": "In any case. CLOSE ends every open position of the pair, unless reduced. INCREASE puts collateral into the one that is open, only where VENUE is gateway or it is simulated. CHANGE changes an order that rests. MARGIN puts collateral into the one open position of the pair, or takes some out, only where VENUE is onchain or it is simulated.",
    "collateral_usdc": "USDC put in. An open and an INCREASE need it; with CLOSE it has no effect.",
    "leverage_x": "Collateral times leverage is the notional. An open needs it, an INCREASE has that of its position; with CLOSE it has no effect.",
    "slippage_pct": "How far, in percent, the price may be from the one seen. With CHANGE it stays as it is unless given.",
    "reduce_usdc": "CLOSE only: take out this much collateral. Excludes reduce_pct.",
    "reduce_pct": "CLOSE only: take out this part of the collateral, in percent. Excludes reduce_usdc.",
    "take_profit": "Price in USD at which the position is closed with a profit; with an open. With CHANGE the new one, and 0 takes it away.",
    "stop_loss": "Price in USD at which the position is closed with a loss; with an open. With CHANGE the new one, and 0 takes it away.",
    "trailing_stop_pct": "Close where the price is this far from the best one since the opening; with an open.",
    "break_even_pct": "Close at the opening price once the price was this much better; with an open.",
    "time_stop_s": "Close this many seconds after the fill; with an open.",
    "order_type": "limit and stop_limit rest at the venue until limit_price comes; only where VENUE is onchain, and not in DRY.",
    "limit_price": "Price in USD at which it opens; needed by limit and stop_limit, refused with market. With CHANGE the new one.",
    "changes": "CHANGE only, which needs it: the signal_id, of the same source, whose order rests at the venue. What a CHANGE does not "
    "name stays; collateral and leverage never change. Only where VENUE is onchain, and not in DRY.",
    "deposit_usdc": "MARGIN only: USDC that goes into the position; its notional stays. Counts against caps. Excludes withdraw_usdc.",
    "withdraw_usdc": "MARGIN only: USDC that comes out, to the trader; its notional stays, so its leverage rises. Excludes deposit_usdc.",
    "max_lag_s": "Seconds from ts, or from reception, after which it is too old to begin; what rests at the venue has begun.",
    "ts": f"When the signal was made: RFC 3339 with zone, in the years {payloads.FIRST_YEAR} to {payloads.LAST_YEAR}.",
    "meta": "Anything of the sender's; kept and shown, never interpreted. "
    f"At most {payloads.MAX_META_BYTES} bytes as JSON, nested at most {payloads.MAX_META_NESTING} deep.",
}
DEFAULTS: Json = {
    "slippage_pct": float(payloads.DEFAULT_SLIPPAGE_PCT),
    "order_type": payloads.DEFAULT_ORDER_TYPE,
    "meta": {},
}
OPEN: Json = {
    "source": "drill",
    "signal_id": "test-001",
    "tg_user_id": 123,
    "symbol": "BTC-USD",
    "side": "LONG",
    "collateral_usdc": 5,
    "leverage_x": 2,
    "slippage_pct": 0.5,
}
CLOSE: Json = {
    "source": "drill",
    "signal_id": "test-002",
    "tg_user_id": 123,
    "symbol": "BTC-USD",
    "side": "CLOSE",
    "reduce_pct": "50",
}
EXAMPLES: Json = {
    "open": {"summary": "Open a position of 10 USDC notional", "value": OPEN},
    "close": {"summary": "Close half of it", "value": CLOSE},
}

CHANGE: Json = {
    "source": "drill",
    "signal_id": "test-003",
    "tg_user_id": 123,
    "symbol": "BTC-USD",
    "side": "CHANGE",
    "changes": "limit-001",
    "limit_price": "94000",
}
MARGIN: Json = {
    "source": "drill",
    "signal_id": "test-004",
    "tg_user_id": 123,
    "symbol": "BTC-USD",
    "side": "MARGIN",
    "deposit_usdc": "2.5",
}
EXAMPLES["margin"] = {"summary": "Put collateral into a position", "value": MARGIN}
EXAMPLES["change"] = {"summary": "Give an order that rests another price", "value": CHANGE}

_NULL: Json = {"type": "null"}
_GIVEN: Json = {"not": _NULL}
_NOT_NOTHING: Json = {"not": {"const": 0}}


def schemas() -> Json:
    """The body, and how a number may be spelled in it."""
    return {
        "SignalBody": _body(),
        "SpelledNumber": {
            "type": "string",
            "maxLength": MAX_NUMBER_CHARS,
            "pattern": whole(payloads.NUMBER.pattern),
            "description": "A decimal string, which is the safest way to send an amount. The limits of its field hold for "
            "what it spells; JSON Schema cannot say that of a string.",
        },
    }


def _body() -> Json:
    """Every field with its limits, and what the fields must say together."""
    return {
        "description": "One order. Unknown fields are refused; null counts as not given. Numbers are exact decimals "
        f"of at most {MAX_NUMBER_CHARS} characters. Too many decimals are refused, never rounded. The content is what "
        'counts: key order and 5 against "5.0" do not matter.',
        "type": "object",
        "properties": {name: _field(name, reader) for name, reader in payloads.FIELDS.items()},
        "required": sorted(payloads.REQUIRED, key=list(payloads.FIELDS).index),
        "additionalProperties": False,
        "allOf": _together(),
        "examples": [OPEN, CLOSE, CHANGE, MARGIN],
    }


def _field(name: str, reader: Callable[[object], object]) -> Json:
    forms, limits = _forms(reader)
    if name not in payloads.REQUIRED:
        forms.append(_NULL)
    default = f"By default {DEFAULTS[name]}." if DEFAULTS.get(name) else ""
    described: Json = {"description": " ".join(part for part in (ABOUT[name], limits, default) if part)}
    described |= forms[0] if len(forms) == 1 else either(*forms)
    if isinstance(reader, Amount):
        described["x-decimals"] = reader.decimals
    if name in DEFAULTS:
        described["default"] = DEFAULTS[name]
    return described


def _forms(reader: Callable[[object], object]) -> tuple[list[Json], str]:
    """What JSON a field may be, and in words what JSON Schema cannot say of it."""
    spelled = named("SpelledNumber")
    match reader:
        case Amount(decimals, maximum, True):
            level = {"type": "number", "minimum": 0, "maximum": _number(maximum)}
            return [level, spelled], f"Above 0, at most {maximum:,f}, with at most {decimals} decimals."
        case Amount(decimals, maximum):
            number = {"type": "number", "exclusiveMinimum": 0, "maximum": _number(maximum)}
            return [number, spelled], f"Above 0, at most {maximum:,f}, with at most {decimals} decimals."
        case Whole(maximum):
            number = {"type": "integer", "minimum": 1, "maximum": maximum}
            return [number, spelled], f"A whole number from 1 to {maximum:,d}."
        case Text(pattern, words):
            text = {"type": "string", "pattern": whole(pattern.pattern)}
            return [text], f"{words[0].upper()}{words[1:]}."
        case OneOf(words, any_case):
            listed: Json = {"type": "string", "enum": list(words)}
            return [listed, {"type": "string", "pattern": _in_any_case(words)}] if any_case else [listed], ""
        case payloads.read_instant:
            # Read in upper case, so t and z may be small.
            spelling = payloads.RFC3339.pattern.replace("T", "[Tt]").replace("Z", "[Zz]")
            return [{"type": "string", "format": "date-time", "pattern": whole(spelling)}], ""
        case payloads.read_meta:
            return [{"type": "object"}], ""
    raise TypeError(f"nobody has said how to describe {reader}")


def _number(value: Any) -> int | float:
    return int(value) if value == int(value) else float(value)


def _in_any_case(words: tuple[str, ...]) -> str:
    spelled = ("".join(f"[{letter}{letter.lower()}]" for letter in word) for word in words)
    return whole("|".join(spelled))


def _together() -> list[Json]:
    """What `payloads` refuses although each field by itself is right."""
    changes = {"properties": {"side": {"pattern": _in_any_case((payloads.CHANGE,))}}, "required": ["side"]}
    margin = {"properties": {"side": {"pattern": _in_any_case((payloads.MARGIN,))}}, "required": ["side"]}
    opens = {"properties": {"side": {"pattern": _in_any_case(payloads.OPENING_SIDES)}}, "required": ["side"]}
    priced = {
        "properties": {"order_type": {"enum": list(payloads.PRICED_ORDERS)}},
        "required": ["order_type"],
    }
    grows = {
        "properties": {"side": {"pattern": _in_any_case((payloads.INCREASE,))}},
        "required": ["side"],
    }
    unpriced = {"enum": [payloads.DEFAULT_ORDER_TYPE, None]}
    return [
        {
            "description": "INCREASE needs collateral_usdc; leverage and levels are those of its position.",
            "if": grows,
            "then": {
                "required": ["collateral_usdc"],
                "properties": {
                    "collateral_usdc": _GIVEN,
                    "order_type": unpriced,
                    **dict.fromkeys(payloads.NOT_OF_INCREASES, _NULL),
                },
            },
        },
        {
            "description": "LONG and SHORT need collateral_usdc and leverage_x, and take no reduce_usdc or reduce_pct.",
            "if": opens,
            "then": {
                "required": ["collateral_usdc", "leverage_x"],
                "properties": {
                    "collateral_usdc": _GIVEN,
                    "leverage_x": _GIVEN,
                    "reduce_usdc": _NULL,
                    "reduce_pct": _NULL,
                },
            },
        },
        {
            "description": f"limit_price comes with {' and '.join(payloads.PRICED_ORDERS)}, and with nothing else.",
            "if": priced,
            "then": {"required": ["limit_price"], "properties": {"limit_price": _GIVEN}},
            "else": {"anyOf": [changes, {"properties": {"limit_price": _NULL}}]},
        },
        {
            "description": f"{payloads.CHANGE} needs changes and one of {', '.join(payloads.CHANGEABLE)}, and takes nothing else "
            f"of an order; nothing else takes changes, or 0 for {' or '.join(payloads.REMOVABLE)}.",
            "if": changes,
            "then": {
                "required": ["changes"],
                "properties": {"changes": _GIVEN, **dict.fromkeys(payloads.UNCHANGEABLE, _NULL)},
                "anyOf": [{"required": [name], "properties": {name: _GIVEN}} for name in payloads.CHANGEABLE],
            },
            "else": {"properties": {"changes": _NULL, **dict.fromkeys(payloads.REMOVABLE, _NOT_NOTHING)}},
        },
        {
            "description": f"{payloads.MARGIN} needs one of {' and '.join(payloads.MARGINS)}, and takes nothing else of an order; "
            "nothing else takes these.",
            "if": margin,
            "then": {
                "properties": dict.fromkeys(payloads.NOT_OF_MARGIN, _NULL),
                "oneOf": [{"required": [name], "properties": {name: _GIVEN}} for name in payloads.MARGINS],
            },
            "else": {"properties": dict.fromkeys(payloads.MARGINS, _NULL)},
        },
        {
            "description": "reduce_usdc and reduce_pct exclude each other.",
            "not": {
                "required": ["reduce_usdc", "reduce_pct"],
                "properties": {"reduce_usdc": _GIVEN, "reduce_pct": _GIVEN},
            },
        },
    ]
