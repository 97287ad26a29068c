"""What an answer to a call looks like, as far as everybody takes it for granted who reads one. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from execution_app.node.faults import NodeError

# What a node that is well answers with a result: an error there is about the node, whatever its words.
FACTS = frozenset(
    {
        *("eth_getBlockByNumber", "eth_getTransactionReceipt", "eth_getTransactionCount", "eth_getBalance"),
        *("eth_getLogs", "eth_getCode"),
    }
)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+")


def is_sound(method: str, answer: Any) -> bool:
    """False for nonsense. Nothing, and a node's own error, are answers to whatever was asked."""
    shape = _SHAPES.get(method)
    return shape is None or answer is None or isinstance(answer, NodeError) or shape(answer)


def lack_a_fact(calls: Sequence[tuple[str, Any]], answers: Sequence[Any]) -> bool:
    """Whether there is an error for something that another node may have."""
    return any(
        isinstance(answer, NodeError) and method in FACTS
        for (method, _), answer in zip(calls, answers, strict=True)
    )


def _is_number(answer: Any) -> bool:
    return isinstance(answer, str) and _NUMBER.fullmatch(answer) is not None


def _is_data(answer: Any) -> bool:
    return isinstance(answer, str) and _DATA.fullmatch(answer) is not None


def _is_block(answer: Any) -> bool:
    if not isinstance(answer, dict) or not isinstance(answer.get("hash"), str):
        return False
    return _is_number(answer.get("number")) and _is_number(answer.get("timestamp"))


def _are_logs(answer: Any) -> bool:
    return isinstance(answer, list) and all(isinstance(entry, dict) for entry in answer)


# Receipts are looked at by whoever asks for them (engine/mined.py).
_SHAPES: dict[str, Callable[[Any], bool]] = {
    "eth_getBlockByNumber": _is_block,
    "eth_getTransactionCount": _is_number,
    "eth_getBalance": _is_number,
    "eth_estimateGas": _is_number,
    "eth_chainId": _is_number,
    "eth_call": _is_data,
    "eth_getCode": _is_data,
    "eth_getLogs": _are_logs,
}
