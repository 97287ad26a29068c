"""A pass over a wallet: in which order, in which transactions, and when the rest is left to another pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app import reservations
from execution_app.book import prices
from execution_app.engine import plans
from execution_app.engine import reserve as engine
from execution_app.engine.placing import Asked
from execution_app.engine.plans import Plan
from execution_app.gate import limits
from execution_app.gate.control import Turn
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent, Wallet
from execution_app.node import signers
from execution_app.states import Action, Mode, Reason
from tests.execution import rows
from tests.execution.intents import in_slot, market, ruling, waiting, waiting_close

pytestmark = pytest.mark.usefixtures("database")
LIVE, DEGRADED = ruling(), ruling(Mode.DRY, reason="redis")
LOOK = market()


@pytest.fixture
def wallet() -> Wallet:
    rows.wallet()
    return Wallet.objects.get(pk=rows.wallet())


class Over(Turn):
    def is_over(self) -> bool:
        return True


def decide(monkeypatch: pytest.MonkeyPatch, *words: Ruling) -> None:
    """At each transaction the next of these; the last one stays."""
    left = list(words)
    monkeypatch.setattr(engine, "ruling_now", lambda: left.pop(0) if len(left) > 1 else left[0])


def intent(pk: int, action: str = "open", symbol: str = "BTC-USD", **fields: Any) -> TxIntent:
    return TxIntent(pk=pk, action=action, symbol=symbol, **fields)


def simulated(pk: int) -> TxIntent:
    return intent(pk, mode="DRY", symbol="SOL-USD")


# The whole pass


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a pass finds ready and what each turn comes to, by action; and what was asked, in its order."""
    seen: dict[str, Any] = {"ready": [], "turns": {}, "asked": [], "problem": None}

    def take(wallet_id: int, action: Action, keys: list[int], asked: Asked, _: engine.Returned) -> Any:
        seen["asked"].append((action.value, keys))
        seen["last"] = asked
        answers = seen["turns"].get(action.value, [])
        return answers.pop(0) if answers else (0, [])

    def draw(of: Wallet, intents: list[TxIntent], look: prices.Market) -> dict[int, Plan]:
        seen["asked"].append(("draw", [one.pk for one in intents], look))
        return {one.pk: Plan(Decimal(one.pk)) for one in intents}

    def look(symbols: set[str], address: str) -> prices.Market:
        seen["asked"].append(("look", symbols, address))
        return LOOK

    def compare(known: prices.Market, symbols: set[str]) -> prices.Market:
        seen["asked"].append(("compare", symbols))
        return market(at=known.at + 1)

    monkeypatch.setattr(engine, "_sort", lambda _: seen["ready"])
    monkeypatch.setattr(engine, "_signer_problem", lambda _: seen["problem"])
    monkeypatch.setattr(engine, "_take_turn", take)
    monkeypatch.setattr(plans, "draw", draw)
    monkeypatch.setattr(prices, "look", look)
    monkeypatch.setattr(prices, "compare", compare)
    return seen


def test_where_nothing_is_ready_the_chain_is_not_asked(wallet: Wallet, passes: dict[str, Any]) -> None:
    assert engine.reserve(wallet.pk) == 0
    assert passes["asked"] == []


def test_exits_come_first_and_no_exit_waits_for_the_feed(wallet: Wallet, passes: dict[str, Any]) -> None:
    actions = ["open", "increase", "margin", "update_order", "levels", "cancel_order", "close"]
    passes["ready"] = [intent(pk, action) for pk, action in enumerate(actions)]
    passes["ready"] += [simulated(9), intent(10, symbol="ETH-USD"), intent(11, "increase", "EUR-USD")]
    passes["problem"] = Reason.SIGNER_AWAY, "no answer"
    assert engine.reserve(wallet.pk) == 0
    first, second = LOOK, market(at=1_001)
    assert passes["asked"] == [
        ("look", {"BTC-USD", "SOL-USD", "ETH-USD", "EUR-USD"}, wallet.address),
        ("draw", [2, 3, 4, 5, 6], first),
        ("close", [6]),
        ("cancel_order", [5]),
        ("levels", [4]),
        ("update_order", [3]),
        ("margin", [2]),
        ("compare", {"BTC-USD", "EUR-USD"}),
        ("draw", [1, 11], second),
        ("increase", [1, 11]),
        ("compare", {"BTC-USD", "SOL-USD", "ETH-USD"}),
        ("draw", [0, 10], market(at=1_002)),
        ("open", [0, 9, 10]),
    ]
    last = passes["last"]
    assert (sorted(last.drawn), last.market.at) == ([0, 1, 2, 3, 4, 5, 6, 10, 11], 1_002)
    assert last.signer_problem == (Reason.SIGNER_AWAY, "no answer")


