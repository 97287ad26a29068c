"""One pass over the chain, step by step: what each is done for, what is written down, and whom nodes are believed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from execution_app.engine import heads, reconcile, restored, venue_events, watermark
from execution_app.engine.gateway import following, taken
from execution_app.engine.heads import _Mined
from execution_app.engine.watermark import NOTHING_FINAL, Head, Mark
from execution_app.errors import Disagreement
from execution_app.models import Chain, Wallet
from execution_app.node import quorum, rpc
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.slots import LONG_AGO, other_wallet, slot, two_wallets

database = pytest.mark.usefixtures("database")
S = IntentState
HEAD = Head(105, "0x69", 95, "0x0", 31337, 7, frozenset({0, 2}), "0x5f")
MARK = Mark(100, 90, "0x5a", 99)


# The pass


class Steps:
    """A pass whose steps are only noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Sequence[IntentState]) -> None:
        self.done: list[Any] = []
        self.gone: list[list[int]] = [[], []]
        self.consumed: list[Any] = []
        self.messages = self.ordered = False
        self.standing: dict[int, IntentState] = {}
        found = {pk: _Mined(state, None, None) for pk, state in enumerate(before)}
        monkeypatch.setattr(heads, "_counts", lambda head: "counts")
        monkeypatch.setattr(reconcile, "check_wallets", self.noting("wallets"))
        monkeypatch.setattr(heads, "_mined", lambda head: found)
        monkeypatch.setattr(heads, "_forget_reorganised", self.forget)
        monkeypatch.setattr(heads, "_taken", lambda counts: (self.consumed, self.messages, self.ordered))
        monkeypatch.setattr(heads, "apply_receipts", self.noting("receipts"))
        monkeypatch.setattr(heads, "read_orders_again", self.noting("orders"))
        monkeypatch.setattr(following, "follow", self.noting("messages"))
        monkeypatch.setattr(venue_events, "collect", self.noting("events"))
        monkeypatch.setattr(heads, "settle", self.noting("settle"))
        monkeypatch.setattr(taken, "settle", self.noting("levels"))

    def noting(self, name: str) -> Callable[..., None]:
        return lambda *told: self.done.append((name, *told))

    def forget(self, mined: object, final: int) -> tuple[dict[int, IntentState], list[int]]:
        assert final == 95
        return self.standing, self.gone.pop(0)

    def names(self) -> list[str]:
        heads._pass(HEAD)
        return [name for name, *_ in self.done if name not in ("wallets", "settle")]


@pytest.mark.parametrize(
    ("before", "facts", "steps"),
    [
        ((), {}, []),
        ((S.ORDERED, S.FILLED, S.CHANGED), {}, []),
        ((S.MINED,), {}, ["orders", "events"]),
        ((), {"consumed": ["an intent"]}, ["receipts", "orders", "events"]),
        ((), {"messages": True}, ["messages", "events"]),
        ((), {"ordered": True}, ["events"]),
        ((), {"gone": [[1], []]}, ["orders", "events"]),  # whatever it was, it may be any of them by now
        ((), {"gone": [[], [1]]}, []),
    ],
)
def test_what_there_is_nothing_of_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[IntentState, ...],
    facts: dict[str, Any],
    steps: list[str],
) -> None:
    noted = Steps(monkeypatch, before)
    vars(noted).update(facts)
    assert noted.names() == steps


