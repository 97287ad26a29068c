"""An exit must end in a closed position, or visibly not: what fails on the way is asked for again."""

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from execution_app.engine import waiting
from execution_app.engine.exits import MAX_FAILURES
from execution_app.engine.further import ask_further
from execution_app.engine.venue_events import READ_AGAIN
from execution_app.models import Position, TxIntent, TxSend
from execution_app.states import Action, SendOutcome
from execution_app.venues.events import TOPICS
from tests import invariants
from tests.execution.test_exits import opened, pause
from tests.integration.tx.remote import in_thread, until
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute


def again(rig: Rig, times: int = 1) -> None:
    for _ in range(times):
        pass_a_minute()
        rig.track()
        rig.run()


def test_a_close_that_reverts_is_asked_for_again(rig: Rig, node: Proxy) -> None:
    position = opened(rig)
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    pause(paused=True)  # between the broadcast and its block
    node.release()
    again(rig)
    close.refresh_from_db()
    assert close.state == "final_reverted"
    successor = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert (successor.state, successor.position_id, successor.nonce) == ("pending", position.pk, None)
    pause(paused=False)
    again(rig, 2)
    successor.refresh_from_db()
    position.refresh_from_db()
    assert (successor.state, position.state) == ("filled", "closed")
    invariants.check(node)


def test_a_close_whose_bytes_no_node_takes_is_cancelled_and_asked_for_again(rig: Rig, node: Proxy) -> None:
    position = opened(rig)
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    node.release("none")
    TxSend.objects.filter(intent=close).update(outcome=SendOutcome.INVALID_PERMANENT)
    again(rig, 3)
    close.refresh_from_db()
    position.refresh_from_db()
    assert (close.state, position.state) == ("final_cancelled", "closed")
    invariants.check(node)


def test_an_exit_is_not_asked_for_for_ever(rig: Rig, node: Proxy) -> None:
    """Each failure costs gas; a person has to look."""
    opened(rig)
    rig.intent(Action.CLOSE)
    for _ in range(MAX_FAILURES + 1):
        pause(paused=False)
        pass_a_minute()
        node.hold()
        rig.submit()
        pause(paused=True)
        node.release()
        again(rig)
    pause(paused=False)
    again(rig)
    closes = TxIntent.objects.filter(action=Action.CLOSE)
    assert [close.state for close in closes] == ["final_reverted"] * MAX_FAILURES
    assert Position.objects.get().state == "open"


def test_a_close_waits_until_a_refund_is_final(rig: Rig, node: Proxy) -> None:
    """The refund's block may leave the chain, and the keeper execute the open after all."""
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    TxIntent.objects.filter(pk=intent.pk).update(state="venue_cancelled")  # as a refund leaves it
    close = rig.intent(Action.CLOSE)
    rig.submit()
    close.refresh_from_db()
    assert (close.state, close.reason) == ("pending", "waits_for_earlier_order")
    TxIntent.objects.filter(pk=intent.pk).update(state="ordered")
    again(rig, 2)
    close.refresh_from_db()
    assert close.state == "filled"
    invariants.check(node)


def test_a_second_close_waits_until_the_first_is_final(rig: Rig, node: Proxy) -> None:
    position = opened(rig)
    first, second = rig.intent(Action.CLOSE), rig.intent(Action.CLOSE)
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    pass_a_minute()
    rig.submit()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, first.settled_at, second.state) == ("filled", None, "pending")
    reorganise(1)
    again(rig, 3)
    position.refresh_from_db()
    states = set(TxIntent.objects.filter(action=Action.CLOSE).values_list("state", flat=True))
    assert (position.state, states) == ("closed", {"filled", "no_op"})
    invariants.check(node)


def without_event(forward: Any, topic: str) -> Any:
    """A node whose logs lack one event, as those of a venue that renamed it."""

    def hiding(body: Any) -> Any:
        answers = forward(body)
        for answer in answers if isinstance(answers, list) else [answers]:
            if isinstance(answer.get("result"), list):
                answer["result"] = [
                    entry
                    for entry in answer["result"]
                    if not isinstance(entry, dict) or entry.get("topics", [""])[0] != topic
                ]
        return answers

    return hiding