def test_what_got_its_nonce_is_sent_before_anything_else_may_wait(
    wallet: Wallet, passes: dict[str, Any]
) -> None:
    passes["ready"] = [intent(1), intent(2, "close", position=Position(mode="LIVE"))]
    passes["turns"] = {"close": [(1, [])]}
    assert engine.reserve(wallet.pk) == 1
    assert passes["asked"][2:] == [("close", [2])]


def test_a_turn_that_leaves_the_rest_to_another_pass_lets_the_next_kind_have_its(
    wallet: Wallet, passes: dict[str, Any]
) -> None:
    passes["ready"] = [intent(1), intent(2, "margin"), intent(3, "margin")]
    passes["turns"] = {"margin": [(0, None), (5, [])], "open": [(1, None)]}
    assert engine.reserve(wallet.pk) == 1
    assert ("compare", set()) not in passes["asked"], "nothing is increased"
    assert [step for step in passes["asked"] if step[0] in {"margin", "open"}] == [
        ("margin", [2, 3]),
        ("open", [1]),
    ]


def test_no_more_are_read_for_a_turn_than_the_last_one_had_time_for(
    wallet: Wallet, passes: dict[str, Any]
) -> None:
    keys = list(range(60))
    passes["ready"] = [intent(pk) for pk in keys]
    passes["turns"] = {"open": [(20, keys[20:]), (2, keys[22:60]), (1, keys[23:30]), (3, [])]}
    assert engine.reserve(wallet.pk) == 26
    turns = [step[1] for step in passes["asked"] if step[0] == "open"]
    assert turns == [keys, keys[20:], keys[22:30], keys[23:31], keys[31:47], keys[47:]]


# What is sorted


@pytest.fixture
def sorting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is due, and what each sorting finds and leaves."""
    seen: dict[str, Any] = {"due": {}, "asked": [], "answers": []}

    def sort(wallet: Wallet, word: Ruling, now: object, keys: list[int]) -> Any:
        assert limits._known.get() is not None, "caps are read once"
        seen["asked"].append((wallet.pk, word.mode.value, keys))
        return seen["answers"].pop(0) if seen["answers"] else ([intent(pk) for pk in keys], [])

    def turn(_: int, action: Action, most: int) -> list[int]:
        seen["asked"].append((action.value, most))
        return [seen["due"][action]]

    monkeypatch.setattr(engine, "actions_due", lambda _: seen["due"])
    monkeypatch.setattr(engine, "turn", turn)
    monkeypatch.setattr(engine, "sort", sort)
    decide(monkeypatch, LIVE)
    return seen


def ready(wallet: Wallet) -> list[int]:
    return [one.pk for one in engine._sort(wallet.pk)]


def test_each_kind_that_is_due_is_sorted_and_as_many_as_may_be_in_flight(
    wallet: Wallet, sorting: dict[str, Any]
) -> None:
    sorting["due"] = {"open": 3, "close": 100, "levels": 500}
    assert ready(wallet) == [100, 500, 3]
    assert [step for step in sorting["asked"] if len(step) == 2] == [
        ("close", 100),
        ("levels", 192),
        ("open", 64),
    ]


def test_what_nobody_came_to_is_sorted_in_a_transaction_of_its_own(
    wallet: Wallet, sorting: dict[str, Any]
) -> None:
    sorting["due"] = {"open": 3}
    sorting["answers"] = [([intent(1)], [2, 3]), ([intent(2)], [3])]
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        ready(wallet)
    with CaptureQueriesContext(connection) as asked:
        assert ready(wallet) == [1, 2, 3]
    assert sum("FOR NO KEY UPDATE" in query["sql"] for query in asked) == 3
    assert [step[2] for step in sorting["asked"] if len(step) == 3] == [[3], [2, 3], [3]]


def test_what_rules_of_its_own_keep_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, sorting: dict[str, Any]
) -> None:
    sorting["due"] = {"open": 3}
    sorting["answers"] = [([intent(1), intent(2)], [])]
    monkeypatch.setattr(engine, "_may_go", lambda one, word: (one.pk, word) == (2, LIVE))
    assert ready(wallet) == [2]


def test_where_live_comes_back_the_rest_is_left_to_the_next_pass(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, sorting: dict[str, Any]
) -> None:
    decide(monkeypatch, DEGRADED, LIVE)
    sorting["due"] = {"close": 2, "open": 3}
    assert ready(wallet) == [2]


# What a turn places


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a turn did, in its order, where everything may be placed."""
    done: list[Any] = []

    @contextmanager
    def group() -> Iterator[None]:
        done.append("group")
        yield
        done.append(("stored", connection.in_atomic_block))

    def begin(wallet: Wallet, word: Ruling, asked: Asked) -> Any:
        done.append(("begin", wallet.pk, word))
        return "round"

    def place(round_: Any, one: TxIntent, plan: Plan | None) -> bool:
        assert limits._known.get() is not None, "caps are read once"
        done.append((round_, one.pk, plan))
        return one.symbol == "BTC-USD"

    monkeypatch.setattr(signers, "group", group)
    monkeypatch.setattr(engine, "_begin", begin)
    monkeypatch.setattr(engine, "_decide", place)
    monkeypatch.setattr(engine, "store", lambda round_: done.append(("store", round_)))
    decide(monkeypatch, LIVE)
    return done


