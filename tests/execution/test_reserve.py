"""What is decided of one intent under the wallet's lock: placed, simulated, held, refused, or left to another pass."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from execution_app.book import growth, positions
from execution_app.engine import increases, level_changes, margin_changes, order_changes
from execution_app.engine import reserve as engine
from execution_app.engine.placing import Asked, Round
from execution_app.engine.plans import Plan
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.gate.admission import Admission, Verdict
from execution_app.gate.modes import Ruling
from execution_app.models import Position, SignRequest, TxIntent, VenueMessage, Wallet
from execution_app.node import signers
from execution_app.states import IntentState, Mode, Reason
from tests.execution import rows
from tests.execution.intents import (
    again,
    in_slot,
    market,
    noting,
    opened,
    ruling,
    sent,
    waiting,
    waiting_close,
)

S = IntentState
EXECUTE, SIMULATE = Admission(Verdict.EXECUTE), Admission(Verdict.SIMULATE)
HOLD = Admission(Verdict.HOLD, Reason.MODE_DEGRADED, "redis")
REFUSE = Admission(Verdict.REFUSE, Reason.BANNED, "banned")
PLAN = Plan(Decimal(60_000), b"\x01")
LIVE, DEGRADED, DRY = (
    ruling(),
    ruling(Mode.DRY, reason="redis"),
    Ruling(Mode.DRY, Mode.DRY, False, False, "asked"),
)


@pytest.fixture
def wallet(database: None) -> Wallet:
    return Wallet.objects.get(pk=rows.wallet())


def told(intent: TxIntent) -> tuple[str, str, str]:
    intent = again(intent)
    return intent.state, intent.reason, intent.reason_detail


@pytest.mark.parametrize(
    ("rulings", "back"),
    [
        ([LIVE, LIVE], [False, False]),
        ([DEGRADED, DEGRADED, LIVE], [False, False, True]),
        ([DEGRADED, LIVE, DEGRADED, DEGRADED], [False, True, True, True]),
        ([DRY, LIVE], [False, False]),
        ([DEGRADED, DRY], [False, True]),
    ],
)
def test_a_pass_ends_where_live_comes_back_in_the_middle_of_it(
    rulings: list[Ruling], back: list[bool]
) -> None:
    returned = engine.Returned()
    assert [returned.since(word) for word in rulings] == back


@pytest.mark.parametrize(
    ("action", "place", "about"),
    [
        ("cancel_order", order_changes, ["intent", Verdict.EXECUTE]),
        ("update_order", order_changes, ["intent", Verdict.EXECUTE]),
        ("increase", increases, ["intent", Verdict.EXECUTE]),
        ("margin", margin_changes, ["intent", Verdict.EXECUTE]),
        ("levels", level_changes, ["intent", LIVE, Verdict.EXECUTE, 7]),
    ],
)
@pytest.mark.parametrize("goes", [True, False])
def test_what_is_no_order_is_judged_by_rules_of_its_own(
    monkeypatch: pytest.MonkeyPatch, action: str, place: Any, about: list[Any], *, goes: bool
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(engine, "admit", lambda *_: EXECUTE)
    monkeypatch.setattr(place, "may_go", noting(asked, goes))
    intent = TxIntent(action=action)
    assert engine._may_go(intent, LIVE, 7) is goes
    assert asked == [tuple(intent if one == "intent" else one for one in about)]


@pytest.mark.parametrize("action", ["open", "close"])
def test_orders_are_judged_elsewhere(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setattr(engine, "admit", lambda *_: pytest.fail("it is judged elsewhere"))
    assert engine._may_go(TxIntent(action=action), LIVE)


@pytest.mark.parametrize(
    ("remote", "error", "found"),
    [
        (False, Refused("no key"), None),
        (True, None, None),
        (True, Refused("no key"), (Reason.SIGNER_REFUSED, "no key")),
        (True, Retryable("no answer"), (Reason.SIGNER_AWAY, "no answer")),
    ],
)
def test_a_remote_signer_is_asked_for_the_key_first(
    monkeypatch: pytest.MonkeyPatch, remote: bool, error: Exception | None, found: Any
) -> None:
    def require(address: str) -> None:
        assert address == "0xaa"
        if error is not None:
            raise error

    monkeypatch.setattr(signers, "is_remote", lambda: remote)
    monkeypatch.setattr(signers, "require_key", require)
    assert engine._signer_problem(Wallet(address="0xaa")) == found


@pytest.mark.parametrize(
    ("mode", "of", "needs"),
    [
        (None, None, True),
        ("DRY", None, False),
        (None, "LIVE", True),
        (None, "DRY", False),
        ("DRY", "LIVE", False),
    ],
)
def test_a_simulation_exists_in_our_book_alone(mode: str | None, of: str | None, needs: bool) -> None:
    position = None if of is None else Position(pk=1, mode=of)
    assert engine._needs_chain(TxIntent(mode=mode, position=position)) is needs


# What a round begins with


def test_a_round_begins_with_what_is_under_way(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(level_changes, "symbols_kept", noting(kept, frozenset({"A"})))
    in_slot(Wallet.objects.get(pk=rows.wallet()), 1)
    in_slot(wallet, 1, S.MINED)
    costs: dict[str, Any] = {"gas_limit": 1_000, "value_wei": 5}
    cheap, signed = in_slot(wallet, 2, l1_fee_wei=7, **costs), in_slot(wallet, 3, **costs)
    for attempt, fee in enumerate((10, 30, 20)):
        sent(cheap, attempt, max_fee_wei=fee)
    SignRequest.objects.create(intent=signed, attempt=0, kind="exec", max_fee_wei=40, tip_wei=1)
    waiting(wallet, road="gateway")
    for unused in (None, 9):
        message = waiting(wallet, road="gateway")
        rows.update("tx_intents", message.pk, {"state": "reserved", "mode": "LIVE"})
        _message(message, unused)
    asked = Asked(market(balance_wei=10**6), {}, None)
    round_ = engine._begin(wallet, LIVE, asked)
    assert (round_.in_flight, round_.messages, round_.kept) == (2, 1, frozenset({"A"}))
    assert round_.spendable_wei == 10**6 - (30 * 1_000 + 5 + 7) - (40 * 1_000 + 5)
    assert isinstance(round_.spendable_wei, int)
    assert (round_.wallet, round_.ruling, round_.asked) == (wallet, LIVE, asked)
    assert kept == [(wallet, 1_000)]
    assert abs(round_.now - database_now()) < timedelta(seconds=30)


def _message(intent: TxIntent, unused_at_block: int | None) -> None:
    names = {"signer": rows.address(), "nonce": rows.tx_hash(), "digest": rows.tx_hash()}
    sound = {"content": b"\x01", "deadline_ms": 1_800_000_000_000, "from_block": 1, "signature": b""}
    VenueMessage.objects.create(intent=intent, unused_at_block=unused_at_block, **names, **sound)


def test_a_wallet_that_owes_nothing_may_spend_all(wallet: Wallet) -> None:
    round_ = engine._begin(wallet, LIVE, Asked(market(balance_wei=5), {}, None))
    assert (round_.in_flight, round_.messages, round_.spendable_wei) == (0, 0, 5)


# What is decided


def round_of(wallet: Wallet, **fields: Any) -> Round:
    return Round(wallet, LIVE, Asked(market(), {}, None), 0, 0, 0, database_now(), **fields)


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was decided, where the gate lets everything execute and nothing came in between."""
    made: list[Any] = []
    monkeypatch.setattr(engine, "admit", lambda *_: EXECUTE)
    monkeypatch.setattr(engine, "_waits", lambda *_: False)
    monkeypatch.setattr(engine, "_say_problem", lambda *_: made.append("problem"))
    monkeypatch.setattr(engine, "_simulate", lambda *about: made.append(("simulated", about[2])))

    def place(*_: Any) -> bool:
        made.append("placed")
        return True

    monkeypatch.setattr(engine, "place", place)
    return made


