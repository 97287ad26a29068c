"""The stop that a script, a phone or a monitor can reach: POST and DELETE /admin/emergency-stop."""

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from execution_app.gate import control, watch
from execution_app.models import Restriction
from execution_app.states import Origin, RestrictionKind
from ops.panel.present import Presence, how_to_lift, settled_presence
from signals_app import signatures
from signals_app.answers import JsonAnswer
from signals_app.deadline import database_deadline

log = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 4 * 1024
REASON_LIMIT = 400
RETRY_AFTER_S = 2
# A stop waits by design: up to 1 s for broadcasts that had begun, up to 1 s to show what holds, and for its
# turn at the lock. What takes longer is a database that does not answer.
DEADLINE_S = 5.0
ASK_AGAIN = "the database did not answer, so whether this was recorded is not known; make the same call again"
# A stop that is recorded is never denied: whoever reads 503 would take it for one that failed.
HOLDS = "the stop holds: it is recorded, and nothing new is begun"
UNAWAITED = (
    f"{HOLDS}; the database failed only afterwards, so which broadcasts had begun and may still leave is not known;"
    " make the same call again to be told"
)
UNSHOWN = f"{HOLDS}; the database failed only afterwards, so other stops and restrictions are not shown"
# Each process reads it for itself; one that cannot reach the database signs nothing anyway.
STOP_BY_REDIS = f"""redis-cli SET {watch.KEY} '{{"mode":"DRY","emergency_stop":true}}'"""
_BY = "http"


@dataclass(frozen=True)
class Note:
    """What the body said: the reason, or why it could not be read and with which status that is refused."""

    reason: str = ""
    problem: str = ""
    status: HTTPStatus = HTTPStatus.OK


@csrf_exempt
def emergency_stop(request: HttpRequest) -> HttpResponse:
    """Set the stop of origin `http`, or release it; the same call again changes nothing.

    A POST whose body is unreadable still stops: whoever asks for a stop in a
    hurry gets one. A DELETE with such a body is refused. Answered within about
    DEADLINE_S, whatever the database does.
    """
    if request.method not in {"POST", "DELETE"}:
        return _refused(
            HTTPStatus.METHOD_NOT_ALLOWED, "use POST to stop, DELETE to release", {"Allow": "POST, DELETE"}
        )
    if not _authorized(request):
        return _refused(
            HTTPStatus.UNAUTHORIZED, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"}
        )
    note = _read_note(request)
    if request.method == "DELETE" and note.problem:
        return _refused(note.status, note.problem)
    try:
        with database_deadline(DEADLINE_S):
            return _stop(note) if request.method == "POST" else _release(note)
    except control.UnawaitedError as error:
        log.exception("emergency stop holds, its answer is not whole", error=type(error.__cause__).__name__)
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return _refused(HTTPStatus.SERVICE_UNAVAILABLE, UNAWAITED, headers, emergency_stop=True)
    except DatabaseError as error:
        log.exception("emergency stop not confirmed", method=request.method, error=type(error).__name__)
        hint = {"hint": STOP_BY_REDIS} if request.method == "POST" else {}
        return _refused(
            HTTPStatus.SERVICE_UNAVAILABLE, ASK_AGAIN, {"Retry-After": str(RETRY_AFTER_S)}, **hint
        )


def _stop(note: Note) -> HttpResponse:
    reason = note.reason or (f"reason unreadable: {note.problem}" if note.problem else "no reason given")
    imposed = control.impose(RestrictionKind.STOP, Origin.HTTP, by=_BY, reason=reason)
    try:
        now, unshown = settled_presence(), ""
    except DatabaseError as error:
        log.exception("emergency stop holds, what else does is not shown", error=type(error).__name__)
        now, unshown = _known_without_rows(reason), UNSHOWN
    warning = "; ".join(problem for problem in (note.problem, unshown) if problem)
    return _state(now, changed=imposed.changed, in_flight=imposed.in_flight, warning=warning)


def _known_without_rows(reason: str) -> Presence:
    """The stop that was just recorded, and what this process remembers of everything else."""
    view = watch.view()
    row = Restriction(kind=RestrictionKind.STOP, origin=Origin.HTTP, set_by=_BY, reason=reason)
    return Presence(replace(view, emergency_stop=True, reason=view.reason or "emergency stop"), (row,))


def _release(note: Note) -> HttpResponse:
    changed = control.lift(RestrictionKind.STOP, Origin.HTTP, by=_BY, reason=note.reason or "no reason given")
    return _state(settled_presence(), changed=changed, in_flight=[], warning="")


def _state(now: Presence, *, changed: bool, in_flight: list[str], warning: str) -> HttpResponse:
    body: dict[str, Any] = {
        "status": "ok",
        "mode": now.view.mode,
        "emergency_stop": now.view.emergency_stop,
        "changed": changed,
        # Their broadcast was under way; they may still have left and are tracked to their end.
        "in_flight": in_flight,
        "held_by": how_to_lift(now.stops),
        "execution_mode": now.as_json(),
    }
    if warning:
        body["warning"] = warning
    return JsonAnswer(body)


def _authorized(request: HttpRequest) -> bool:
    """Only ADMIN_TOKEN: an API token reads, and stops nothing."""
    token = settings.ENVIRONMENT.admin_token.get_secret_value()
    return signatures.bears(request.headers.get("Authorization", ""), token)


def _read_note(request: HttpRequest) -> Note:
    try:
        raw = request.read(BODY_LIMIT_BYTES + 1)
    except OSError:
        return Note(problem="the body ended early", status=HTTPStatus.BAD_REQUEST)
    if len(raw) > BODY_LIMIT_BYTES:
        return Note(
            problem=f"the body is over {BODY_LIMIT_BYTES} bytes", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )
    if not raw.strip():
        return Note()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return Note(problem="the body is not JSON", status=HTTPStatus.BAD_REQUEST)
    return _judge(body)


def _judge(body: object) -> Note:
    wrong = HTTPStatus.UNPROCESSABLE_ENTITY
    if not isinstance(body, dict) or set(body) - {"reason"}:
        return Note(problem='the body must be {"reason": "..."}', status=wrong)
    reason = body.get("reason", "")
    if not isinstance(reason, str):
        return Note(problem="reason must be a string", status=wrong)
    # PostgreSQL stores neither NUL nor half a surrogate pair.
    if not reason.replace("\n", " ").replace("\t", " ").isprintable():
        return Note(problem="reason must be printable text", status=wrong)
    if len(reason) > REASON_LIMIT:
        return Note(reason[:REASON_LIMIT], f"reason is over {REASON_LIMIT} characters", wrong)
    return Note(reason.strip())


def _refused(
    status: HTTPStatus, error: str, headers: dict[str, str] | None = None, **more: object
) -> HttpResponse:
    body = {"status": "error", "error": error, **more, "mode": watch.effective_mode()}
    return JsonAnswer(body, status=status, headers=headers or {})
