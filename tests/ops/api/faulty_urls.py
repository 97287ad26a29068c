"""The routes of the stack, and three that fail in ways no real one should."""

from typing import NoReturn

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest
from django.urls import path

from vanta import urls
from vanta.urls import handler400, handler403, handler404, handler500

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]


def fail(request: HttpRequest) -> NoReturn:
    raise RuntimeError("a secret that stands in an exception")


def forbid(request: HttpRequest) -> NoReturn:
    raise PermissionDenied("a secret")


def suspect(request: HttpRequest) -> NoReturn:
    raise SuspiciousOperation("a secret")


urlpatterns = [
    path("fail", fail),
    path("forbid", forbid),
    path("suspect", suspect),
    path("admin/fail", fail),
    path("admin/forbid", forbid),
    path("admin/suspect", suspect),
    *urls.urlpatterns,
]