def test_each_step_is_told_what_it_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Steps(monkeypatch, [S.MINED])
    noted.consumed, noted.messages = ["an intent"], True
    noted.standing = {4: S.CHANGED, 5: S.FILLED, 6: S.VENUE_CANCELLED}
    heads._pass(HEAD)
    assert noted.done == [
        ("wallets", "counts"),
        ("receipts", ["an intent"], 95),
        ("orders",),
        ("messages", HEAD),
        ("events", 105, "0x69"),
        ("settle", noted.standing, 95),
        ("levels", [4], 95),
    ]


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], []), ([], [2]), ([1], [2])])
def test_blocks_that_left_are_told_of(
    monkeypatch: pytest.MonkeyPatch, first: list[int], second: list[int]
) -> None:
    noted = Steps(monkeypatch, [])
    noted.gone = [first, second]
    with capture_logs() as lines:
        heads._pass(HEAD)
    told = [(line["event"], line["intents"], line["head"]) for line in lines]
    assert told == ([("blocks left the chain", first + second, 105)] if first + second else [])


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A whole look, of which the parts are only noted."""
    done: list[Any] = []
    chain = Chain(
        head_number=100, reached_number=99, finalized_number=90, finalized_hash="0x5a", chain_id=31337
    )

    def note(head: Head, mark: Mark) -> bool:
        done.append(("note", head, mark))
        return False

    monkeypatch.setattr(reconcile, "expect_chain", lambda: chain)
    monkeypatch.setattr(watermark, "look", lambda mark: HEAD)
    monkeypatch.setattr(reconcile, "check_identity", lambda *told: done.append(("identity", *told)))
    monkeypatch.setattr(restored, "compare", lambda: done.append(("restored",)))
    monkeypatch.setattr(heads, "_pass", lambda head: done.append(("pass", head, rpc._READERS.get())))
    monkeypatch.setattr(heads, "_note", note)
    monkeypatch.setattr(reconcile, "resume", lambda chain_id: done.append(("resume", chain_id)))
    return done


def test_a_look_is_compared_before_anything_is_done_and_noted_after(followed: list[Any]) -> None:
    """Only those are asked that have reached the head."""
    assert heads.follow() is HEAD
    chain = reconcile.expect_chain()
    assert followed == [
        ("identity", 31337, "0x0", chain),
        ("restored",),
        ("pass", HEAD, frozenset({0, 2})),
        ("note", HEAD, MARK),
    ]
    assert rpc._READERS.get() is None


def test_what_was_halted_is_resumed_once_they_agree(
    monkeypatch: pytest.MonkeyPatch, followed: list[Any]
) -> None:
    monkeypatch.setattr(heads, "_note", lambda *_: True)
    heads.follow()
    assert followed[-1] == ("resume", 31337)


@pytest.mark.parametrize(
    ("problem", "asked"),
    [(Disagreement("another past"), ["another past"]), (RpcFault("away"), ["foreign?"])],
)
def test_a_disagreement_halts_and_a_silence_asks_whether_all_are_foreign(
    monkeypatch: pytest.MonkeyPatch, followed: list[Any], problem: Exception, asked: list[str]
) -> None:
    told: list[str] = []

    def look(mark: Mark) -> Head:
        raise problem

    def halt(reason: str) -> None:
        told.append(reason)
        raise Disagreement(f"halted: {reason}")

    monkeypatch.setattr(watermark, "look", look)
    monkeypatch.setattr(reconcile, "halt", halt)
    monkeypatch.setattr(reconcile, "halt_on_foreign_endpoints", lambda: told.append("foreign?"))
    words = "halted: another past" if isinstance(problem, Disagreement) else "away"
    with pytest.raises(type(problem), match=f"^{words}$"):
        heads.follow()
    assert (told, followed) == (asked, [])


def test_the_mark_is_what_was_acted_on() -> None:
    assert heads._mark(None) == Mark()
    chain = Chain(head_number=100, reached_number=99, finalized_number=90, finalized_hash="0x5a")
    assert heads._mark(chain) == MARK
    chain.finalized_hash = ""
    assert heads._mark(chain) == Mark(100, NOTHING_FINAL, "", 99)


# What is noted


@database
@pytest.mark.parametrize(
    ("at", "head", "then"),
    [
        ((90, "0x5a"), {}, (95, "0x5f")),
        ((80, "0x50"), {"finalized": 90}, (80, "0x50")),  # no further than this pass began at
        ((90, "0x5a"), {"finalized_hash": ""}, (90, "0x5a")),
        ((100, "0x64"), {}, (100, "0x64")),  # another pass was faster
        ((95, "0x5e"), {}, (95, "0x5e")),
        ((95, ""), {}, (95, "0x5f")),
        ((0, ""), {"finalized": 80}, (0, "")),
    ],
)
def test_the_final_block_only_goes_on(
    at: tuple[int, str], head: dict[str, Any], then: tuple[int, str]
) -> None:
    for chain_id in (31337, 10):
        chain = {"genesis_hash": "0x0", "trading_address": "0x1", "reconciled_at": LONG_AGO}
        Chain.objects.create(chain_id=chain_id, finalized_number=at[0], finalized_hash=at[1], **chain)
    assert heads._note(replace(HEAD, **head), MARK) is False
    noted, beside = Chain.objects.get(pk=31337), Chain.objects.get(pk=10)
    assert (noted.finalized_number, noted.finalized_hash) == then
    assert (noted.head_number, noted.head_hash) == (105, "0x69")
    assert noted.reconciled_at != beside.reconciled_at
    assert (beside.finalized_number, beside.head_number) == (at[0], 0)


@database
@pytest.mark.parametrize(("needed", "then"), [(1, 105), (2, 105), (3, 77)])
def test_how_far_a_majority_was_is_noted_beside_the_head(
    monkeypatch: pytest.MonkeyPatch, needed: int, then: int
) -> None:
    monkeypatch.setattr(quorum, "needed", lambda: needed)
    chain = {"genesis_hash": "0x0", "trading_address": "0x1", "reconciled_at": LONG_AGO}
    Chain.objects.create(chain_id=31337, head_number=80, reached_number=77, **chain)
    heads._note(HEAD, MARK)
    noted = Chain.objects.get(pk=31337)
    assert (noted.head_number, noted.reached_number) == (105, then)


@database
def test_whether_trading_was_halted_until_now_is_said() -> None:
    assert heads._note(HEAD, MARK) is False, "there is no such chain"
    Chain.objects.create(
        chain_id=31337,
        genesis_hash="0x0",
        trading_address="0x1",
        reconciled_at=LONG_AGO,
        halted_reason="drill",
    )
    assert heads._note(HEAD, MARK) is True
    Chain.objects.update(halted_reason="")
    assert heads._note(HEAD, MARK) is False


# Counts and balances


class Node:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.asked: list[rpc.Call] = []
        self.answers = list(answers)
        monkeypatch.setattr(rpc, "read_batch", self.read_batch)

    def read_batch(self, calls: list[rpc.Call]) -> list[Any]:
        self.asked += calls
        return self.answers


@database
def test_counts_and_balances_are_asked_for_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = two_wallets()
    rows.wallet(chain_id=10)
    wallets = [wallet, other_wallet()]
    node = Node(monkeypatch, "0x3", "0x10", "0x64", "0x0")
    assert heads._counts(HEAD) == {wallets[0].pk: 3, wallets[1].pk: 16}
    assert node.asked == [
        (method, (one.address, "0x69"))
        for method in ("eth_getTransactionCount", "eth_getBalance")
        for one in wallets
    ]
    balances = list(Wallet.objects.order_by("id").values_list("balance_wei", flat=True))
    assert balances[:2] == [100, 0]
    assert balances[2] in (0, None)


@database
def test_a_balance_is_written_where_it_changed(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    two_wallets()
    Wallet.objects.update(balance_wei=100)
    Node(monkeypatch, "0x3", "0x3", "0x64", "0x64")
    with django_assert_num_queries(1):
        heads._counts(HEAD)


@database
def test_a_node_that_does_not_know_is_no_proof_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    two_wallets()
    for at in range(4):
        answers: list[Any] = ["0x3"] * 4
        answers[at] = None
        Node(monkeypatch, *answers)
        with pytest.raises(RpcFault, match="does not know a wallet's count or balance"):
            heads._counts(HEAD)
        answers[at] = NodeError(-32000, "pruned")
        Node(monkeypatch, *answers)
        with pytest.raises(NodeError, match="pruned"):
            heads._counts(HEAD)
    Node(monkeypatch, "0x3", "0x3", "0x64")
    with pytest.raises(ValueError, match="zip"):
        heads._counts(HEAD)


@database
def test_a_count_below_what_was_final_is_asked_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = two_wallets()
    slot(wallet, 5, S.LOST_NONCE)
    Node(monkeypatch, "0x2", "0x2", "0x0", "0x0")
    monkeypatch.setattr(quorum, "ask_each", lambda calls: iter([(1, ["0x7"])]))
    assert heads._counts(HEAD) == {wallet.pk: 7, other_wallet().pk: 2}


def believed(monkeypatch: pytest.MonkeyPatch, settled: int | None, count: int, *others: Any) -> int | None:
    """The count that is believed, of what two of three have to say; None where it asked nobody."""
    asked: list[Any] = []

    def ask_each(calls: list[rpc.Call]) -> Iterator[tuple[int, list[Any]]]:
        asked.extend(calls)
        yield from ((at, [answer]) for at, answer in enumerate(others))

    monkeypatch.setattr(quorum, "ask_each", ask_each)
    monkeypatch.setattr(quorum, "needed", lambda: 2)
    found = heads._unless_too_low(Wallet(address="0xw"), settled, count, "0x69")
    assert asked in ([], [("eth_getTransactionCount", ("0xw", "0x69"))])
    return found if asked else -found


@pytest.mark.parametrize(
    ("settled", "count", "others", "expected"),
    [
        (None, 2, [], -2),
        (5, 6, [], -6),
        (5, 5, ["0x5", "0x5"], 5),
        (5, 2, ["0x5", "0x4", "0x9"], 2),  # a majority says so
        (5, 2, ["0x2", "0x6"], 6),
        (5, 2, ["0x6", "0x12", "0x2"], 18),
        (5, 2, [NodeError(-32000, "no"), "0x6"], 6),
        (5, 2, ["0x5"], "too few"),
        (5, 2, [], "too few"),
        (5, 2, [None, NodeError(-32000, "no"), "0x4"], "too few"),
    ],
)
def test_one_node_alone_takes_nothing_back_that_was_final(
    monkeypatch: pytest.MonkeyPatch, settled: int | None, count: int, others: list[Any], expected: int | str
) -> None:
    if expected == "too few":
        with pytest.raises(RpcFault, match="too few endpoints answer that nonce 5 of 0xw is consumed"):
            believed(monkeypatch, settled, count, *others)
    else:
        assert believed(monkeypatch, settled, count, *others) == expected
