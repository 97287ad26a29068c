"""The door for signals: HTTP in, one JSON answer out, the cheapest refusals first."""

import re
import time
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFault
from django.http import HttpRequest
from django.views.decorators.csrf import csrf_exempt

from execution_app.gate.watch import effective_mode
from signals_app import body, credentials, intake, keyring, meters, payloads, signatures, strict_json, tokens
from signals_app import trace as traces
from signals_app.answers import JsonAnswer
from signals_app.credentials import Signer
from signals_app.deadline import database_deadline
from signals_app.meters import Refusal

RETRY_AFTER_S = 2

_JSON_TYPE = re.compile(r'application/json\s*(;\s*charset\s*=\s*("utf-8"|utf-8)\s*)?', re.IGNORECASE)


@csrf_exempt
def signals(request: HttpRequest) -> JsonAnswer:
    """`POST /signals`: size and type, then the signature over the raw bytes, then the content."""
    if request.method != "POST":
        return _method_not_allowed("POST")
    if not _is_plain_json(request):
        return _refuse(
            415, Refusal.CONTENT_TYPE, "Content-Type must be application/json in UTF-8, not compressed"
        )
    try:
        raw = body.read(request)
    except body.TooLong as error:
        return _refuse(413, Refusal.TOO_LARGE, str(error))
    except body.Broken as error:
        return _refuse(400, Refusal.NOT_JSON, str(error))
    except body.Crowded as error:
        return _unavailable(str(error))
    try:
        signer = credentials.who_signed(request.headers, raw, time.time())
    except credentials.Unsigned as error:
        return _unsigned(Refusal.SIGNATURE, str(error))
    except keyring.Unavailable as error:
        return _unavailable(str(error))
    return _admit(raw, signer)


def _admit(raw: bytes, signer: Signer) -> JsonAnswer:
    """Store what a signed body says."""
    try:
        payload = payloads.read(strict_json.parse(raw))
        stored = intake.store(payload, secret_id=signer.key.secret_id, webhook_id=signer.webhook_id)
    except strict_json.NotJson as error:
        return _refuse(400, Refusal.NOT_JSON, str(error))
    except payloads.Invalid as error:
        errors = [{"field": fault.field, "message": fault.message} for fault in error.errors]
        return _refuse(422, Refusal.INVALID, "the body is not a valid signal", errors=errors)
    except intake.NotTheirs as error:
        return _unsigned(Refusal.WRONG_SOURCE, str(error))
    except intake.Throttled as error:
        return _come_again(429, Refusal.THROTTLED, str(error), error.wait_s)
    except intake.Unavailable as error:
        return _unavailable(str(error))
    return _tell(stored, payload.intent_key)


def _tell(stored: intake.Stored, key: str) -> JsonAnswer:
    if stored.outcome is intake.Outcome.CONFLICT:
        message = "this source has used this signal_id or webhook-id for another content"
        return _refuse(409, Refusal.CONFLICT, message, intent_key=key)
    if stored.outcome is intake.Outcome.DUPLICATE:
        return _answer(200, {"status": stored.outcome, "intent_key": key, "state": stored.state})
    return _answer(202, {"status": stored.outcome, "intent_key": key})


@csrf_exempt  # nothing is changed here, and a wrong method deserves an answer in JSON
def trace(request: HttpRequest, source: str, signal_id: str) -> JsonAnswer:
    """`GET /signals/{source}/{signal_id}`: everything that became of one signal."""
    if request.method not in ("GET", "HEAD"):
        return _method_not_allowed("GET, HEAD")
    header = request.headers.get("Authorization", "")
    is_admin = signatures.bears(header, settings.ENVIRONMENT.admin_token.get_secret_value())
    offered = tokens.offered(header)
    if not is_admin and not offered:
        return _unauthorized()
    try:
        with database_deadline():
            if not is_admin and not tokens.may_read(offered):
                return _unauthorized()
            found = _look_up(source, signal_id)
    except DatabaseFault:
        return _unavailable("the database is not available")
    if found is None:
        return _answer(404, {"status": "not_found", "message": "no such signal"})
    return _answer(200, {"status": "ok", **found})


def _look_up(source: str, signal_id: str) -> traces.Json | None:
    # What intake refuses cannot be stored, and some of it PostgreSQL cannot even be asked for.
    if not payloads.SOURCE.fullmatch(source) or not payloads.SIGNAL_ID.fullmatch(signal_id):
        return None
    return traces.build(source, signal_id)


def _is_plain_json(request: HttpRequest) -> bool:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    return encoding in ("", "identity") and bool(
        _JSON_TYPE.fullmatch(request.headers.get("Content-Type", ""))
    )


def _answer(status: int, content: dict[str, Any]) -> JsonAnswer:
    return JsonAnswer({**content, "mode": effective_mode()}, status=status)


def _refuse(status: int, reason: Refusal, message: str, **more: Any) -> JsonAnswer:
    meters.SIGNALS_REJECTED.labels(reason.value).inc()
    return _answer(status, {"status": reason.value, "message": message, **more})


def _unsigned(reason: Refusal, message: str) -> JsonAnswer:
    answer = _refuse(401, reason, message)
    answer["WWW-Authenticate"] = "HMAC-SHA256"
    return answer


def _unauthorized() -> JsonAnswer:
    answer = _answer(401, {"status": "unauthorized", "message": "a bearer token is needed"})
    answer["WWW-Authenticate"] = 'Bearer realm="vanta"'
    return answer


def _unavailable(message: str) -> JsonAnswer:
    return _come_again(503, Refusal.UNAVAILABLE, message, RETRY_AFTER_S)


def _come_again(status: int, reason: Refusal, message: str, wait_s: int) -> JsonAnswer:
    answer = _refuse(status, reason, message)
    answer["Retry-After"] = str(wait_s)
    return answer


def _method_not_allowed(allowed: str) -> JsonAnswer:
    answer = _answer(405, {"status": "method_not_allowed", "message": f"only {allowed}"})
    answer["Allow"] = allowed
    return answer
