"""What an accepted offer moves on, together where it can be and each by itself where the chain was faster."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app import meters, moves
from execution_app.engine import offers, signatures
from execution_app.engine.waiting import database_now
from execution_app.errors import Stale
from execution_app.models import IntentTransition, TxIntent, TxSend, Wallet
from execution_app.moves import Step
from execution_app.node import rpc, signers
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import IntentState, SendOutcome
from tests.execution import rows
from tests.execution.slots import HELD, bytes_of, slot, two_wallets
from tests.execution.test_offers import HASH, STRANGE, Endpoint
from tests.execution.test_offers import bytes_of as unsaved

database = pytest.mark.usefixtures("database")
ACCEPTED, SENDING, PENDING = SendOutcome.ACCEPTED, IntentState.SENDING, IntentState.PENDING_INCLUSION


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


def leased(wallet: Wallet, nonce: int, **fields: Any) -> TxSend:
    return bytes_of(slot(wallet, nonce, SENDING, **fields))


def states(*sends: TxSend) -> list[str]:
    found = dict(TxIntent.objects.values_list("pk", "state"))
    return [found[send.intent_id] for send in sends]


def delays() -> float:
    """How many were observed."""
    [metric] = meters.SIGNAL_TO_BROADCAST.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_count"))


@database
def test_they_move_on_in_the_order_of_their_nonces(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    sends = [leased(wallet, nonce) for nonce in (2, 1, 0)]
    told: list[int | None] = []
    move_all: Callable[..., None] = moves.move_all

    def together(steps: list[Step], to: IntentState, *, by: str) -> None:
        told.extend(step.intent.nonce for step in steps)
        move_all(steps, to, by=by)

    monkeypatch.setattr(offers, "move_all", together)
    offers.record([(send, ACCEPTED) for send in sends])
    assert told == [0, 1, 2]
    moved = IntentTransition.objects.filter(to_state=PENDING)
    assert set(moved.values_list("intent", "why", "by")) == {
        (send.intent_id, f"accepted {send.tx_hash}", "engine") for send in sends
    }


@database
def test_as_they_were_leased_they_are_not_read_again(wallet: Wallet) -> None:
    sends = [leased(wallet, nonce) for nonce in (0, 1)]
    with CaptureQueriesContext(connection) as asked:
        offers.record([(send, ACCEPTED) for send in sends])
    assert not [one["sql"] for one in asked if one["sql"].startswith("SELECT") and "FROM" in one["sql"]]
    assert [send.intent.state for send in sends] == [PENDING] * 2


@database
def test_beside_one_that_had_left_before_only_that_is_read(wallet: Wallet) -> None:
    mine, stale, beside = leased(wallet, 0), leased(wallet, 1), leased(wallet, 2)
    stale.intent.state = IntentState.PENDING_INCLUSION.value
    offers.record([(mine, ACCEPTED), (stale, ACCEPTED)])
    assert states(mine, stale, beside) == [PENDING, PENDING, SENDING]
    assert mine.intent.state == PENDING, "the one that was leased, not a copy of it"


@pytest.fixture
def never_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def together(*_: object) -> None:
        raise Stale("one of them is mined")

    monkeypatch.setattr(offers, "_move_together", together)


@database
@pytest.mark.usefixtures("never_together")
def test_where_the_chain_is_always_faster_each_moves_on_by_itself(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    first, mined, beside = leased(wallet, 0), leased(wallet, 1), leased(wallet, 2)
    move: Callable[..., None] = moves.move

    def faster(intent: TxIntent, *args: Any, **told: Any) -> None:
        if intent.pk == mined.intent_id:
            raise Stale("it is mined")
        move(intent, *args, **told)

    monkeypatch.setattr(offers, "move", faster)
    before = delays()
    offers.record([(first, ACCEPTED), (mined, ACCEPTED)])
    assert states(first, mined, beside) == [PENDING, SENDING, SENDING]
    assert first.intent.transitions.latest("id").why == f"accepted {first.tx_hash}"
    assert delays() == before + 1


@database
def test_whether_it_moved_on_is_said(wallet: Wallet) -> None:
    intent = slot(wallet, 0, SENDING)
    again = TxIntent.objects.get(pk=intent.pk)
    assert offers._moved_on(intent, "accepted") is True
    assert offers._moved_on(again, "accepted") is False
    told = intent.transitions.latest("id")
    assert (told.to_state, told.why, told.by) == (PENDING, "accepted", "engine")


@database
def test_how_long_a_signal_took_is_observed_of_first_bytes_that_moved_on(wallet: Wallet) -> None:
    first, before = leased(wallet, 0), meters.SIGNAL_TO_BROADCAST._sum.get()
    rows.update("tx_intents", first.intent_id, {"accepted_at": "2026-01-01T00:00:00Z"})
    first.intent.refresh_from_db()
    seen = delays()
    offers.record([(first, ACCEPTED)])
    assert delays() == seen + 1
    passed_s = meters.SIGNAL_TO_BROADCAST._sum.get() - before
    assert passed_s == pytest.approx((database_now() - first.intent.accepted_at).total_seconds(), abs=600)
    bump = bytes_of(slot(wallet, 1, SENDING), 1, "bump")
    left = bytes_of(slot(wallet, 2, PENDING), **HELD)
    offers.record([(bump, ACCEPTED), (left, ACCEPTED)])
    assert states(bump, left) == [PENDING, PENDING]
    assert delays() == seen + 1
    offers.record([(left, ACCEPTED)])
    assert delays() == seen + 1


@database
def test_one_that_is_mined_already_is_not_observed(wallet: Wallet) -> None:
    mined, waits = leased(wallet, 0), leased(wallet, 1)
    for state in (PENDING, IntentState.MINED):
        rows.update("tx_intents", mined.intent_id, {"state": state.value})
    before = delays()
    offers.record([(mined, ACCEPTED), (waits, ACCEPTED)])
    assert states(mined, waits) == ["mined", PENDING]
    assert delays() == before + 1


@database
def test_what_no_node_took_is_counted_by_what_it_was_told(wallet: Wallet) -> None:
    def counted(outcome: str) -> float:
        return float(meters.TX_SUBMISSIONS_FAILED.labels(outcome)._value.get())

    names = ("unknown", "pool_full", "accepted", "nonce_too_low")
    before = [counted(name) for name in names]
    told = (
        SendOutcome.UNKNOWN,
        SendOutcome.UNKNOWN,
        SendOutcome.POOL_FULL,
        ACCEPTED,
        SendOutcome.NONCE_TOO_LOW,
    )
    offers.record([(leased(wallet, nonce), outcome) for nonce, outcome in enumerate(told)])
    assert [now - then for now, then in zip(map(counted, names), before, strict=True)] == [2, 1, 0, 0]


# What is said of answers


def test_a_text_that_no_table_knows_is_logged_once_and_cut() -> None:
    text = f"{STRANGE}, said nobody before this test " + "x" * 300
    with capture_logs() as lines:
        for _ in range(2):
            assert offers._refusal(NodeError(-32000, text), unsaved(), 3) is SendOutcome.UNKNOWN
    [line] = lines
    assert line["event"] == "a node's words are in no table"
    assert (line["hash"], line["endpoint"], line["said"]) == (HASH, 3, text[:200])


@pytest.mark.parametrize(
    ("words", "told"), [("nonce too low", 1), ("txpool is full", 1), ("already known", 0)]
)
def test_a_refusal_is_logged_and_what_a_node_has_already_is_none(words: str, told: int) -> None:
    with capture_logs() as lines:
        offers._refusal(NodeError(-32000, words), unsaved(), 3)
    assert [line["event"] for line in lines] == ["broadcast refused"] * told


def test_who_answers_otherwise_than_it_was_asked_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer must never be taken for the next one's."""
    short = Endpoint([HASH])
    monkeypatch.setattr(rpc, "awake", lambda: [short])
    held = [unsaved(held_at="2026-01-01T00:00:00Z"), unsaved(held_at="2026-01-01T00:00:00Z")]
    with pytest.raises(ValueError, match="zip"):
        offers._ask_endpoints(held, 0.0)
    monkeypatch.setattr(signers, "bind", lambda slots: [])
    monkeypatch.setattr(signatures, "slot_of", lambda *_: "a slot")
    with pytest.raises(ValueError, match="zip"):
        offers._bound([unsaved(intent=TxIntent())])
    monkeypatch.setattr(offers, "_bound", list)
    monkeypatch.setattr(offers, "_ask_endpoints", lambda *_: [])
    with pytest.raises(ValueError, match="zip"):
        offers.offer([unsaved()], 0.0)


def test_every_endpoint_is_asked_and_a_fault_of_one_is_no_word_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faulty, silent, sound = Endpoint([RpcFault("reset")]), Endpoint([None]), Endpoint([HASH])
    monkeypatch.setattr(rpc, "awake", lambda: [faulty, silent, sound])
    with capture_logs() as lines:
        said = offers._ask_endpoints([unsaved(held_at="2026-01-01T00:00:00Z")], 0.0)
    assert said == [[SendOutcome.UNKNOWN, ACCEPTED]]
    assert [line["event"] for line in lines] == ["no answer to a broadcast"]
    assert (faulty.confirmed, silent.confirmed, sound.confirmed) == (0, 0, 1)
