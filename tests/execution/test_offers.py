"""What nodes say to bytes, what is written down of it, and which bytes are not given to any."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from execution_app import meters
from execution_app.engine import offers
from execution_app.gate.control import LEASE_S
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.node import rpc, signers
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import IntentState, SendOutcome
from tests.execution import rows

HASH = "0x" + "ab" * 32
STRANGE = "the sequencer dreams of sheep"


def bytes_of(**fields: Any) -> TxSend:
    return TxSend(**({"raw": b"\x02", "tx_hash": HASH} | fields))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (HASH, SendOutcome.ACCEPTED),
        (HASH.upper().replace("X", "x"), SendOutcome.ACCEPTED),
        ("0x" + "cd" * 32, SendOutcome.UNKNOWN),
        (None, SendOutcome.UNKNOWN),
        (RpcFault("timeout"), SendOutcome.UNKNOWN),
        (NodeError(-32000, "already known"), SendOutcome.ALREADY_KNOWN),
        (NodeError(-32000, "nonce too low"), SendOutcome.NONCE_TOO_LOW),
        (NodeError(-32000, "txpool is full"), SendOutcome.POOL_FULL),
        (NodeError(-32000, STRANGE), SendOutcome.UNKNOWN),
    ],
)
def test_only_the_hash_itself_is_an_acceptance(answer: object, outcome: SendOutcome) -> None:
    assert offers._outcome(answer, bytes_of(), 0) is outcome


def test_words_that_no_table_knows_are_counted_for_their_endpoint() -> None:
    def counted(position: int) -> float:
        return float(meters.RPC_UNRECOGNISED.labels(str(position))._value.get())

    before = counted(3), counted(0)
    offers._outcome(NodeError(-32000, STRANGE), bytes_of(), 3)
    offers._outcome(NodeError(-32000, "already known"), bytes_of(), 3)
    offers._outcome(NodeError(-32000, "txpool is full"), bytes_of(), 0)
    assert (counted(3), counted(0)) == (before[0] + 1, before[1])


class Endpoint:
    """One that has given these answers, and says afterwards whether it is on our chain."""

    def __init__(self, answers: Sequence[Any], unsure: Exception | None = None) -> None:
        self.position = 0
        self.answers, self.unsure = list(answers), unsure
        self.asked: list[list[rpc.Call]] = []
        self.permitted: list[bool] = []
        self.confirmed = 0

    def offer(self, calls: list[rpc.Call], may_go: Any) -> list[Any]:
        self.asked.append(calls)
        self.permitted.append(may_go())
        return self.answers[: len(calls)]

    def confirm(self) -> None:
        self.confirmed += 1
        if self.unsure is not None:
            raise self.unsure


@pytest.mark.parametrize("unsure", [RpcFault("away"), NodeError(-32000, "no")])
def test_what_a_node_of_perhaps_another_chain_said_is_what_nobody_knows(unsure: Exception) -> None:
    endpoint = Endpoint([], unsure)
    first, second, third = offers._of_our_chain(endpoint, [HASH, None, NodeError(-32000, "already known")])  # type: ignore[arg-type]
    assert second is None, "it was not asked about that one"
    assert isinstance(first, RpcFault)
    assert isinstance(third, RpcFault)


def test_who_has_said_nothing_is_not_asked_which_chain_it_is_on() -> None:
    silent = Endpoint([], RpcFault("away"))
    answers = [RpcFault("reset"), None]
    assert offers._of_our_chain(silent, answers) == answers  # type: ignore[arg-type]
    assert silent.confirmed == 0
    sure = Endpoint([])
    told = [RpcFault("reset"), HASH, None]
    assert offers._of_our_chain(sure, told) == told  # type: ignore[arg-type]
    assert sure.confirmed == 1


def test_once_the_lease_is_over_only_what_has_left_before_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = bytes_of(), bytes_of(held_at="2026-01-01T00:00:00Z", raw=b"\x03")
    ends_s = LEASE_S - rpc.CONNECT_TIMEOUT_S
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0)
    for begun_s, asked, permitted in (
        (1_000.0, ["0x02", "0x03"], True),
        (1_000.0 - ends_s + 0.01, ["0x02", "0x03"], True),
        (1_000.0 - ends_s, ["0x03"], True),
        (1_000.0 - ends_s - 5, ["0x03"], True),
    ):
        endpoint = Endpoint([HASH, HASH])
        monkeypatch.setattr(rpc, "awake", lambda endpoint=endpoint: [endpoint])
        said = offers._ask_endpoints([new, old], begun_s)
        assert [parameters[0] for _, parameters in endpoint.asked[0]] == asked
        assert {method for method, _ in endpoint.asked[0]} == {"eth_sendRawTransaction"}
        assert endpoint.permitted == [permitted]
        assert [len(one) for one in said] == [len(asked) - 1, 1]


def test_a_lease_that_runs_out_while_it_connects_keeps_new_bytes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked again when the connection stands; bytes that have left before need no lease."""
    moments = iter((1_000.0, 1_000.0 + LEASE_S))
    endpoint = Endpoint([HASH, HASH])
    monkeypatch.setattr(rpc, "awake", lambda: [endpoint])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    offers._ask_endpoints([bytes_of(), bytes_of(held_at="2026-01-01T00:00:00Z")], 1_000.0)
    assert endpoint.permitted == [False]


def stored(state: IntentState = IntentState.SENDING, **fields: object) -> TxSend:
    return TxSend.objects.select_related("intent__wallet").get(
        pk=rows.send(intent_id=rows.intent_in(state), **fields)
    )


