"""How long somebody stays logged in: half an hour after what they last did, and a working day at most.

A page that refreshes itself is not somebody who does something.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest
from django.http.response import HttpResponseBase

AT_MOST_S = 8 * 3600
NOTED_EVERY_S = 60  # a write for every request would be one for every click
SINCE, DID = "vanta_since", "vanta_did"
LIVE = "/admin/live/"


class ShortSession:
    """Middleware behind the one that knows who somebody is.

    It acts once the page is made, on what the page has asked by then: a page asks
    the database within a limit (`ops.panel.switch.within_deadline`), and this must not wait outside it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self._get_response(request)
        user = getattr(request, "_cached_user", None)
        failed = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        if (
            user is not None
            and user.is_authenticated
            and not failed
            and not request.path_info.startswith(LIVE)
        ):
            _note(request, time.time())
        return answer


def _note(request: HttpRequest, now_s: float) -> None:
    """Let the session live on from here, though never past its day, however often something is written into it."""
    since_s = float(request.session.setdefault(SINCE, now_s))
    left_s = int(since_s + AT_MOST_S - now_s)
    if left_s <= 0:
        request.session.flush()
        return
    # Whatever else is written makes it last as long again as was said last, so that is said anew.
    if not request.session.modified and now_s - float(request.session.get(DID, 0)) <= NOTED_EVERY_S:
        return
    request.session[DID] = now_s
    request.session.set_expiry(min(settings.SESSION_COOKIE_AGE, left_s))


def listen() -> None:
    """Begin to note when somebody logged in; again changes nothing."""
    user_logged_in.connect(_logged_in, dispatch_uid="vanta-session")


def _logged_in(request: HttpRequest, user: AbstractUser, **_: object) -> None:  # noqa: ARG001
    if hasattr(request, "session"):
        request.session[SINCE] = request.session[DID] = time.time()
