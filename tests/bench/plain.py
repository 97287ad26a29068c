"""What the bench calls in the venue's place: a contract that costs a node next to nothing."""

from pathlib import Path

import vyper
from eth_utils.address import to_canonical_address

from ops.rehearsal.rpc import Message, Node, Sender
from ops.rehearsal.venue import OWNER_KEY

SOURCE = Path(__file__).with_name("plain.vy")
CREATE_GAS = 4_000_000
FAR_FUTURE_S = 4_000_000_000  # until when its delegate may trade


def deploy(rpc_url: str, wallet_address: str) -> str:
    """The address of a new one, which knows this wallet as everybody's delegate. Needs a chain that mines."""
    made = vyper.compile_code(SOURCE.read_text("utf-8"), output_formats=["bytecode"])
    code = bytes.fromhex(made["bytecode"].removeprefix("0x"))
    argument = to_canonical_address(wallet_address).rjust(32, b"\0")
    (receipt,) = Sender(Node(rpc_url), OWNER_KEY).transact(Message(None, code + argument, CREATE_GAS))
    return str(receipt["contractAddress"])
