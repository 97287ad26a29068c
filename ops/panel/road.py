"""Pages of the road from an order to the chain: intents, sends, receipts, venue orders."""

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter

from execution_app.models import (
    IntentMove,
    IntentTransition,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
)
from ops.panel.pages import Lines, Page, amount, direction, gwei, intent_state, mode, raw_hex, short, shown


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
        "block_number",
        "status",
        "canonical",
        "gas_used",
        gwei("effective_gas_price_wei", "Gas price"),
        "seen_at",
    )
    readonly_fields = fields


@admin.register(TxIntent)
class TxIntentPage(Page):
    list_display = (
        "intent_key",
        mode,
        intent_state,
        "action",
        "symbol",
        direction,
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        short("wallet", "Wallet"),
        "nonce",
        "reason",
        "accepted_at",
    )
    list_filter = ("state", ("settled_at", EmptyFieldListFilter), "mode", "road", "action", "reason")
    search_fields = ("intent_key", "symbol", "sends__tx_hash", "tg_user_id")
    search_help_text = "key, symbol, transaction hash or Telegram id"
    date_hierarchy = "accepted_at"
    list_select_related = ("wallet",)
    ordering = ("-id",)
    inlines = (TransitionLines, SendLines, ReceiptLines)
    extra_fields = (raw_hex("calldata", "Calldata"),)


@admin.register(IntentTransition)
class IntentTransitionPage(Page):
    list_display = ("at", "intent", "from_state", "to_state", "why", "by")
    list_filter = ("to_state", "by")
    search_fields = ("intent__intent_key", "why")
    list_select_related = ("intent",)
    ordering = ("-id",)


@admin.register(IntentMove)
class IntentMovePage(Page):
    list_display = ("from_state", "to_state")
    list_filter = ("from_state", "to_state")
    ordering = ("id",)


@admin.register(TxSend)
class TxSendPage(Page):
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
    list_filter = ("kind", "outcome", ("intent__settled_at", EmptyFieldListFilter))
    search_fields = ("tx_hash", "intent__intent_key")
    date_hierarchy = "signed_at"
    list_select_related = ("intent",)
    ordering = ("-id",)
    extra_fields = (raw_hex("raw", "Signed bytes"),)


@admin.register(VenueMessage)
class VenueMessagePage(Page):
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
    list_filter = ("outcome",)
    search_fields = ("digest", "tracking_id", "intent__intent_key")
    date_hierarchy = "made_at"
    list_select_related = ("intent",)
    ordering = ("-id",)
    extra_fields = (raw_hex("content", "Message"), raw_hex("signature", "Signature"))


@admin.register(TxReceipt)
class TxReceiptPage(Page):
    list_display = (
        "intent",
        "transaction",
        "block_number",
        "succeeded",
        "canonical",
        "gas_used",
        gwei("effective_gas_price_wei", "Gas price"),
        "seen_at",
    )
    list_filter = ("status", "canonical")
    search_fields = ("send__tx_hash", "intent__intent_key", "block_hash")
    date_hierarchy = "seen_at"
    list_select_related = ("intent", "send")
    ordering = ("-id",)

    @shown("Transaction")
    def transaction(self, receipt: TxReceipt) -> str:
        return str(receipt.send.tx_hash)

    @shown("Succeeded", boolean=True, ordering="status")
    def succeeded(self, receipt: TxReceipt) -> bool:
        return receipt.status == 1


@admin.register(VenueOrder)
class VenueOrderPage(Page):
    list_display = ("order_id", "intent", "state", short("venue", "Venue"), "block_number", "created_at")
    list_filter = ("state",)
    search_fields = ("order_id", "intent__intent_key")
    list_select_related = ("intent",)
    ordering = ("-id",)
