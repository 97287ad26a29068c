"""What is kept about a person, table by table: the list that an export follows and that a test holds against the models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model, Q, QuerySet

from execution_app.models import (
    AuditEntry,
    Cap,
    Correction,
    ExternalTrade,
    Fill,
    IntentTransition,
    MarginChange,
    Person,
    Position,
    Protection,
    ProtectionTrigger,
    Reservation,
    Shadow,
    Trader,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueMessage,
    VenueOrder,
    Wallet,
)
from execution_app.states import CapScope
from ops.bot.models import (
    Notice,
    NoticeLevel,
    TelegramBinding,
    TelegramChat,
    TelegramConfirmation,
    TelegramFlow,
    TelegramPage,
    TelegramUpdate,
    TelegramUser,
)
from signals_app.models import Signal, SourceGrant

Rows = Callable[[int], "QuerySet[Any]"]


@dataclass(frozen=True)
class Kept:
    """One table: which of its rows are of a person, which columns are never told, and what a pseudonym does to them."""

    model: type[Model]
    rows: Rows
    without: frozenset[str] = frozenset()
    # Deleted when somebody is forgotten; all else stays, under the pseudonym.
    goes: bool = False

    @property
    def table(self) -> str:
        return self.model._meta.db_table  # noqa: SLF001

    @property
    def columns(self) -> list[str]:
        fields = self.model._meta.concrete_fields  # noqa: SLF001
        return [field.attname for field in fields if field.name not in self.without]


def _by(path: str, model: type[Model]) -> Rows:
    return lambda tg_user_id: QuerySet(model).filter(**{path: tg_user_id})


def _caps(tg_user_id: int) -> "QuerySet[Cap]":
    return Cap.objects.filter(scope=CapScope.TRADER.value, scope_value=str(tg_user_id))


def _account(tg_user_id: int) -> "QuerySet[User]":
    names = TelegramUser.objects.filter(tg_user_id=tg_user_id).exclude(account="").values("account")
    return User.objects.filter(username__in=names)


def told_of(tg_user_id: int) -> "QuerySet[AuditEntry]":
    """Entries of the audit log about this person or by them, by pseudonym; those of before there were any, by id."""
    person = Person.objects.filter(pk=tg_user_id).first()
    accounts = TelegramUser.objects.filter(tg_user_id=tg_user_id).exclude(account="").values("account")
    said = Q(actor__in=accounts)
    for number in {tg_user_id} | ({person.pseudonym} if person else set()):
        for column in ("actor", "address", "subject", "reason", "before", "after"):
            said |= Q(**{f"{column}__regex": rf"(^|[^0-9]){number}([^0-9]|$)"})
    return AuditEntry.objects.filter(said).order_by("seq")


OF_INTENT = "intent__tg_user_id"
KEPT: tuple[Kept, ...] = (
    Kept(Person, _by("tg_user_id", Person), goes=True),
    Kept(TelegramUser, _by("tg_user_id", TelegramUser), goes=True),
    Kept(TelegramChat, _by("tg_user_id", TelegramChat), goes=True),
    Kept(NoticeLevel, _by("tg_user_id", NoticeLevel), goes=True),
    Kept(Notice, _by("tg_user_id", Notice), goes=True),
    Kept(TelegramUpdate, _by("tg_user_id", TelegramUpdate), goes=True),
    Kept(TelegramConfirmation, _by("tg_user_id", TelegramConfirmation), frozenset({"token"}), goes=True),
    Kept(TelegramFlow, _by("tg_user_id", TelegramFlow), goes=True),
    Kept(TelegramBinding, _by("tg_user_id", TelegramBinding), goes=True),
    Kept(TelegramPage, _by("tg_user_id", TelegramPage), frozenset({"token_sha256"}), goes=True),
    Kept(SourceGrant, _by("tg_user_id", SourceGrant), goes=True),
    Kept(Trader, _by("tg_user_id", Trader)),
    Kept(Wallet, _by("trader__tg_user_id", Wallet)),
    Kept(Cap, _caps),
    Kept(Signal, _by("tg_user_id", Signal)),
    Kept(TxIntent, _by("tg_user_id", TxIntent)),
    Kept(IntentTransition, _by(OF_INTENT, IntentTransition)),
    Kept(TxSend, _by(OF_INTENT, TxSend)),
    Kept(TxReceipt, _by(OF_INTENT, TxReceipt)),
    Kept(VenueMessage, _by(OF_INTENT, VenueMessage)),
    Kept(VenueOrder, _by(OF_INTENT, VenueOrder)),
    Kept(Shadow, _by(OF_INTENT, Shadow)),
    Kept(Reservation, _by("trader__tg_user_id", Reservation)),
    Kept(Position, _by("trader__tg_user_id", Position)),
    Kept(Correction, _by("position__trader__tg_user_id", Correction)),
    Kept(MarginChange, _by("position__trader__tg_user_id", MarginChange)),
    Kept(ExternalTrade, _by("trader__tg_user_id", ExternalTrade)),
    Kept(Fill, _by("position__trader__tg_user_id", Fill)),
    Kept(Protection, _by("position__trader__tg_user_id", Protection)),
    Kept(ProtectionTrigger, _by("protection__position__trader__tg_user_id", ProtectionTrigger)),
    # An account of the admin site is ended on its own page.
    Kept(User, _account, frozenset({"password"})),
    Kept(AuditEntry, told_of),
)