def take(wallet: Wallet, action: Action, *intents: TxIntent, returned: engine.Returned | None = None) -> Any:
    plan = Plan(Decimal(1))
    asked = Asked(LOOK, {intents[0].pk: plan} if intents else {}, None)
    return engine._take_turn(
        wallet.pk, action, [one.pk for one in intents], asked, returned or engine.Returned()
    )


def test_all_of_a_turn_are_placed_in_one_commit_with_one_sync_of_the_journal(
    wallet: Wallet, turns: list[Any]
) -> None:
    first, unfit, last = waiting(wallet), waiting(wallet, symbol="ETH-USD"), waiting(wallet)
    waiting(wallet)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        take(wallet, Action.OPEN, first)
    turns.clear()
    with CaptureQueriesContext(connection) as asked:
        assert take(wallet, Action.OPEN, first, unfit, last, in_slot(wallet, 1)) == (2, [])
    assert turns == [
        "group",
        ("begin", wallet.pk, LIVE),
        ("round", first.pk, Plan(Decimal(1))),
        ("round", unfit.pk, None),
        ("round", last.pk, None),
        ("store", "round"),
        ("stored", True),
    ]
    assert sum("FOR NO KEY UPDATE" in query["sql"] for query in asked) == 1


@pytest.mark.parametrize("action", ["open", "increase", "margin"])
def test_what_takes_a_stake_waits_only_a_moment_for_the_caps(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, turns: list[Any], action: str
) -> None:
    monkeypatch.setattr(reservations, "lock_soon", lambda: False)
    monkeypatch.setattr(engine, "ruling_now", lambda: pytest.fail("a stop would wait"))
    assert take(wallet, Action(action), waiting(wallet)) == (0, None)
    assert turns == ["group", ("stored", True)]


def test_no_exit_waits_for_the_caps(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, turns: list[Any]
) -> None:
    monkeypatch.setattr(reservations, "lock_soon", lambda: pytest.fail("no exit asks"))
    assert take(wallet, Action.CLOSE, waiting_close(wallet)) == (1, [])


def test_where_live_comes_back_the_rest_of_the_turns_is_left(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, turns: list[Any]
) -> None:
    decide(monkeypatch, DEGRADED, LIVE)
    returned = engine.Returned()
    assert take(wallet, Action.OPEN, returned=returned) == (0, [])
    turns.clear()
    assert take(wallet, Action.OPEN, waiting(wallet), returned=returned) == (0, None)
    assert turns == ["group", ("stored", True)]


def test_who_keeps_a_stop_waiting_places_one_and_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, turns: list[Any]
) -> None:
    monkeypatch.setattr(engine, "Turn", Over)
    first, second, third = (waiting(wallet) for _ in range(3))
    assert take(wallet, Action.OPEN, first, second, third) == (1, [second.pk, third.pk])
    assert [step[1] for step in turns if step[0] == "round"] == [first.pk]
    assert ("store", "round") in turns
