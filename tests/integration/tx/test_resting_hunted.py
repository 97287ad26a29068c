"""Orders that rest beside everything else: what they may keep waiting, what may keep them, and what may hit another."""

from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import heads, venue_events
from execution_app.models import Position, TxIntent, VenueOrder, Wallet
from execution_app.node import quorum
from execution_app.states import Action
from execution_app.venues import onchain
from execution_app.venues.orders import Kind
from tests import invariants, real_parts
from tests.integration.tx.test_divergences import owner_sends
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import LIMIT, place, price, state, take_back
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call


def is_pending(order_id: int) -> bool:
    call = {"to": real_parts.deployment.storage, "data": "0x" + onchain.call_is_pending(order_id).hex()}
    return onchain.read_is_pending(bytes.fromhex(rpc_call("eth_call", call, "latest")[2:]))


def test_an_exit_from_a_trade_that_a_reorg_opened_anew_waits_for_none_of_them(rig: Rig, node: Proxy) -> None:
    """One that never filled opened nothing, and may rest for weeks."""
    rests = place(rig)
    opened = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    close = rig.intent(Action.CLOSE, position=Position.objects.get(), only_position=True)
    reorganise(1)
    rpc_call("evm_increaseTime", 30)
    rig.track()
    assert (state(opened), Position.objects.get().state) == ("ordered", "void")
    rig.keep()
    rig.track()
    assert state(opened) == "filled"
    rig.finish(3)
    assert (state(close), state(rests)) == ("no_op", "ordered")
    assert TxIntent.objects.get(intent_key=f"{close.intent_key}#2").state == "filled"
    assert list(Position.objects.order_by("id").values_list("state", flat=True)) == ["void", "closed"]
    invariants.check(node, drained=False)


def test_no_cancel_is_signed_for_what_its_owner_has_placed_in_the_slot_by_hand(rig: Rig, node: Proxy) -> None:
    """The chain is ahead of the book, and the trial of the call succeeds."""
    order = place(rig)
    price(95_000)
    rig.keep()
    price(100_000)
    theirs = onchain.OpenOrder(
        rig.trader.address, 1, True, Decimal(7), Decimal(2), Decimal(90_000), Decimal(1), kind=Kind.LIMIT
    )
    owner_sends(rig, onchain.encode_open(theirs))
    order_id = VenueOrder.objects.get(intent=order).order_id
    assert is_pending(order_id + 1)
    cancel = take_back(order)
    rig.submit()
    assert (state(cancel), cancel.nonce) == ("pending", None)
    rig.finish(3)
    assert (state(order), state(cancel)) == ("filled", "no_op")
    assert is_pending(order_id + 1), "and theirs rests"
    invariants.check(node)


def test_one_whose_end_nobody_tells_keeps_no_later_one_from_being_taken_back(rig: Rig, node: Proxy) -> None:
    lost = place(rig)
    price(95_000)
    rig.keep()
    price(100_000)
    node.faults.hide_logs = True
    rig.track()
    later = rig.intent(**LIMIT)
    rig.run()
    slots = VenueOrder.objects.values_list("limit_index", flat=True)
    assert (state(lost), state(later), list(slots)) == ("ordered", "ordered", [0, 0])
    cancel = take_back(later)
    rig.submit()
    assert state(cancel) == "pending_inclusion"
    node.faults.hide_logs = False
    rig.finish(3)
    assert (state(lost), state(later), state(cancel)) == ("filled", "venue_cancelled", "changed")
    invariants.check(node)


def test_an_end_behind_the_block_to_which_one_node_saw_it_rest_is_found(rig: Rig, node: Proxy) -> None:
    order = place(rig)
    price(95_000)
    rig.keep()
    rig.mine(4)
    behind = int(rpc_call("eth_blockNumber"), 16) - 1
    VenueOrder.objects.filter(intent=order).update(rested_to_block=behind)
    rig.track()
    rig.mine()
    rig.track()
    assert state(order) == "ordered"
    rig.track()
    assert state(order) == "filled"
    rig.finish()
    invariants.check(node)