def test_what_is_drawn_is_placed(wallet: Wallet, decisions: list[Any]) -> None:
    assert engine._decide(round_of(wallet), waiting(wallet), PLAN) is True
    assert decisions == ["placed"]


@pytest.mark.parametrize("halted", [True, False])
def test_what_was_bound_a_moment_ago_or_is_halted_is_another_passes(
    wallet: Wallet, decisions: list[Any], halted: bool
) -> None:
    wallet.halted_reason = "lost" if halted else ""
    assert engine._decide(round_of(wallet), waiting(wallet), PLAN if halted else None) is False
    assert decisions == []


@pytest.mark.parametrize("admission", [HOLD, REFUSE])
def test_the_gate_is_asked_again_under_the_lock(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, decisions: list[Any], admission: Admission
) -> None:
    monkeypatch.setattr(engine, "admit", lambda *_: admission)
    intent = waiting(wallet)
    assert engine._decide(round_of(wallet), intent, PLAN) is False
    state = "held" if admission is HOLD else "rejected"
    assert told(intent) == (state, admission.reason, admission.detail)
    assert decisions == []


@pytest.mark.parametrize("verdict", [EXECUTE, SIMULATE])
def test_a_problem_is_said_in_either_mode(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, decisions: list[Any], verdict: Admission
) -> None:
    monkeypatch.setattr(engine, "admit", lambda *_: verdict)
    unfit = replace(PLAN, problem=Reason.PRICE_UNAVAILABLE)
    assert engine._decide(round_of(wallet), waiting(wallet), unfit) is False
    monkeypatch.setattr(engine, "_waits", lambda *_: True)
    assert engine._decide(round_of(wallet), waiting(wallet), unfit) is False
    assert decisions == ["problem"]


