"""Pages of what may be at stake and what is: caps, reservations, and the log of every change."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.db.models import Model
from django.http import HttpRequest

from execution_app.models import Cap, Reservation, RiskLog
from execution_app.states import CapName, ReservationState
from ops.panel.lists import symbols, when, words
from ops.panel.pages import Lines, LongPage, Page, amount, mode, shown
from ops.panel.words import capped

_STATE_COLOURS = {
    ReservationState.OPEN.value: "warning",
    ReservationState.EXPOSED.value: "success",
    ReservationState.RELEASED.value: "info",
}
_LOG_FIELDS = (
    "at",
    "state",
    amount("change_usdc", "Change", "USDC"),
    amount("notional_usdc", "At stake", "USDC"),
    amount("total_usdc", "Of all orders", "USDC"),
)


@admin.register(Cap)
class CapPage(Page):
    list_display = (
        "name",
        "scope",
        "scope_value",
        "told_value",
        "holds",
        "reason",
        "set_by",
        "set_at",
        "lifted_by",
        "lifted_at",
    )
    list_filter = ("name", "scope", ("lifted_at", EmptyFieldListFilter), when("set_at"))
    search_fields = ("scope_value", "reason", "set_by", "lifted_by")
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return ["told_value" if field == "value" else field for field in super().get_fields(request, obj)]

    @shown("Value", ordering="value")
    def told_value(self, cap: Cap) -> str:
        return capped(CapName(cap.name), cap.value)

    @shown("Now", colours={"ACTIVE": "success", "lifted": "info"})
    def holds(self, cap: Cap) -> str:
        return "lifted" if cap.lifted_at else "ACTIVE"


class RiskLines(Lines):
    model = RiskLog
    fields = _LOG_FIELDS
    readonly_fields = fields


@admin.register(Reservation)
class ReservationPage(LongPage):
    of_trader = "trader__tg_user_id"
    list_display = (
        "intent",
        mode,
        "shown_state",
        "trader",
        "source",
        "symbol",
        amount("asked_usdc", "Asked", "USDC"),
        amount("notional_usdc", "At stake", "USDC"),
        "reserved_at",
        "released_at",
    )
    list_filter = ("mode", "state", words("symbol", symbols), when("reserved_at"))
    found_by = ("intent__intent_key", "trader__tg_user_id")
    search_help_text = "whole key of the intent, or Telegram id"
    list_select_related = ("intent", "trader")
    ordering = ("-id",)
    inlines = (RiskLines,)

    @shown("State", ordering="state", colours=_STATE_COLOURS)
    def shown_state(self, held: Reservation) -> str:
        return str(held.state)


@admin.register(RiskLog)
class RiskLogPage(LongPage):
    list_display = ("reservation", mode, *_LOG_FIELDS)
    list_filter = ("mode", "state", when("at", by_id=True))
    found_by = ("reservation__intent__intent_key",)
    search_help_text = "whole key of the intent"
    list_select_related = ("reservation",)
    ordering = ("-id",)
