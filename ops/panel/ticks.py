"""A list to tick, by the part of the application that each row is about, with a filter; without a script it is all there."""

from typing import Any

from django import forms
from django.contrib.auth.models import Permission

FILTER_FROM = 12  # rows; fewer are seen at a glance


class TickList(forms.CheckboxSelectMultiple):
    """In place of Django's two columns, whose parts have no names for whoever listens to a page.

    `title` says what is ticked. Permissions stand below the name of their application.
    """

    template_name = "panel/tick_list.html"

    class Media:
        js = ("panel/ticks.js",)

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        parts: dict[str, list[dict[str, Any]]] = {}
        for _, options, _ in context["widget"]["optgroups"]:
            for option in options:
                row = getattr(option["value"], "instance", None)
                part = (
                    row.content_type.app_labeled_name.split(" | ")[0] if isinstance(row, Permission) else ""
                )
                parts.setdefault(part, []).append(option | {"label": _words(row, option["label"])})
        rows = [option for several in parts.values() for option in several]
        context["widget"] |= {
            "title": self.title,
            "parts": parts,
            "count": len(rows),
            "ticked": sum(option["selected"] for option in rows),
            "filter": len(rows) >= FILTER_FROM,
        }
        return context


def _words(row: Any, label: str) -> str:
    """A permission's own name, and the code by which documents and the audit log tell of it."""
    return f"{row.name} ({row.codename})" if isinstance(row, Permission) else label
