"""How long somebody stays logged in: half an hour after what they last did, and a working day at most.

A page that refreshes itself is not somebody who does something.
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest
from django.http.response import HttpResponseBase

AT_MOST_S = 8 * 3600
NOTED_EVERY_S = 60  # a write for every request would be one for every click
SINCE, DID = "vanta_since", "vanta_did"
LIVE = "/admin/live/"


class ShortSession:
    """Middleware behind the one that knows who somebody is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Routes without a session, such as /signals, must not ask the database for one.
        if request.path_info.startswith("/admin/") and settings.SESSION_COOKIE_NAME in request.COOKIES:
            _look(request, time.time())
        return self._get_response(request)


def _look(request: HttpRequest, now_s: float) -> None:
    if not request.user.is_authenticated:
        return
    since_s, did_s = (request.session.get(name) for name in (SINCE, DID))
    if since_s is None or now_s - since_s > AT_MOST_S:
        if since_s is not None:
            logout(request)
            return
        request.session[SINCE] = now_s
    if not request.path_info.startswith(LIVE) and (did_s is None or now_s - did_s > NOTED_EVERY_S):
        request.session[DID] = now_s  # and so the cookie and the row live on from here


def listen() -> None:
    """Begin to note when somebody logged in; again changes nothing."""
    user_logged_in.connect(_logged_in, dispatch_uid="vanta-session")


def _logged_in(request: HttpRequest, user: AbstractUser, **_: object) -> None:  # noqa: ARG001
    if hasattr(request, "session"):
        request.session[SINCE] = request.session[DID] = time.time()
