"""Pages of who may log in, and of the schedule that code installs."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django_celery_beat import admin as beat_admin  # noqa: F401  (its pages must be registered to be replaced)
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from ops.panel.pages import Page

for _model in (User, Group, ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(_model)


@admin.register(User)
class UserPage(UserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Accounts are the one thing that is managed here."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupPage(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


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
