"""`wallet order-lost`: an order whose end never comes is ended with the venue's own proof, and only then."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from execution_app.engine.venue_events import READ_AGAIN
from execution_app.models import AuditEntry, Position, Reservation, TxIntent
from execution_app.states import Action, Reason
from tests import invariants
from tests.execution.test_dry import set_price
from tests.integration.tx.conftest import node
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

__all__ = ["node"]  # the fixture
WHY = ("--reason", "the venue confirms a refund", "--by", "ann")


def order_lost(capsys: pytest.CaptureFixture[str], intent: TxIntent, *words: str) -> tuple[Any, str]:
    """The command's JSON, and what it was refused with."""
    capsys.readouterr()
    refused = ""
    try:
        call_command("wallet", "order-lost", intent.intent_key, *words, "--json")
    except CommandError as error:
        refused = str(error)
    out = capsys.readouterr().out
    intent.refresh_from_db()
    return json.loads(out) if out else None, refused


def ordered(rig: Rig, **fields: Any) -> TxIntent:
    intent = rig.intent(**fields)
    rig.submit()
    rig.mine()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "ordered"
    return intent


def test_an_order_that_is_pending_is_not_lost(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    intent = ordered(rig)
    said, refused = order_lost(capsys, intent, "--yes", *WHY)
    assert "not final yet" in said["against"][0]
    rig.mine(4)
    said, refused = order_lost(capsys, intent, "--yes", *WHY)
    assert "is pending at the venue" in said["against"][0]
    assert "not shown to be lost" in refused
    assert intent.state == "ordered"
    rig.finish()
    invariants.check(node)


def test_a_refund_that_nobody_can_read(rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Every node has lost the log; the venue has neither order nor trade."""
    intent = ordered(rig, slippage_pct=Decimal("0.01"))
    set_price(Decimal(200_000))
    rig.keep()
    node.faults.hide_logs = True
    rig.track()
    rig.mine(4)
    rig.track()
    assert intent.state == "ordered"
    said, _ = order_lost(capsys, intent)
    assert (said["ended"], said["against"], intent.state) == (False, [], "ordered")
    _, refused = order_lost(capsys, intent, "--yes")
    assert "reason of at least" in refused
    assert intent.state == "ordered"
    said, _ = order_lost(capsys, intent, "--yes", *WHY)
    assert (said["ended"], intent.state, intent.reason) == (True, "venue_cancelled", Reason.ORDER_LOST)
    assert intent.settled_at is not None
    assert Reservation.objects.get().state == "released"
    entry = AuditEntry.objects.get(action="intent_decided")
    assert (entry.actor, entry.subject, entry.reason) == ("ann", intent.intent_key, WHY[1])
    node.faults.hide_logs = False
    rig.finish()
    intent.refresh_from_db()
    assert (intent.state, TxIntent.objects.count()) == ("venue_cancelled", 1)
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_the_event_is_there(rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    intent = ordered(rig)
    rig.keep()
    rig.mine(4)
    said, _ = order_lost(capsys, intent, "--yes", *WHY)
    assert "in the venue's logs" in said["against"][0]
    rig.track()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "filled"
    _, refused = order_lost(capsys, intent, "--yes", *WHY)
    assert "no order that waits" in refused
    invariants.check(node)


def test_an_event_that_nodes_show_late_is_read_at_the_next_look(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    intent = ordered(rig)
    rig.keep()
    node.faults.hide_logs = True
    for _ in range(2):
        rig.mine(2 * READ_AGAIN)
        rig.track()
    node.faults.hide_logs = False
    said, _ = order_lost(capsys, intent)
    assert "the next look at the chain reads it" in said["against"][0]
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node)


def test_a_trade_that_the_book_does_not_know(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    intent = ordered(rig)
    rig.keep()
    rig.mine(4)
    node.faults.hide_logs = True
    said, _ = order_lost(capsys, intent, "--yes", *WHY)
    assert "holds trade 0 on BTC-USD" in said["against"][0]
    assert intent.state == "ordered"
    node.faults.hide_logs = False
    rig.finish()
    invariants.check(node)


def test_a_lost_close_is_asked_for_again(rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """It was executed: the one that is asked for again finds nothing to close, and the position ends."""
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.mine(4)
    node.faults.hide_logs = True
    said, _ = order_lost(capsys, close, "--yes", *WHY)
    assert (said["ended"], close.reason) == (True, Reason.ORDER_LOST)
    node.faults.hide_logs = False
    for _ in range(3):
        pass_a_minute()
        rig.submit()
        rig.mine(4)
    again = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert (again.state, again.reason) == ("no_op", Reason.CLOSED_ELSEWHERE)
    assert Position.objects.get().ended_by == "closed_elsewhere"
    assert len(invariants.executions(rig.wallet)) == 2
