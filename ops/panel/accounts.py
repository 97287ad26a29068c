"""Pages of who may log in, and of the schedule that code installs."""

from copy import copy
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import ManyToManyField, Model, QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django_celery_beat import admin as beat_admin  # noqa: F401  (its pages must be registered to be replaced)
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_otp.plugins.otp_totp import admin as totp_admin  # noqa: F401  (likewise)
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from ops.panel import account_forms
from ops.panel.pages import Page
from ops.panel.switch import REASON_LIMIT
from ops.panel.ticks import TickList

# The last one's pages show the secrets of others; `manage.py second_factor` manages them.
_TAKEN = (
    User,
    Group,
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
    TOTPDevice,
)
for _model in _TAKEN:
    admin.site.unregister(_model)

State = dict[str, Any]


def told(row: Model | None) -> State | None:
    """What a row of rights is now, from the database; never a password, only whether it was changed."""
    if row is None or row.pk is None:
        return None
    if isinstance(row, Group):
        group = Group.objects.get(pk=row.pk)
        return {"name": group.name, "permissions": _names(group.permissions, "codename")}
    user = User.objects.get(pk=row.pk)
    return {
        "username": user.username,
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "groups": _names(user.groups, "name"),
        "permissions": _names(user.user_permissions, "codename"),
    }


def _names(related: Any, field: str) -> list[str]:
    return sorted(related.values_list(field, flat=True))


class Audited:
    """A page whose changes stand in the audit log, in the same transaction; what gives more is asked for a second factor."""

    change_form_after_template = "panel/account_passkey.html"
    filter_horizontal = ()

    class Media:
        js = ("panel/passkeys.js",)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if not isinstance(db_field, ManyToManyField):
            return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        # Without the link that adds another one in a window of its own: the list here would not know of it.
        return self.formfield_for_manytomany(  # type: ignore[attr-defined]
            db_field, request, widget=TickList(str(db_field.verbose_name).capitalize())
        )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        form.request = request  # made for this request alone
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = tuple(super().get_fieldsets(request, obj))  # type: ignore[misc]
        if obj is not None and not self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return fieldsets
        what = {"fields": account_forms.asked(request), "description": account_forms.NOTE}
        return (*fieldsets, (account_forms.TITLE, what))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Under its lock where it is changed, since what gives more is judged by what the row has then."""
        found = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if found is None or not transaction.get_connection().in_atomic_block:
            return found  # it is only looked at
        return type(found).objects.select_for_update(no_key=True).filter(pk=found.pk).first()

    def save_model(self, request: HttpRequest, obj: Model, form: Form, change: bool) -> None:
        request.audited_before = told(obj) if change else None  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record(request, obj, None, told(obj))
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        # Without `save_model` it was the page of the password alone.
        before = getattr(request, "audited_before", None)
        after = told(obj)
        _record(request, obj, after if before is None else before, after, form="" if before else "password")
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for row in queryset:
            _record(request, row, told(row), None)
        return super().log_deletions(request, queryset)  # type: ignore[misc]

    def changelist_view(self, request: HttpRequest, extra_context: State | None = None) -> HttpResponse:
        with transaction.atomic():
            answer: HttpResponse = super().changelist_view(request, extra_context)  # type: ignore[misc]
        return answer


def _record(
    request: HttpRequest, row: Model, before: State | None, after: State | None, form: str = ""
) -> None:
    kind = "group" if isinstance(row, Group) else "user"
    why = request.POST.get("reason", "").strip()[:REASON_LIMIT]
    audit.record(
        _action(kind, before, after),
        f"{kind} {row}",
        reason=": ".join(word for word in (f"{form} changed" if form else "", why) if word),
        before=before,
        after=after,
        who=audit.by(str(request.user.get_username()), AuditOrigin.ADMIN),
    )


def _action(kind: str, before: State | None, after: State | None) -> AuditAction:
    if kind == "group":
        return AuditAction.GROUP_CHANGED if after else AuditAction.GROUP_DELETED
    if before is None:
        return AuditAction.ADMIN_CREATED
    if after is None:
        return AuditAction.ADMIN_DELETED
    disabled = before["is_active"] and not after["is_active"]
    return AuditAction.ADMIN_DISABLED if disabled else AuditAction.ADMIN_CHANGED


@admin.register(User)
class UserPage(Audited, UserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Accounts are the one thing that is managed here."""

    form = account_forms.UserForm
    add_form = account_forms.NewUserForm
    change_password_form = account_forms.PasswordForm
    change_user_password_template = "panel/change_password.html"  # noqa: S105  (a file, not a password)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Nobody makes themselves, or anybody, more than the roles are; when somebody came and was here last is a fact."""
        fields = (*super().get_readonly_fields(request, obj), "last_login", "date_joined")
        return fields if request.user.is_superuser else (*fields, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever could change a superuser's password would be one."""
        above = obj is not None and obj.is_superuser and not request.user.is_superuser
        return bool(super().has_change_permission(request, obj)) and not above

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        page = copy(self)  # the one that the site has serves others meanwhile
        page.change_password_form = account_forms.of(request, self.change_password_form)
        with transaction.atomic():
            return super(UserPage, page).user_change_password(request, id, form_url)


@admin.register(Group)
class GroupPage(Audited, GroupAdmin, ModelAdmin):  # type: ignore[misc]
    form = account_forms.GroupForm
    fieldsets = ((None, {"fields": ("name", "permissions")}),)


@admin.register(PeriodicTask)
class PeriodicTaskPage(Page):
    """Shown only: the schedule is installed by code at every start."""

    list_display = ("name", "task", "interval", "crontab", "enabled", "last_run_at", "total_run_count")
    list_select_related = ("interval", "crontab")
    ordering = ("name",)


@admin.register(IntervalSchedule)
class IntervalPage(Page):
    list_display = ("__str__",)


@admin.register(CrontabSchedule)
class CrontabPage(Page):
    list_display = ("__str__",)
