"""What each round does and in which order, for which wallets, and who does it alone."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from execution_app.book import delegations, external, quotes, ticks
from execution_app.engine import (
    broadcast,
    cancels,
    dues,
    heads,
    offers,
    reconcile,
    remote_signing,
    replace,
    reserve,
)
from execution_app.engine import rounds as engine
from execution_app.engine.gateway import posting, signing
from execution_app.errors import Refused
from execution_app.models import TxIntent, Wallet
from execution_app.node import gas, rpc, signers
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.intents import in_slot, shortly, waiting

pytestmark = pytest.mark.usefixtures("database")
S = IntentState


def wallet() -> Wallet:
    return Wallet.objects.get(pk=rows.wallet())


# What has work


def message(of: Wallet, state: IntentState = S.RESERVED) -> TxIntent:
    intent = waiting(of, road="gateway")
    for step in rows.road(state):
        changes: rows.Row = {"state": step.value}
        rows.update("tx_intents", intent.pk, changes | ({"mode": "LIVE"} if step is S.RESERVED else {}))
    return intent


def test_work_is_what_is_due_or_has_not_been_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dues, "RETRY_S", 50)  # this machine may lose some seconds
    wallets = [wallet() for _ in range(12)]
    waiting(wallets[0], state="held")
    waiting(wallets[1], next_try_at=shortly(-0.5))
    waiting(wallets[2], next_try_at=shortly(90))
    for at, state in enumerate((S.RESERVED, S.SIGNED, S.SENDING), 3):
        in_slot(wallets[at], 1, state)
    registered: rows.Row = {"mode": "DRY", "wanted_price": 1}
    waiting(wallets[6], keeper_due_at=shortly(-0.5), **registered)
    waiting(wallets[7], keeper_due_at=shortly(90), **registered)
    waiting(wallets[7])
    waiting(wallets[8], next_try_at=shortly(40))
    waiting(wallets[9], keeper_due_at=shortly(30), **registered)
    in_slot(wallets[10], 1, S.PENDING_INCLUSION)
    rows.update(
        "tx_intents", waiting(wallets[11]).pk, {"state": "rejected", "settled_at": "2026-01-01T00:00:00Z"}
    )
    rows.intent()
    assert engine.wallets_with_work() == [one.pk for one in wallets[:8]]


def stood(intent: TxIntent, seconds: float) -> None:
    rows.update("tx_intents", intent.pk, {"updated_at": shortly(-seconds)})


def test_unheard_is_what_was_due_for_a_while_and_nobody_has_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (engine.UNHEARD_S, engine.UNHEARD_LIMIT) == (5, 4)
    monkeypatch.setattr(engine, "UNHEARD_S", 50)
    wallets = [wallet() for _ in range(10)]
    stood(waiting(wallets[0]), 90)
    stood(waiting(wallets[1], next_try_at=shortly(-90)), 90)
    stood(in_slot(wallets[2], 1, S.RESERVED), 90)
    registered: rows.Row = {"mode": "DRY", "wanted_price": 1}
    stood(waiting(wallets[3], next_try_at=shortly(-20)), 90)
    stood(waiting(wallets[4], keeper_due_at=shortly(-20), **registered), 90)
    stood(in_slot(wallets[5], 1, S.SENDING), 90)
    stood(waiting(wallets[6]), 20)
    stood(in_slot(wallets[7], 1, S.SIGNED), 20)
    stood(waiting(wallets[8], keeper_due_at=shortly(-90), **registered), 90)
    assert engine.wallets_unheard() == [wallets[at].pk for at in (0, 1, 2, 8)]
    stood(in_slot(wallets[9], 1, S.SIGNED), 90)
    assert engine.wallets_unheard() == [wallets[at].pk for at in (0, 1, 2, 8)]


def test_the_chain_is_followed_for_who_has_something_unmined() -> None:
    first, second = wallet(), wallet()
    in_slot(first, 1, S.MINED)
    waiting(first)
    assert engine._unmined() == []
    for one in (second, first):
        for nonce in (2, 3):
            in_slot(one, nonce, S.PENDING_INCLUSION)
    assert engine._unmined() == [first.pk, second.pk]


def test_the_lowest_nonce_that_is_not_mined_is_the_chains_count() -> None:
    one, other = wallet(), wallet()
    in_slot(one, 1, S.MINED)
    in_slot(other, 2)
    assert engine._consumed(one.pk) == -1
    for nonce, state in ((5, S.RESERVED), (4, S.PENDING_INCLUSION)):
        in_slot(one, nonce, state)
    assert engine._consumed(one.pk) == 4
    in_slot(one, 0)
    assert engine._consumed(one.pk) == 0


@pytest.mark.parametrize(
    ("state", "slots", "messages"),
    [
        (S.RESERVED, True, True),
        (S.SIGNED, True, True),
        (S.SENDING, True, True),
        (S.PENDING_INCLUSION, False, True),
        (S.MINED, False, False),
    ],
)
def test_slots_are_to_be_offered_and_messages_may_go(state: IntentState, slots: bool, messages: bool) -> None:
    by_slot, by_message, other = wallet(), wallet(), wallet()
    in_slot(by_slot, 1, state)
    message(by_message, state)
    assert (engine._has_slots(by_slot.pk), engine._has_messages(by_slot.pk)) == (slots, False)
    assert engine._has_messages(by_message.pk) is messages
    assert (engine._has_slots(other.pk), engine._has_messages(other.pk)) == (False, False)


# The rounds


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What was done, in its order, and what each part answers."""
    seen = SimpleNamespace(
        done=[], placed=[0], slots=True, messages=True, posted=[0], sent=[0], error=None, bumped=None
    )

    def note(name: str, answer: Any = None) -> Any:
        def told(*about: Any) -> Any:
            seen.done.append((name, *about) if about else name)
            if seen.error is not None and seen.error[0] == name:
                raise seen.error[1]
            return answer() if callable(answer) else answer

        return told

    parts: list[tuple[Any, str, Any]] = [
        (reconcile, "expect_chain", None),
        (reserve, "reserve", lambda: seen.placed.pop(0)),
        (signing, "sign_waiting", None),
        (posting, "post", lambda: seen.posted.pop(0)),
        (gas, "look", "market"),
        (remote_signing, "sign_waiting", remote_signing.Signatures(7.0, 1, ["sent"])),  # type: ignore[list-item]
        (offers, "offer", None),
        (broadcast, "broadcast", lambda: seen.sent.pop(0)),
        (broadcast, "rebroadcast", None),
        (heads, "follow", None),
        (posting, "listen", None),
        (cancels, "sign", ["cancel"]),
        (replace, "replace", lambda: seen.bumped),
        (engine, "wallets_with_work", [1, 2]),
    ]
    for place, name, answer in parts:
        label = f"{place.__name__.rpartition('.')[2]}.{name}"
        monkeypatch.setattr(place, name, note(label, answer))
    monkeypatch.setattr(engine, "_has_slots", lambda _: seen.slots)
    monkeypatch.setattr(engine, "_has_messages", lambda _: seen.messages)
    monkeypatch.setattr(engine, "_consumed", lambda _: 5)
    monkeypatch.setattr(engine, "_unmined", lambda: [8, 9])
    monkeypatch.setattr(time, "monotonic", lambda: 3.0)
    return seen


