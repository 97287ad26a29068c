"""What a person decides about one held intent: whom it may be, what is written, and that it is one commit."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Timer
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from execution_app import audit
from execution_app.audit_words import AuditOrigin
from execution_app.engine import held
from execution_app.errors import Refused, Retryable
from execution_app.gate import approval, loosening
from execution_app.models import AuditEntry, Position, TxIntent, Wallet
from execution_app.states import Action
from tests.execution import rows, staged
from tests.guards import without_guards

pytestmark = pytest.mark.usefixtures("database")
BY, WHY, CODE = "ann", "the market falls and Redis is gone", "123456"
AUDIT_LOG_LOCK = 1635083380  # migration 0011


@pytest.fixture
def wallets() -> list[Wallet]:
    """One before and one after the one that is looked at, each with a close that is held for the mode."""
    found = [staged.a_wallet() for _ in range(3)]
    for one in (found[0], found[2]):
        close(one, staged.trade(one))
    return found


@pytest.fixture
def wallet(wallets: list[Wallet]) -> Wallet:
    return wallets[1]


@pytest.fixture
def position(wallet: Wallet) -> Position:
    return staged.trade(wallet)


def close(of: Wallet, position: Position | None, state: str = "held", **fields: object) -> TxIntent:
    sound: dict[str, object] = {"reason": "mode_degraded", "reason_detail": "redis: away"}
    sound |= {"position_id": position.pk if position else None}
    return staged.intent(of, Action.CLOSE, state, **(sound | fields))


def statements(asked: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in asked]


# Ending it


def reject(intent: TxIntent, reason: str = WHY, **more: Any) -> TxIntent:
    return held.reject(intent.intent_key, by=BY, reason=reason, **more)


def test_what_is_rejected_ends_with_its_reason_and_an_entry(wallet: Wallet, position: Position) -> None:
    intent = close(wallet, position)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        reject(intent)
    with CaptureQueriesContext(connection) as asked:
        assert reject(intent) == intent
    assert any("FOR NO KEY UPDATE" in statement for statement in statements(asked))
    assert staged.told(intent) == ("rejected", "operator_rejected", WHY)
    moved = intent.transitions.get(to_state="rejected")
    assert (moved.why, moved.by) == (WHY, BY)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("intent_decided", BY, "command")
    assert (entry.subject, entry.reason) == (intent.intent_key, WHY)
    assert entry.before == {"state": "held", "reason": "mode_degraded"}
    assert entry.after == {"state": "rejected", "reason": "operator_rejected"}
    assert TxIntent.objects.filter(state="held").count() == 2


def test_long_words_are_cut_and_the_entry_says_where_from(wallet: Wallet) -> None:
    intent = reject(staged.intent(wallet, Action.OPEN, "held"), "x" * 500, origin=AuditOrigin.TELEGRAM)
    assert staged.told(intent) == ("rejected", "operator_rejected", "x" * 400)
    assert AuditEntry.objects.get().origin == "telegram"


def test_what_has_no_wallet_is_rejected_all_the_same(wallet: Wallet) -> None:
    intent = staged.intent(wallet, Action.OPEN, "held", wallet_id=None)
    reject(intent)
    assert staged.told(intent)[0] == "rejected"


@pytest.mark.parametrize("state", ["pending", "expired"])
def test_only_what_is_held_is_rejected(wallet: Wallet, position: Position, state: str) -> None:
    intent = close(wallet, position, state)
    with pytest.raises(TxIntent.DoesNotExist):
        reject(intent)
    with pytest.raises(TxIntent.DoesNotExist):
        held.reject("sig:rows:none", by=BY, reason=WHY)
    assert staged.told(intent)[0] == state
    assert not AuditEntry.objects.exists()


# Letting one close go


class Doors:
    """What stands before an approval: said by the test, and noted as it is asked."""

    def __init__(self) -> None:
        self.permitted: list[dict[str, str]] = []
        self.asked: list[tuple[frozenset[Any], int]] = []
        self.obstacle = ""

    def permit(self, **told: str) -> None:
        self.permitted.append(told)

    def stands(self, active: frozenset[Any], chain_id: int) -> str:
        self.asked.append((active, chain_id))
        return self.obstacle


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> Doors:
    found = Doors()
    monkeypatch.setattr(loosening, "permit", found.permit)
    monkeypatch.setattr(approval, "obstacle", found.stands)
    return found


def approve(intent: TxIntent, by: str = BY, **more: Any) -> TxIntent:
    return held.approve(intent.intent_key, by=by, reason=WHY, code=CODE, **more)


def refused(doors: Doors, intent: TxIntent, problem: str) -> None:
    """It says so, uses up no code, and leaves the row as it was."""
    before = staged.told(intent), intent.approved_at
    with pytest.raises(Refused) as told:
        approve(intent)
    assert str(told.value) == problem
    assert doors.permitted == []
    assert (staged.told(intent), intent.approved_at) == before
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("reason", ["mode_degraded", "live_position_in_dry"])
def test_an_approval_is_written_on_one_row_and_in_the_log(
    wallet: Wallet, position: Position, doors: Doors, reason: str
) -> None:
    later = timezone.now() + timedelta(hours=1)
    intent = close(
        wallet, position, reason=reason, next_try_at=later, updated_at=timezone.now() - timedelta(days=1)
    )
    with CaptureQueriesContext(connection) as asked:
        approved = approve(intent)
    assert sum("FOR NO KEY UPDATE" in statement for statement in statements(asked)) == 2
    assert any("pg_advisory_xact_lock_shared" in statement for statement in statements(asked))
    assert any("lock_timeout" in statement and "1000ms" in statement for statement in statements(asked))
    assert doors.permitted == [{"by": BY, "reason": WHY, "code": CODE}]
    assert doors.asked == [(frozenset(), wallet.chain_id)] * 2
    assert (approved, approved.approved_by, approved.state) == (intent, BY, "held")
    intent.refresh_from_db()
    now = timezone.now()
    assert intent.approved_at is not None
    assert now - timedelta(minutes=1) < intent.approved_at <= now
    assert (intent.approved_by, intent.next_try_at) == (BY, None)
    assert intent.updated_at > now - timedelta(minutes=1)
    assert TxIntent.objects.filter(approved_at=None).count() == 2
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("intent_decided", BY, "command")
    assert (entry.subject, entry.reason) == (intent.intent_key, WHY)
    before = {"state": "held", "reason": reason, "approved_at": None, "approved_by": ""}
    assert entry.before == before
    assert entry.after == before | {"approved_at": intent.approved_at.isoformat(), "approved_by": BY}


def test_it_is_a_commit_of_its_own_and_no_code_is_used_up_before(
    wallet: Wallet, position: Position, doors: Doors
) -> None:
    intent = close(wallet, position)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        approve(intent)
    assert doors.permitted == []


def test_who_is_refused_by_the_door_approves_nothing(
    wallet: Wallet, position: Position, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(**_: str) -> None:
        raise Refused("the code is wrong")

    monkeypatch.setattr(loosening, "permit", closed)
    refused(doors, close(wallet, position), "the code is wrong")


def test_long_names_are_cut_and_the_entry_says_where_from(
    wallet: Wallet, position: Position, doors: Doors
) -> None:
    intent = approve(close(wallet, position), by="a" * 200, origin=AuditOrigin.ADMIN)
    assert intent.approved_by == "a" * 150
    assert AuditEntry.objects.get().origin == "admin"


@pytest.mark.parametrize("nobody", ["", "  "])
def test_whoever_approves_is_named(wallet: Wallet, position: Position, doors: Doors, nobody: str) -> None:
    with pytest.raises(Refused, match=r"^whoever approves has to be named$"):
        approve(close(wallet, position), by=nobody)
    assert doors.permitted == []


def test_a_close_alone_is_approved_and_one_that_has_a_wallet(
    wallet: Wallet, position: Position, doors: Doors
) -> None:
    with pytest.raises(Refused, match=r"^no intent is called sig:rows:none$"):
        held.approve("sig:rows:none", by=BY, reason=WHY, code=CODE)
    waiting = {"reason": "mode_degraded"}
    opens = staged.intent(wallet, Action.OPEN, "held", **waiting)
    never = "is an open: an open is never approved, it waits for the mode until its max lag"
    refused(doors, opens, f"{opens.intent_key} {never}")
    for action in (Action.MARGIN, Action.LEVELS, Action.INCREASE):
        other = staged.intent(wallet, action, "held", position_id=position.pk, **waiting)
        refused(doors, other, f"{other.intent_key} is no close: nothing else is approved")
    of_none = close(wallet, position, wallet_id=None)
    refused(doors, of_none, f"{of_none.intent_key} has no wallet")


def test_what_is_not_held_is_not_approved(wallet: Wallet, position: Position, doors: Doors) -> None:
    new = close(wallet, position, "pending", reason="", reason_detail="")
    refused(doors, new, f"{new.intent_key} is not held: it is pending")
    ended = close(wallet, position, "expired", reason="lag_exceeded")
    refused(doors, ended, f"{ended.intent_key} is not held: it is expired lag_exceeded")


def test_what_holds_for_all_is_passed_by_no_approval(
    wallet: Wallet, position: Position, doors: Doors
) -> None:
    intent = close(wallet, position)
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="a nonce is lost", halted_at=timezone.now())
    refused(doors, intent, "a nonce is lost")
    doors.obstacle = "an emergency stop holds"
    refused(doors, intent, "an emergency stop holds")
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="", halted_at=None)
    refused(doors, intent, "an emergency stop holds")


@pytest.mark.parametrize("reason", ["insufficient_gas", "wallet_halted", "waits_for_earlier_close"])
def test_what_waits_for_something_else_is_not_approved(
    wallet: Wallet, position: Position, doors: Doors, reason: str
) -> None:
    intent = close(wallet, position, reason=reason)
    problem = f"{intent.intent_key} waits for {reason}, not for the mode: redis: away"
    refused(doors, intent, problem)


@pytest.mark.parametrize(
    "bound",
    [{"state": "closed"}, {"state": "void"}, {"mode": "DRY"}, {"mode": "DRY", "state": "closed"}, None],
)
def test_where_there_is_no_live_position_nothing_is_approved(
    wallet: Wallet, doors: Doors, bound: dict[str, str] | None
) -> None:
    position = None if bound is None else staged.trade(wallet, **bound)
    if bound is None:
        opened(wallet, mode="DRY")
    intent = close(wallet, position)
    refused(doors, intent, f"{intent.intent_key} closes no live position")


def opened(of: Wallet, **fields: object) -> Position:
    """With the fill by which a close that names no position finds it."""
    position = staged.trade(of, trade_index=5, **fields)
    opening = staged.intent(of, Action.OPEN, "filled", settled_at=staged.SETTLED)
    with without_guards():
        rows.fill(intent_id=opening.pk, position_id=position.pk, mode=position.mode)
    return position


@pytest.mark.parametrize("is_bound", [False, True])
def test_a_close_without_a_live_position_of_its_own_takes_any_of_its_symbol(
    wallet: Wallet, doors: Doors, is_bound: bool
) -> None:
    opened(wallet)
    simulated = staged.trade(wallet, mode="DRY") if is_bound else None
    assert approve(close(wallet, simulated)).approved_by == BY


def test_it_is_not_approved_twice_while_the_first_time_counts(
    wallet: Wallet, position: Position, doors: Doors
) -> None:
    now = timezone.now()
    intent = close(wallet, position, approved_at=now - timedelta(seconds=200), approved_by="bob")
    until = f"{now + timedelta(seconds=100):%H:%M:%SZ}"
    refused(doors, intent, f"{intent.intent_key} is approved by bob until {until} already")
    with without_guards():
        rows.update("tx_intents", intent.pk, {"approved_at": now - timedelta(seconds=301)})
    assert approve(intent).approved_by == BY


# Where the log is not to be had


@pytest.fixture
def busy_log() -> Iterator[None]:
    """Somebody else writes there, for longer than an approval waits."""
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value()) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOG_LOCK])
        release = Timer(20, other.close)
        release.start()
        yield
        release.cancel()


def test_while_the_log_is_busy_nothing_is_approved(
    wallet: Wallet, position: Position, doors: Doors, busy_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PATIENCE", "30ms")
    intent = close(wallet, position)
    with pytest.raises(Retryable, match=r"^the audit log is busy, so nothing was approved; try again$"):
        approve(intent)
    intent.refresh_from_db()
    assert (intent.approved_at, intent.approved_by) == (None, "")


def test_another_fault_of_the_database_is_itself(
    wallet: Wallet, position: Position, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr(audit, "record", gone)
    intent = close(wallet, position)
    with pytest.raises(OperationalError, match="the server is gone"):
        approve(intent)
    intent.refresh_from_db()
    assert intent.approved_at is None
