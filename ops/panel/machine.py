"""Pages of the machine itself: restrictions, the control row with Stop and Resume, mode, heartbeats, the chain."""

from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.urls import URLPattern, path

from execution_app.models import (
    Archive,
    AuditEntry,
    Chain,
    Control,
    Heartbeat,
    ModeChange,
    PoolBeat,
    RestorePoint,
    Restriction,
    StackMode,
)
from ops.panel import switch
from ops.panel.lists import when
from ops.panel.pages import LongPage, Page, mode, short, shown


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
    list_display = ("file", "table_name", "day", "rows", "made_at")
    list_filter = ("table_name",)
    search_fields = ("file", "sha256")
    ordering = ("-id",)


@admin.register(AuditEntry)
class AuditPage(LongPage):
    list_display = ("seq", "at", "action", "subject", "actor", "origin", "address", "reason")
    list_filter = (when("at", by_id=True), "action", "origin")
    search_fields = ("subject", "actor", "reason")
    ordering = ("-seq",)


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
        "head_number",
        "finalized_number",
        "reconciled_at",
        "halted_reason",
    )
