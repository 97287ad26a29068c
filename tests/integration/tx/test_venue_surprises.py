"""The venue's ids and slots are not ours: reorgs deal them out anew, and owners close their own trades."""

from decimal import Decimal

from eth_account import Account

from execution_app.engine import rounds
from execution_app.models import Position, TxIntent
from execution_app.states import Action
from execution_app.venues import onchain
from tests import invariants, real_parts
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


def finish(rig: Rig) -> None:
    pass_a_minute()
    rig.track()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()


def owner_closes(rig: Rig) -> None:
    """The trader ends their BTC trade with their own key; no intent of ours is about it."""
    trading = real_parts.deployment.trading
    fee = rpc_call("eth_call", {"to": trading, "data": "0x" + onchain.call_execution_fee().hex()}, "latest")
    order = onchain.CloseOrder(rig.trader.address, onchain.PAIRS["BTC-USD"], 0, Decimal(5), Decimal(1))
    rpc_call("anvil_impersonateAccount", rig.trader.address)
    rpc_call("evm_setAutomine", True)
    rpc_call(
        "eth_sendTransaction",
        {
            "from": rig.trader.address,
            "to": trading,
            "data": "0x" + onchain.encode_close(order).hex(),
            "value": hex(int(fee, 16)),
            "gas": hex(2_000_000),
        },
    )
    rpc_call("evm_setAutomine", False)
    rig.mine()  # the node mines by itself only a moment later
    rig.keep()


def test_a_trade_in_the_slot_of_one_that_its_owner_closed(rig: Rig) -> None:
    rig.intent()
    rig.run()
    owner_closes(rig)
    rpc_call("evm_increaseTime", 30)  # the second of its opening tells a trade from the next in its slot
    again = rig.intent()
    rig.run()
    again.refresh_from_db()
    assert again.settled_at is not None
    assert list(Position.objects.order_by("id").values_list("trade_index", "state")) == [
        (0, "closed"),
        (0, "open"),
    ]
    invariants.check()


def test_an_order_id_that_a_reorg_gave_to_another_order(rig: Rig) -> None:
    """Both wallets wait for one look at the chain; a pass that fails here would fail for ever."""
    wallet = rig.equip(Account.create(), tg_user_id=124)
    first = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    second = rig.intent(trader=wallet.trader, wallet=wallet)
    rounds.submit(wallet.pk)
    order_id = TxIntent.objects.get(pk=first.pk).venue_order.order_id
    reorganise(1)
    rig.mine()
    rig.track()
    assert TxIntent.objects.get(pk=first.pk).state == "pending_inclusion"
    assert TxIntent.objects.get(pk=second.pk).venue_order.order_id == order_id
    finish(rig)
    assert {intent.state for intent in TxIntent.objects.all()} == {"filled"}
    invariants.check()


def test_a_close_of_a_trade_that_a_reorg_opened_anew(rig: Rig, node: Proxy) -> None:
    """The close was signed for the first opening; on the chain it ends the second."""
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    reorganise(1)
    rpc_call("evm_increaseTime", 30)
    rig.track()
    rig.keep()
    rig.track()
    node.release()
    finish(rig)
    close.refresh_from_db()
    assert close.state == "filled"
    assert list(Position.objects.order_by("opened_at").values_list("state", flat=True)) == ["void", "closed"]
    invariants.check(node)