@pytest.mark.parametrize(
    ("verdict", "of", "simulated"),
    [(SIMULATE, None, True), (EXECUTE, "DRY", True), (SIMULATE, "LIVE", True), (EXECUTE, "LIVE", False)],
)
def test_what_is_simulated_in_either_way_is(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, decisions: list[Any], *, verdict: Admission, of: str | None, simulated: bool
) -> None:  # fmt: skip
    monkeypatch.setattr(engine, "admit", lambda *_: verdict)
    position = None if of is None else opened(wallet, mode=of).pk
    assert (
        engine._decide(round_of(wallet), waiting_close(wallet, position_id=position), PLAN) is not simulated
    )
    assert decisions == [("simulated", verdict.verdict) if simulated else "placed"]


def waits(wallet: Wallet, intent: TxIntent, plan: Plan | None = PLAN, **fields: Any) -> bool:
    return engine._waits(round_of(wallet, **fields), intent, plan)


def test_what_its_own_rules_keep_waits(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(engine, "_may_go", noting(asked, False))
    intent = waiting(wallet)
    assert waits(wallet, intent)
    assert asked == [(intent, LIVE, 1_000)]


def test_nothing_is_opened_where_new_levels_may_be_taken(wallet: Wallet) -> None:
    intent, kept = waiting(wallet), frozenset({"BTC-USD"})
    assert waits(wallet, intent, kept=frozenset({"ETH-USD"})) is False
    assert told(intent)[1] == ""
    assert waits(wallet, intent, kept=kept)
    words = "new levels on this symbol may still be taken"
    assert told(intent) == ("pending", "waits_for_earlier_order", words)
    close = waiting_close(wallet, position_id=opened(wallet).pk)
    assert waits(wallet, close, Plan(position_id=close.position_id), kept=kept) is False


@pytest.mark.parametrize("state", ["open", "closed", "void"])
def test_a_position_that_is_open_no_more_waits(wallet: Wallet, state: str) -> None:
    close = waiting_close(wallet, position_id=opened(wallet, state=state).pk)
    assert waits(wallet, close, None) is (state != "open")


def test_a_position_that_another_takes_or_makes_larger_waits(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    close = waiting_close(wallet, position_id=opened(wallet).pk)
    assert waits(wallet, close, None) is False
    monkeypatch.setattr(growth, "is_under_way", lambda _: True)
    assert waits(wallet, close, None)
    close.action = "margin"
    monkeypatch.setattr(engine, "_may_go", lambda *_: True)
    assert waits(wallet, close, None) is False
    monkeypatch.setattr(positions, "is_taken", lambda *_: True)
    assert waits(wallet, close, None)


def test_what_was_drawn_for_another_position_is_drawn_again(wallet: Wallet) -> None:
    close = waiting_close(wallet, position_id=opened(wallet).pk)
    other = Plan(position_id=(close.position_id or 0) + 1)
    assert waits(wallet, close, other)
    assert waits(wallet, close, replace(other, problem=Reason.CLOSED_ELSEWHERE)) is False
    assert waits(wallet, close, Plan(position_id=close.position_id)) is False


def test_a_problem_ends_holds_or_is_noted(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    found = Plan(problem=Reason.VENUE_REVERT, detail="no")
    ended: list[Any] = []
    monkeypatch.setattr(engine, "end_closed_elsewhere", lambda *about: ended.append(about))
    states = {}
    for name, plan in {
        "note": found,
        "hold": replace(found, held=True),
        "end": replace(found, final=True, held=True),
    }.items():
        intent = waiting(wallet)
        engine._say_problem(intent, plan)
        states[name] = told(intent)
    assert states == {
        name: (state, "venue_revert", "no")
        for name, state in (("note", "pending"), ("hold", "held"), ("end", "rejected"))
    }
    intent = waiting(wallet)
    engine._say_problem(intent, replace(found, absent_at_block=0, final=True))
    assert (ended, told(intent)[0]) == ([(intent, 0, "no")], "pending")


@pytest.mark.parametrize(
    ("state", "of", "verdict", "simulated"),
    [
        ("pending", None, Verdict.SIMULATE, True),
        ("pending", "DRY", Verdict.SIMULATE, True),
        ("held", None, Verdict.SIMULATE, False),
        ("pending", "LIVE", Verdict.SIMULATE, False),
        ("pending", "DRY", Verdict.EXECUTE, False),
    ],
)
def test_a_mode_that_changed_in_between_is_another_passes(
    monkeypatch: pytest.MonkeyPatch, *, state: str, of: str | None, verdict: Verdict, simulated: bool
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(engine, "simulate", lambda *about: made.append(about))
    position = None if of is None else Position(pk=1, mode=of)
    intent, look = TxIntent(action="close", state=state, symbol="BTC-USD", position=position), market()
    engine._simulate(intent, look, verdict)
    assert made == [(intent, look)] * simulated


def test_a_simulation_needs_a_fresh_price(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(engine, "simulate", lambda *_: pytest.fail("the price is old"))
    intent = waiting(wallet)
    engine._simulate(intent, market(at=1_006), Verdict.SIMULATE)
    words = "the price of BTC-USD is 6 s old, open takes at most 5 s"
    assert told(intent) == ("pending", "price_unavailable", words)
