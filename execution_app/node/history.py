"""What a wallet did on the chain, whoever holds its key: counts that all nodes agree on, and transactions by nonce."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
import structlog
from eth_utils.crypto import keccak

from execution_app.node import quorum, rpc

log = structlog.get_logger(__name__)
_DYNAMIC_FEE = "0x2"  # EIP-1559; the only kind that we sign
# What nodes say of states that they keep no more: geth, nethermind and besu, reth, erigon, hardhat, anvil.
_FORGOTTEN = re.compile(
    r"missing trie node|historical state|no state available|state .*(not available|unavailable)|prun(ed|ing)"
    r"|blockoutofrange|block out of range",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Counts:
    """Transactions of one wallet, as every endpoint says.

    `final` is the count at the newest block that is final for all of them,
    `latest` and `pending` are the highest that any endpoint said.
    """

    final_block: int
    final_hash: str
    final: int
    latest: int
    pending: int
    endpoints: int


@dataclass(frozen=True)
class Found:
    """A mined transaction. `raw` is blank where its bytes cannot be made of what the node says."""

    tx_hash: str
    nonce: int
    to: str
    value_wei: int
    gas_limit: int
    data: bytes
    max_fee_wei: int
    tip_wei: int
    raw: bytes


def counts(address: str) -> Counts:
    """Ask every endpoint. Raises RpcFault unless all answer and agree on what is final, NodeError as they say it."""
    endpoints = rpc.endpoints()
    finals = [_told(endpoint.call("eth_getBlockByNumber", "finalized", False)) for endpoint in endpoints]
    number = min(int(block["number"], 16) for block in finals)
    hashes: set[str] = set()
    said_by: list[tuple[int, ...]] = []
    for endpoint in endpoints:
        block, *said = endpoint.batch(
            [
                ("eth_getBlockByNumber", (hex(number), False)),
                *(("eth_getTransactionCount", (address, tag)) for tag in (hex(number), "latest", "pending")),
            ]
        )
        hashes.add(_told(block)["hash"])
        said_by.append(tuple(int(_told(answer), 16) for answer in said))
    final, latest, pending = zip(*said_by, strict=True)
    if len(hashes) != 1 or len(set(final)) != 1:
        raise rpc.RpcFault(
            f"the endpoints do not agree on block {number} or on what {address} did until then"
        )
    return Counts(number, hashes.pop(), final[0], max(latest), max(pending), len(endpoints))


def has_receipt(hashes: list[str]) -> str:
    """The first of these hashes that any endpoint has a receipt of; blank where all of them say that there is none.

    Raises RpcFault or NodeError unless every endpoint answers.
    """
    for endpoint in rpc.endpoints():
        answers = endpoint.batch([("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in hashes])
        for tx_hash, answer in zip(hashes, answers, strict=True):
            if isinstance(answer, rpc.NodeError):
                raise answer
            if answer is not None:
                return tx_hash
    return ""


def find(address: str, nonce: int, final_block: int) -> Found | None:
    """The transaction that consumed this nonce up to this block; None where no node can still tell.

    Looks back from there in steps that double, then bisects, by the count at past blocks: nodes forget old states, so
    little that is older is asked than has to be, and what they have forgotten counts as before. Raises RpcFault.
    """
    # The count is above `nonce` at `high`; in the end it is not at `low`, or nobody knows what it was there.
    low, high = final_block - 1, final_block
    while low >= 0 and _is_past(address, nonce, low):
        low, high = max(-1, low - 2 * (high - low)), low
    while high - low > 1:
        middle = (low + high) // 2
        if _is_past(address, nonce, middle):
            high = middle
        else:
            low = middle
    return _shown(address, nonce, high)


def _shown(address: str, nonce: int, block_number: int) -> Found | None:
    """What the block has of it, as every endpoint that shows the block says, or else as a majority does.

    Believed alone, one that makes something up would have an order of ours called lost, or foreign and sent again.
    """
    shown: dict[Any, Found | None] = {}
    votes: Counter[Any] = Counter()
    for position, (block,) in quorum.ask_each([("eth_getBlockByNumber", (hex(block_number), True))]):
        try:
            mine = (tx for tx in block["transactions"] if tx["from"].lower() == address.lower())
            tx = next((tx for tx in mine if int(tx["nonce"], 16) == nonce), None)
            found = None if tx is None else _read(tx)
            # Not by the hash alone, under which one could show anything; nodes write fees and seals in several ways.
            key = None if found is None else (found.tx_hash, found.to.lower(), found.data, found.value_wei)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            log.warning("a block is not shown", block=block_number, endpoint=position, problem=str(problem))
            continue
        votes[key] += 1
        known = shown.get(key)
        if known is None or not known.raw:
            shown[key] = found
    if not votes:
        raise rpc.RpcFault(f"block {block_number} is not shown")
    best, count = votes.most_common(1)[0]
    if len(votes) > 1 and count < quorum.needed():
        raise rpc.RpcFault(f"the endpoints do not agree on what block {block_number} has of {address}")
    return shown[best]


def _is_past(address: str, nonce: int, block_number: int) -> bool:
    """Whether the nonce was consumed by then, as the middle one of all endpoints says; no where all have forgotten it.

    Raises RpcFault where none answers and one of them might: what is only away for a moment is not forgotten.
    """
    counts: list[int] = []
    away = ""
    for endpoint in rpc.awake():
        try:
            (answer,) = rpc.ask(endpoint, [("eth_getTransactionCount", (address, hex(block_number)))])
        except rpc.RpcFault as fault:
            answer = fault.__cause__ if isinstance(fault.__cause__, rpc.NodeError) else fault
        if isinstance(answer, str):
            counts.append(int(answer, 16))
        elif not _FORGOTTEN.search(str(answer)):
            away = str(answer)
    if counts:
        return sorted(counts)[len(counts) // 2] > nonce
    if away:
        raise rpc.RpcFault(f"no endpoint counts transactions at block {block_number}: {away[:200]}")
    return False


def _read(tx: dict[str, Any]) -> Found:
    return Found(
        tx_hash=tx["hash"].lower(),
        nonce=int(tx["nonce"], 16),
        to=tx.get("to") or "",
        value_wei=int(tx["value"], 16),
        gas_limit=int(tx["gas"], 16),
        data=bytes.fromhex(tx["input"][2:]),
        max_fee_wei=int(tx.get("maxFeePerGas") or tx["gasPrice"], 16),
        tip_wei=int(tx.get("maxPriorityFeePerGas") or "0x0", 16),
        raw=_raw(tx),
    )


def _raw(tx: dict[str, Any]) -> bytes:
    """The signed bytes, made of the fields and held against the hash."""
    if tx.get("type") != _DYNAMIC_FEE or tx.get("accessList"):
        return b""
    numbers = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas")
    seal = (int(tx.get("yParity") or tx["v"], 16), int(tx["r"], 16), int(tx["s"], 16))
    to = bytes.fromhex((tx.get("to") or "0x")[2:])
    fields = [
        *(int(tx[name], 16) for name in numbers),
        *(to, int(tx["value"], 16), bytes.fromhex(tx["input"][2:]), []),
        *seal,
    ]
    raw: bytes = b"\x02" + rlp.encode(fields)
    return raw if "0x" + keccak(raw).hex() == tx["hash"].lower() else b""


def _told(answer: Any) -> Any:
    if isinstance(answer, rpc.NodeError):
        raise answer
    if answer is None:
        raise rpc.RpcFault("a node does not know what was asked for")
    return answer
