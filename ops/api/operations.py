"""Every JSON route: who may call it, with what, and every status it answers."""

import json

from ops.api.shapes import Json, described, either, named, whole
from ops.api.signal_body import EXAMPLES, OPEN
from ops.panel.views import BODY_LIMIT_BYTES
from ops.watch import exposition
from signals_app import payloads
from signals_app.body import MAX_BODY_BYTES
from signals_app.models import DEFAULT_BURST, DEFAULT_PER_MINUTE

JSON = "application/json"
SIGNALS, STOP, HEALTH, DESCRIPTION = "signals", "stop", "health", "description"
TAGS: list[Json] = [
    {"name": SIGNALS, "description": "Hand in a signal, and read what became of it."},
    {"name": STOP, "description": "Stop all execution, and release that stop."},
    {"name": HEALTH, "description": "For probes, monitors and Prometheus."},
    {"name": DESCRIPTION, "description": "This description."},
]
SEND = f"""body='{json.dumps(OPEN)}'
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)
curl -sS "$WEBHOOK_URL/signals" -H 'Content-Type: application/json' -H "X-Signature: $signature" -d "$body"
"""
SIGNED: list[Json] = [{"xSignature": []}, {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}]
OPEN_TO_ALL: list[Json] = []
_REQUEST_ID: Json = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def answer(about: str, *schemas: str, headers: tuple[str, ...] = ()) -> Json:
    """A response in JSON: of one schema, or of any of several."""
    schema = named(schemas[0]) if len(schemas) == 1 else either(*map(named, schemas))
    more = {name: {"$ref": f"#/components/headers/{name.replace('-', '')}"} for name in headers}
    return {"description": about, "headers": {**more, **_REQUEST_ID}, "content": {JSON: {"schema": schema}}}


OTHERWISE = answer("400 for an unknown Host, 405 with Allow for another method, 500 for a fault.", "Problem")


def paths() -> Json:
    """Every path with its operations."""
    return {
        "/signals": {"post": _send()},
        "/signals/{source}/{signal_id}": {"get": _trace()},
        "/health": {"get": _health()},
        "/health/live": {"get": _live()},
        "/health/ready": {"get": _ready()},
        "/metrics": {"get": _metrics()},
        "/admin/emergency-stop": {"post": _stop(), "delete": _release()},
        "/api/openapi.json": {"get": _document()},
        "/api/docs": {"get": _page()},
    }


def _send() -> Json:
    return {
        "operationId": "sendSignal",
        "tags": [SIGNALS],
        "summary": "Hand in a signal",
        "description": "Answers after the signal is committed. Sent again it is one signal, whatever happened to the "
        "answer: repeat it until it is 200 or 202.",
        "security": SIGNED,
        "requestBody": {
            "required": True,
            "description": f"At most {MAX_BODY_BYTES} bytes of UTF-8, not compressed; signed as these very bytes.",
            "content": {JSON: {"schema": named("SignalBody"), "examples": EXAMPLES}},
        },
        "x-codeSamples": [
            {"lang": "Shell", "label": "Sign and send, with WEBHOOK_URL and SECRET set", "source": SEND}
        ],
        "responses": {
            "202": answer("Stored.", "Queued"),
            "200": answer("Stored before: a repeat.", "Duplicate"),
            "400": answer("Not strict JSON, or an unknown Host.", "NotJson", "Problem"),
            "401": answer(
                "Not signed by who may send for this source.", "Unsigned", headers=("WWW-Authenticate",)
            ),
            "409": answer("Another content under a used id; it stays wrong.", "Conflict"),
            "413": answer(f"More than {MAX_BODY_BYTES} bytes.", "TooLarge"),
            "415": answer(
                "Content-Type is not application/json in UTF-8, or it is compressed.", "ContentType"
            ),
            "422": answer("JSON, but not a signal; every fault is listed.", "Invalid"),
            "429": answer(
                f"Faster than the source may: by default {DEFAULT_BURST} at once and {DEFAULT_PER_MINUTE} a minute, "
                "opens and closes counted apart.",
                "Throttled",
                headers=("Retry-After",),
            ),
            "503": answer("The database is away; within about 4 s.", "Unavailable", headers=("Retry-After",)),
            "default": answer(
                "405 with Allow for another method, 500 for a fault.", "MethodNotAllowed", "Problem"
            ),
        },
    }


def _trace() -> Json:
    return {
        "operationId": "readTrace",
        "tags": [SIGNALS],
        "summary": "What became of a signal",
        "description": "Signal, decision and reasons, every state, every transaction and receipt, the venue's order, "
        "the fill and the position. HEAD is answered, too.",
        "security": [{"API_TOKEN": []}, {"ADMIN_TOKEN": []}],
        "parameters": [
            _in_path("source", payloads.SOURCE.pattern, "drill"),
            _in_path("signal_id", payloads.SIGNAL_ID.pattern, "test-001"),
        ],
        "responses": {
            "200": answer("The trace.", "Trace"),
            "401": answer("No token that may read.", "Unauthorized", headers=("WWW-Authenticate",)),
            "404": answer("No such signal is stored.", "NotFound"),
            "503": answer("The database is away; within about 4 s.", "Unavailable", headers=("Retry-After",)),
            "default": answer(
                "400 for an unknown Host, 405 with Allow for another method, 500 for a fault.",
                "MethodNotAllowed",
                "Problem",
            ),
        },
    }


