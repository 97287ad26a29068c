"""Several slots of one wallet in one request: each has an end of its own, and none is worse off than alone."""

from decimal import Decimal

import pytest

from execution_app.engine import broadcast, reserve
from execution_app.gate import cap_rows, control
from execution_app.models import Reservation, TxIntent, TxSend, Wallet
from execution_app.node import rpc
from execution_app.states import CapName, CapScope, Origin, RestrictionKind
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

MANY = 5
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


def burst(rig: Rig) -> list[TxIntent]:
    return [rig.intent(symbol=SYMBOLS[number % 3]) for number in range(MANY)]


def signed(rig: Rig) -> list[TxIntent]:
    """Nonces and signatures are committed, and nothing has left."""
    intents = burst(rig)
    assert reserve.reserve(rig.wallet.pk) == MANY
    return intents


def ends(intents: list[TxIntent]) -> list[tuple[str, str]]:
    """State and the newest bytes' outcome, in the order in which they came."""
    found = []
    for intent in intents:
        intent.refresh_from_db()
        found.append((intent.state, intent.sends.get().outcome))
    return found


def assert_all_executed_once(
    rig: Rig, node: Proxy, intents: list[TxIntent], stop: Stop | None = None
) -> None:
    before = list(TxSend.objects.order_by("id").values_list("tx_hash", flat=True))
    rig.finish(3)
    assert [state for state, _ in ends(intents)] == ["filled"] * MANY
    assert [intent.nonce for intent in intents] == list(range(MANY))
    assert list(TxSend.objects.order_by("id").values_list("tx_hash", flat=True)) == before, "the same bytes"
    invariants.check(node, stops=[stop] if stop else [])


def test_a_batch_is_one_request_and_one_journal_entry_each(rig: Rig, node: Proxy) -> None:
    intents = burst(rig)
    rig.submit()
    assert (node.send_requests, len(node.log)) == (1, MANY)
    assert ends(intents) == [("pending_inclusion", "accepted")] * MANY
    assert_all_executed_once(rig, node, intents)


def test_a_lost_answer_leaves_every_item_unknown(rig: Rig, node: Proxy) -> None:
    intents = burst(rig)
    node.faults.lose_next = 1
    rig.submit()
    assert len(node.log) == MANY, "nothing is repeated at once"
    assert ends(intents) == [("sending", "unknown")] * MANY
    assert Wallet.objects.get().next_nonce == MANY
    assert_all_executed_once(rig, node, intents)


def test_what_a_lost_answer_was_about_is_unknown_alone(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two requests of one offer only the first is lost."""
    monkeypatch.setattr(rpc, "BATCH_LIMIT", 3)
    intents = signed(rig)
    node.faults.lose_next = 1
    broadcast.broadcast(rig.wallet.pk)
    assert len(node.log) == MANY
    assert ends(intents) == [("sending", "unknown")] * 3 + [("pending_inclusion", "accepted")] * 2
    assert_all_executed_once(rig, node, intents)


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        ("insufficient funds for gas * price + value: balance 1, tx cost 2", "insufficient_funds"),
        ("txpool is full", "pool_full"),
        ("the upstream sequencer is having a moment", "unknown"),
    ],
)
@pytest.mark.parametrize("at", [0, 2, MANY - 1])
def test_one_is_refused_among_accepted_ones(
    rig: Rig, node: Proxy, refusal: str, outcome: str, at: int
) -> None:
    intents = burst(rig)
    node.faults.refuse_nonce, node.faults.refusal = at, refusal
    rig.submit()
    wanted = [("pending_inclusion", "accepted")] * MANY
    wanted[at] = ("sending", outcome)
    assert ends(intents) == wanted
    node.faults.refuse_nonce = None
    assert_all_executed_once(rig, node, intents)


def test_a_stop_between_signatures_and_departure_parks_the_whole_batch(rig: Rig, node: Proxy) -> None:
    intents = signed(rig)
    imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    assert imposed.in_flight == []
    for _ in range(2):
        pass_a_minute()
        rig.submit()
        rig.track()
    assert not node.log
    assert ends(intents) == [("signed", "unoffered")] * MANY
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    assert_all_executed_once(rig, node, intents)


def test_a_crash_between_announcement_and_departure(rig: Rig, node: Proxy) -> None:
    """The whole batch is announced, and whoever announced it is gone: a stop names it, and the same bytes leave later."""
    intents = signed(rig)
    leased = broadcast._lease(rig.wallet.pk, None).sends
    assert len(leased) == MANY
    hashes = sorted(TxSend.objects.values_list("tx_hash", flat=True))
    imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    assert imposed.in_flight == hashes, "each may have left"
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    rig.submit()
    assert not node.log, "another may still be at it"
    pass_a_minute()
    rig.submit()
    assert sorted(offer.tx_hash for offer in node.log) == hashes
    assert_all_executed_once(rig, node, intents)


def test_caps_are_counted_within_a_batch(rig: Rig, node: Proxy) -> None:
    """Who comes first has the room, a smaller one behind a refused one still fits, and no nonce is left out."""
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal(35), by="test", reason="for the test")
    sizes = [Decimal(5), Decimal(5), Decimal(5), Decimal(5), Decimal("2.5"), Decimal("2.5")]
    intents = [rig.intent(collateral_usdc=size) for size in sizes]
    rig.submit()
    for intent in intents:
        intent.refresh_from_db()
    assert [intent.nonce for intent in intents] == [0, 1, 2, None, 3, None]
    assert [intent.reason for intent in intents if intent.nonce is None] == ["exposure_above_cap"] * 2
    assert node.send_requests == 1, "a cap that is summed makes no batch smaller"
    assert sum(Reservation.objects.values_list("notional_usdc", flat=True)) == Decimal(35)
    rig.finish(3)
    invariants.check(node)
