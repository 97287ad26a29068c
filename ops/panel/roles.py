"""What people may do on the site: four roles as groups, and which rows are a trader's own.

A role is a group of Django's with exactly these permissions. Superusers, whom `manage.py create_admin` makes
without a role, stand above all four.
"""

from enum import StrEnum
from typing import Any

from django.contrib.auth.models import AbstractUser, AnonymousUser, Group, Permission
from django.db import transaction
from django.db.models import Q, QuerySet

from ops.bot.models import TelegramUser

User = AbstractUser | AnonymousUser

_KNOWN = "_vanta_sees_own"
_LOOKED_AT = ("execution_app", "signals_app", "django_celery_beat")
_OPERATES = (
    ("execution_app", "change_control"),
    ("execution_app", "change_txintent"),
    ("execution_app", "change_position"),
    ("execution_app", "change_cap"),
)
_MANAGES = (
    ("signals_app", "change_sourcesecret"),
    ("signals_app", "change_sourcegrant"),
    ("execution_app", "change_person"),
    ("auth", "view_user"),
    ("auth", "add_user"),
    ("auth", "change_user"),
    ("auth", "view_group"),
)


class SiteRole(StrEnum):
    """Each but the trader may all that stands before it."""

    VIEWER = "viewer"  # looks at everything, does nothing
    TRADER = "trader"  # looks at what is theirs, and closes it
    OPERATOR = "operator"  # looks at everything, decides, stops, resumes, sets caps
    ADMIN = "admin"  # manages secrets, grants, accounts and what is kept about people, too


def permissions_of(role: SiteRole) -> "QuerySet[Permission]":
    """Exactly what the role's group has."""
    looks = Q(content_type__app_label__in=_LOOKED_AT, codename__startswith="view_")
    wanted = {
        SiteRole.VIEWER: looks,
        SiteRole.TRADER: Q(pk__in=[]),  # the group itself is the right: to rows, not to tables
        SiteRole.OPERATOR: looks | _named(_OPERATES),
        SiteRole.ADMIN: looks | _named(_OPERATES) | _named(_MANAGES),
    }[role]
    return Permission.objects.filter(wanted)


def _named(pairs: tuple[tuple[str, str], ...]) -> Q:
    found = Q(pk__in=[])
    for app, codename in pairs:
        found |= Q(content_type__app_label=app, codename=codename)
    return found


def group(role: SiteRole) -> Group:
    """The role's group, made or brought back to exactly its permissions."""
    with transaction.atomic():
        found, _ = Group.objects.get_or_create(name=role.value)
        found.permissions.set(permissions_of(role))
    return found


def sees_own(user: User) -> bool:
    """Whether this person sees what is theirs although they may not see the table; asked once for a request."""
    if not (user.is_active and user.is_staff):
        return False
    known: bool | None = getattr(user, _KNOWN, None)
    if known is None:
        known = user.groups.filter(name=SiteRole.TRADER.value).exists()
        setattr(user, _KNOWN, known)
    return known


def own_ids(user: User) -> list[int]:
    """Telegram ids that `manage.py telegram allow … --account` bound to this account."""
    if not user.is_authenticated:
        return []
    bound = TelegramUser.objects.filter(account=user.get_username())
    return list(bound.values_list("tg_user_id", flat=True))


def owns(user: User, tg_user_id: int) -> bool:
    return sees_own(user) and tg_user_id in own_ids(user)


def own_rows(user: User, rows: "QuerySet[Any]", path: str) -> "QuerySet[Any]":
    """Of these rows the person's own; `path` leads to a Telegram id."""
    return rows.filter(**{f"{path}__in": own_ids(user)})
