"""A stop from Telegram: acknowledged once it holds, ahead of everything, once, and never lost."""

import subprocess
import sys
import time

from django.db import connection, transaction

from execution_app.gate import control
from execution_app.models import AuditEntry, TxSend
from execution_app.people import pseudonym_of
from execution_app.states import Origin, RestrictionKind
from ops.bot.models import TelegramUpdate
from tests import real_parts
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, VIEWER
from tests.rig import Rig

STOP = RestrictionKind.STOP


def stops() -> list[str]:
    return [row.origin for row in control.active() if row.kind == STOP]


def resume() -> None:
    assert control.lift(STOP, Origin.TELEGRAM, by="test", reason="test")


def await_word(chat: Chat) -> None:
    """Said after it holds, and not in the next test."""
    chat.bot.wait_for(lambda: any("Stopped." in one.text for one in chat.said(OPERATOR)))


def test_nothing_leaves_after_the_acknowledgement(chat: Chat, rig: Rig) -> None:
    first = rig.intent()
    rig.submit()
    said = chat.ask(OPERATOR, "/stop the price is wrong")
    sent = set(TxSend.objects.values_list("tx_hash", flat=True))
    assert "Stopped." in said.text
    assert stops() == ["telegram"]
    second = rig.intent()
    rig.run()
    for intent in (first, second):
        intent.refresh_from_db()
    assert set(TxSend.objects.values_list("tx_hash", flat=True)) == sent
    assert (second.state, second.reason, second.nonce) == ("rejected", "emergency_stop", None)
    entry = AuditEntry.objects.get(action="restriction_imposed")
    assert (entry.origin, entry.actor, entry.reason) == (
        "telegram",
        f"telegram {pseudonym_of(OPERATOR)}",
        "the price is wrong",
    )
    assert entry.address == f"telegram {pseudonym_of(OPERATOR)}"


def test_one_tap_is_enough_and_the_next_says_so(chat: Chat) -> None:
    menu = chat.ask(OPERATOR, "/start")
    (data,) = [data for text, data in menu.buttons.items() if "STOP" in text]
    chat.press(OPERATOR, menu, data)
    chat.settle(OPERATOR)
    assert stops() == ["telegram"]
    assert "Stopped already" in chat.ask(OPERATOR, "/stop").text
    assert AuditEntry.objects.filter(action="restriction_imposed").count() == 1


def test_going_on_is_not_for_a_phone(chat: Chat) -> None:
    chat.ask(OPERATOR, "/stop")
    for text, what in (
        ("/resume", "emergency_stop"),
        ("/resume 123456 looked into it", "emergency_stop"),
        ("/reduceonly off 123456 looked into it", "reduce_only"),
    ):
        said = chat.ask(OPERATOR, text).text
        assert f"manage.py telegram lift {what}" in said
        assert "to lift it: manage.py telegram lift" in said, "and not by /resume"
    assert stops() == ["telegram"]


def test_the_same_update_again_stops_nobody(chat: Chat) -> None:
    """A stop that was lifted since is not set anew by an update that Telegram hands out twice."""
    chat.ask(OPERATOR, "/stop")
    update = chat.telegram.last_update()
    resume()
    chat.telegram.hands_out_again(update)
    chat.settle(OPERATOR)
    assert stops() == []
    row = TelegramUpdate.objects.get(pk=update["update_id"])
    assert (row.handled_at is not None, row.body) == (True, {}), "what was said is forgotten"


