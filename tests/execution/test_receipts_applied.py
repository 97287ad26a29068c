"""Which hash of a consumed slot was mined, row by row: what is asked, what is believed, and what is written down once."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app import meters
from execution_app.engine import mined, receipts
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt, TxSend, VenueOrder
from execution_app.node import rpc
from execution_app.states import IntentState
from tests.execution import rows, scenes
from tests.execution.scenes import BLOCK, Nodes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


def slot(state: IntentState = S.SENDING, **fields: Any) -> tuple[TxIntent, TxSend, dict[str, Any]]:
    intent = scenes.intent(state, **fields)
    send = scenes.send(intent)
    return intent, send, scenes.shown(send, scenes.registered(7_000 + intent.pk))


def state_of(intent: TxIntent) -> str:
    return str(TxIntent.objects.get(pk=intent.pk).state)


def mined_as(status: str) -> float:
    return float(meters.TX_MINED.labels(status)._value.get())


def violations() -> float:
    return float(meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt")._value.get())


# Asked, and shared out


def test_all_hashes_of_a_slot_are_asked_in_their_order(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    other, _, _ = slot()
    intent = scenes.intent()
    bump = scenes.send(intent, attempt=1, kind="bump")
    first = scenes.send(intent, attempt=0)
    nodes.shown[bump.tx_hash] = told = scenes.shown(bump, scenes.registered(5))
    applied: list[Any] = []

    def stored(shown: list[Any]) -> set[int]:
        applied.extend(shown)
        return {intent.pk}

    monkeypatch.setattr(mined, "apply", stored)
    with CaptureQueriesContext(connection) as read:
        receipts.apply_receipts([intent], 7)
    assert f'"tx_sends"."intent_id" IN ({intent.pk})' in scenes.statements(read)
    assert nodes.first == [("eth_getTransactionReceipt", (one.tx_hash,)) for one in (first, bump)]
    assert applied == [(intent, bump, told)]
    assert state_of(other) == "sending"


def test_orders_mined_under_one_hash_are_stored_together(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = slot(), slot()
    for _, send, told in (one, two):
        nodes.shown[send.tx_hash] = told
    alone: list[int] = []
    monkeypatch.setattr(receipts, "_apply", lambda intent, *_: alone.append(intent.pk))
    receipts.apply_receipts([one[0], two[0]], 7)
    assert [state_of(intent) for intent, _, _ in (one, two)] == ["ordered", "ordered"]
    assert alone == []


def test_what_is_not_stored_together_is_stored_alone(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is left of its receipts once the denied ones are out."""
    plain, signed, nowhere = slot(), slot(S.SIGNED), slot()
    for _, send, told in (plain, signed):
        nodes.shown[send.tx_hash] = told
    denied = {(plain[1].pk, BLOCK)}
    monkeypatch.setattr(receipts, "_denied", lambda _: denied)
    alone: list[Any] = []
    monkeypatch.setattr(receipts, "_apply", lambda *given: alone.append(given))
    receipts.apply_receipts([plain[0], signed[0], nowhere[0]], 7)
    assert alone == [
        (plain[0], [], 7, denied),
        (signed[0], [signed[1:]], 7, denied),
        (nowhere[0], [], 7, denied),
    ]


def test_a_node_that_refuses_to_answer_is_an_error(nodes: Nodes) -> None:
    intent, send, _ = slot()
    nodes.shown[send.tx_hash] = rpc.NodeError(-32000, "busy")
    with pytest.raises(rpc.NodeError):
        receipts.apply_receipts([intent], 7)


@pytest.mark.parametrize(("problem", "counted"), [(Stale, 0), (ValueError, 1), (LookupError, 1)])
def test_what_concerns_one_intent_keeps_no_other_from_being_followed(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, problem: type[Exception], counted: int
) -> None:
    intents, seen, before = [scenes.intent(), scenes.intent()], list[TxIntent](), violations()

    def refuse(intent: TxIntent, *_: Any) -> None:
        seen.append(intent)
        raise problem("not this one")

    monkeypatch.setattr(receipts, "_apply", refuse)
    receipts.apply_receipts(intents, 7)
    assert (seen, violations()) == (intents, before + 2 * counted)


