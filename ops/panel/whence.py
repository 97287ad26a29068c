"""Who a request comes from, for the audit log: the client's address behind the proxies that are trusted."""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from execution_app import audit
from execution_app.audit_words import AuditOrigin

UNKNOWN = "unknown"
MAX_HOPS = 64


class Whence:
    """Middleware: what a request changes is told with the address it came from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with audit.acting(audit.Who("http", AuditOrigin.HTTP, client_address(request))):
            return self._get_response(request)


def client_address(request: HttpRequest) -> str:
    """The address that the outermost of TRUSTED_PROXIES proxies saw.

    Each proxy appends to X-Forwarded-For whom it heard from, so only as many
    entries from the right are true as there are proxies; what stands further
    left was written by the client.
    """
    peer = _address(str(request.META.get("REMOTE_ADDR", "")))
    proxies: int = settings.ENVIRONMENT.trusted_proxies
    if not proxies:
        return peer
    hops = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).rsplit(",", MAX_HOPS)
    told = _address(hops[-proxies]) if len(hops) >= proxies else UNKNOWN
    return peer if told == UNKNOWN else told


def _address(text: str) -> str:
    """An IP address as such; some servers and proxies write its port behind it."""
    bare = text.strip()
    candidates = (bare, bare.rpartition(":")[0].strip("[]"), bare.strip("[]"))
    for candidate in candidates:
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return UNKNOWN
