"""Where each person's conversation stands, as a row: a process that begins anew goes on with the same question."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from ops.bot.models import Step, TelegramFlow

LASTS = timedelta(minutes=10)  # then whoever writes a number means something else


def begin(tg_user_id: int, step: Step, answers: dict[str, Any]) -> None:
    """A new conversation; what another one had come to is left."""
    fields = {"step": step.value, "answers": answers, "message_id": None, "updated_at": Now()}
    TelegramFlow.objects.update_or_create(tg_user_id=tg_user_id, defaults=fields)


def advance(tg_user_id: int, step: Step, answers: dict[str, Any]) -> None:
    """The next question of the same one, under whatever message shows it."""
    fields = {"step": step.value, "answers": answers, "updated_at": Now()}
    TelegramFlow.objects.filter(tg_user_id=tg_user_id).update(**fields)


def bind(tg_user_id: int, message_id: int) -> None:
    """Its question stands under this message now, and buttons of no other one count."""
    TelegramFlow.objects.filter(tg_user_id=tg_user_id).update(message_id=message_id)


def of(tg_user_id: int) -> TelegramFlow | None:
    return TelegramFlow.objects.filter(tg_user_id=tg_user_id, updated_at__gt=Now() - LASTS).first()


def end(tg_user_id: int) -> None:
    TelegramFlow.objects.filter(tg_user_id=tg_user_id).delete()


def end_of(tg_user_id: int, token: str) -> None:
    """End the one that waits for this token's code; another conversation goes on."""
    TelegramFlow.objects.filter(tg_user_id=tg_user_id, step=Step.CODE, answers__token=token).delete()
