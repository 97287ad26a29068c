"""The list of tables beside every page, as the theme renders it; kept, since it takes as long as all that a page is about."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import unfold
from django import template
from django.http import HttpRequest
from django.template import Context, engines
from django.utils.safestring import SafeString

register = template.Library()

THEIRS = Path(unfold.__file__).parent / "templates" / "admin" / "app_list.html"
MOST_KEPT = 500  # one for each role and each table that is looked at; then anew
_KEPT: dict[tuple[Any, ...], SafeString] = {}


@register.simple_tag(takes_context=True)
def tables(context: Context, apps: Sequence[Mapping[str, Any]]) -> SafeString:
    """The same text for the same tables with the same one looked at; what somebody may see is asked by whoever calls."""
    request: HttpRequest = context["request"]
    told = _told(apps, request.path)
    known = _KEPT.get(told)
    if known is not None:
        return known
    if len(_KEPT) >= MOST_KEPT:
        _KEPT.clear()
    rendered: SafeString = _theirs().render({"app_list": apps}, request)
    _KEPT[told] = rendered
    return rendered


@cache
def _theirs() -> Any:
    return engines["django"].from_string(THEIRS.read_text("utf-8"))


def _told(apps: Sequence[Mapping[str, Any]], path: str) -> tuple[Any, ...]:
    """All that the theme's template reads."""
    quoted = quote(path)
    return tuple(
        (
            *(str(app.get(name, "")) for name in ("app_label", "name", "app_url", "hidden")),
            app["app_url"] in path,
            *(
                (
                    *(
                        str(model.get(name, ""))
                        for name in ("object_name", "name", "admin_url", "hidden", "header")
                    ),
                    bool(model.get("admin_url")) and model["admin_url"] in quoted,
                )
                for model in app["models"]
            ),
        )
        for app in apps
    )
