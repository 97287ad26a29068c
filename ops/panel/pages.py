"""What every page of the admin site has in common: it shows, and changes nothing."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import BinaryField, DecimalField, Field, Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from execution_app.states import IntentState, Mode
from ops.panel import lists, roles
from ops.panel.words import grouped

Column = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

RAW_SHOWN_BYTES = 48
UNITS = {"_usdc": "USDC", "_wei": "wei", "_x": "x", "_pct": "%", "price": "USD"}  # how a column's name ends
# Whole numbers that are so long that nobody reads them without gaps; ids and nonces stay as they are.
COUNTED = frozenset(
    ("block_number", "from_block", "head_number", "finalized_number", "gas_used", "gas_limit", "rows")
)
SHORT_LIMIT, SHORT_HEAD, SHORT_TAIL = 20, 10, 6
MODE_COLOURS = {Mode.LIVE.value: "danger", Mode.DRY.value: "info"}
STATE_COLOURS = {
    IntentState.FILLED.value: "success",
    IntentState.CHANGED.value: "success",
    IntentState.SIMULATED.value: "info",
    IntentState.NO_OP.value: "success",
    IntentState.HELD.value: "warning",
    IntentState.REJECTED.value: "warning",
    IntentState.EXPIRED.value: "warning",
    IntentState.VENUE_CANCELLED.value: "warning",
    IntentState.FINAL_CANCELLED.value: "warning",
    IntentState.FINAL_REVERTED.value: "danger",
    IntentState.LOST_NONCE.value: "danger",
}


class ShownOnly:
    """Permission to look, never to add, change or delete; rows are changed by verbs."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False


class Page(ShownOnly, ModelAdmin):  # type: ignore[misc]
    """A read-only page of one table.

    `found_by` are lookups of whole words that an index answers, in place of
    `search_fields`, which look into every row. `of_trader` leads to the Telegram id
    of whose a row is: who may not see the table sees these where they are their own.
    """

    actions: Any = None
    list_per_page = 50
    show_full_result_count = False  # a count of a long history would be paid on every view
    found_by: tuple[str, ...] = ()
    of_trader = ""
    show_facets = "NEVER"
    list_fullwidth = True
    change_form_before_template = "panel/row_offers.html"
    list_before_template = "panel/list_offers.html"
    extra_fields: tuple[str | Column, ...] = ()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if super().has_view_permission(request, obj):
            return True
        if not self.of_trader or not roles.sees_own(request.user):
            return False
        return obj is None or self.get_queryset(request).filter(pk=obj.pk).exists()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) or self.has_view_permission(request)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows: QuerySet[Any] = super().get_queryset(request)
        if super().has_view_permission(request):
            return rows
        return roles.own_rows(request.user, rows, self.of_trader) if self.of_trader else rows.none()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[lists.Narrow]:  # noqa: ARG002
        return lists.Narrow

    def get_search_fields(self, request: HttpRequest) -> Any:
        return self.found_by or super().get_search_fields(request)

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        if not self.found_by or not search_term.strip():
            found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
            return found
        return lists.found(queryset, self.found_by, search_term.strip()), False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:  # noqa: ARG002
        fields = [field for field in self.opts.concrete_fields if not isinstance(field, BinaryField)]
        return [*(_on_page(field) for field in fields), *self.extra_fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return self.get_fields(request, obj)


class LongPage(Page):
    """Of a table that grows with every order: sorted by its ids alone, since by anything else all of it would be read."""

    sortable_by = ()


class Lines(ShownOnly, TabularInline):  # type: ignore[misc]
    """Rows of another table inside a page, oldest first."""

    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True
    hide_title = True
    ordering = ("id",)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whose the row above them is was asked by its own page."""
        return super().has_view_permission(request, obj) or roles.sees_own(request.user)


def shown(
    title: str,
    *,
    ordering: str | None = None,
    boolean: bool | None = None,
    colours: Mapping[str, str] | None = None,
) -> Callable[[F], F]:
    """Mark a column; `colours` show each of its words as a coloured label (the theme reads the attribute)."""

    def mark(column: F) -> F:
        admin.display(column, description=title, ordering=ordering, boolean=boolean)
        if colours is not None:
            column.label = dict(colours)  # type: ignore[attr-defined]
        return column

    return mark


def _on_page(field: "Field[Any, Any]") -> str | Column:
    """How a row's own page shows a field: LIVE as unmistakable as in a list, amounts with their unit."""
    if field.name == "mode":
        return mode_tag
    for ending, unit in UNITS.items():
        if isinstance(field, DecimalField) and field.name.endswith(ending):
            title = field.name.removesuffix(ending) if ending.startswith("_") else field.name
            return amount(field.name, title.replace("_", " ").capitalize(), unit)
    return count(field.name) if field.name in COUNTED else field.name


@cache  # the same column object each time, which is how the admin recognises it
def amount(field: str, title: str, unit: str) -> Column:
    """A number with its unit in the header, thousands apart and without trailing zeros."""

    @shown(f"{title} ({unit})" if unit else title, ordering=field)
    def column(row: Model) -> str | None:
        value: Decimal | None = getattr(row, field)
        return None if value is None else grouped(value)

    return column


@cache
def count(field: str) -> Column:
    """A whole number, thousands apart."""

    @shown(field.replace("_", " ").capitalize(), ordering=field)
    def column(row: Model) -> str | None:
        value: int | None = getattr(row, field)
        return None if value is None else grouped(value)

    return column


def plain(value: Decimal) -> str:
    """Exact, without exponent and without trailing zeros, for files."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def gwei(field: str, title: str) -> Column:
    @shown(f"{title} (gwei)", ordering=field)
    def column(row: Model) -> str | None:
        value: Decimal | None = getattr(row, field)
        return None if value is None else grouped(Decimal(value).scaleb(-9))

    return column


def short(field: str, title: str) -> Column:
    """An address or a hash by its two ends; the row's own page shows all of it."""

    @shown(title, ordering=field)
    def column(row: Any) -> str | None:
        text = str(getattr(row, field) or "")
        return f"{text[:SHORT_HEAD]}…{text[-SHORT_TAIL:]}" if len(text) > SHORT_LIMIT else text or None

    return column


def raw_hex(field: str, title: str) -> Column:
    """The first bytes as 0x…, and how many there are."""

    @shown(title)
    def column(row: Model) -> str | None:
        value = getattr(row, field)
        if value is None:
            return None
        raw = bytes(value)
        more = "…" if len(raw) > RAW_SHOWN_BYTES else ""
        return f"0x{raw[:RAW_SHOWN_BYTES].hex()}{more} ({len(raw)} bytes)"

    return column


@shown("Mode", ordering="mode", colours=MODE_COLOURS)
def mode(row: Any) -> str | None:
    return row.mode or None


@shown("Mode")
def mode_tag(row: Any) -> SafeString | None:
    if not row.mode:
        return None
    return format_html('<span class="vanta-tag vanta-{}">{}</span>', row.mode.lower(), row.mode)


@shown("State", ordering="state", colours=STATE_COLOURS)
def intent_state(row: Any) -> str:
    return str(row.state)


@shown("Direction", ordering="is_long")
def direction(row: Any) -> str | None:
    if row.is_long is None:
        return None
    return "LONG" if row.is_long else "SHORT"
