"""Pages of the letter box: signals, who may send them, and who may read what became of them."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from execution_app.models import TxIntent
from ops.panel import search
from ops.panel.lists import when, words
from ops.panel.pages import LongPage, Page, amount, shown
from signals_app.models import ApiToken, Signal, Source, SourceBucket, SourceGrant, SourceSecret

SIDES = ("LONG", "SHORT", "CLOSE", "INCREASE", "CHANGE", "MARGIN")


@shown("Intent")
def intent_link(signal: Signal) -> SafeString | None:
    """Where the signal went; several closes of one signal share the key as a prefix."""
    intent = TxIntent.objects.filter(intent_key=signal.intent_key).only("id", "state").first()
    if intent is None:
        return None
    address = reverse("admin:execution_app_txintent_change", args=[intent.pk])
    return format_html('<a href="{}">{} ({})</a>', address, signal.intent_key, intent.state)


@admin.register(Signal)
class SignalPage(LongPage):
    of_trader = "tg_user_id"
    list_display = (
        "signal_id",
        "source",
        "tg_user_id",
        "symbol",
        "side",
        amount("collateral_usdc", "Collateral", "USDC"),
        amount("leverage_x", "Leverage", "x"),
        "shown_decision",
        "reasons",
        "received_at",
    )
    list_filter = (
        when("received_at", by_id=True),
        words("decision", ("accepted", "rejected")),
        ("decided_at", EmptyFieldListFilter),
        words("side", SIDES),
    )
    found_by = ("signal_id",)
    search_help_text = "whole signal id or key; more by Find"
    ordering = ("-id",)
    extra_fields = (intent_link,)

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: "QuerySet[Any]",
        search_term: str,
    ) -> tuple["QuerySet[Any]", bool]:
        """By the unique index of source and id, from source to source."""
        signals = Q(pk__in=[])
        for source, signal_id in search.signals_called(search_term.strip()):
            signals |= Q(source=source, signal_id=signal_id)
        return (queryset.filter(signals) if search_term.strip() else queryset), False

    @shown(
        "Decision",
        ordering="decision",
        colours={"accepted": "success", "rejected": "warning", "undecided": "info"},
    )
    def shown_decision(self, signal: Signal) -> str:
        return signal.decision or "undecided"


@admin.register(SourceGrant)
class SourceGrantPage(Page):
    list_display = ("source", "tg_user_id", "created_at")
    search_fields = ("source", "tg_user_id")
    ordering = ("source", "tg_user_id")


@admin.register(Source)
class SourcePage(Page):
    list_display = (
        "name",
        "open_burst",
        "opens_per_minute",
        "close_burst",
        "closes_per_minute",
        "created_at",
    )
    search_fields = ("name",)
    ordering = ("name",)


@admin.register(SourceSecret)
class SourceSecretPage(Page):
    """When there was which secret; the secrets themselves are on no page."""

    list_display = ("id", "source", "active", "created_at", "retired_at")
    search_fields = ("source__name",)
    list_select_related = ("source",)
    ordering = ("source", "id")


@admin.register(SourceBucket)
class SourceBucketPage(Page):
    list_display = ("shown_source", "kind", "tokens", "refilled_at")
    search_fields = ("source",)
    ordering = ("source", "kind")

    @shown("Source", ordering="source")
    def shown_source(self, bucket: SourceBucket) -> str:
        return bucket.source or "all without a grant"


@admin.register(ApiToken)
class ApiTokenPage(Page):
    """Made and revoked by `manage.py token`; not even the hash is shown, which nobody here needs."""

    list_display = ("name", "scope", "created_at", "expires_at", "revoked_at", "last_used_at")
    search_fields = ("name",)
    ordering = ("name",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return [field for field in super().get_fields(request, obj) if field != "sha256"]