def journal(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> list[signers.Slot]:
    """What the signer's journal says of the nonces, in their order; it says all or fails."""
    asked: list[signers.Slot] = []

    def bind(slots: list[signers.Slot]) -> list[Exception | None]:
        asked.extend(slots)
        if isinstance(answers[0], signers.JournalUnusableError):
            raise answers[0]
        return list(answers)

    monkeypatch.setattr(signers, "bind", bind)
    return asked


@pytest.mark.usefixtures("database")
def test_bytes_of_another_orders_nonce_do_not_leave_and_halt_their_wallet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, mine, others = stored(held_at="2026-01-01T00:00:00Z"), stored(), stored()
    asked = journal(monkeypatch, None, signers.NonceUsedError("another order's"))
    assert offers._bound([left, mine, others]) == [left, mine]
    assert [slot.nonce for slot in asked] == [mine.intent.nonce, others.intent.nonce]
    assert [slot.to for slot in asked] == [mine.intent.to_address, others.intent.to_address]
    halted = Wallet.objects.exclude(halted_reason="")
    assert [(wallet.pk, wallet.halted_reason) for wallet in halted] == [
        (others.intent.wallet_id, "another order's")
    ]


@pytest.mark.usefixtures("database")
def test_without_the_journal_only_what_has_left_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    left, new = stored(held_at="2026-01-01T00:00:00Z"), stored()
    asked = journal(monkeypatch, signers.JournalUnusableError("the disk is full"))
    assert offers._bound([left, new]) == [left]
    assert [slot.nonce for slot in asked] == [new.intent.nonce]
    assert offers._bound([left]) == [left]
    assert len(asked) == 1, "of what has left it is not asked"
    assert not Wallet.objects.exclude(halted_reason="").exists()


@pytest.mark.usefixtures("database")
def test_what_was_said_is_written_down_for_each_and_once() -> None:
    accepted, known, gone, full, other = (stored() for _ in range(5))
    first, failed = meters.TX_SUBMISSIONS._value.get(), meters.TX_SUBMISSIONS_FAILED.labels("pool_full")
    refused, delays = failed._value.get(), meters.SIGNAL_TO_BROADCAST._sum.get()
    offers.record(
        [
            (accepted, SendOutcome.ACCEPTED),
            (known, SendOutcome.ALREADY_KNOWN),
            (gone, SendOutcome.NONCE_TOO_LOW),
            (full, SendOutcome.POOL_FULL),
        ]
    )
    found = {send.pk: send for send in TxSend.objects.select_related("intent")}
    told = [found[send.pk] for send in (accepted, known, gone, full, other)]
    said = [(one.outcome, one.held_at is None, one.offers, one.intent.state) for one in told]
    assert said == [
        ("accepted", False, 1, "pending_inclusion"),
        ("already_known", False, 1, "pending_inclusion"),
        ("nonce_too_low", False, 1, "sending"),
        ("pool_full", True, 1, "sending"),
        ("unoffered", True, 0, "sending"),
    ]
    assert found[other.pk].last_offered_at is None
    assert meters.TX_SUBMISSIONS._value.get() == first + 4
    assert failed._value.get() == refused + 1
    assert meters.SIGNAL_TO_BROADCAST._sum.get() > delays
    again = found[full.pk]
    began_at = again.offered_at
    offers.record([(again, SendOutcome.POOL_FULL), (found[accepted.pk], SendOutcome.ACCEPTED)])
    again.refresh_from_db()
    assert (again.offers, again.offered_at, again.held_at) == (2, began_at, None)
    assert again.last_offered_at is not None
    assert began_at is not None
    assert again.last_offered_at > began_at
    assert meters.TX_SUBMISSIONS._value.get() == first + 4, "first broadcasts alone"
    held_at = found[accepted.pk].held_at
    assert TxSend.objects.get(pk=accepted.pk).held_at == held_at, "since when it is held stays"


@pytest.mark.usefixtures("database")
def test_those_that_the_chain_came_to_first_keep_no_other_from_moving_on() -> None:
    mined, waiting = stored(), stored()
    TxIntent.objects.filter(pk=mined.intent_id).update(state=IntentState.PENDING_INCLUSION)
    TxIntent.objects.filter(pk=mined.intent_id).update(state=IntentState.MINED)
    offers.record([(mined, SendOutcome.ACCEPTED), (waiting, SendOutcome.ACCEPTED)])
    states = dict(TxIntent.objects.values_list("pk", "state"))
    assert (states[mined.intent_id], states[waiting.intent_id]) == ("mined", "pending_inclusion")


@pytest.mark.usefixtures("database")
def test_what_was_sent_before_and_is_accepted_only_now_moves_on_too() -> None:
    """As it was read, the one was signed still, or had left before; as it is, it is on its way."""
    leased, stale = stored(), stored()
    stale.intent.state = IntentState.SIGNED.value
    offers.record([(leased, SendOutcome.ACCEPTED), (stale, SendOutcome.ACCEPTED)])
    assert set(TxIntent.objects.values_list("state", flat=True)) == {"pending_inclusion"}
    far = stored(IntentState.PENDING_INCLUSION)
    offers.record([(far, SendOutcome.ACCEPTED)])
    assert TxIntent.objects.get(pk=far.intent_id).state == "pending_inclusion"


def test_a_lease_that_ran_out_before_anybody_was_asked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Any] = []
    kept, gone = bytes_of(), bytes_of()
    monkeypatch.setattr(offers, "_bound", list)
    monkeypatch.setattr(offers, "record", recorded.append)
    said = [[SendOutcome.UNKNOWN, SendOutcome.ACCEPTED], []]
    monkeypatch.setattr(offers, "_ask_endpoints", lambda *_: said)
    offers.offer([kept, gone], 0.0)
    assert recorded == [[(kept, SendOutcome.ACCEPTED)]], "the best that any endpoint said"
