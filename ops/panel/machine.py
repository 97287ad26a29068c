"""Pages of the machine itself: restrictions, the control row with Stop and Resume, mode, heartbeats, the chain."""

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest
from django.urls import URLPattern, path

from execution_app.models import (
    Archive,
    AuditEntry,
    Chain,
    Control,
    Heartbeat,
    ModeChange,
    Person,
    PoolBeat,
    RestorePoint,
    Restriction,
    StackMode,
)
from ops.panel import switch
from ops.panel.lists import when
from ops.panel.pages import LongPage, Page, count, mode, short, shown

_BEHIND = "(SELECT tg_user_id FROM people WHERE pseudonym = substring(audit_log.{} FROM '[4-9][0-9]{{18}}')::bigint)"
ID_DIGITS = 17  # fewer than these: what could be a Telegram id


@admin.register(Control)
class ControlPage(Page):
    list_display = ("__str__", "updated_at")

    def get_urls(self) -> list[URLPattern]:
        site, bounded = self.admin_site, switch.within_deadline
        own = [
            path("stop/", bounded(site.admin_view(switch.stop)), name="execution_app_control_stop"),
            path("resume/", bounded(site.admin_view(switch.resume)), name="execution_app_control_resume"),
        ]
        return [*own, *super().get_urls()]


@admin.register(Restriction)
class RestrictionPage(Page):
    list_display = ("kind", "origin", "holds", "reason", "set_by", "set_at", "lifted_by", "lifted_at")
    list_filter = ("kind", "origin", ("lifted_at", EmptyFieldListFilter), when("set_at"))
    search_fields = ("reason", "set_by", "lifted_by")
    ordering = ("-id",)

    @shown("Now", colours={"ACTIVE": "danger", "lifted": "success"})
    def holds(self, restriction: Restriction) -> str:
        return "lifted" if restriction.lifted_at else "ACTIVE"


@admin.register(RestorePoint)
class RestorePointPage(Page):
    list_display = (
        "restored_at",
        "snapshot_at",
        "restored_by",
        "reason",
        "untimed_accepted_at",
        "reconciled_at",
    )
    search_fields = ("reason", "restored_by", "backup_sha256")
    ordering = ("-id",)


@admin.register(Archive)
class ArchivePage(Page):
    list_display = ("file", "table_name", "day", count("rows"), "made_at")
    list_filter = ("table_name",)
    search_fields = ("file", "sha256")
    ordering = ("-id",)


@admin.register(AuditEntry)
class AuditPage(LongPage):
    list_display = ("seq", "at", "action", "told_subject", "told_actor", "origin", "address", "reason")
    list_filter = (when("at", by_id=True), "action", "origin")
    search_fields = ("subject", "actor", "reason")
    search_help_text = "subject, actor, reason or Telegram id"
    ordering = ("-seq",)

    @shown("Subject", ordering="subject")
    def told_subject(self, entry: AuditEntry) -> str:
        return _unveiled(entry.subject, entry.subject_of)  # type: ignore[attr-defined]

    @shown("Actor", ordering="actor")
    def told_actor(self, entry: AuditEntry) -> str:
        return _unveiled(entry.actor, entry.actor_of)  # type: ignore[attr-defined]

    def get_queryset(self, request: HttpRequest) -> "QuerySet[AuditEntry]":
        """With the Telegram ids behind pseudonyms, of those who are still known: in the question itself, for all rows."""
        behind = {f"{column}_of": RawSQL(_BEHIND.format(column), []) for column in ("subject", "actor")}  # noqa: S611
        found: QuerySet[AuditEntry] = super().get_queryset(request).annotate(**behind)
        return found

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[AuditEntry]", search_term: str
    ) -> "tuple[QuerySet[AuditEntry], bool]":
        """The log has people by their pseudonyms, and whoever looks for one has an id."""
        if search_term.isascii() and search_term.isdigit() and len(search_term) < ID_DIGITS:
            known = Person.objects.filter(pk=int(search_term)).first()
            search_term = str(known.pseudonym) if known is not None else search_term
        return super().get_search_results(request, queryset, search_term)


@admin.register(Heartbeat)
class HeartbeatPage(Page):
    list_display = ("component", "pid", "started_at", "at", "note")
    ordering = ("component",)


@admin.register(PoolBeat)
class PoolBeatPage(Page):
    list_display = ("component", "pid", "busy_since", "at")
    ordering = ("component", "-at")


@admin.register(StackMode)
class StackModePage(Page):
    list_display = ("mode", "changes", "changed_at", "dry_at")


@admin.register(ModeChange)
class ModeChangePage(LongPage):
    list_display = ("at", "kind", mode, "reason", "streak", "epoch", "said_by")
    list_filter = (when("at", by_id=True), "kind", "mode")
    search_fields = ("reason", "said_by")
    ordering = ("-id",)


@admin.register(Chain)
class ChainPage(Page):
    list_display = (
        "chain_id",
        short("trading_address", "Venue"),
        count("head_number"),
        count("finalized_number"),
        "reconciled_at",
        "halted_reason",
    )


def _unveiled(text: str, tg_user_id: int | None) -> str:
    return f"{text} (Telegram {tg_user_id})" if tg_user_id is not None else text