def _in_path(name: str, pattern: str, example: str) -> Json:
    schema = {"type": "string", "pattern": whole(pattern)}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _health() -> Json:
    return {
        "operationId": "readHealth",
        "tags": [HEALTH],
        "summary": "Every part, and the execution mode",
        "description": "Within about a second, whatever hangs. HEAD is answered, too.",
        "security": OPEN_TO_ALL,
        "responses": {
            "200": answer("Signals can be stored; degraded when another part fails.", "Health"),
            "503": answer("Signals cannot be stored.", "Health"),
            "default": OTHERWISE,
        },
    }


def _live() -> Json:
    return {
        "operationId": "readLiveness",
        "tags": [HEALTH],
        "summary": "The process answers",
        "security": OPEN_TO_ALL,
        "responses": {"200": answer("It does; no other part was asked.", "Live"), "default": OTHERWISE},
    }


def _ready() -> Json:
    return {
        "operationId": "readReadiness",
        "tags": [HEALTH],
        "summary": "The process may be sent signals",
        "security": OPEN_TO_ALL,
        "responses": {
            "200": answer("It may: the database is usable, every migration applied.", "Ready"),
            "503": answer("It may not; detail says why.", "Ready"),
            "default": OTHERWISE,
        },
    }


def _metrics() -> Json:
    return {
        "operationId": "readMetrics",
        "tags": [HEALTH],
        "summary": "Metrics of all processes",
        "security": OPEN_TO_ALL,
        "responses": {
            "200": _other(
                "Prometheus text, vanta_ families first.", exposition.CONTENT_TYPE.partition(";")[0]
            ),
            "default": OTHERWISE,
        },
    }


def _stop() -> Json:
    return {
        "operationId": "stop",
        "tags": [STOP],
        "summary": "Stop all execution",
        "description": "Once it has answered 200, nothing new is signed or first sent. The same again changes nothing. "
        "A body that cannot be read stops as well, and the answer carries a warning.",
        "security": [{"ADMIN_TOKEN": []}],
        "requestBody": _note(),
        "responses": {
            "200": answer("A stop of origin http holds.", "StopState"),
            **_of_both(),
        },
    }


def _release() -> Json:
    return {
        "operationId": "release",
        "tags": [STOP],
        "summary": "Release the stop that was set here",
        "description": "Stops of other origins hold until they are lifted where they were set.",
        "security": [{"ADMIN_TOKEN": []}],
        # OpenAPI lets a DELETE have one, though HTTP gives it no meaning; proxies may drop it.
        "requestBody": _note(),
        "responses": {
            "200": answer("No stop of origin http holds.", "StopState"),
            "400": answer("The body is not JSON, or an unknown Host; nothing was released.", "Problem"),
            "413": answer(
                f"The body has more than {BODY_LIMIT_BYTES} bytes; nothing was released.", "Problem"
            ),
            "422": answer("The body is JSON of another form; nothing was released.", "Problem"),
            **_of_both(),
        },
    }


def _note() -> Json:
    return {
        "required": False,
        "description": f"Why; at most {BODY_LIMIT_BYTES} bytes, whatever its Content-Type.",
        "content": {JSON: {"schema": named("StopNote"), "example": {"reason": "drill"}}},
    }


def _of_both() -> Json:
    """What the stop and its release answer alike."""
    return {
        "401": answer(
            "Not ADMIN_TOKEN; an API token is not enough.", "Problem", headers=("WWW-Authenticate",)
        ),
        "503": answer(
            "The database did not answer in time, so nobody knows whether it was recorded; or, with "
            "emergency_stop true, the stop holds and what may still leave is not known.",
            "StopUnknown",
            headers=("Retry-After",),
        ),
        "default": OTHERWISE,
    }


def _document() -> Json:
    return {
        "operationId": "readDescription",
        "tags": [DESCRIPTION],
        "summary": "This description in OpenAPI 3.1",
        "security": OPEN_TO_ALL,
        "responses": {
            "200": {
                "description": "The document; the one JSON that carries no mode.",
                "headers": _REQUEST_ID,
                "content": {JSON: {"schema": described({"type": "object"}, "OpenAPI 3.1.")}},
            },
            "default": OTHERWISE,
        },
    }


def _page() -> Json:
    return {
        "operationId": "showDescription",
        "tags": [DESCRIPTION],
        "summary": "This description as a page",
        "security": OPEN_TO_ALL,
        "responses": {"200": _other("HTML without scripts.", "text/html"), "default": OTHERWISE},
    }


def _other(about: str, media_type: str) -> Json:
    return {
        "description": about,
        "headers": _REQUEST_ID,
        "content": {media_type: {"schema": {"type": "string"}}},
    }
