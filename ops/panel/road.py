"""Pages of the road from an order to the chain: intents, sends, receipts, venue orders."""

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from execution_app.models import (
    IntentMove,
    IntentTransition,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
)
from execution_app.states import IntentState, Reason
from ops.panel.lists import symbols, when, words
from ops.panel.pages import (
    Lines,
    LongPage,
    Page,
    amount,
    count,
    direction,
    gwei,
    intent_state,
    mode,
    raw_hex,
    short,
    shown,
)


class TransitionLines(Lines):
    model = IntentTransition
    fields = ("at", "from_state", "to_state", "why", "by")
    readonly_fields = fields
    show_change_link = False


class SendLines(Lines):
    model = TxSend
    fields = (
        "attempt",
        "kind",
        short("tx_hash", "Hash"),
        gwei("max_fee_wei", "Max fee"),
        gwei("tip_wei", "Tip"),
        "outcome",
        "offers",
        "signed_at",
        "offered_at",
    )
    readonly_fields = fields


class ReceiptLines(Lines):
    model = TxReceipt
    fields = (
        count("block_number"),
        "status",
        "canonical",
        count("gas_used"),
        gwei("effective_gas_price_wei", "Gas price"),
        "seen_at",
    )
    readonly_fields = fields


@admin.register(TxIntent)
class TxIntentPage(LongPage):
    of_trader = "trader__tg_user_id"
    list_display = (
        "intent_key",
        mode,
        intent_state,
        "reason",
        "accepted_at",
        "action",
        "symbol",
        direction,
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        short("wallet", "Wallet"),
        "nonce",
    )
    list_filter = (
        "state",
        when("accepted_at", by_id=True),
        ("settled_at", EmptyFieldListFilter),
        "mode",
        "road",
        "action",
        words("reason", Reason),
        words("symbol", symbols),
    )
    found_by = ("intent_key", "sends__tx_hash", "trader__tg_user_id")
    search_help_text = "whole key, hash or Telegram id"
    list_select_related = ("wallet",)
    ordering = ("-id",)
    inlines = (TransitionLines, SendLines, ReceiptLines)
    actions = ("reject_several",)
    list_disable_select_all = True

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("execution_app.change_txintent")

    @admin.action(description="Reject what is held…", permissions=["decide"])
    def reject_several(self, request: HttpRequest, queryset: "QuerySet[TxIntent]") -> HttpResponse:  # noqa: ARG002
        """Leads to the page that tells how many, and asks."""
        keys = queryset.order_by("pk").values_list("pk", flat=True)[: self.list_per_page]
        return HttpResponseRedirect(reverse("panel:deed", args=["reject-several", "-".join(map(str, keys))]))

    extra_fields = (raw_hex("calldata", "Calldata"),)


@admin.register(IntentTransition)
class IntentTransitionPage(LongPage):
    of_trader = "intent__trader__tg_user_id"
    list_display = ("at", "intent", "from_state", "to_state", "why", "by")
    list_filter = (when("at", by_id=True), words("to_state", IntentState))
    found_by = ("intent__intent_key",)
    search_help_text = "whole key of the intent"
    list_select_related = ("intent",)
    ordering = ("-id",)


@admin.register(IntentMove)
class IntentMovePage(Page):
    list_display = ("from_state", "to_state")
    list_filter = (words("from_state", IntentState), words("to_state", IntentState))
    ordering = ("id",)


@admin.register(TxSend)
class TxSendPage(LongPage):
    of_trader = "intent__trader__tg_user_id"
    list_display = (
        short("tx_hash", "Hash"),
        "intent",
        "attempt",
        "kind",
        "outcome",
        gwei("max_fee_wei", "Max fee"),
        gwei("tip_wei", "Tip"),
        "offers",
        "signed_at",
        "last_offered_at",
    )
    list_filter = (
        when("signed_at", by_id=True),
        "kind",
        "outcome",
        ("intent__settled_at", EmptyFieldListFilter),
    )
    found_by = ("tx_hash", "intent__intent_key")
    search_help_text = "whole hash, or key of the intent"
    list_select_related = ("intent",)
    ordering = ("-id",)
    extra_fields = (raw_hex("raw", "Signed bytes"),)


@admin.register(VenueMessage)
class VenueMessagePage(LongPage):
    of_trader = "intent__trader__tg_user_id"
    list_display = (
        short("digest", "Digest"),
        "intent",
        "outcome",
        "posts",
        "said",
        "tracking_id",
        "made_at",
        "last_posted_at",
    )
    list_filter = (when("made_at", by_id=True), "outcome")
    found_by = ("digest", "tracking_id", "intent__intent_key")
    search_help_text = "whole digest, tracking id or key"
    list_select_related = ("intent",)
    ordering = ("-id",)
    extra_fields = (raw_hex("content", "Message"), raw_hex("signature", "Signature"))


@admin.register(TxReceipt)
class TxReceiptPage(LongPage):
    of_trader = "intent__trader__tg_user_id"
    list_display = (
        "intent",
        "transaction",
        count("block_number"),
        "succeeded",
        "canonical",
        count("gas_used"),
        gwei("effective_gas_price_wei", "Gas price"),
        "seen_at",
    )
    list_filter = (when("seen_at"), "canonical")
    found_by = ("send__tx_hash", "intent__intent_key")
    search_help_text = "whole hash, or key of the intent"
    list_select_related = ("intent", "send")
    ordering = ("-id",)

    @shown("Transaction")
    def transaction(self, receipt: TxReceipt) -> str:
        return str(receipt.send.tx_hash)

    @shown("Succeeded", boolean=True, ordering="status")
    def succeeded(self, receipt: TxReceipt) -> bool:
        return receipt.status == 1


@admin.register(VenueOrder)
class VenueOrderPage(LongPage):
    of_trader = "intent__trader__tg_user_id"
    list_display = (
        "order_id",
        "intent",
        "state",
        short("venue", "Venue"),
        count("block_number"),
        "created_at",
    )
    list_filter = ("state",)
    found_by = ("intent__intent_key",)
    search_help_text = "whole key of the intent"
    list_select_related = ("intent",)
    ordering = ("-id",)