SIGNED = [("remote_signing.sign_waiting", 9, "market"), ("offers.offer", ["sent"], 7.0)]


def test_what_is_placed_is_signed_and_offered(road: SimpleNamespace) -> None:
    engine.submit(9)
    assert road.done == [
        "reconcile.expect_chain",
        ("reserve.reserve", 9),
        ("signing.sign_waiting", 9),
        ("posting.post", 9),
        "gas.look",
        *SIGNED,
        ("broadcast.broadcast", 9, "market"),
    ]


def test_who_has_no_slots_asks_for_no_gas(road: SimpleNamespace) -> None:
    road.slots = road.messages = False
    road.placed = [1]
    engine.submit(9)
    assert road.done == ["reconcile.expect_chain", ("reserve.reserve", 9)]


@pytest.mark.parametrize(
    ("placed", "posted", "sent", "rounds"),
    [
        ([1, 1, 0], [0, 0, 0], [1, 1, 1], 3),
        ([1, 1, 0], [0, 0, 0], [1, 0], 2),
        ([1, 1, 0], [1, 0, 0], [0, 0], 2),
        ([0], [1], [1], 1),
    ],
)
def test_it_goes_on_while_something_is_placed_and_leaves(
    road: SimpleNamespace, placed: list[int], posted: list[int], sent: list[int], rounds: int
) -> None:
    road.placed, road.posted, road.sent = placed, posted, sent
    engine.submit(9)
    assert road.done.count(("reserve.reserve", 9)) == rounds