def test_an_order_without_its_event_costs_a_bounded_look(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every pass reads ever more of the chain, until none ends in time and nobody is followed."""
    topic = next(
        "0x" + key.hex() for key, reader in TOPICS["rehearsal-v2"].items() if "_executed" in str(reader)
    )
    forward = node.forward
    monkeypatch.setattr(node, "forward", without_event(forward, topic))
    lost = rig.intent()
    rig.run()
    lost.refresh_from_db()
    assert lost.state == "ordered"
    rig.mine(2 * READ_AGAIN)
    rig.track()
    rig.mine(2 * READ_AGAIN)
    asked: list[tuple[int, int]] = []

    def noting(body: Any) -> Any:
        calls = body if isinstance(body, list) else [body]
        spans = [call["params"][0] for call in calls if call["method"] == "eth_getLogs"]
        asked.extend((int(span["fromBlock"], 16), int(span["toBlock"], 16)) for span in spans)
        return without_event(forward, topic)(body)

    monkeypatch.setattr(node, "forward", noting)
    rig.track()  # reads all that was added since
    asked.clear()
    rig.mine(10)
    rig.track()
    # The node is asked as the one that is read, and as one of those whose majority says that there is nothing.
    assert sum(high - low + 1 for low, high in asked) <= 2 * (READ_AGAIN + 12)
    # Others are followed as ever, and the event is taken when it can be read after all.
    monkeypatch.setattr(node, "forward", forward)
    other = rig.intent(symbol="ETH-USD")
    again(rig)
    other.refresh_from_db()
    assert other.state == "filled"
    for _ in range(6):
        rig.mine(READ_AGAIN - 10)
        rig.track()
    again(rig)
    lost.refresh_from_db()
    assert lost.state == "filled"
    invariants.check(node)


def test_one_receipt_that_is_none_does_not_stop_the_others(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled, other = rig.intent(), rig.intent()
    rig.submit()
    rig.mine()
    tx_hash = spoiled.sends.get().tx_hash
    forward = node.forward

    def spoiling(body: Any) -> Any:
        answers = forward(body)
        for answer in answers if isinstance(answers, list) else [answers]:
            found = answer.get("result")
            if isinstance(found, dict) and found.get("transactionHash") == tx_hash:
                found["logs"][-1]["data"] = "0x00"
        return answers

    monkeypatch.setattr(node, "forward", spoiling)
    rig.track()
    rig.keep()
    rig.track()
    other.refresh_from_db()
    assert other.state == "filled"
    monkeypatch.setattr(node, "forward", forward)
    again(rig)
    spoiled.refresh_from_db()
    assert spoiled.state == "filled"
    invariants.check(node)


def test_closes_that_cannot_go_do_not_keep_another_from_its_turn(rig: Rig) -> None:
    """Passes are so slow that all of them are due again each time."""
    stuck = [rig.intent(Action.CLOSE, symbol="SOL-USD") for _ in range(2 * waiting.BATCH)]
    late = rig.intent(Action.CLOSE)
    seen: set[int] = set()
    for _ in range(3):
        turn = waiting.turn(rig.wallet, Action.CLOSE)
        assert turn == sorted(turn)
        seen |= set(turn)
        TxIntent.objects.filter(pk__in=turn).update(next_try_at=Now())
    assert seen == {*(intent.pk for intent in stuck), late.pk}


def test_two_shares_of_a_request_that_are_asked_for_at_once_are_two(rig: Rig) -> None:
    """One is handed out under the wallet's lock, the other by whoever follows the chain: both take the next number."""
    opened(rig)
    rig.intent()
    rig.run()
    first, second = Position.objects.order_by("id")
    close = rig.intent(Action.CLOSE)
    asked, other = threading.Event(), []

    def ask() -> None:
        asked.set()
        other.append(ask_further(close, second, None).pk)

    with transaction.atomic():
        mine = ask_further(close, first, None).pk
        thread = in_thread(ask)
        assert asked.wait(60)
        until(lambda: not thread.is_alive() or is_waited_for())
    thread.join()
    found = TxIntent.objects.filter(pk__in=[mine, *other]).order_by("id")
    assert [intent.position_id for intent in found] == [first.pk, second.pk]
    assert len({intent.intent_key for intent in found}) == 2


def is_waited_for() -> bool:
    """Whether somebody waits for the transaction of this connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])
