"""A node in the place of the stack's, behind a relay that fails on demand; and the rehearsal node's own switches.

The stack's node is ended in an orderly way and kept away; its state is copied, the copy runs on another port, and
the relay listens where the stack asks. At the end what the copy mined goes back. Whoever kills a drill with SIGKILL
keeps it from doing so: the chain then lacks what was mined meanwhile, and the stack halts.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
from django.conf import settings

from ops.rehearsal.parts import Anvil
from ops.rehearsal.parts.part import PartError
from ops.rehearsal.rpc import Node, NodeRefusedError, NodeUnreachableError
from ops.rollout.drills.embedded import EmbeddedParts
from ops.rollout.drills.parts import NODE, Parts
from ops.rollout.drills.relay import Relay
from ops.rollout.drills.report import CannotRun, Failed, NotInjected

ANSWERS_WITHIN_S = 30.0
LOOK_BACK = 20  # blocks by which the time between two is measured
POLL_S = 0.05


def require_embedded(parts: Parts) -> EmbeddedParts:
    """Raises CannotRun where the node is none of the stack's own: it is somebody else's, and cannot be harmed."""
    if not isinstance(parts, EmbeddedParts):
        raise CannotRun("the node of a compose stack is outside of it; this drill needs `make run`'s own")
    url = urlsplit(node_url())
    if NODE not in parts.names() or url.hostname != "127.0.0.1" or not url.port:
        raise CannotRun("BASE_RPC_URL leads to a node that is none of this stack's processes")
    return parts


def node_url() -> str:
    return settings.ENVIRONMENT.rpc_urls[0]


class StandIn:
    """Between `begin` and `end` the stack asks `relay`."""

    def __init__(self, parts: EmbeddedParts, folder: Path) -> None:
        self._parts, self._folder = parts, folder
        self._home = folder / "chain"
        self._undo = ExitStack()
        self.relay: Relay
        self.node: Node

    def begin(self) -> None:
        """Raises NotInjected."""
        port = int(urlsplit(node_url()).port or 0)
        block_time_s = _block_time_s(self._parts)
        copy = self._folder / "drill-chain"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(self._parts.bring_back, NODE)
            self._parts.take_down(NODE)
            shutil.copyfile(self._home / "state.json", copy / "state.json")
            anvil = Anvil(copy, tools=self._folder / "tools", block_time_s=block_time_s)
            undo.callback(self._give_back, copy)
            try:
                anvil.start()
            except PartError as error:
                raise NotInjected(f"no node in the place of the stack's: {error}") from error
            undo.callback(anvil.stop)
            self.relay = undo.enter_context(Relay(port, anvil.port))
            self.node = Node(anvil.url)
            self._undo = undo.pop_all()

    def end(self) -> None:
        """The stack's own node again, with all that was mined meanwhile. Safe to repeat. Raises Failed."""
        self._undo.close()
        await_blocks(Node(node_url()))

    def _give_back(self, copy: Path) -> None:
        fresh = self._home / "state.drill.json"
        shutil.copyfile(copy / "state.json", fresh)
        fresh.replace(self._home / "state.json")
        (self._home / "state.good.json").unlink(
            missing_ok=True
        )  # it is older, and would be taken for the last good
        shutil.rmtree(copy)


def _block_time_s(parts: EmbeddedParts) -> float:
    words = psutil.Process(int(parts.identities()["anvil"].removeprefix("pid "))).cmdline()
    try:
        return float(words[words.index("--block-time") + 1])
    except (ValueError, IndexError) as error:
        raise NotInjected("the node mines by no clock of its own") from error


def ask(node: Node, method: str, *params: Any) -> Any:
    """Raises Failed."""
    try:
        return node.request(method, *params)
    except (NodeUnreachableError, NodeRefusedError) as error:
        raise Failed(f"the node: {error}") from error


def height(node: Node) -> int:
    return int(ask(node, "eth_blockNumber"), 16)


def stop_mining(node: Node) -> Callable[[], None]:
    """It answers and mines nothing; returns what makes it mine again, in whole seconds. Raises NotInjected."""
    head = height(node)
    newest, older = (
        int(ask(node, "eth_getBlockByNumber", hex(number), False)["timestamp"], 16)
        for number in (head, max(0, head - LOOK_BACK))
    )
    again_s = max(1, round((newest - older) / LOOK_BACK))
    ask(node, "evm_setIntervalMining", 0)
    head = height(node)
    time.sleep(2 * again_s)
    if height(node) != head:
        ask(node, "evm_setIntervalMining", again_s)
        raise NotInjected("the node goes on mining")
    return lambda: ask(node, "evm_setIntervalMining", again_s)


def await_blocks(node: Node) -> None:
    """Until it answers and mines. Raises Failed."""
    deadline_s = time.monotonic() + ANSWERS_WITHIN_S
    first: int | None = None
    while True:
        try:
            now = node.number("eth_blockNumber")
            first = now if first is None else first
            if now > first:
                return
            problem = f"it stays at block {now}"
        except (NodeUnreachableError, NodeRefusedError) as error:
            problem = str(error)
        if time.monotonic() > deadline_s:
            raise Failed(f"the node is not back {ANSWERS_WITHIN_S:g} s after the fault: {problem}")
        time.sleep(POLL_S)
