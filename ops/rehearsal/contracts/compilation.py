"""Compile the contracts. Needs Vyper, which is a development dependency only."""

import hashlib
import json
from typing import Any

import vyper
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle
from vyper.compiler.settings import Settings

from ops.rehearsal.contracts import ARTEFACTS, CONTRACTS, SOURCES

EVM_VERSION = "cancun"  # the first with transient storage; every current node has it


def compile_contract(name: str) -> dict[str, Any]:
    """Return what the artefact file of a contract holds."""
    bundle = FilesystemInputBundle([SOURCES])
    source = bundle.load_file(f"{name}.vy")
    if not isinstance(source, FileInput):
        raise TypeError(f"{name}.vy is not Vyper source")
    output = compile_from_file_input(
        source,
        input_bundle=bundle,
        settings=Settings(evm_version=EVM_VERSION),
        output_formats=["abi", "bytecode"],
        no_bytecode_metadata=True,
    )
    return {
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "source_sha256": source_sha256(),
        "compiler": f"vyper {vyper.__version__}",
        "evm_version": EVM_VERSION,
    }


def source_sha256() -> str:
    """Hash all sources as one: the contracts import each other."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.glob("*.vy")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def write_artefacts() -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    for name in CONTRACTS:
        text = json.dumps(compile_contract(name), indent=1, sort_keys=True) + "\n"
        (ARTEFACTS / f"{name}.json").write_text(text, "utf-8")
