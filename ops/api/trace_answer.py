"""The answer of a trace, from the columns that `signals_app.trace` shows and the tables they come from."""

from typing import Any

from django.db import models

from execution_app.models import (
    Fill,
    IntentTransition,
    Position,
    Reservation,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
)
from execution_app.states import IntentState, Mode
from ops.api.shapes import INSTANT, TEXT, Json, either, many, maybe, named, record, word
from signals_app import trace
from signals_app.models import Signal

# The parts of one intent's road, in the order of the answer; a signal that never became an intent has none.
ROAD: Json = {
    "intent": maybe(named("Intent")),
    "reservation": maybe(named("Reservation")),
    "history": many(named("Transition"), at_most=trace.MAX_TRANSITIONS, about="Every state, oldest first."),
    "history_archive": maybe({**TEXT, "description": "The file that has the history, once it was archived."}),
    "sends": many(named("Send"), at_most=trace.MAX_SENDS, about="Every signed transaction of its slot."),
    "message": maybe(named("Message")),
    "receipts": many(named("Receipt"), at_most=trace.MAX_SENDS, about="What the chain did with them."),
    "order": maybe(named("VenueOrder")),
    "fill": maybe(named("Fill")),
    "position": maybe(named("Position")),
}

SCALES = {6: "Usdc", 4: "Factor", 10: "Price", 0: "Wei"}
SCALE_WORDS = {
    "Usdc": "An amount of USDC",
    "Factor": "A leverage or a percentage",
    "Price": "A price in USD",
    "Wei": "An amount of wei",
}
# Words that are described once.
LISTS = {"State": list(IntentState), "Mode": list(Mode)}
# Collateral times leverage, whose decimals add up.
NOTIONAL: Json = {
    "type": "string",
    "pattern": r"^-?[0-9]+(\.[0-9]{1,10})?$",
    "description": "Notional in USDC, as a decimal string with at most 10 decimals.",
}
# A trade's, which increases may have blended; of an order it is a Factor.
SCALE_OF_TRADES = 10
LEVERAGE: Json = {
    "type": "string",
    "pattern": r"^-?[0-9]+(\.[0-9]{1,10})?$",
    "description": "A trade's leverage, as a decimal string with at most 10 decimals.",
}
# Columns whose words the table does not list.
WORDS: Json = {
    "asked_usdc": NOTIONAL,
    "notional_usdc": NOTIONAL,
    "reason": either(named("Reason"), word("")),
    "from_state": either(named("State"), word("", about="It was new.")),
    "to_state": named("State"),
}


def schemas() -> Json:
    """Every schema of the answer, by name."""
    return {
        **_scales(),
        "Trace": record(
            {
                "status": word("ok"),
                "signal": named("Signal"),
                "decision": named("Decision"),
                **ROAD,
                "siblings": many(
                    named("Road"),
                    at_most=trace.MAX_SIBLINGS,
                    about="The other intents of a CLOSE that ended several positions, in order.",
                ),
                "mode": named("Mode"),
            },
            about="Everything that became of one signal. Amounts are decimal strings with the unit in the name, "
            "times are RFC 3339 in UTC; null is what has not happened.",
        ),
        "Signal": _row(
            Signal,
            trace.SIGNAL,
            {
                "intent_key": TEXT,
                "meta_archive": maybe(
                    {
                        **TEXT,
                        "description": "The file that has `meta`, once it was archived and emptied here.",
                    }
                ),
            },
            "What was sent, in its canonical spelling.",
        ),
        "Decision": record(
            {
                "decision": maybe(word("accepted", "rejected")),
                "reasons": many(named("Reason"), about="Each reason against it, or accepted."),
                "decided_at": maybe(INSTANT),
            },
            about="What was made of it, once; null until then.",
        ),
        "Road": record(ROAD, about="One intent and all that hangs on it."),
        "Intent": _row(
            TxIntent,
            trace.INTENT,
            {"key": TEXT, "wallet": maybe(TEXT)},
            "One order and how far it has come. From the state reserved on it owns its nonce for life.",
        ),
        "Transition": _row(IntentTransition, trace.TRANSITION, {}, "A change of state."),
        "Send": _row(TxSend, trace.SEND, {}, "A signed transaction, without its bytes."),
        "Message": _row(
            VenueMessage,
            trace.MESSAGE,
            {},
            "The signed message of an order that went by the gateway, without its bytes.",
        ),
        "Receipt": _row(TxReceipt, trace.RECEIPT, {"tx_hash": TEXT}, "Its receipt as last seen."),
        "Reservation": _row(
            Reservation, trace.RESERVATION, {}, "What it takes of the caps; null for a close."
        ),
        "VenueOrder": _row(VenueOrder, trace.ORDER, {}, "What the venue registered."),
        "Fill": _row(Fill, trace.FILL, {}, "What the venue executed, or the simulation in DRY."),
        "Position": _row(Position, trace.POSITION, {}, "What is held, or was."),
    }


def _row(model: type[models.Model], columns: tuple[str, ...], more: Json, about: str) -> Json:
    shown = {name: _column(model._meta.get_field(name)) for name in columns}  # noqa: SLF001  (Django's public name)
    return record({**more, **shown}, about=about)


def _column(field: Any) -> Json:
    schema = WORDS.get(field.name) or (_word(field) if field.choices else _value(field))
    return maybe(schema) if field.null else schema


def _word(field: Any) -> Json:
    words = [value for value, _ in field.choices]
    known = next((name for name, listed in LISTS.items() if words == listed), None)
    schema = named(known) if known else word(*words)
    return either(schema, word("")) if field.blank and not field.null else schema


def _value(field: Any) -> Json:
    match field:
        case models.DecimalField() if (
            field.name.startswith("leverage") and field.decimal_places == SCALE_OF_TRADES
        ):
            return LEVERAGE
        case models.DecimalField():
            return named(SCALES[field.decimal_places])
        case models.DateTimeField():
            return INSTANT
        case models.BooleanField():
            return {"type": "boolean"}
        case models.BigIntegerField():
            return {"type": "integer", "format": "int64"}
        case models.IntegerField():
            return {"type": "integer"}
        case models.CharField():
            return {"type": "string", "maxLength": field.max_length}
        case models.JSONField():
            return {"type": "object"}
    raise TypeError(f"nobody has said how to describe {field}")


def _scales() -> Json:
    """Exact numbers by their scale, which is that of their column."""
    return {
        name: {
            "type": "string",
            "pattern": f"^-?[0-9]+(\\.[0-9]{{1,{decimals}}})?$" if decimals else "^-?[0-9]+$",
            "description": f"{SCALE_WORDS[name]}, as a decimal string"
            + (f" with at most {decimals} decimals." if decimals else "."),
        }
        for decimals, name in SCALES.items()
    }
