"""What follows where a final block consumed a nonce of ours and no endpoint has its receipt: who is lost, and who waits."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app import meters
from execution_app.engine import consumed, lost_nonces, reconcile
from execution_app.engine.consumed import What
from execution_app.models import AuditEntry, TxIntent, Wallet
from execution_app.node import history
from execution_app.node.faults import RpcFault
from execution_app.node.history import Found
from execution_app.states import IntentState
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
FINAL = 90
TAKER = Found("0x" + "d" * 64, 2, "0x" + "e" * 40, 7, 100_000, b"\x01", 30, 2, b"\x02raw")


class Node:
    """What it shows of any nonce, what that is, and what it was asked for."""

    def __init__(self) -> None:
        self.shows: Found | RpcFault | None = TAKER
        self.what = What.LOST
        self.now_s = 0.0  # as a machine that has just begun
        self.asked: list[tuple[str, int, int]] = []
        self.judged: list[tuple[Wallet, TxIntent, Found]] = []

    def find(self, address: str, nonce: int, final_block: int) -> Found | None:
        self.asked.append((address, nonce, final_block))
        if isinstance(self.shows, RpcFault):
            raise self.shows
        return self.shows

    def taken_by(self, wallet: Wallet, intent: TxIntent, found: Found) -> What:
        self.judged.append((wallet, intent, found))
        return self.what


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Asked for the first time; its clock stands still."""
    shown = Node()
    monkeypatch.setattr(history, "find", shown.find)
    monkeypatch.setattr(consumed, "taken_by", shown.taken_by)
    monkeypatch.setattr(lost_nonces, "_ours", {})
    monkeypatch.setattr(lost_nonces, "_asked", deque(maxlen=lost_nonces.MOST))
    monkeypatch.setattr(lost_nonces, "time", SimpleNamespace(monotonic=lambda: shown.now_s))
    return shown


@pytest.fixture
def intent() -> TxIntent:
    """Sent under a nonce of its wallet, beside that of another."""
    sent, _ = (rows.intent_in(IntentState.PENDING_INCLUSION) for _ in range(2))
    return TxIntent.objects.select_related("wallet").get(pk=sent)


def halts() -> list[str]:
    return list(Wallet.objects.order_by("id").values_list("halted_reason", flat=True))


def conclude(intent: TxIntent, newest_hash: str = "0xa") -> float:
    """Returns how many nonces were counted as lost."""
    before = meters.NONCE_LOST._value.get()
    lost_nonces.conclude(intent, newest_hash, FINAL)
    intent.refresh_from_db()
    return float(meters.NONCE_LOST._value.get() - before)


def test_a_slot_that_something_else_took_is_lost_and_halts_its_wallet(node: Node, intent: TxIntent) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert conclude(intent) == 1
    wallet = Wallet.objects.order_by("id")[0]
    assert node.asked == [(wallet.address, intent.nonce, FINAL)]
    assert node.judged == [(wallet, intent, TAKER)]
    why = f"nonce {intent.nonce} was consumed by a transaction that is not ours"
    assert (intent.state, intent.settled_at is not None) == (IntentState.LOST_NONCE, True)
    told = intent.transitions.latest("id")
    assert (told.why, told.by) == (why, "receipts")
    assert halts() == [why, ""]
    assert AuditEntry.objects.get(action="wallet_halted").reason == why
    statements = [query["sql"] for query in asked]
    locked = next(at for at, one in enumerate(statements) if "FOR NO KEY UPDATE" in one)
    moved = next(at for at, one in enumerate(statements) if one.startswith('UPDATE "tx_intents"'))
    assert locked < moved, "the wallet first, as everywhere"
    assert '"wallets"' in statements[locked]
    assert list(TxIntent.objects.exclude(pk=intent.pk).values_list("state", flat=True)) == [
        IntentState.PENDING_INCLUSION
    ]


@pytest.mark.parametrize(
    ("shows", "what", "words"),
    [
        (None, What.LOST, "was consumed, and no node shows by what"),
        (TAKER, What.REPLACED, f"was consumed by {TAKER.tx_hash}, which is not known here"),
        (TAKER, What.CANCELLED, f"was consumed by {TAKER.tx_hash}, which is not known here"),
    ],
)
def test_what_an_operator_has_to_look_at_halts_the_wallet_and_loses_nothing(
    node: Node, intent: TxIntent, shows: Found | None, what: What, words: str
) -> None:
    node.shows, node.what = shows, what
    assert conclude(intent) == 0
    assert (intent.state, len(node.judged)) == (IntentState.PENDING_INCLUSION, shows is not None)
    assert halts() == [f"nonce {intent.nonce} {words}", ""]


def test_the_halt_and_the_loss_are_one_commit(
    node: Node, intent: TxIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("in between")

    monkeypatch.setattr(reconcile, "halt_wallet", fail)
    before = meters.NONCE_LOST._value.get()
    with pytest.raises(RuntimeError, match="in between"):
        lost_nonces.conclude(intent, "0xa", FINAL)
    intent.refresh_from_db()
    assert (intent.state, meters.NONCE_LOST._value.get()) == (IntentState.PENDING_INCLUSION, before)


def test_bytes_of_ours_are_waited_for_and_not_asked_for_at_each_head(node: Node, intent: TxIntent) -> None:
    node.what = What.OURS
    assert conclude(intent) == 0
    assert (intent.state, halts()) == (IntentState.PENDING_INCLUSION, ["", ""])
    for later_s, asked in ((29.9, 1), (0.1, 2), (29.9, 2), (0.1, 3)):
        node.now_s += later_s
        conclude(intent)
        assert len(node.asked) == asked, later_s
    conclude(intent, "0xb")
    assert len(node.asked) == 4, "newer bytes are another question"
    assert lost_nonces._ours == {"0xa": node.now_s, "0xb": node.now_s}


def test_what_was_found_to_be_ours_is_forgotten_in_time(node: Node, intent: TxIntent) -> None:
    node.what = What.OURS
    conclude(intent, "0xa")
    node.now_s += 0.5
    conclude(intent, "0xb")
    node.now_s += 30.0
    conclude(intent, "0xc")
    assert lost_nonces._ours == {"0xb": node.now_s - 30.0, "0xc": node.now_s}


def test_what_was_found_to_be_anything_else_is_asked_for_again(node: Node, intent: TxIntent) -> None:
    node.what = What.REPLACED
    for times in (1, 2):
        conclude(intent)
        assert len(node.asked) == times
    assert lost_nonces._ours == {}


def test_a_node_that_does_not_answer_proves_nothing(node: Node, intent: TxIntent) -> None:
    node.shows = RpcFault("away")
    assert conclude(intent) == 0
    assert (intent.state, halts(), lost_nonces._ours) == (IntentState.PENDING_INCLUSION, ["", ""], {})
    node.shows = TAKER
    assert conclude(intent) == 1


def test_of_many_slots_eight_are_asked_for_in_two_seconds(node: Node, intent: TxIntent) -> None:
    """So that they keep nothing else from being followed, and the others have their turn."""
    node.what = What.OURS
    for number in range(7):
        conclude(intent, f"0x{number}")
    node.now_s += 1.0
    for number in (7, 8):
        conclude(intent, f"0x{number}")
    assert len(node.asked) == 8
    node.now_s += 0.5
    conclude(intent, "0x8")
    assert len(node.asked) == 8
    node.now_s += 0.5
    for number in range(8, 20):
        conclude(intent, f"0x{number}")
    assert len(node.asked) == 15, "as many as had left the two seconds"
