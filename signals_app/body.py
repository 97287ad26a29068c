"""The raw bytes of a request, never more than the limit.

A sender that stops in the middle of its body holds one request thread until
the connection ends: granian 2.8 has no time limit for bodies, and reading in a
thread that could be left freezes its whole process (measured). So the time
limit belongs to the proxy in front, and the server needs threads to spare.
"""

import re

from django.http import HttpRequest
from django.http.request import UnreadablePostError

from execution_app.errors import Refused

MAX_BODY_BYTES = 64 * 1024

_LENGTH = re.compile(r"[0-9]{1,18}")


class TooLong(Refused):
    """More than the limit was announced or sent."""


class Broken(Refused):
    """The connection ended before the body."""


def read(request: HttpRequest) -> bytes:
    """Return the raw body, reading at most one byte above the limit. Raises TooLong or Broken."""
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if _LENGTH.fullmatch(length) and int(length) > MAX_BODY_BYTES:
        raise TooLong(f"the body has more than {MAX_BODY_BYTES} bytes")
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
