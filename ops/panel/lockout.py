"""Too many wrong passwords: what django-axes counts by, and what it answers."""

from http import HTTPStatus
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from ops.panel import whence

UNKNOWN = "unknown"
COOL_OFF_S = 15 * 60


def address(request: HttpRequest) -> str | None:
    """Of the client behind TRUSTED_PROXIES proxies; None where there is none, as in a shell."""
    found = whence.client_address(request)
    return None if found == whence.UNKNOWN else found


def username(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """A name that exists: what was typed otherwise may be somebody's password, and is stored nowhere."""
    typed = str((credentials or {}).get("username") or request.POST.get("username", ""))
    known = typed.isprintable() and User.objects.filter(username=typed).exists()
    return typed if known else UNKNOWN


def refuse(request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:  # noqa: ARG001
    """The same words for a name that exists and for one that does not."""
    minutes = COOL_OFF_S // 60
    words = (
        f"Too many failed logins by this name or from this address. Try again in {minutes} minutes.\n"
        "To stop meanwhile: POST /admin/emergency-stop with the admin token, manage.py stop, the bot, or Redis.\n"
    )
    headers = {"Retry-After": str(COOL_OFF_S), "Cache-Control": "no-store"}
    return HttpResponse(
        words, status=HTTPStatus.TOO_MANY_REQUESTS, content_type="text/plain; charset=utf-8", headers=headers
    )
