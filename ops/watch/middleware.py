"""Counts and times every request, and gives it an id."""

import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from ops.watch import meters

_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HttpMeter:
    """First in MIDDLEWARE, so that what the others answer is counted, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began_s = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
        took_s = time.perf_counter() - began_s
        route = _route(request)
        method = request.method if request.method in _KNOWN_METHODS else "OTHER"
        meters.HTTP_REQUESTS.labels(str(response.status_code), route, method).inc()
        meters.HTTP_DURATION.observe(took_s)
        response["X-Request-Id"] = request_id
        return response


def _route(request: HttpRequest) -> str:
    """The URL pattern, never the path: whoever asks must not be able to make label values."""
    if request.resolver_match is not None:
        return f"/{request.resolver_match.route}"
    if settings.STATIC_URL and request.path_info.startswith(settings.STATIC_URL):
        return f"{settings.STATIC_URL}*"
    return "unmatched"
