"""Ask for a file, and send it as it is read."""

import csv
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import structlog
from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone

from execution_app.states import Mode
from ops.panel import roles
from ops.panel.exports.sheets import METHOD, SHEETS, Sheet, Wanted, rows

log = structlog.get_logger(__name__)

DAYS = 3_660  # in one file
_DAY = {"class": "vanta-input", "type": "date"}


class ExportForm(forms.Form):
    """Which file, of which mode, of whom, over which UTC days."""

    sheet = forms.ChoiceField(
        label="File",
        choices=[(sheet.name, sheet.title) for sheet in SHEETS.values()],
        widget=forms.Select(attrs={"class": "vanta-input"}),
    )
    mode = forms.ChoiceField(
        label="Mode",
        choices=[(mode.value, mode.value) for mode in (Mode.LIVE, Mode.DRY)],
        widget=forms.Select(attrs={"class": "vanta-input"}),
    )
    trader = forms.IntegerField(
        label="Telegram id of the trader (blank: everybody)",
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        widget=forms.TextInput(attrs={"class": "vanta-input", "inputmode": "numeric"}),
    )
    first = forms.DateField(label="First UTC day", widget=forms.DateInput(attrs=_DAY, format="%Y-%m-%d"))
    last = forms.DateField(label="Last UTC day", widget=forms.DateInput(attrs=_DAY, format="%Y-%m-%d"))

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if "first" in found and "last" in found and not 0 <= (found["last"] - found["first"]).days < DAYS:
            raise forms.ValidationError(
                "The last day is not before the first, and at most ten years behind it."
            )
        return found


class _Echo:
    """A file that gives back each line that is written to it."""

    def write(self, line: str) -> str:
        return line


def may_export(user: roles.User) -> bool:
    """Everybody's rows, or their own."""
    return any(user.has_perm(sheet.permission) for sheet in SHEETS.values()) or roles.sees_own(user)


def export(request: HttpRequest) -> HttpResponseBase:
    """The form; with its answers in the query, the file."""
    if not may_export(request.user):
        raise PermissionDenied
    today = timezone.now().astimezone(UTC).date()
    first = {"first": today - timedelta(days=30), "last": today, "mode": Mode.LIVE.value}
    form = ExportForm(request.GET if "sheet" in request.GET else None, initial=first)
    if form.is_bound and form.is_valid():
        told = form.cleaned_data
        return _file(request, SHEETS[told["sheet"]], told)
    context = {**admin.site.each_context(request), "title": "Export", "form": form, "method": METHOD}
    return TemplateResponse(request, "panel/export.html", context, status=422 if form.is_bound else 200)


def _file(request: HttpRequest, sheet: Sheet, told: dict[str, Any]) -> StreamingHttpResponse:
    traders = None if told["trader"] is None else [told["trader"]]
    if not request.user.has_perm(sheet.permission):
        if not roles.sees_own(request.user):
            raise PermissionDenied
        own = roles.own_ids(request.user)
        traders = own if traders is None else [each for each in traders if each in own]
    wanted = Wanted(Mode(told["mode"]), told["first"], told["last"], traders)
    log.info("exported", sheet=sheet.name, by=request.user.get_username(), mode=wanted.mode.value,
             first=str(wanted.first), last=str(wanted.last), traders=traders)  # fmt: skip
    name = f"vanta-{sheet.name}-{wanted.mode.value}-{wanted.first}-{wanted.last}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(
        _lines(sheet, wanted), content_type="text/csv; charset=utf-8", headers=headers
    )


def _lines(sheet: Sheet, wanted: Wanted) -> Iterator[str]:
    writer = csv.writer(_Echo())
    for row in rows(sheet, wanted):
        yield writer.writerow(row)