def test_it_waits_behind_nobodys_looks(chat: Chat) -> None:
    """Somebody's look hangs on a lock; the stop is set and said meanwhile."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE positions IN ACCESS EXCLUSIVE MODE")
        for user in (OPERATOR, VIEWER):
            for _ in range(4):
                chat.telegram.writes(user, "/positions")
        before = len(chat.telegram.sent(OPERATOR))
        chat.telegram.writes(OPERATOR, "/stop")
        chat.bot.wait_for(
            lambda: any("Stopped." in one.text for one in chat.telegram.sent(OPERATOR)[before:])
        )
        assert stops() == ["telegram"]
    chat.settle(VIEWER)
    chat.settle(OPERATOR)


def test_too_many_requests_delay_the_word_and_not_the_stop(chat: Chat) -> None:
    chat.settle(OPERATOR)
    chat.telegram.storms("sendMessage", 1_000, retry_after_s=1)
    before = len(chat.telegram.sent(OPERATOR))
    chat.telegram.writes(OPERATOR, "/stop")
    chat.bot.wait_for(stops)
    assert len(chat.telegram.sent(OPERATOR)) == before
    chat.bot.wait_for(lambda: [call.code for call in chat.telegram.called("sendMessage")][-2:] == [429, 429])
    chat.telegram.is_back()
    chat.bot.wait_for(lambda: len(chat.telegram.sent(OPERATOR)) > before)
    said = chat.telegram.sent(OPERATOR)[before:]
    assert ["Stopped." in one.text for one in said] == [True]
    codes = [call.code for call in chat.telegram.called("sendMessage")][-3:]
    assert codes == [429, 429, 200]


def test_what_cannot_be_read_keeps_no_stop_from_being_heard(chat: Chat) -> None:
    """An update of a shape that nobody knows yet, between two that are fine."""
    chat.settle(OPERATOR)
    chat.telegram.goes_away()
    chat.bot.wait_for(lambda: chat.telegram.calls[-1].code == 502)
    chat.telegram.writes(OPERATOR, "/reduceonly")
    chat.telegram.hands_out({"message": {"message_id": "no number"}})
    chat.telegram.writes(OPERATOR, "/stop \0")
    chat.telegram.is_back()
    chat.bot.wait_for(stops)
    await_word(chat)
    chat.settle(OPERATOR)
    assert {row.kind for row in control.active()} == {STOP, RestrictionKind.REDUCE_ONLY}
    assert "an update cannot be read and is left" in chat.bot.said


def test_telegram_away_for_a_while_is_waited_for(chat: Chat) -> None:
    chat.telegram.goes_away()
    chat.bot.wait_for(lambda: "Telegram does not answer" in chat.bot.said)
    chat.telegram.writes(OPERATOR, "/stop")
    time.sleep(0.2)  # long enough for a poll that would have come through; nothing depends on it
    chat.telegram.is_back()
    chat.bot.wait_for(stops)
    await_word(chat)


def test_a_database_that_does_not_take_it_is_asked_until_it_does(chat: Chat) -> None:
    """It is said that the stop is not set yet, and acknowledged only when it is."""
    chat.settle(OPERATOR)
    before = len(chat.telegram.sent(OPERATOR))

    def said(words: str) -> bool:
        return any(words in one.text for one in chat.telegram.sent(OPERATOR)[before:])

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE mode_changes IN ACCESS EXCLUSIVE MODE")
        chat.telegram.writes(OPERATOR, "/stop")
        chat.bot.wait_for(lambda: said("Not stopped yet"))
        assert not said("Stopped.")
    chat.bot.wait_for(lambda: said("Stopped."))
    assert stops() == ["telegram"]
    assert not said("Stopped already")


def test_a_death_between_row_and_stop_loses_nothing(chat: Chat) -> None:
    """The row is there, its stop is not, and Telegram was told that the update has arrived."""
    chat.settle(OPERATOR)
    chat.bot.kill()
    body = {"update_id": 7, "user_id": OPERATOR, "message_id": 1, "text": "/stop", "query_id": ""}
    TelegramUpdate.objects.create(
        update_id=7, tg_user_id=OPERATOR, body=body, received_at="2026-01-01T00:00:00Z"
    )
    old = {**body, "update_id": 8, "text": "/reduceonly"}
    TelegramUpdate.objects.create(
        update_id=8, tg_user_id=OPERATOR, body=old, received_at="2026-01-01T00:00:00Z"
    )
    chat.bot.begin()
    chat.bot.wait_for(stops)
    chat.settle(OPERATOR)
    assert [row.kind for row in control.active()] == [STOP], "what is old and no stop is left"
    assert not TelegramUpdate.objects.filter(handled_at=None).exists()


def test_a_death_as_it_comes_in_loses_nothing(chat: Chat) -> None:
    chat.settle(OPERATOR)
    chat.telegram.writes(OPERATOR, "/stop")
    chat.bot.kill()
    chat.bot.begin()
    chat.bot.wait_for(stops)
    assert "Stopped" in chat.settle(OPERATOR)[-1].text


def test_nobody_but_the_bot_imports_aiogram_and_the_bot_what_draws_only_when_it_draws() -> None:
    code = (
        "import sys, django; django.setup(); import vanta.celery, vanta.urls, vanta.wsgi; "
        "import ops.bot.management.commands.bot, ops.bot.management.commands.telegram; "
        "import ops.bot.conditions, ops.bot.counter, ops.bot.daily, ops.bot.feeds, ops.bot.telling; "
        "sys.exit(bool({'aiogram', 'aiohttp', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=real_parts.ROOT, timeout=60, check=False)
    assert done.returncode == 0
