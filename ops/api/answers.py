"""The other answers, in the shapes that the views give them."""

from dataclasses import fields

from execution_app.gate.watch import ModeView
from execution_app.states import IntentState, Mode, Origin, Reason
from ops.api import refusals
from ops.api.shapes import COUNT, FLAG, TEXT, TX_HASH, Json, described, either, many, named, record, word
from ops.panel.views import ASK_AGAIN, REASON_LIMIT, STOP_BY_REDIS, UNAWAITED
from ops.watch import health
from signals_app.intake import UNDECIDED_STATE, Outcome
from signals_app.meters import Refusal

MODE: Json = {"mode": named("Mode")}
KEY: Json = {
    "intent_key": {
        "type": "string",
        "description": "sig:SOURCE:SIGNAL_ID, the name of the order in all records.",
    }
}
_MESSAGE: Json = {"message": described(TEXT, "For people; its words may change.")}
_OF_FIELDS = {str: TEXT, bool: FLAG, int: COUNT}


def schemas() -> Json:
    """Every schema by name, but for the signal's body and the trace."""
    return {**_shared(), **_of_signals(), **_of_health(), **_of_the_stop()}


def _shared() -> Json:
    return {
        "Mode": word(
            *Mode,
            about="The mode that holds now in the process that answered. LIVE sends transactions; DRY goes the "
            "same road up to the signature and simulates the fill.",
        ),
        "State": word(*IntentState, about="Every state of an order."),
        "Reason": word(*Reason, about="Why an order was accepted, refused, held or let go."),
        "Problem": record(
            {"status": word("error"), "error": TEXT, **MODE},
            about="What is told where no view answers, and by the stop and the probes: "
            f"400 “{refusals.UNKNOWN_HOST}”, 404 “{refusals.NOT_FOUND}”, 405, 500.",
        ),
        "MethodNotAllowed": record(
            {"status": word("method_not_allowed"), **_MESSAGE, **MODE},
            about="405; the header Allow says more.",
        ),
    }


def _of_signals() -> Json:
    undecided = word(UNDECIDED_STATE, about="Stored, and not decided yet.")
    state = {"description": "How far it is.", **either(named("State"), undecided)}
    field_error = record(
        {"field": described(TEXT, "Blank for the body as a whole."), "message": TEXT},
    )
    return {
        "Queued": record(
            {"status": word(Outcome.QUEUED), **KEY, **MODE},
            about="Stored and committed. What is decided about it, and why, is in its trace.",
        ),
        "Duplicate": record(
            {"status": word(Outcome.DUPLICATE), **KEY, "state": state, **MODE},
            about="The same signal was stored before; nothing was done again.",
        ),
        "NotJson": _refusal(Refusal.NOT_JSON, about="No strict JSON: a key twice, NaN, not UTF-8, too deep."),
        "Unsigned": _refusal(
            Refusal.SIGNATURE,
            Refusal.WRONG_SOURCE,
            about="signature: no active secret explains the headers. wrong_source: the secret that does is not of "
            "this source, or no longer.",
        ),
        "Conflict": _refusal(
            Refusal.CONFLICT, more=KEY, about="The id, or the webhook-id, stands for another content."
        ),
        "TooLarge": _refusal(Refusal.TOO_LARGE),
        "ContentType": _refusal(Refusal.CONTENT_TYPE),
        "Invalid": _refusal(
            Refusal.INVALID,
            more={"errors": many(field_error, about="Every fault that was found, not the first only.")},
        ),
        "Throttled": _refusal(Refusal.THROTTLED, about="Nothing was stored."),
        "Unavailable": _refusal(
            Refusal.UNAVAILABLE,
            about="The database did not confirm. Send the same again: stored or not, it is one signal.",
        ),
        "Unauthorized": record({"status": word("unauthorized"), **_MESSAGE, **MODE}),
        "NotFound": record({"status": word("not_found"), **_MESSAGE, **MODE}),
    }


def _refusal(*reasons: Refusal, more: Json | None = None, about: str = "") -> Json:
    return record({"status": word(*reasons), **_MESSAGE, **(more or {}), **MODE}, about=about)


def _of_health() -> Json:
    process = {"service": word(health.SERVICE), "version": TEXT}
    return {
        "Health": record(
            {
                "status": word("ok", "degraded"),
                **process,
                "execution_mode": named("ExecutionMode"),
                "checks": record({name: named("Check") for name in health.CHECKS}),
            },
            about="The mode is in execution_mode. A stop is ok, with emergency_stop true.",
        ),
        "ExecutionMode": record(
            {
                **{
                    field.name: _OF_FIELDS[field.type]
                    for field in fields(ModeView)
                    if field.type in _OF_FIELDS
                },
                "mode": named("Mode"),
                "requested": described(named("Mode"), "What EXEC_MODE and the operators ask for."),
                "reason": described(TEXT, "Why the mode is not LIVE; blank when it is."),
            },
            about="What restricts execution, the most restrictive word of all.",
        ),
        "Check": record(
            {
                "status": word("ok", "fail"),
                "detail": described(
                    TEXT,
                    "Why not. When it is ok, `held` tells how many intents wait, and why; `bot` what it does; others are blank.",
                ),
            },
        ),
        "Live": record({"status": word("ok"), **process, **MODE}),
        "Ready": record(
            {
                "status": word("ok", "unavailable"),
                **process,
                "detail": described(TEXT, "Why not; blank when it is."),
                **MODE,
            }
        ),
    }


def _of_the_stop() -> Json:
    holder = record(
        {"origin": word(*Origin), "lifted_by": described(TEXT, "Where it is lifted: only where it was set.")}
    )
    return {
        "StopNote": record(
            {"reason": {"type": "string", "maxLength": REASON_LIMIT, "description": "Printable text."}},
            optional=("reason",),
        ),
        "StopState": record(
            {
                "status": word("ok"),
                **MODE,
                "emergency_stop": described(FLAG, "Whether any stop holds, wherever it was set."),
                "changed": described(FLAG, "Whether this call changed anything."),
                "in_flight": many(
                    TX_HASH, about="Broadcasts that had begun: they may still have left, and are followed."
                ),
                "held_by": many(holder, about="Every stop that holds."),
                "execution_mode": named("ExecutionMode"),
                "warning": described(
                    TEXT,
                    "Only where the stop was set although the reason could not be read, or holds although the "
                    "database failed just afterwards: then held_by has this stop alone.",
                ),
            },
            optional=("warning",),
        ),
        "StopUnknown": record(
            {
                "status": word("error"),
                "error": described(TEXT, ASK_AGAIN),
                "hint": described(TEXT, f"POST only, another way to stop: {STOP_BY_REDIS}"),
                "emergency_stop": described(
                    FLAG, f"POST only, and only as true, in place of the hint: {UNAWAITED}"
                ),
                **MODE,
            },
            optional=("hint", "emergency_stop"),
        ),
    }
