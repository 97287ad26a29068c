"""The raw bytes of a request, never more than the limit.

A sender that stops in the middle of its body holds one request thread until
the connection ends: granian 2.8 has no time limit for bodies, and reading in a
thread that could be left freezes its whole process (measured). So the time
limit belongs to the proxy in front, and some threads of every process are kept
from bodies: whatever senders do, health, traces and the stop are answered.

Forms of pages are read before anybody knows who sent them, so they have a few
threads of their own.
"""

import re
import threading
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase

from execution_app.errors import Refused, Retryable
from execution_app.gate.watch import effective_mode
from signals_app.answers import JsonAnswer

MAX_BODY_BYTES = 64 * 1024
# Of the server's 32 threads a process; a body that arrives whole is read within a millisecond.
MAX_READERS, MAX_FORM_READERS = 24, 4
READER_WAIT_S = 0.5
RETRY_AFTER_S = 2
# They read for themselves: the one as above, the other after it knows who asks.
ELSEWHERE = frozenset({"/signals", "/admin/emergency-stop"})
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_readers = threading.BoundedSemaphore(MAX_READERS)
_form_readers = threading.BoundedSemaphore(MAX_FORM_READERS)
_LENGTH = re.compile(r"[0-9]{1,18}")


class TooLong(Refused):
    """More than the limit was announced or sent."""


class Broken(Refused):
    """The connection ended before the body."""


class Crowded(Retryable):
    """Too many senders are in the middle of their bodies; none of this one was read."""


def read(request: HttpRequest) -> bytes:
    """Return the raw body, reading at most one byte above the limit. Raises TooLong, Broken or Crowded."""
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if _LENGTH.fullmatch(length) and int(length) > MAX_BODY_BYTES:
        raise TooLong(f"the body has more than {MAX_BODY_BYTES} bytes")
    if not _readers.acquire(timeout=READER_WAIT_S):
        raise Crowded("too many senders are in the middle of their bodies")
    try:
        return _read(request, length)
    finally:
        _readers.release()


class FewForms:
    """Middleware: what is posted to a page is here whole before anything else is done about it, or refused."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method in WITHOUT_BODY or request.path_info in ELSEWHERE:
            return self._get_response(request)
        if not _form_readers.acquire(timeout=READER_WAIT_S):
            return _told(HTTPStatus.SERVICE_UNAVAILABLE, "too many senders are in the middle of their bodies")
        try:
            _ = request.body  # Django keeps it; one above DATA_UPLOAD_MAX_MEMORY_SIZE is refused here
        except UnreadablePostError:
            return _told(HTTPStatus.BAD_REQUEST, "the connection ended before the body")
        finally:
            _form_readers.release()
        return self._get_response(request)


def _told(status: HTTPStatus, error: str) -> JsonAnswer:
    answer = JsonAnswer({"status": "error", "error": error, "mode": effective_mode()}, status=status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _read(request: HttpRequest, length: str) -> bytes:
    # Django takes a missing length for an empty body; a chunked one has none but an end the server knows.
    chunked = not length and request.META.get("wsgi.input_terminated")
    stream = request.META["wsgi.input"] if chunked else request
    body = b""
    try:
        while len(body) <= MAX_BODY_BYTES and (part := stream.read(MAX_BODY_BYTES + 1 - len(body))):
            body += part
    except (UnreadablePostError, OSError) as error:
        raise Broken("the connection ended before the body") from error
    if len(body) > MAX_BODY_BYTES:
        raise TooLong(f"the body has more than {MAX_BODY_BYTES} bytes")
    return body
