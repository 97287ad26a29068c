"""A stop that is not kept, and a position that is closed behind our back."""

import time
from decimal import Decimal

from execution_app.venues import onchain
from ops.rehearsal.rpc import Message, Node, Sender
from ops.rehearsal.venue import TERMS
from tests.alerts.ground import TRADER_KEY, Ground
from tests.e2e.stack import wait_until

# Later than what may still be on its way when a stop is asked for.
LATER_S = 7.0
ORDER_GAS = 600_000


def stopped(ground: Ground) -> None:
    """A stop; and in its history a first broadcast after it, which no code of ours writes: the row is planted."""
    ledger = ground.ledger
    ledger.injected("VantaStopHolds", "POST /admin/emergency-stop, and nobody releases it")
    ground.post_admin("POST")
    try:
        time.sleep(LATER_S)
        ledger.injected("VantaNotStopped", "a planted line of history: a first broadcast under the stop")
        ground.stack.sql(
            "INSERT INTO intent_transitions (intent_id, from_state, to_state, why, by)"
            " SELECT id, 'signed', 'sending', 'planted', 'test' FROM tx_intents ORDER BY id DESC LIMIT 1 RETURNING id"
        )
        ground.await_told("VantaNotStopped", "VantaStopHolds", within_s=180)
    finally:
        ground.post_admin("DELETE")
    ground.await_live()
    ground.await_over(150, but=ledger.open() - {"VantaNotStopped", "VantaStopHolds"})


def elsewhere(ground: Ground) -> None:
    """The trader closes a trade with their own key, and then the chain stands still, so that it does not get final."""
    stack, ledger = ground.stack, ground.ledger
    ground.await_state(ground.signal(symbol="ETH-USD"), "filled")
    (row,) = stack.sql(
        "SELECT pair_index, trade_index, collateral_usdc FROM positions"
        " WHERE state = 'open' AND symbol = 'ETH-USD' ORDER BY id DESC LIMIT 1"
    )
    pair, index, collateral_usdc = int(row[0]), int(row[1]), Decimal(row[2])
    trader = stack.env["TRADER_ADDRESS"]
    order = onchain.CloseOrder(trader, pair, index, collateral_usdc, Decimal(1))
    view = onchain.call_open_trade(trader, pair, index)
    node = Node(ground.node_url)

    def is_there() -> bool:
        return onchain.read_open_trade(node.call(ground.deployment.storage, view)) is not None

    message = Message(
        ground.deployment.trading, onchain.encode_close(order), ORDER_GAS, TERMS["execution_fee_wei"]
    )
    ledger.injected(
        "VantaPositionDrift", "the trader closes a trade by hand, and the chain stands still after it"
    )
    Sender(node, TRADER_KEY).transact(message)
    wait_until(lambda: not is_there(), 30, "the keeper executes the close")
    ground.rpc("evm_setIntervalMining", 0)
    try:
        ground.await_told("VantaPositionDrift", within_s=75)
    finally:
        ground.rpc("evm_setIntervalMining", 1)
    ground.await_over(90, but=ledger.open() - {"VantaPositionDrift"})
