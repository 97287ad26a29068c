"""The embedded EVM node: Foundry's anvil over a state file that survives a kill."""

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from ops.rehearsal.parts.anvil_install import installed
from ops.rehearsal.parts.part import Part
from ops.rehearsal.parts.process import Command

CHAIN_ID = 31337
READY_TIMEOUT_S = 2
# One parse of the state per copy: a long chain is copied less often, so that copying stays below 5 % of a core.
COPY_EVERY_S = 3.0
COPY_SHARE = 20
# Of how many blocks a node that writes nothing remembers the state, at some 100 kB each.
STATES_KEPT = 1_500


class Anvil(Part):
    """A chain with id 31337 that mines every `block_time_s` and writes its state every second.

    A SIGKILL loses what was mined since the last write, one second at most. A state file torn by the kill, or
    with accounts ahead of its blocks, is replaced at the next start by the last good copy, which `keep_copy` makes.
    Only tests pass durable=False: such a chain ends with its process, and nothing of it is written,
    which otherwise costs a file for every block, and all of the state every second.
    """

    name: ClassVar[str] = "anvil"
    program_name: ClassVar[str] = "anvil"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        tools: Path,
        block_time_s: float | None = 2,
        durable: bool = True,
    ) -> None:
        """`tools` is where the binary is, or gets installed; no block time means a block per transaction."""
        super().__init__(folder, port)
        self.tools = tools
        self.block_time_s = block_time_s
        self.durable = durable
        self._copied_at_s = 0.0
        self._copy_cost_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def copy(self) -> Path:
        return self.folder / "state.good.json"

    @property
    def old_states(self) -> Path:
        """Where the node puts states of blocks that are not among its newest; it never looks there after a restart."""
        return self.folder / "old-states"

    def prepare(self) -> None:
        """Make sure that the state can be read; fall back to the copy, loudly, when it cannot."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.end_orphans()
        shutil.rmtree(self.old_states, ignore_errors=True)
        if not self.state.exists() and not self.copy.exists():
            return
        if self.state.exists() and is_whole(self.state.read_bytes()):
            self._keep_one_genesis()
            return
        if self.state.exists():
            torn = self.folder / f"state.torn.{int(time.time())}.json"
            self.state.rename(torn)
            print(f"chain: THE STATE FILE IS TORN; kept as {torn.name}", flush=True)
        if self.copy.exists() and is_whole(self.copy.read_bytes()):
            shutil.copyfile(self.copy, self.state)
            self._keep_one_genesis()
            age_s = int(time.time() - self.copy.stat().st_mtime)
            print(
                f"chain: going on from the last good copy, {age_s} s old: blocks since then are lost",
                flush=True,
            )
        else:
            print("chain: THERE IS NO GOOD COPY EITHER; the chain starts from its genesis", flush=True)

    def command(self) -> Command:
        argv = [str(installed(self.tools)), "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--chain-id", str(CHAIN_ID), "--slots-in-an-epoch", "1"]
        if self.durable:
            # Its own place for old states is in the home of whoever runs it, for ever.
            argv += [
                "--state",
                self.state.name,
                "--state-interval",
                "1",
                "--cache-path",
                self.old_states.name,
            ]
        else:
            argv += ["--prune-history", str(STATES_KEPT)]
        if self.block_time_s is not None:
            argv += ["--block-time", str(self.block_time_s)]
        return Command(tuple(argv), cwd=self.folder, env=dict(os.environ), stop_signal=self.stop_signal)

    def is_ready(self) -> bool:
        return chain_id(self.url) == CHAIN_ID

    def keep_copy(self) -> bool:
        """Keep a copy of the state file when it is whole; call often, it does the work only when due."""
        now_s = time.monotonic()
        if now_s - self._copied_at_s < max(COPY_EVERY_S, COPY_SHARE * self._copy_cost_s):
            return False
        try:
            content = self.state.read_bytes()
        except FileNotFoundError:
            return False
        whole = is_whole(content)  # Not while the node is writing it: then the next call finds it whole.
        if whole:
            fresh = self.copy.with_suffix(".partial")
            fresh.write_bytes(content)
            fresh.replace(self.copy)
            self._copied_at_s = time.monotonic()
        self._copy_cost_s = time.monotonic() - now_s
        return whole

    def _keep_one_genesis(self) -> None:
        """Drop every block 0 but the first.

        The node makes a new one at each start and writes it down beside the older ones, in no
        order; reading them back, it answers any of them as the genesis, so its hash would tell nothing.
        """
        state = json.loads(self.state.read_bytes())
        numbers = [int(block["header"]["number"], 16) for block in state["blocks"]]
        if numbers.count(0) <= 1:
            return
        firsts = [block for block, number in zip(state["blocks"], numbers, strict=True) if number == 0]
        genesis = min(firsts, key=lambda block: int(block["header"]["timestamp"], 16))
        later = [block for block, number in zip(state["blocks"], numbers, strict=True) if number > 0]
        state["blocks"] = [genesis, *later]
        fresh = self.state.with_suffix(".partial")
        fresh.write_text(json.dumps(state))
        fresh.replace(self.state)

    def stop(self, grace_s: float = 15) -> None:
        """The node writes its state once more when asked to end."""
        super().stop(grace_s)
        self._copied_at_s = 0.0
        self.keep_copy()


def is_whole(content: bytes) -> bool:
    """Whether it is a complete state of the node, and of one moment."""
    try:
        state = json.loads(content)
    except ValueError:
        return False
    if not isinstance(state, dict) or not {"block", "accounts", "blocks", "transactions"} <= state.keys():
        return False
    return not _is_ahead(state)


def _is_ahead(state: dict[str, Any]) -> bool:
    """Whether accounts have done more than the blocks hold.

    The node collects its blocks first and its accounts later; what it mines between the two is in the accounts only.
    From such a state it would start with transactions executed that no block, receipt or log tells of.
    """
    done: dict[str, int] = {}
    for transaction in state["transactions"]:
        info = transaction["info"]
        done[info["from"]] = max(done.get(info["from"], 0), info["nonce"] + 1)
    # Of senders only: a contract counts what it creates, and one without code is like any account.
    return any(state["accounts"][sender]["nonce"] > count for sender, count in done.items())


def chain_id(url: str) -> int | None:
    """The chain id that a node answers; None when it does not answer."""
    request = urllib.request.Request(  # noqa: S310 -- the operator's own endpoint
        url,
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=READY_TIMEOUT_S) as answer:  # noqa: S310
            return int(json.loads(answer.read())["result"], 16)
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return None