@pytest.mark.parametrize("action", ["open", "close", "increase", "margin", "cancel_order"])
@pytest.mark.parametrize("state", [S.SIGNED, S.SENDING, S.PENDING_INCLUSION])
@pytest.mark.parametrize("kinds", [[], ["exec"], ["bump"], ["cancel"], ["exec", "bump"], ["exec", "cancel"]])
def test_nearly_all_orders_are_plain(action: str, state: IntentState, kinds: list[str]) -> None:
    plain = action in ("open", "close", "increase") and state != S.SIGNED and kinds in (["exec"], ["bump"])
    shown = [(TxSend(kind=kind), dict[str, Any]()) for kind in kinds]
    assert receipts._is_plain(TxIntent(action=action, state=state), shown) is plain


# One slot


def apply(intent: TxIntent, *shown: Any, finalized: int = 7) -> None:
    receipts._apply(intent, list(shown), finalized, set())


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Intents of which an order would be registered."""
    found: list[int] = []
    monkeypatch.setattr(receipts, "_register", lambda intent, _: found.append(intent.pk))
    return found


def test_a_slot_that_was_mined_is_written_down(registered: list[int]) -> None:
    beside, kept = slot(), "2026-01-02T00:00:00Z"
    intent, send, told = slot()
    held = scenes.send(intent, attempt=1, kind="bump", held_at=kept)
    gas, waited = meters.GAS_USED._value.get(), meters.SIGNAL_TO_MINED._sum.get()
    apply(intent, (send, told))
    for one, is_held in ((send, True), (beside[1], False)):
        one.refresh_from_db()
        assert (one.held_at is not None) is is_held
    held.refresh_from_db()
    assert (held.held_at and held.held_at.day, send.held_at == held.held_at) == (2, False)
    row = TxReceipt.objects.get()
    assert (row.send_id, row.intent_id, row.block_number, row.canonical) == (send.pk, intent.pk, 16, True)
    moved = intent.transitions.get()
    assert (state_of(intent), moved.to_state, moved.by) == ("mined", "mined", "receipts")
    assert moved.why == f"exec {send.tx_hash} in block 16, status 1"
    assert registered == [intent.pk]
    assert meters.GAS_USED._value.get() == gas + 5
    assert meters.SIGNAL_TO_MINED._sum.get() > waited


def test_bytes_that_were_held_already_keep_that_moment(registered: list[int]) -> None:
    intent, send, told = slot()
    TxSend.objects.filter(pk=send.pk).update(held_at="2026-01-02T00:00:00Z")
    apply(intent, (send, told))
    send.refresh_from_db()
    assert send.held_at is not None
    assert send.held_at.day == 2


@pytest.mark.parametrize(
    ("past", "status", "counted", "first"),
    [
        ([], "0x1", (1, 0), True),
        (["sending", "pending_inclusion"], "0x1", (1, 0), True),
        ([], "0x0", (0, 1), True),
        (["ordered"], "0x0", (0, 1), True),
        (["mined"], "0x1", (0, 0), False),
        (["mined"], "0x0", (0, 0), False),
        (["mined", "ordered"], "0x1", (0, 0), False),
        (["mined", "ordered"], "0x0", (0, 1), False),
    ],
)
def test_it_is_counted_once_and_again_where_it_reverts_after_a_reorg(
    registered: list[int], past: list[str], status: str, counted: tuple[int, int], first: bool
) -> None:
    intent, send, told = slot()
    scenes.past(intent, *past)
    before = mined_as("ok"), mined_as("reverted"), meters.GAS_USED._value.get()
    waited = meters.SIGNAL_TO_MINED._sum.get()
    apply(intent, (send, told | {"status": status}))
    after = mined_as("ok"), mined_as("reverted"), meters.GAS_USED._value.get()
    assert after == (before[0] + counted[0], before[1] + counted[1], before[2] + 5 * first)
    assert (meters.SIGNAL_TO_MINED._sum.get() > waited) is first
    assert registered == [intent.pk] * (status == "0x1")


@pytest.mark.parametrize(("kind", "registers"), [("exec", True), ("bump", True), ("cancel", False)])
def test_a_cancel_registers_nothing(registered: list[int], kind: str, registers: bool) -> None:
    intent = scenes.intent()
    send = scenes.send(intent, kind=kind)
    apply(intent, (send, scenes.shown(send)))
    assert (bool(registered), state_of(intent)) == (registers, "mined")


def test_the_receipt_is_stored_with_its_order_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("not this order")

    monkeypatch.setattr(receipts, "_register", refuse)
    intent, send, told = slot()
    with pytest.raises(ValueError, match="not this order"):
        apply(intent, (send, told))
    assert (state_of(intent), TxReceipt.objects.count()) == ("sending", 0)
    send.refresh_from_db()
    assert send.held_at is None


def test_its_order_is_registered_with_it() -> None:
    intent, send, told = slot(S.SIGNED)
    apply(intent, (send, told))
    assert (state_of(intent), VenueOrder.objects.get().order_id) == ("ordered", 7_000 + intent.pk)


def test_two_receipts_of_one_slot_are_counted_and_nothing_is_stored(nodes: Nodes) -> None:
    intent, send, told = slot()
    before = meters.INTENT_DUPLICATE._value.get()
    apply(intent, (send, told), (scenes.send(intent, attempt=1, kind="bump"), told))
    assert meters.INTENT_DUPLICATE._value.get() == before + 1
    assert (state_of(intent), TxReceipt.objects.count(), nodes.all) == ("sending", 0, [])


@pytest.mark.parametrize(("state", "said"), [(S.SIGNED, True), (S.SENDING, False), (S.RESERVED, False)])
def test_that_it_was_never_offered_from_here_is_said(
    registered: list[int], state: IntentState, said: bool
) -> None:
    intent, send, told = slot(state)
    with capture_logs() as logs:
        apply(intent, (send, told))
    events = [entry["event"] for entry in logs]
    assert ("mined, though this database never offered it" in events) is said


def test_where_the_node_shows_none_the_others_are_asked(
    monkeypatch: pytest.MonkeyPatch, registered: list[int]
) -> None:
    intent, send, told = slot()
    asked: list[Any] = []
    answers: list[Any] = [[], [(send, told)]]

    def ask_others(*given: Any) -> Any:
        asked.append(given)
        return answers.pop(0)

    monkeypatch.setattr(receipts, "_ask_others", ask_others)
    apply(intent)
    assert (state_of(intent), asked) == ("sending", [(intent, 7, set())])
    apply(intent)
    assert state_of(intent) == "mined"
    other, its_send, its_told = slot()
    apply(other, (its_send, its_told))
    assert len(asked) == 2


# Stored


def test_a_receipt_in_another_block_takes_the_place_of_the_one_before() -> None:
    intent, send, _ = slot()
    rows.receipt(send_id=send.pk, status=0, canonical=False)
    with transaction.atomic():
        receipts._store(intent, send, scenes.shown(send))
    row = TxReceipt.objects.get()
    assert (row.intent_id, row.block_number, row.block_hash, row.status) == (intent.pk, 16, BLOCK, 1)
    assert (row.gas_used, row.effective_gas_price_wei, row.l1_fee_wei, row.canonical) == (5, 7, 3, True)


def test_a_second_execution_of_one_intent_is_counted_and_not_stored() -> None:
    intent, send, _ = slot()
    rows.receipt(send_id=send.pk)
    second = scenes.send(intent, attempt=1, kind="bump")
    before = meters.INTENT_DUPLICATE._value.get()
    with transaction.atomic():
        with pytest.raises(Stale, match=f"intent {intent.pk} has a canonical receipt already"):
            receipts._store(intent, second, scenes.shown(second))
        assert TxReceipt.objects.get().send_id == send.pk
    assert meters.INTENT_DUPLICATE._value.get() == before + 1
