"""How an intent without a nonce ends, is held, or says why it waits."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from structlog.testing import capture_logs

from execution_app import meters
from execution_app.book import absence, positions
from execution_app.engine import waiting as engine
from execution_app.engine.waiting import database_now, hold, note, refuse
from execution_app.gate.admission import Admission, Verdict
from execution_app.models import TxIntent, Wallet
from execution_app.states import IntentState, Reason
from tests.execution import rows
from tests.execution.intents import again, opened, ruling, shortly, waiting, waiting_close
from tests.execution.test_waiting import REFUSED, told, wallet

__all__ = ["wallet"]  # the fixture
pytestmark = pytest.mark.usefixtures("database")
STOP = Admission(Verdict.REFUSE, Reason.EMERGENCY_STOP, "emergency stop is set")
LONG = "x" * 500


@pytest.mark.parametrize(
    ("reason", "detail", "waited_for"),
    [
        ("", "no price", "its turn"),
        ("no_wallet", "no key", "no_wallet no key"),
        ("no_wallet", "", "no_wallet"),
    ],
)
def test_what_comes_too_late_ends_in_words_before_the_gate_is_asked(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, reason: str, detail: str, waited_for: str
) -> None:
    monkeypatch.setattr(engine, "admit", lambda *_: pytest.fail("it has ended"))
    end = database_now()
    intent = waiting(wallet, expires_at=end, reason=reason, reason_detail=detail)
    assert engine._is_ready(wallet, intent, ruling(), end) is False
    why = f"max lag passed at {end.isoformat()}"
    assert told(intent) == ("expired", "lag_exceeded", f"{why}; waited for: {waited_for}")
    moved = intent.transitions.latest("id")
    assert (moved.why, moved.by) == (why, "engine")


def test_it_is_too_late_at_its_end_and_not_before(wallet: Wallet) -> None:
    now = database_now()
    assert engine._expire(waiting(wallet, expires_at=now + timedelta(microseconds=1)), now) is False
    assert engine._expire(waiting(wallet), now) is False
    late = waiting(wallet, expires_at=now, reason="no_wallet", reason_detail="x" * 390)
    assert engine._expire(late, now)
    assert len(again(late).reason_detail) == 400


# What is refused, held and noted


def test_a_refusal_is_final_counted_and_told(wallet: Wallet) -> None:
    counter = meters.SIGNALS_REJECTED.labels("banned")
    before, intent = counter._value.get(), waiting(wallet)
    with capture_logs() as logged:
        refuse(intent, Admission(Verdict.REFUSE, Reason.BANNED, LONG))
    assert [line["log_level"] for line in logged] == ["info"]
    assert told(intent) == ("rejected", "banned", LONG[:400])
    moved = intent.transitions.latest("id")
    assert (moved.why, moved.by, counter._value.get()) == (LONG[:400], "engine", before + 1)


def test_a_stop_refuses_what_is_new_and_leaves_what_was_held(wallet: Wallet) -> None:
    intent, held = waiting(wallet), waiting(wallet, state="held", reason="no_wallet", reason_detail="old")
    with capture_logs() as logged:
        refuse(intent, STOP)
        refuse(held, STOP)
    assert [line["intent"] for line in logged if line["event"] == "refused: emergency stop"] == [intent.pk]
    assert told(intent) == ("rejected", "emergency_stop", "emergency stop is set")
    assert told(held) == ("held", "no_wallet", "old")
    assert again(held).next_try_at is not None
    refuse(held, REFUSED)
    assert told(held) == ("rejected", "notional_above_cap", "too much")


def test_a_stop_parks_what_its_keeper_has(wallet: Wallet) -> None:
    registered = waiting(wallet, mode="DRY", wanted_price=1, keeper_due_at=shortly(-1))
    refuse(registered, STOP)
    assert told(registered) == ("pending", "emergency_stop", "emergency stop is set")
    refuse(registered, REFUSED)
    assert told(registered) == ("rejected", "notional_above_cap", "too much")


def test_a_stop_holds_an_exit_that_was_under_way(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(positions, "is_asked_again", lambda _: True)
    again_asked, other = waiting_close(wallet), waiting_close(wallet)
    refuse(again_asked, STOP)
    assert told(again_asked) == ("held", "emergency_stop", "emergency stop is set")
    refuse(other, REFUSED)
    assert told(other)[0] == "rejected"


def test_who_is_held_says_why_and_is_looked_at_again_soon(wallet: Wallet) -> None:
    intent = waiting(wallet)
    hold(intent, Reason.NO_WALLET, LONG)
    assert told(intent) == ("held", "no_wallet", LONG[:400])
    assert intent.transitions.latest("id").by == "engine"
    stored = again(intent)
    assert stored.next_try_at is not None
    assert stored.next_try_at - stored.updated_at == timedelta(seconds=0.5)


@pytest.mark.parametrize(
    ("reason", "detail", "written"),
    [
        (Reason.MODE_DEGRADED, "y" * 500, False),
        (Reason.MODE_DEGRADED, "redis", True),
        (Reason.NO_WALLET, "y" * 500, True),
    ],
)
def test_of_who_waits_for_the_mode_nothing_is_written_that_stands_there(
    wallet: Wallet, reason: Reason, detail: str, written: bool
) -> None:
    intent = waiting(wallet, state="held", reason="mode_degraded", reason_detail="y" * 400)
    hold(intent, reason, detail)
    stored = again(intent)
    assert (stored.reason, stored.reason_detail) == (reason, detail[:400])
    assert (stored.next_try_at is not None) is written


def test_the_same_words_are_written_where_another_reason_waits(wallet: Wallet) -> None:
    intent = waiting(wallet, state="held", reason="no_wallet", reason_detail="old")
    hold(intent, Reason.NO_WALLET, "old")
    assert again(intent).next_try_at is not None
    other = waiting(wallet, state="held", reason="no_wallet", reason_detail="redis")
    hold(other, Reason.MODE_DEGRADED, "redis")
    assert told(other) == ("held", "mode_degraded", "redis")


def test_a_note_is_on_one_row_that_is_where_it_was_seen(wallet: Wallet) -> None:
    intent, beside = waiting(wallet), waiting(wallet)
    TxIntent.objects.filter(pk=intent.pk).update(updated_at="2026-01-01T00:00:00Z")
    note(intent, Reason.NO_WALLET, LONG)
    assert told(intent) == ("pending", "no_wallet", LONG[:400])
    assert told(beside) == ("pending", "", "")
    assert TxIntent.objects.filter(pk=intent.pk, next_try_at__gt=F("updated_at")).exists()
    assert again(intent).updated_at > again(beside).updated_at
    rows.update("tx_intents", intent.pk, {"state": "held"})
    note(intent, Reason.BANNED, "late")
    assert told(intent)[1] == "no_wallet"


@pytest.mark.parametrize("ended", [True, False])
def test_what_the_venue_has_no_more_ends_once_that_is_sure(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, ended: bool
) -> None:
    position, asked = opened(wallet), list[Any]()

    def end(*about: Any) -> bool:
        asked.append(about)
        return ended

    monkeypatch.setattr(absence, "end", end)
    close = waiting_close(wallet, position_id=position.pk)
    engine.end_closed_elsewhere(close, 7, "gone")
    assert asked == [(position, 7)]
    waits = "gone; waits until what we did with it is final"
    assert told(close) == (("no_op" if ended else "pending"), "closed_elsewhere", "gone" if ended else waits)
    more = waiting(wallet, action="increase", position_id=position.pk)
    engine.end_closed_elsewhere(more, 7, "gone")
    assert told(more)[0] == ("rejected" if ended else "pending")


def test_a_close_of_nothing_is_done_without_a_transaction(wallet: Wallet) -> None:
    close = waiting_close(wallet)
    engine.end_empty(close, Reason.NO_POSITION, LONG)
    assert told(close) == (IntentState.NO_OP, "no_position", LONG[:400])
    moved = close.transitions.latest("id")
    assert (moved.why, moved.by) == (LONG[:400], "engine")
