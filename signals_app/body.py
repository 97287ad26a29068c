"""The raw bytes of a request, never more than the limit.

A sender that stops in the middle of its body holds one request thread until
the connection ends: granian 2.8 has no time limit for bodies, and reading in a
thread that could be left freezes its whole process (measured). So the time
limit belongs to the proxy in front, and some threads of every process are kept
from bodies: whatever senders do, health, traces and the stop are answered.
"""

import re
import threading

from django.http import HttpRequest
from django.http.request import UnreadablePostError

from execution_app.errors import Refused, Retryable

MAX_BODY_BYTES = 64 * 1024
# Of the server's 32 threads a process; a body that arrives whole is read within a millisecond.
MAX_READERS = 24
READER_WAIT_S = 0.5

_readers = threading.BoundedSemaphore(MAX_READERS)
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
