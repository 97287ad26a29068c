"""Reverts are named from data or message, and only from a bounded set."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from execution_app.venues.onchain import revert_name

ERROR = bytes.fromhex("08c379a0")


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (ERROR + encode(["string"], ["BELOW_MIN_POS"]), "BELOW_MIN_POS"),
        ("0x" + (ERROR + encode(["string"], ["Pausable: paused"])).hex(), "Pausable: paused"),
        (ERROR + encode(["string"], ["something else"]), "unknown_revert"),
        (ERROR + b"\xff" * 64, "unknown_revert"),
        (ERROR, "unknown_revert"),
        ("0x", "unknown_revert"),
        (b"", "unknown_revert"),
        ("0xdeadbeef", "unknown_revert"),
        ("execution reverted", "unknown_revert"),
        ("execution reverted: NO_TRADE", "NO_TRADE"),
        ("Execution reverted: NO_TRADE", "NO_TRADE"),
        ("execution reverted: said NO_TRADE", "unknown_revert"),
        (
            "Error: VM Exception while processing transaction: reverted with reason string 'WRONG_TP'",
            "WRONG_TP",
        ),
        ("nonce too low: execution reverted: NO_TRADE", None),
        ("insufficient funds for gas * price + value", None),
        ("", None),
    ],
)
def test_name(told, name):
    assert revert_name(told) == name


def test_custom_error_without_arguments():
    assert revert_name("0x" + keccak(text="HighSlippage()")[:4].hex()) == "HighSlippage"
