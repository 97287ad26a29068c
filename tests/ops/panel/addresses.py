"""Every address under /admin/, from the URL resolver itself, with arguments of rows that are there."""

import re
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver

from execution_app.models import Cap, Position, TxIntent
from signals_app.models import Signal, SourceGrant, SourceSecret

KEY = "sig:drill:page-001"


def routes() -> Iterator[tuple[str, Any]]:
    """Each route as it is written, and its pattern; a second one of the same words is told, too."""
    yield from _walk("", get_resolver().url_patterns)


def _walk(before: str, patterns: list[Any]) -> Iterator[tuple[str, Any]]:
    for one in patterns:
        route = before + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _walk(route, one.url_patterns)
        elif isinstance(one, URLPattern) and route.startswith("admin/"):
            yield route, one


def models() -> dict[str, type[Model]]:
    """By `app/model`, as the addresses have it."""
    return {f"{m._meta.app_label}/{m._meta.model_name}": m for m in admin.site._registry}


def deeds() -> dict[str, str]:
    """What each deed that names something is asked about here."""
    intent = {
        "approve": KEY,
        "reject": KEY,
        "cancel": KEY,
        "speed-up": KEY,
        "take-back": KEY,
        "change-order": KEY,
    }
    position = str(Position.objects.get().pk)
    return intent | {
        "close": position,
        "deposit": position,
        "withdraw": position,
        "halve": position,
        "increase": position,
        "reject-several": str(TxIntent.objects.order_by("pk")[0].pk),
        "replay-dry": str(Signal.objects.get().pk),
        "lift-cap": str(Cap.objects.get().pk),
        "retire-secret": str(SourceSecret.objects.get().pk),
        "unbind-trader": str(SourceGrant.objects.get().pk),
    }


def address(route: str) -> str:
    """One address of a route of a table or of the site; raises KeyError for arguments that nobody knows here."""
    path = "/" + route
    for name, model in models().items():
        if path.startswith(f"/admin/{name}/") and "<" in path:
            first = model._default_manager.order_by("pk").first()
            for argument in ("<path:object_id>", "<id>"):
                path = path.replace(argument, str(first.pk if first else 1))
    known = {
        "<path:key>": KEY,
        "runbook/<slug:name>": "runbook/operating",
        "<int:key>": "1",
        "<slug:what>": "shown",
        "<path:content_type_id>": str(ContentType.objects.get_for_model(TxIntent).pk),
        "<path:object_id>": str(TxIntent.objects.order_by("pk")[0].pk),
        "(?P<url>.*)$": "nothing-of-this-name",
    }
    path = re.sub(r"\^\(\?P<app_label>[^)]*\)/\$", "execution_app/", path)
    for argument, value in known.items():
        path = path.replace(argument, value)
    if "<" in path or "(" in path:
        raise KeyError(route)
    return path
