"""What operators do from Telegram: restrictions of its own origin, what is held, and loosening with a second factor."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.gate import control
from execution_app.models import AuditEntry, TxIntent
from execution_app.moves import move
from execution_app.people import pseudonym_of
from execution_app.states import Action, IntentState, Origin, Reason, RestrictionKind
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.conftest import OPERATOR
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram
from tests.rig import Rig

STOP = RestrictionKind.STOP
AUDIT_LOCK = 1635083380  # as execution_app/migrations/0011 has it
WAITS = "FROM pg_stat_activity WHERE wait_event = 'advisory' AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    """As elsewhere, with the rights of the bot's role and no others, but one that may resume."""
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin, TELEGRAM_MAY_RESUME="true", **login) as running:
        yield running


@pytest.fixture
def enrolled(chat: Chat) -> Enrolled:
    return Enrolled(OPERATOR)


def held(rig: Rig, action: Action = Action.CLOSE) -> TxIntent:
    intent = rig.intent(action)
    move(intent, IntentState.HELD, why="test", by="test", reason=Reason.MODE_DEGRADED.value)
    intent.refresh_from_db()
    return intent


def test_reduce_only_is_set_once_and_lifted_with_a_code(chat: Chat, enrolled: Enrolled) -> None:
    assert "only what lowers exposure" in chat.ask(OPERATOR, "/reduceonly too much at once").text
    assert "already" in chat.ask(OPERATOR, "/reduceonly").text
    (row,) = control.active()
    assert (row.kind, row.origin, row.set_by, row.reason) == (
        "reduce_only",
        "telegram",
        "ann",
        "too much at once",
    )
    assert "Usage: /reduceonly off CODE REASON" in chat.ask(OPERATOR, "/reduceonly off").text
    assert "Lifted" in chat.ask(OPERATOR, f"/reduceonly off {enrolled.code()} looked into it").text
    assert control.active() == []


def test_what_may_be_committed_is_never_called_nothing(chat: Chat, rig: Rig) -> None:
    """Reduce-only holds without its entry; behind it the connection dies, and nobody knows what was done."""
    pseudonym_of(OPERATOR)  # is drawn under the same lock when somebody does something for the first time
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
        chat.telegram.writes(OPERATOR, "/flatten yes the market burns")
        chat.bot.wait_for(control.active)
        # The restriction's own entry may be missing; who flattens goes no further without one.
        chat.bot.wait_for(lambda: _cut_off_whoever_waits() and chat.said(OPERATOR))
    (said,) = chat.settle(OPERATOR)
    assert "not certain" in said.text
    assert "nothing was done" not in said.text
    assert control.active_kinds() == {RestrictionKind.REDUCE_ONLY}


def _cut_off_whoever_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {WAITS}")
    return True


def test_resuming_needs_account_code_and_reason_and_lifts_what_telegram_set(chat: Chat) -> None:
    control.impose(STOP, Origin.HTTP, by="x", reason="x")
    control.impose(STOP, Origin.TELEGRAM, by="x", reason="x")
    assert "tied to no account" in chat.ask(OPERATOR, "/resume 123456 looked into it").text
    ann = Enrolled(OPERATOR)
    how = chat.ask(OPERATOR, "/resume").text
    assert "Usage: /resume CODE REASON" in how
    assert "at least 8 characters" in how
    assert "to lift it: /resume, or manage.py telegram lift" in how
    assert "at least 8 characters" in chat.ask(OPERATOR, f"/resume {ann.code()} short").text
    assert "the code is wrong" in chat.ask(OPERATOR, "/resume 000000 looked into it").text
    assert len(control.active()) == 2
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    code = ann.code()
    said = chat.ask(OPERATOR, f"/resume {code} looked into it").text
    assert "Lifted what Telegram had set." in said
    assert "Emergency stop still holds" in said
    assert "Emergency stop (API) by x" in said, "what still holds is told"
    assert [row.origin for row in control.active()] == ["http"]
    assert "the code is wrong" in chat.ask(OPERATOR, f"/resume {code} looked into it").text, "good once"
    lifted = AuditEntry.objects.get(action="restriction_lifted")
    assert (lifted.actor, lifted.origin, lifted.reason) == ("ann", "telegram", "looked into it")
    assert lifted.address == f"telegram {pseudonym_of(OPERATOR)}"


def test_what_is_held_is_listed_and_rejected(chat: Chat, rig: Rig) -> None:
    assert "Nothing is held." in chat.ask(OPERATOR, "/held").text
    opens = held(rig, Action.OPEN)
    assert "Rejected" in chat.ask(OPERATOR, f"/reject {opens.intent_key} not wanted").text
    waits = held(rig)
    assert waits.intent_key in chat.ask(OPERATOR, "/held").text
    assert "Usage: /reject KEY REASON" in chat.ask(OPERATOR, f"/reject {waits.intent_key}").text
    assert "is not held" in chat.ask(OPERATOR, "/reject sig:test:77 not wanted").text
    assert "Rejected" in chat.ask(OPERATOR, f"/reject {waits.intent_key} not wanted").text
    waits.refresh_from_db()
    assert (waits.state, waits.reason, waits.nonce) == ("rejected", "operator_rejected", None)
    told = AuditEntry.objects.get(action="intent_decided", subject=waits.intent_key)
    assert (told.actor, told.origin, told.reason) == (
        f"telegram {pseudonym_of(OPERATOR)}",
        "telegram",
        "not wanted",
    )
    assert "is not held" in chat.ask(OPERATOR, f"/reject {waits.intent_key} not wanted").text


def test_an_approval_is_one_closes_with_a_code_and_a_reason(chat: Chat, rig: Rig, enrolled: Enrolled) -> None:
    rig.intent(Action.OPEN)
    rig.run()
    close = held(rig)
    key = close.intent_key
    assert "Usage: /approve KEY CODE REASON" in chat.ask(OPERATOR, f"/approve {key} 123456").text
    assert "no order is called" in chat.ask(OPERATOR, "/approve sig:x:1 123456 redis is down").text
    assert "the code is wrong" in chat.ask(OPERATOR, f"/approve {key} 000000 redis is down").text
    close.refresh_from_db()
    assert close.approved_at is None
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    assert "Approved" in chat.ask(OPERATOR, f"/approve {key} {enrolled.code()} redis is down").text
    close.refresh_from_db()
    assert close.approved_by == "ann"
    told = AuditEntry.objects.get(action="intent_decided")
    assert (told.actor, told.origin) == ("ann", "telegram")


def test_an_open_is_never_approved(chat: Chat, rig: Rig, enrolled: Enrolled) -> None:
    waits = held(rig, Action.OPEN)
    assert (
        "an open is never approved"
        in chat.ask(OPERATOR, f"/approve {waits.intent_key} {enrolled.code()} please do").text
    )
