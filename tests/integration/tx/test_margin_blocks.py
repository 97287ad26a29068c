"""Changes of margin that nobody's intent owns, while their blocks leave the chain and come again: in the book where they stand."""

from decimal import Decimal

import pytest

from execution_app.engine import rounds
from execution_app.models import Correction, MarginChange, Position, TxIntent, TxReceipt, TxSend
from execution_app.states import Action
from execution_app.venues import calls
from execution_app.venues.calls import Margin
from tests import invariants, real_parts
from tests.integration.tx.test_divergences import BTC, opened
from tests.integration.tx.test_margin_combined import size
from tests.integration.tx.test_margin_intents import at_stake, held
from tests.integration.tx.test_margin_reorg import taken_back_with_its_opening
from tests.integration.tx.test_reorg import reorganise
from tests.integration.tx.test_resting import state
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

GWEI = 10**9


def signed_by_owner(rig: Rig, *ways: tuple[Margin, str]) -> list[str]:
    """Bytes that may be mined again after a reorg, and are the same transactions then."""
    first = int(rpc_call("eth_getTransactionCount", rig.owner.address, "latest"), 16)
    found = []
    for nonce, (way, amount) in enumerate(ways, first):
        order = {
            "type": 2,
            "chainId": 31337,
            "nonce": nonce,
            "gas": 1_000_000,
            "value": 0,
            "maxFeePerGas": 10 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            "to": real_parts.deployment.trading,
            "data": "0x" + calls.encode_update_margin(BTC, 0, way, Decimal(amount), [b""]).hex(),
        }
        found.append("0x" + bytes(rig.owner.sign_transaction(order).raw_transaction).hex())
    return found


def mined(rig: Rig, *raw: str) -> None:
    for one in raw:
        rpc_call("eth_sendRawTransaction", one)
    rig.mine()


def newest() -> dict[str, str]:
    found: dict[str, str] = rpc_call("eth_getBlockByNumber", "latest", False)
    return found


def where() -> list[str]:
    return list(MarginChange.objects.order_by("id").values_list("block_hash", flat=True))


@pytest.mark.parametrize("same_second", [False, True])
def test_a_part_that_was_closed_meanwhile_ends_no_trade_whose_margin_came_again_in_another_block(
    rig: Rig, node: Proxy, *, same_second: bool
) -> None:
    """What was closed is more than what was opened: without the margin nothing would seem to be left."""
    opened(rig)
    raw = signed_by_owner(rig, (Margin.DEPOSIT, "5"))
    moment = int(newest()["timestamp"], 16) + 20
    rpc_call("evm_setNextBlockTimestamp", moment)
    mined(rig, *raw)
    assert rounds.compare_positions() == 0
    assert held() == ("open", 10, 1)
    reorganise(1)
    node.reset_pool()
    rpc_call("evm_setNextBlockTimestamp", moment if same_second else moment + 1)
    mined(rig, *raw)
    again = newest()["hash"]
    assert where() != [again]
    rig.intent(Action.CLOSE, reduce_usdc=Decimal(6))
    rig.run()
    assert held()[:2] == ("open", 4)
    for _ in range(2):
        assert rounds.compare_positions() == 0
        assert held()[:2] == ("open", 4), "the venue has it still"
        assert where() == [again]
    assert MarginChange.objects.get().settled_at is not None
    rig.intent(Action.CLOSE)
    rig.finish(2)
    position = Position.objects.get()
    assert (position.state, position.ended_by, position.collateral_usdc) == ("closed", "close", 10)
    assert not Correction.objects.exists()
    invariants.check(node)


def test_several_of_one_block_come_again_in_the_order_in_which_they_do(rig: Rig, node: Proxy) -> None:
    opened(rig)
    raw = signed_by_owner(rig, (Margin.DEPOSIT, "5"), (Margin.WITHDRAW, "2"))
    mined(rig, *raw)
    rounds.compare_positions()
    assert held()[:2] == ("open", 8)
    reorganise(1)
    node.reset_pool()
    mined(rig, raw[0])
    first = newest()["hash"]
    assert rounds.compare_positions() == 0
    assert (held(), where()) == (("open", 10, 1), [first]), "the other has not come again"
    mined(rig, raw[1])
    assert rounds.compare_positions() == 0
    assert (held()[:2], where()) == (("open", 8), [first, newest()["hash"]])
    rig.mine(5)
    rounds.compare_positions()
    assert not MarginChange.objects.filter(settled_at=None).exists()
    assert not Correction.objects.exists()
    invariants.check(node)


def seen_before_its_receipt(rig: Rig, node: Proxy) -> TxIntent:
    """The comparison takes it for the owner's: what was asked of the row before a reorg is of the row behind it."""
    change = taken_back_with_its_opening(rig, node, "5")
    rig.keep()
    rig.track()
    node.release("all")
    pass_a_minute()
    rig.track()
    rig.mine()
    assert rounds.compare_positions() == 0
    row = MarginChange.objects.get()
    assert (row.intent, row.position_id, size(again())) == (None, again().pk, (10, 1))
    return change


def again() -> Position:
    return Position.objects.get(state="open")


def assert_it_is_there_once(rig: Rig, node: Proxy, change: TxIntent) -> None:
    rig.finish(3)
    row, receipt = MarginChange.objects.get(), TxReceipt.objects.get(intent=change, canonical=True)
    assert (row.intent_id, row.block_number, row.block_hash) == (
        *(change.pk, receipt.block_number),
        receipt.block_hash,
    )
    assert row.settled_at is not None
    assert (state(change), size(again()), round(at_stake(), 5)) == ("changed", (10, 1), 15)
    assert rounds.compare_positions() == 0
    assert not Correction.objects.exists()
    invariants.check(node)


def test_ours_that_was_seen_before_its_receipt_is_of_the_block_in_which_that_is(
    rig: Rig, node: Proxy
) -> None:
    """Its block leaves before anybody has asked for its receipt."""
    change = seen_before_its_receipt(rig, node)
    raw = TxSend.objects.get(tx_hash=MarginChange.objects.get().tx_hash).raw
    reorganise(1)
    node.reset_pool()
    rpc_call("evm_increaseTime", 30)
    mined(rig, "0x" + bytes(raw).hex())
    rig.track()
    row, receipt = MarginChange.objects.get(), TxReceipt.objects.get(intent=change, canonical=True)
    assert (row.intent_id, row.block_hash) == (change.pk, receipt.block_hash)
    assert (state(change), size(again())) == ("changed", (10, 1))
    assert rounds.compare_positions() == 0, "its time is that of its block"
    assert_it_is_there_once(rig, node, change)


def test_ours_that_left_the_chain_unread_leaves_the_book_at_once(rig: Rig, node: Proxy) -> None:
    change = seen_before_its_receipt(rig, node)
    reorganise(1)
    node.reset_pool()
    rounds.compare_positions()
    assert (size(again()), MarginChange.objects.count()) == ((5, 2), 0)
    assert_it_is_there_once(rig, node, change)


def test_ours_is_made_final_by_its_receipt_alone(rig: Rig, node: Proxy) -> None:
    """A row that is final takes no intent any more."""
    change = seen_before_its_receipt(rig, node)
    rig.mine(5)
    for _ in range(2):
        assert rounds.compare_positions() == 0
    row = MarginChange.objects.get()
    assert (row.intent, row.settled_at) == (None, None)
    assert_it_is_there_once(rig, node, change)
