"""An increase by the trader's own hand: signed with their own key, and carried out by the operator for somebody else."""

import secrets
from decimal import Decimal

from execution_app.venues import messages, onchain
from execution_app.venues.messages import IncreaseMessage
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import Domain
from ops.rehearsal.contracts import artefact
from ops.rehearsal.rpc import Message, Node, Sender
from ops.rehearsal.venue import OPERATOR_KEY
from tests import real_parts
from tests.guarded import move_price
from tests.rig import Rig, rpc_call

BTC = onchain.PAIRS["BTC-USD"]
GAS = 1_000_000


def owner_increases(
    rig: Rig, usdc: int = 5, leverage_x: Decimal = Decimal(2), slot: int = 0, price: int = 101_000
) -> None:
    """Registered and executed, each in a block of its own, at this price; the trade's time goes on by some seconds."""
    move_price(price)
    deployed = real_parts.deployment
    order = IncreaseOrder(
        rig.trader.address, BTC, slot, Decimal(usdc), leverage_x, Decimal(100_000), Decimal(50)
    )
    rpc_call("evm_increaseTime", 30)
    at_s = int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    message = IncreaseMessage(order, (at_s + 300) * 1000, secrets.randbits(256))
    digest = messages.digest(Domain(31337, deployed.trading), message)
    signature = bytes(rig.owner.unsafe_sign_hash(digest).signature)
    call = artefact("Trading").call("executeIntent", 9, messages.encode(message), signature)
    rpc_call("evm_setAutomine", True)
    Sender(Node(real_parts.anvil.url), OPERATOR_KEY).transact(Message(deployed.trading, call, GAS))
    rpc_call("evm_setAutomine", False)
    rig.keep()
