"""What gas costs right now: base fee, tip and, on OP chains, the fee for data; asked in the batch of whoever asks more."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings

from execution_app.node import fees, rpc
from execution_app.venues import gas_oracle

HISTORY_BLOCKS = 20
_OWN_CALLS = 3
GWEI = 10**9


@lru_cache(maxsize=1)
def has_oracle() -> bool:
    """Whether this chain has the OP stack's oracle of data fees; asked once a process. Raises RpcFault or NodeError."""
    return rpc.read("eth_getCode", gas_oracle.ADDRESS, "latest") not in {"0x", None}


def calls() -> list[rpc.Call]:
    """The questions; their answers go to `read`. Raises RpcFault or NodeError where the chain is not known yet."""
    percentile = settings.ENVIRONMENT.tip_percentile
    asked: list[rpc.Call] = [
        ("eth_getBlockByNumber", ("latest", False)),
        ("eth_maxPriorityFeePerGas", ()),
        ("eth_feeHistory", (hex(HISTORY_BLOCKS), "latest", [percentile])),
    ]
    if has_oracle():
        asked += [
            rpc.eth_call(gas_oracle.ADDRESS, gas_oracle.call_upper_bound()),
            rpc.eth_call(gas_oracle.ADDRESS, gas_oracle.call_fee()),
        ]
    return asked


def read(answers: Sequence[Any]) -> fees.Market:
    """Raises RpcFault or NodeError where the node does not say its base fee or, having an oracle, the fee for data."""
    block, suggested, history = answers[:_OWN_CALLS]
    if isinstance(block, rpc.NodeError):
        raise block
    if block is None:
        raise rpc.RpcFault("the node knows no latest block")
    environment = settings.ENVIRONMENT
    tip_wei = fees.tip(
        _rewards(history),
        int(suggested, 16) if isinstance(suggested, str) else None,
        floor_wei=int(environment.min_tip_gwei * GWEI),
        ceiling_wei=int(environment.max_fee_per_gas_gwei * GWEI),
    )
    return fees.Market(int(block["baseFeePerGas"], 16), tip_wei, _l1_fee_wei(answers[_OWN_CALLS:]))


def look() -> fees.Market:
    """Ask for gas alone. Raises RpcFault or NodeError."""
    return read(rpc.read_batch(calls()))


def _rewards(history: object) -> list[int]:
    """The percentile's tip of each block that had transactions; none where the node keeps no history."""
    if not isinstance(history, dict):
        return []
    rewards, ratios = history.get("reward") or [], history.get("gasUsedRatio") or []
    return [int(reward[0], 16) for reward, ratio in zip(rewards, ratios, strict=False) if ratio and reward]


def _l1_fee_wei(answers: Sequence[Any]) -> int:
    """The first answer that is one; chains from before Fjord have no upper bound."""
    problem: rpc.NodeError | None = None
    for answer in answers:
        if not isinstance(answer, rpc.NodeError):
            return gas_oracle.read_fee(bytes.fromhex(str(answer).removeprefix("0x")))
        problem = answer
    if problem is not None:
        raise problem
    return 0
