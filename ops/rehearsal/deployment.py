"""The record of where the rehearsal venue is, and whether a chain is the one it tells of."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eth_utils.crypto import keccak

from ops.rehearsal.contracts import bytecode_hash
from ops.rehearsal.rpc import Node


class VenueMismatchError(RuntimeError):
    """The recorded deployment is not the one on this chain; nothing may trade until someone decides."""


@dataclass(frozen=True)
class Contracts:
    """What a trader deals with; addresses."""

    trading: str
    storage: str
    usdc: str


@dataclass(frozen=True)
class Deployment(Contracts):
    """Where the venue is. `code_hash` is of the deployed code, `bytecode_hash` of what it was made from."""

    chain_id: int
    genesis_hash: str
    deployed_at_block: int
    price_aggregator: str
    owner: str
    operator: str
    code_hash: str
    bytecode_hash: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Deployment":
        """Raises ValueError where the text is not what `to_json` writes."""
        try:
            return cls(**json.loads(text))
        except TypeError as fault:
            raise ValueError(f"not a deployment: {fault}") from fault


def load(path: Path) -> Deployment:
    """Read a recorded deployment. Raises VenueMismatchError where the file is not one."""
    try:
        return Deployment.from_json(path.read_text("utf-8"))
    except ValueError as fault:
        raise VenueMismatchError(f"{path} is damaged ({fault}); `make clean` starts anew") from fault


def check(node: Node, deployment: Deployment, path: Path) -> None:
    """Raise VenueMismatchError unless the deployment recorded at `path` is on the node's chain."""
    remedy = f"{path} and the chain at {node.url} disagree: "
    genesis_hash = node.genesis_hash()
    if deployment.chain_id != node.number("eth_chainId") or deployment.genesis_hash != genesis_hash:
        raise VenueMismatchError(
            f"{remedy}recorded genesis {deployment.genesis_hash}, found {genesis_hash}. Bring that chain's state"
            " back, or start anew with `make clean`."
        )
    contracts = (deployment.trading, deployment.storage, deployment.usdc, deployment.price_aggregator)
    if code_hash(node, contracts) != deployment.code_hash:
        raise VenueMismatchError(
            f"{remedy}the recorded contracts are not on it. Bring the chain's state back, or start anew with"
            " `make clean`."
        )
    if deployment.bytecode_hash != bytecode_hash():
        raise VenueMismatchError(f"{remedy}its contracts are of another version. `make clean` starts anew.")


def record(path: Path, deployment: Deployment) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(deployment.to_json())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def code_hash(node: Node, addresses: Sequence[str]) -> str:
    codes = [node.request("eth_getCode", address, "latest") for address in addresses]
    return "0x" + keccak(b"".join(keccak(hexstr=code) for code in codes)).hex()
