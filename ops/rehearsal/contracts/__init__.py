"""The rehearsal venue's contracts and their committed artefacts.

`python -m ops.rehearsal.contracts` compiles them anew; running them needs no compiler.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from eth_utils.crypto import keccak

SOURCES = Path(__file__).parent
ARTEFACTS = SOURCES / "artefacts"
CONTRACTS = ("USDC", "PriceAggregator", "TradingStorage", "Trading")


@dataclass(frozen=True)
class Artefact:
    """A compiled contract."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    source_sha256: str
    compiler: str
    evm_version: str

    def creation_code(self, *arguments: object) -> bytes:
        """Return the data of the transaction that creates the contract."""
        (constructor,) = [entry for entry in self.abi if entry["type"] == "constructor"] or [{"inputs": []}]
        return self.bytecode + encode([_type(field) for field in constructor["inputs"]], arguments)

    def call(self, function: str, *arguments: object) -> bytes:
        """Return the call data of a function."""
        types = [_type(field) for field in self._entry("function", function)["inputs"]]
        return self.selector(function) + encode(types, arguments)

    def selector(self, function: str) -> bytes:
        return function_abi_to_4byte_selector(self._entry("function", function))

    def topic(self, event: str) -> bytes:
        return event_abi_to_log_topic(self._entry("event", event))

    def _entry(self, kind: str, name: str) -> Any:
        (entry,) = (entry for entry in self.abi if entry["type"] == kind and entry["name"] == name)
        return entry


@cache
def artefact(name: str) -> Artefact:
    """Load a committed artefact, one of CONTRACTS."""
    return from_json(name, json.loads((ARTEFACTS / f"{name}.json").read_text("utf-8")))


def from_json(name: str, stored: dict[str, Any]) -> Artefact:
    return Artefact(name, **(stored | {"bytecode": bytes.fromhex(stored["bytecode"][2:])}))


@cache
def bytecode_hash() -> str:
    """Tell one set of compiled contracts from another; comments and layout do not count."""
    return "0x" + keccak(b"".join(keccak(artefact(name).bytecode) for name in CONTRACTS)).hex()


def _type(field: dict[str, Any]) -> str:
    kind = str(field["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in field['components'])}){kind.removeprefix('tuple')}"