def test_who_has_no_messages_has_posted_none(road: SimpleNamespace) -> None:
    road.messages, road.placed = False, [1, 0]
    engine.submit(9)
    assert road.done.count(("reserve.reserve", 9)) == 1


def test_a_nonce_of_another_order_halts_the_wallet(road: SimpleNamespace) -> None:
    one, other = wallet(), wallet()
    used = signers.NonceUsedError("nonce 5 is another order's")
    road.error = "reserve.reserve", used
    engine.submit(one.pk)
    assert list(Wallet.objects.order_by("id").values_list("halted_reason", flat=True)) == [str(used), ""]
    road.error = "reserve.reserve", Refused("no key")
    with pytest.raises(Refused):
        engine.submit(other.pk)


def moved(wallet_id: int) -> list[Any]:
    return [
        ("signing.sign_waiting", wallet_id),
        ("posting.post", wallet_id),
        "gas.look",
        ("cancels.sign", wallet_id, "market"),
        ("offers.offer", ["cancel"], 3.0),
        ("replace.replace", wallet_id, "market", 5),
        ("remote_signing.sign_waiting", wallet_id, "market"),
        ("offers.offer", ["sent"], 7.0),
        ("broadcast.rebroadcast", wallet_id),
    ]


def test_the_chain_is_looked_at_and_every_wallet_kept_moving(road: SimpleNamespace) -> None:
    road.posted = [0, 0]
    assert engine.track() == [1, 2]
    assert road.done == ["heads.follow", "posting.listen", *moved(8), *moved(9), "rounds.wallets_with_work"]


def test_what_replaces_leaves_at_once(road: SimpleNamespace) -> None:
    road.messages, road.bumped = False, "bump"
    engine._keep_moving(9)
    steps = moved(9)[2:]
    assert road.done == [*steps[:4], ("offers.offer", ["bump"], 3.0), *steps[4:]]


def test_a_lost_key_keeps_nothing_that_is_signed_from_being_offered(road: SimpleNamespace) -> None:
    road.messages, road.error = False, ("replace.replace", Refused("no key"))
    engine._keep_moving(9)
    assert road.done == moved(9)[2:]


@pytest.mark.parametrize("error", [rpc.RpcFault("slow"), rpc.NodeError(-32000, "busy")])
def test_one_slow_answer_stops_no_other_wallet(road: SimpleNamespace, error: Exception) -> None:
    road.messages, road.error = False, ("cancels.sign", error)
    assert engine.track() == [1, 2]
    assert [step for step in road.done if step[0] == "cancels.sign"] == [
        ("cancels.sign", 8, "market"),
        ("cancels.sign", 9, "market"),
    ]
    road.error = "cancels.sign", ValueError("a fault of ours")
    with pytest.raises(ValueError, match="a fault of ours"):
        engine.track()


def test_a_wallet_that_is_halted_on_the_way_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, road: SimpleNamespace
) -> None:
    road.messages = False
    both = [wallet().pk, wallet().pk]
    monkeypatch.setattr(engine, "_unmined", lambda: both)
    road.error = "replace.replace", signers.NonceUsedError("used")
    assert engine.track() == [1, 2]
    assert list(Wallet.objects.values_list("halted_reason", flat=True)) == ["used", "used"]


def test_prices_are_kept_before_positions_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for place in (quotes, ticks, delegations, external):
        name = place.__name__.rpartition(".")[2]
        monkeypatch.setattr(place, "keep", lambda name=name: done.append(name))

    def compare() -> int:
        done.append("compare")
        return 4

    monkeypatch.setattr(engine, "compare", compare)
    assert engine.compare_positions() == 4
    assert done == ["quotes", "ticks", "compare", "delegations", "external"]
