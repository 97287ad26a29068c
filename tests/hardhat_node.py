"""Hardhat's EDR as a second kind of node: TEST_NODE=hardhat runs the tests on it instead of anvil.

It comes from npm as tests/hardhat/package-lock.json pins it, and nothing that npm could run is run. What tests ask of
anvil by names of its own is put into EDR's words here, and nowhere else; the engine talks to EDR as to any node.
"""

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from ops.rehearsal.parts import anvil_install
from ops.rehearsal.parts.anvil import CHAIN_ID, chain_id
from ops.rehearsal.parts.part import Part
from ops.rehearsal.parts.process import Command
from ops.rehearsal.rpc import Node
from tests import npm_pins

PINS = Path(__file__).resolve().parent / "hardhat"
CLI = Path("node_modules/hardhat/internal/cli/cli.js")
CONFIG = "hardhat.config.js"
MS = 1_000


class Hardhat(Part):
    """A chain with id 31337 that lives in memory; EDR finalises every block at once."""

    name: ClassVar[str] = "hardhat"
    program_name: ClassVar[str] = "node"

    def __init__(self, folder: Path, port: int | None = None, *, tools: Path) -> None:
        super().__init__(folder, port)
        self.tools = tools

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """A folder that looks like a project of its own, since Hardhat runs in nothing else."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.end_orphans()
        shutil.copyfile(PINS / CONFIG, self.folder / CONFIG)
        modules = self.folder / "node_modules"
        if not modules.is_symlink():
            modules.symlink_to(installed(self.tools) / "node_modules")

    def command(self) -> Command:
        tool = anvil_install.npm(installed(self.tools))
        # From the wheel npm is Node.js and a script; the machine's own npm finds node on the path.
        argv = (
            tool[0] if len(tool) > 1 else "node",
            str(CLI),
            "node",
            "--hostname",
            "127.0.0.1",
            "--port",
            str(self.port),
        )
        env = dict(os.environ) | {"HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"}
        return Command(argv, cwd=self.folder, env=env, stop_signal=self.stop_signal)

    def is_ready(self) -> bool:
        return chain_id(self.url) == CHAIN_ID

    def settle(self) -> None:
        """It would write every call into its log."""
        Node(self.url).request("hardhat_setLoggingEnabled", False)


def installed(tools: Path) -> Path:
    """The folder that holds what the lock pins, installed first when missing. Raises PartError."""
    return npm_pins.installed(PINS, tools)


def call(url: str, method: str, *params: Any) -> Any:
    """One call in anvil's words. Raises NodeRefusedError where EDR has no means for it, NodeUnreachableError without an answer."""
    node = Node(url)
    if method == "anvil_dropAllTransactions":
        for pending in node.request("eth_pendingTransactions"):
            node.request("hardhat_dropTransaction", pending["hash"])
        return None
    if method == "evm_setTime":
        return None  # taking the chain back takes the clock back, too
    if method == "evm_setIntervalMining":
        return node.request(method, *(seconds * MS for seconds in params))
    return node.request(method.replace("anvil_", "hardhat_"), *params)
