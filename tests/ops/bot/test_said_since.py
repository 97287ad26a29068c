"""What lifts a restriction has to be said after the last word that sets it, whichever comes to its turn first."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.db.models import F

from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import AuditEntry
from execution_app.states import Origin, RestrictionKind
from ops.bot import inbox
from ops.bot.inbox import Incoming
from ops.bot.models import Role, TelegramUpdate, TelegramUser
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.conftest import OPERATOR, VIEWER
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram

STOP, REDUCE = RestrictionKind.STOP, RestrictionKind.REDUCE_ONLY
OTHER = 502  # an operator, too


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    """As elsewhere, but one that may resume."""
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin, TELEGRAM_MAY_RESUME="true", **login) as running:
        yield running


@pytest.fixture
def enrolled(chat: Chat) -> Enrolled:
    TelegramUser.objects.create(tg_user_id=OTHER, role=Role.OPERATOR.value, allowed_by="test")
    return Enrolled(OPERATOR)


@contextmanager
def held_up_by_a_look(chat: Chat) -> Iterator[None]:
    """What the operator writes meanwhile waits behind a look of theirs, which waits for a table."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE positions IN ACCESS EXCLUSIVE MODE")
        chat.telegram.writes(OPERATOR, "/positions")
        yield


def test_a_stop_that_went_ahead_is_not_lifted_by_what_was_said_before_it(
    chat: Chat, enrolled: Enrolled
) -> None:
    """The older word waits behind a look of the same person, with a code that is good still."""
    chat.ask(OPERATOR, "/stop")
    with held_up_by_a_look(chat):
        chat.telegram.writes(OPERATOR, f"/resume {enrolled.code()} looked into it")
        chat.telegram.writes(OPERATOR, "/stop it is not over")
        chat.bot.wait_for(lambda: any("Stopped already" in one.text for one in chat.said(OPERATOR)))
    assert "was said after this" in chat.settle(OPERATOR)[-1].text
    assert control.active_kinds() == {STOP}
    assert not AuditEntry.objects.filter(action="restriction_lifted").exists()


def test_both_of_one_poll_end_as_they_were_said(chat: Chat, enrolled: Enrolled) -> None:
    """As of a bot that was away meanwhile; the stop is handled first, and the word before it behind it."""
    chat.ask(OPERATOR, "/stop")
    chat.bot.kill()
    chat.telegram.writes(OPERATOR, f"/resume {enrolled.code()} looked into it")
    chat.telegram.writes(OPERATOR, "/stop it is not over")
    chat.bot.begin()
    chat.bot.wait_for(lambda: any("was said after this" in one.text for one in chat.said(OPERATOR)))
    chat.settle(OPERATOR)
    assert control.active_kinds() == {STOP}


def test_what_another_operator_sets_meanwhile_holds(chat: Chat, enrolled: Enrolled) -> None:
    chat.ask(OPERATOR, "/reduceonly")
    with held_up_by_a_look(chat):
        chat.telegram.writes(OPERATOR, f"/reduceonly off {enrolled.code()} looked into it")
        chat.telegram.writes(OTHER, "/reduceonly")
        chat.bot.wait_for(lambda: any("already" in one.text for one in chat.said(OTHER)))
    assert "was said after this" in chat.settle(OPERATOR)[-1].text
    assert control.active_kinds() == {REDUCE}


def test_who_may_not_stop_holds_nobody_up(chat: Chat, enrolled: Enrolled) -> None:
    chat.ask(OPERATOR, "/stop")
    with held_up_by_a_look(chat):
        chat.telegram.writes(OPERATOR, f"/resume {enrolled.code()} looked into it")
        chat.ask(VIEWER, "/stop")
    assert "Lifted" in chat.settle(OPERATOR)[-1].text
    assert control.active() == []


def said(update_id: int, text: str, query_id: str = "") -> Incoming:
    return Incoming(update_id, OPERATOR, 1, text, query_id)


@pytest.mark.parametrize(
    ("text", "query_id", "kind"),
    [
        ("/stop", "", "emergency_stop"),
        ("/Stop@some_bot now", "", "emergency_stop"),
        ("stop", "1", "emergency_stop"),
        ("/reduceonly", "", "reduce_only"),
        ("/reduceonly offended by it", "", "reduce_only"),
        ("/reduceonly off 123456 looked into it", "", ""),
        ("/reduceonly OFF", "", ""),
        ("/flatten yes the market burns", "", "reduce_only"),
        ("/flatten YES 123456 the market burns", "", "reduce_only"),
        ("/flatten", "", ""),
        ("/resume 123456 looked into it", "", ""),
        ("reduceonly", "1", ""),
        ("stop", "", ""),
        ("", "", ""),
    ],
)
def test_what_a_word_asks_for(text: str, query_id: str, kind: str) -> None:
    assert said(7, text, query_id).restricts == kind


@pytest.fixture
def operator(database: None) -> None:
    TelegramUser.objects.create(tg_user_id=OPERATOR, role=Role.OPERATOR.value, allowed_by="test")


def test_the_last_word_counts_of_its_kind_and_of_its_time(operator: None) -> None:
    """Telegram's numbers rise, but for a week of silence: what is old says nothing, whatever its number."""

    def is_last(update_id: int, kind: RestrictionKind) -> bool:
        with inbox.answering(said(update_id, "")):
            try:
                inbox.require_last_word(kind)
            except Refused:
                return False
        return True

    inbox.take([said(5, "/stop"), said(6, "/resume 123456 looked into it"), said(7, "/positions")])
    assert is_last(6, STOP)
    inbox.take([said(8, "/reduceonly")])
    assert (is_last(6, STOP), is_last(6, REDUCE)) == (True, False)
    inbox.take([said(9, "/stop")])
    inbox.finish(9)
    assert (is_last(6, STOP), is_last(9, STOP)) == (False, True)
    TelegramUpdate.objects.filter(pk=9).update(received_at=F("received_at") - timedelta(hours=23))
    assert not is_last(6, STOP), "a clock that was set back between the two"
    TelegramUpdate.objects.filter(pk=9).update(received_at=F("received_at") - timedelta(hours=2))
    assert is_last(6, STOP)
    inbox.require_last_word(STOP)  # what was not said in Telegram


def test_a_word_is_judged_in_its_turn(operator: None) -> None:
    """What was set while it waited is there for it; what refuses it leaves the restriction, and tells nobody of a lifting."""
    control.impose(STOP, Origin.TELEGRAM, by="test", reason="test")

    def refuse() -> None:
        assert control.active_kinds() == {STOP}
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
                " AND objid = %s AND mode = 'ExclusiveLock'",
                [control.LINE_LOCK],
            )
            assert cursor.fetchone()[0] == 1
        raise Refused("not now")

    with pytest.raises(Refused, match="not now"):
        control.lift(STOP, Origin.TELEGRAM, by="test", judge=refuse)
    assert control.active_kinds() == {STOP}
    assert not AuditEntry.objects.filter(action="restriction_lifted").exists()
    assert control.lift(STOP, Origin.TELEGRAM, by="test", judge=lambda: None)