@pytest.mark.parametrize("most", [1, 2])
def test_what_rests_keeps_nothing_younger_from_being_followed(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """However much rests: fills are seen, blocks that leave are noticed, what is final is settled, each rests in turn."""
    monkeypatch.setattr(heads, "BATCH", most)
    monkeypatch.setattr(venue_events, "BATCH", most)
    rests = [place(rig) for _ in range(3)]
    first = rig.intent(symbol="ETH-USD")
    rig.run()
    first.refresh_from_db()
    assert (first.state, first.settled_at is not None) == ("filled", True)
    second = rig.intent(symbol="ETH-USD")
    rig.submit()
    rig.mine()
    rig.track()
    assert state(second) == "ordered"
    reorganise(1)
    node.reset_pool()
    rig.track()
    assert state(second) == "pending_inclusion"
    rig.finish(2)
    assert state(second) == "filled"
    price(95_000)
    rig.keep()
    for _ in range(4):
        rig.mine()
        rig.track()
    assert {state(order) for order in rests} == {"filled"}
    rig.finish(2)
    invariants.check(node)


def test_taking_back_leaves_the_last_places_to_closes(rig: Rig, node: Proxy) -> None:
    rig.intent(symbol="ETH-USD")
    rig.run()
    orders = [place(rig) for _ in range(3)]
    Wallet.objects.update(max_in_flight=1)
    node.hold()
    cancels = [take_back(order, f"admin:take-back:{order.pk}") for order in orders]
    rig.submit()
    assert [state(cancel) for cancel in cancels] == ["pending_inclusion", "pending", "pending"]
    close = rig.intent(Action.CLOSE, symbol="ETH-USD")
    rig.submit()
    assert state(close) == "pending_inclusion"
    node.release("all")
    rig.finish(5)
    assert {state(one) for one in cancels} == {"changed"}
    assert state(close) == "filled"
    invariants.check(node)


def forgetful(node: Proxy, number: int) -> None:
    """The node shows nothing any more of blocks up to this one, as one that is pruned."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_getBlockByNumber":
            asked = str(request["params"][0])
            if asked.startswith("0x") and 0 < int(asked, 16) <= number:
                return {**answer, "result": None}
        if request["method"] == "eth_getLogs" and int(request["params"][0]["fromBlock"], 16) <= number:
            error = {"code": 4444, "message": "pruned history unavailable"}
            return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        return answer

    node.faults.tell = tell


def test_an_order_that_is_older_than_what_nodes_keep_stands_fills_and_settles(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quorum, "KEPT_BLOCKS", 10)
    monkeypatch.setattr(heads, "REST_TURNS", 1)
    monkeypatch.setattr(venue_events, "LOG_SPAN", 2)
    order = place(rig)
    placed_at = VenueOrder.objects.get().block_number
    rig.mine(20)
    rig.track()
    rig.track()
    forgetful(node, placed_at)
    rig.track()
    assert state(order) == "ordered", "nobody takes it for gone with a block that left"
    price(95_000)
    rig.finish(2)
    order.refresh_from_db()
    assert (order.state, order.settled_at is not None) == ("filled", True)


def test_an_old_order_whose_logs_nobody_has_keeps_nothing_else_from_being_followed(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venue_events, "LOG_SPAN", 2)
    monkeypatch.setattr(venue_events, "READ_AGAIN", 1)
    order = place(rig)
    rig.mine(30)
    price(95_000)
    rig.keep()
    price(100_000)
    VenueOrder.objects.update(rested_to_block=None)
    forgetful(node, VenueOrder.objects.get().block_number)
    market = rig.intent(symbol="ETH-USD")
    rig.run()
    market.refresh_from_db()
    assert (market.state, market.settled_at is not None) == ("filled", True)
    assert state(order) == "ordered"
    node.faults.tell = None
    rig.finish(6)
    assert state(order) == "filled"
    invariants.check(node)
