"""Pages of what is held, what guards it, what it is worth and who holds it."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.http import HttpRequest, HttpResponse

from execution_app.models import (
    Correction,
    ExternalTrade,
    Fill,
    MarginChange,
    Position,
    Price,
    Protection,
    ProtectionTrigger,
    Trader,
    Wallet,
)
from execution_app.states import PositionState
from ops.panel import price_chart
from ops.panel.lists import symbols, when, words
from ops.panel.pages import Lines, LongPage, Page, amount, count, direction, mode, short, shown
from ops.panel.words import grouped

_POSITION_COLOURS = {
    PositionState.OPEN.value: "success",
    PositionState.CLOSED.value: "info",
    PositionState.VOID.value: "warning",
}
_FILL_FIELDS = (
    "action",
    "ended_by",
    mode,
    amount("price", "Price", "USD"),
    amount("collateral_usdc", "Collateral", "USDC"),
    amount("leverage_x", "Leverage", "x"),
    amount("fee_usdc", "Fee", "USDC"),
    amount("sent_to_trader_usdc", "Sent to trader", "USDC"),
    "filled_at",
    "settled_at",
)


class FillLines(Lines):
    model = Fill
    fields = ("intent", *_FILL_FIELDS)
    readonly_fields = fields


_LEVELS = (
    "ended_at",  # first, since what is ended counts no more
    amount("take_profit", "Take profit", "USD"),
    amount("stop_loss", "Stop loss", "USD"),
    amount("trailing_stop_pct", "Trailing stop", "%"),
    amount("trailing_stop_usd", "Trailing stop", "USD"),
    amount("break_even_pct", "Break even", "%"),
    "closes_at",
    amount("watermark", "Best price", "USD"),
    "set_by",
    "set_at",
)


class ProtectionLines(Lines):
    model = Protection
    fields = ("version", *_LEVELS)
    readonly_fields = fields


@admin.register(Position)
class PositionPage(LongPage):
    of_trader = "trader__tg_user_id"
    list_display = (
        "__str__",
        mode,
        "shown_state",
        "drift",
        "trader",
        "symbol",
        direction,
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        amount("open_price", "Open price", "USD"),
        amount("close_price", "Close price", "USD"),
        amount("paid_out_usdc", "Paid out", "USDC"),
        "opened_at",
    )
    list_filter = ("mode", "state", words("symbol", symbols), ("drift", EmptyFieldListFilter))
    found_by = ("trader__label", "trader__tg_user_id", "trader__address")
    search_help_text = "whole label, Telegram id or address"
    list_select_related = ("trader",)
    ordering = ("-id",)
    inlines = (ProtectionLines, FillLines)
    change_form_after_template = "panel/price_chart.html"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # Asked for with the page alone, whose row the reader may see.
        position = kwargs.get("obj")
        more = {} if position is None else {"price_chart": price_chart.of(position)}
        answer: HttpResponse = super().render_change_form(request, context | more, *args, **kwargs)
        return answer

    @shown("State", ordering="state", colours=_POSITION_COLOURS)
    def shown_state(self, position: Position) -> str:
        return str(position.state)


@admin.register(Correction)
class CorrectionPage(Page):
    of_trader = "position__trader__tg_user_id"
    list_display = (
        "position",
        "at",
        count("block_number"),
        "differed",
        amount("collateral_usdc", "Collateral", "USDC"),
    )
    search_fields = ("differed", "position__symbol")
    list_filter = (when("at"),)
    list_select_related = ("position",)
    ordering = ("-id",)


@admin.register(MarginChange)
class MarginChangePage(Page):
    of_trader = "position__trader__tg_user_id"
    list_display = (
        "position",
        "seen_at",
        count("block_number"),
        amount("change_usdc", "In or out", "USDC"),
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        "settled_at",
    )
    search_fields = ("tx_hash", "position__symbol")
    list_filter = (when("seen_at"),)
    list_select_related = ("position",)
    ordering = ("-id",)


@admin.register(ExternalTrade)
class ExternalTradePage(Page):
    of_trader = "trader__tg_user_id"
    list_display = (
        "__str__",
        direction,
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        amount("open_price", "Open price", "USD"),
        "seen_at",
        "gone_at",
    )
    list_filter = (when("seen_at"), words("symbol", symbols))
    search_fields = ("symbol", "trader__label", "trader__tg_user_id", "trader__address")
    list_select_related = ("trader",)
    ordering = ("-id",)


@admin.register(Fill)
class FillPage(LongPage):
    of_trader = "position__trader__tg_user_id"
    list_display = ("intent", "position", *_FILL_FIELDS)
    list_filter = (when("filled_at"), "mode", "action")
    found_by = ("tx_hash", "intent__intent_key")
    search_help_text = "whole hash, or key of the intent"
    list_select_related = ("intent", "position")
    ordering = ("-id",)


@admin.register(Protection)
class ProtectionPage(LongPage):
    of_trader = "position__trader__tg_user_id"
    list_display = ("__str__", "position", *_LEVELS)
    list_filter = (when("set_at", by_id=True), ("ended_at", EmptyFieldListFilter))
    list_select_related = ("position",)
    ordering = ("-id",)


@admin.register(ProtectionTrigger)
class ProtectionTriggerPage(LongPage):
    of_trader = "protection__position__trader__tg_user_id"
    list_display = (
        "at",
        "kind",
        "protection",
        amount("price", "Price", "USD"),
        amount("level", "Level", "USD"),
        "intent",
        "detail",
    )
    list_filter = (when("at", by_id=True), "kind")
    found_by = ("intent__intent_key",)
    search_help_text = "whole key of the close"
    list_select_related = ("protection", "intent")
    ordering = ("-id",)


@admin.register(Price)
class PricePage(Page):
    list_display = (
        "symbol",
        amount("price", "Price", "USD"),
        "published_at",
        "head_at",
        "seen_at",
        "first_seen_at",
    )
    ordering = ("symbol",)


@admin.register(Trader)
class TraderPage(Page):
    of_trader = "tg_user_id"
    list_display = ("__str__", "tg_user_id", short("address", "Address"), "enabled", "created_at")
    list_filter = ("enabled",)
    search_fields = ("label", "tg_user_id", "address")
    ordering = ("id",)


@admin.register(Wallet)
class WalletPage(Page):
    of_trader = "trader__tg_user_id"
    list_display = (
        short("address", "Address"),
        "trader",
        "chain_id",
        "next_nonce",
        "max_in_flight",
        "balance_eth",
        "trades",
        "halted_reason",
    )
    list_filter = ("chain_id",)
    search_fields = ("address", "trader__label", "trader__tg_user_id")
    list_select_related = ("trader",)
    ordering = ("id",)

    @shown("Balance (ETH)", ordering="balance_wei")
    def balance_eth(self, wallet: Wallet) -> str | None:
        return None if wallet.balance_wei is None else grouped(Decimal(wallet.balance_wei).scaleb(-18))

    @shown("State", colours={"ok": "success", "HALTED": "danger"})
    def trades(self, wallet: Wallet) -> str:
        return "HALTED" if wallet.halted_reason else "ok"
