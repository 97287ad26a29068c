"""Nobody who is not listed: strangers, groups, forged buttons, words taken back; and the command that lists people."""

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from execution_app.gate import control
from execution_app.models import AuditEntry, Heartbeat
from execution_app.people import pseudonym_of
from execution_app.states import Origin, RestrictionKind
from ops.bot import people, telling
from ops.bot.models import Notice, NoticeLevel, Role, TelegramUpdate, TelegramUser
from ops.bot.outbox import Job
from ops.watch import health
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, STRANGER, TRADER, VIEWER
from tests.ops.bot.queued import AT, notice


def telegram_command(*words: str) -> Any:
    out = io.StringIO()
    call_command("telegram", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_a_stranger_is_answered_once_and_leaves_one_row(chat: Chat) -> None:
    first = chat.ask(STRANGER, "/stop")
    assert str(STRANGER) in first.text
    for text in ("/start", "/stop", "/approve sig:x:1 123456 because"):
        chat.telegram.writes(STRANGER, text)
    chat.press(OPERATOR, chat.ask(OPERATOR, "/help"), "help")
    assert [one.text for one in chat.telegram.sent(STRANGER)] == [first.text]
    assert TelegramUpdate.objects.filter(tg_user_id=STRANGER).count() == 1
    assert control.active() == []


def test_what_waits_is_not_told_to_somebody_who_may_see_less(database: None) -> None:
    """Telegram was away, say; whoever watched everybody and is let in again as a trader gets a line instead of it."""
    people.allow(OPERATOR, Role.OPERATOR, by="ann")
    notice(OPERATOR, 1, about={"owner": TRADER}).save()
    notice(OPERATOR, 2, due=False, delivered=1, message_id=7, sent_at=AT).save()
    people.allow(OPERATOR, Role.TRADER, by="ann")
    shown, told = Notice.objects.order_by("id")
    assert (shown.message_id, told.thread[:5]) == (7, "role ")
    assert (told.steps[0]["untold"], told.steps[0]["held"]) == (1, 0)
    notice(OPERATOR, 3).save()
    people.revoke(OPERATOR, by="ann")
    people.allow(OPERATOR, Role.OPERATOR, by="ann")
    assert not Notice.objects.filter(due_at__isnull=False).exists()


@pytest.mark.parametrize(
    ("was", "now", "said", "german"),
    [
        (Role.OPERATOR, Role.TRADER, "You are a trader here from now on. I tell you of your own trades alone, and leave out 1",
         "Du bist hier ab jetzt Trader. Ich melde dir nur noch deine eigenen Trades"),
        (Role.VIEWER, Role.TRADER, "You are a trader here from now on. I tell you of your own trades alone", "ab jetzt Trader"),
        (Role.OPERATOR, Role.VIEWER, "You are a viewer here from now on. /help", "ab jetzt Beobachter. /help"),
        (Role.TRADER, Role.VIEWER, "You are a viewer here from now on. /help", "ab jetzt Beobachter"),
        (Role.VIEWER, Role.OPERATOR, "", ""),
        (Role.TRADER, Role.OPERATOR, "", ""),
    ],
)  # fmt: skip
def test_whoever_may_less_is_told_so_in_one_line(
    database: None, was: Role, now: Role, said: str, german: str
) -> None:
    people.allow(OPERATOR, was, by="ann")
    notice(OPERATOR, 1).save()
    people.allow(OPERATOR, now, label="the same person", by="ann")
    people.allow(OPERATOR, now, label="another label", by="ann")
    rows = Notice.objects.filter(thread__startswith="role ", due_at__isnull=False)
    assert len(rows) == (1 if said else 0)
    for row in rows:
        for language, words in (("en", said), ("de", german)):
            job = Job(
                row.pk, OPERATOR, row.urgent, row.thread, row.about, row.steps, False, False, 0, language
            )
            assert words in telling.text(job)
    assert Notice.objects.filter(thread__startswith="trade ").exists() == (now is not Role.TRADER)


def test_whoever_wants_no_word_of_it_gets_none(database: None) -> None:
    people.allow(OPERATOR, Role.OPERATOR, by="ann")
    NoticeLevel.objects.create(tg_user_id=OPERATOR, event="role", level="off")
    notice(OPERATOR, 1).save()
    people.allow(OPERATOR, Role.TRADER, by="ann")
    assert not Notice.objects.exists()


def test_a_group_is_not_heard_whoever_writes_there(chat: Chat) -> None:
    chat.telegram.writes(OPERATOR, "/stop", group=-100_777)
    chat.settle(OPERATOR)
    assert chat.telegram.sent(-100_777) == []
    assert control.active() == []
    assert not TelegramUpdate.objects.filter(body__text="/stop").exists()


def test_an_edited_message_is_not_heard(chat: Chat) -> None:
    chat.settle(OPERATOR)
    chat.telegram.edits(OPERATOR, "/stop")
    chat.settle(OPERATOR)
    assert control.active() == []


@pytest.mark.parametrize("user", [VIEWER, TRADER])
@pytest.mark.parametrize("text", ["/stop", "/reduceonly", "/resume", "/held", "/approve", "/reject"])
def test_what_is_an_operators_is_refused_to_others(chat: Chat, user: int, text: str) -> None:
    assert "operator" in chat.ask(user, text).text
    assert control.active() == []


def test_a_forged_button_does_what_its_sender_may_and_no_more(chat: Chat) -> None:
    menu = chat.ask(VIEWER, "/start")
    assert "stop" not in menu.buttons.values()
    chat.press(VIEWER, menu, "stop")
    chat.press(VIEWER, menu, "approve:sig:x:1")
    chat.press(VIEWER, menu, "\0" * 64)
    said = [one.text for one in chat.settle(VIEWER)]
    assert sum("Only an operator may do that" in text for text in said) == 1
    assert control.active() == []
    # Of an operator, too, a button asks for nothing that no button has.
    shown = chat.ask(OPERATOR, "/start")
    chat.press(OPERATOR, shown, "reduceonly")
    chat.settle(OPERATOR)
    assert control.active() == []


def test_a_word_taken_back_counts_at_the_next_update(chat: Chat) -> None:
    chat.settle(OPERATOR)
    assert telegram_command("revoke", str(OPERATOR))["changed"]
    before = len(chat.telegram.sent(OPERATOR))
    chat.telegram.writes(OPERATOR, "/stop")
    chat.settle(VIEWER)
    assert control.active() == []
    assert len(chat.telegram.sent(OPERATOR)) == before, "they are known well enough"
    assert not telegram_command("revoke", str(OPERATOR))["changed"]


def test_the_command_lists_whom_it_let_in_and_the_audit_log_knows(database: None) -> None:
    User.objects.create_superuser("ann", password="long-enough-for-a-test")
    assert telegram_command("list") == []
    assert telegram_command("allow", "7", "viewer", "--label", "Bob")["changed"]
    assert not telegram_command("allow", "7", "viewer", "--label", "Bob")["changed"]
    assert telegram_command("allow", "7", "operator", "--account", "ann")["changed"]
    assert telegram_command("list") == [{"tg_user_id": 7, "role": "operator", "account": "ann", "label": ""}]
    assert telegram_command("revoke", "7")["changed"]
    told = AuditEntry.objects.filter(subject=f"telegram {pseudonym_of(7)}").order_by("seq")
    assert [one.action for one in told] == ["telegram_allowed", "telegram_allowed", "telegram_revoked"]
    assert told[1].before == {"role": "viewer", "account": "", "label": "[not kept]"}
    assert {one.origin for one in told} == {"command"}


REFUSED = [
    (("allow", "--", "-100777", "viewer"), "above zero"),
    (("allow", str(2**63), "viewer"), "above zero"),
    (("allow", "7", "operator", "--account", "nobody"), "nobody who may log in"),
    (("lift", "emergency_stop", "--by", "ann", "--reason", "short"), "at least 8 characters"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_what_the_command_refuses(database: None, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("telegram", *words)
    assert not TelegramUser.objects.exists()


def test_a_stop_of_telegram_is_lifted_in_a_shell(database: None) -> None:
    control.impose(RestrictionKind.STOP, Origin.TELEGRAM, by="telegram 7", reason="x")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="x", reason="x")
    words = ("lift", "emergency_stop", "--by", "ann", "--reason", "looked into it")
    assert telegram_command(*words) == {"changed": True}
    assert telegram_command(*words) == {"changed": False}
    assert [row.origin for row in control.active()] == ["http"]


def test_health_says_whether_the_bot_hears(chat: Chat, settings: Any) -> None:
    chat.settle(OPERATOR)
    chat.bot.wait_for(lambda: Heartbeat.objects.filter(component="bot", note="polling").exists())
    assert health.look_at_database()["bot"].detail == "TELEGRAM_BOT_TOKEN is blank"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"telegram_bot_token": type(settings.ENVIRONMENT.secret_key)("7:x")}
    )
    found = health.look_at_database()["bot"]
    assert (found.ok, found.detail) == (True, "polling")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM heartbeats")
    Heartbeat.objects.create(component="bot", pid=1, started_at="2026-01-01T00:00:00Z", note="waiting: x")
    seen = health.look_at_database()["bot"]
    assert (seen.ok, seen.detail) in {(False, "waiting: x"), (True, "polling")}
