"""A small laboratory: trader, wallet, gate and chain, driven by hand and without sleeping."""

import os
import time
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import redis as redis_py
from eth_account import Account

from execution_app.engine import heads, reconcile, rounds
from execution_app.gate import watch
from execution_app.models import Trader, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.node import gas, gateway, rpc, signers
from execution_app.states import Action
from execution_app.venues import grants
from ops.rehearsal.contracts import artefact
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.rpc import Node
from tests import hardhat_node, real_parts
from tests.timers import pass_a_minute

ETH = 10**18
USDC = 10**6
FAR_FUTURE_S = 4_000_000_000
GRANT_GAS = 200_000


@dataclass
class Rig:
    """`mine` makes blocks, `keep` lets the keeper execute, `track` looks at the chain once."""

    redis: redis_py.Redis
    snapshot: str = ""
    owner: Any = field(init=False)  # the trader's own account, whose key no code of ours knows
    trader: Trader = field(init=False)
    wallet: Wallet = field(init=False)
    keeper: Keeper = field(init=False)
    _count: int = 0

    def build(self) -> None:
        rpc.endpoints.cache_clear()
        gateway.breaker.cache_clear()
        reconcile._check_venue.cache_clear()
        gas.has_oracle.cache_clear()
        rpc_call("evm_setAutomine", False)
        self.snapshot = rpc_call("evm_snapshot")
        self.owner = Account.create()
        self.wallet = self.equip(self.owner, tg_user_id=123)
        self.trader = self.wallet.trader
        self.keeper = Keeper(Node(real_parts.anvil.url), real_parts.deployment)
        self.open_gate()

    def equip(self, owner: Any, tg_user_id: int) -> Wallet:
        """A trader's wallet with gas, USDC and the grants of `venue.equip`, all at once: a thousand tests begin so."""
        deployed, trader = real_parts.deployment, owner.address
        wallet = Wallet.objects.create(
            trader=Trader.objects.create(tg_user_id=tg_user_id, label="test", address=trader),
            chain_id=31337,
            address=signers.create_key(),
        )
        rpc_calls(
            ("anvil_setBalance", trader, hex(ETH)),
            ("anvil_setBalance", wallet.address, hex(1_000 * ETH)),
            ("anvil_impersonateAccount", trader),
        )
        mint = artefact("USDC").call("mint", trader, 1_000_000 * USDC)
        allow = grants.encode_approve(deployed.storage, 1_000_000 * USDC)
        name = grants.encode_set_delegate(wallet.address, FAR_FUTURE_S)
        hashes = rpc_calls(
            ("eth_sendTransaction", _order(deployed.owner, deployed.usdc, mint)),
            ("eth_sendTransaction", _order(trader, deployed.usdc, allow, nonce=0)),
            ("eth_sendTransaction", _order(trader, deployed.trading, name, nonce=1)),
        )
        rpc_call("anvil_stopImpersonatingAccount", trader)
        self.mine(5)
        receipts = rpc_calls(*(("eth_getTransactionReceipt", tx_hash) for tx_hash in hashes))
        assert [receipt["status"] for receipt in receipts] == ["0x1"] * len(hashes)
        return wallet

    def open_gate(self) -> None:
        """Watch the mode in this process until LIVE is permitted."""
        watcher = watch.start("worker")
        deadline_s = time.monotonic() + 60
        while watcher.ruling().mode != "LIVE" and time.monotonic() < deadline_s:
            watcher.look()
            if watcher.chain_problem:
                heads.follow()  # only a comparison later than the watch's first look counts
        assert watcher.ruling().mode == "LIVE", watcher.ruling().reason

    def close(self) -> None:
        watch.stop()
        # A block that is being mined while the chain is taken back would leave a hole below it.
        rpc_call("evm_setAutomine", False)
        rpc_call("anvil_dropAllTransactions")
        rpc_call("evm_revert", self.snapshot)
        rpc_call("evm_setAutomine", True)
        rpc_call("evm_setTime", int(time.time()))  # a revert takes back blocks, not what moved the clock

    def intent(self, action: Action = Action.OPEN, symbol: str = "BTC-USD", **fields: Any) -> TxIntent:
        """A waiting intent, as a decision would leave it."""
        self._count += 1
        opens = action is Action.OPEN
        defaults: dict[str, Any] = {
            "trader": self.trader,
            "wallet": self.wallet,
            "tg_user_id": self.trader.tg_user_id,
            "action": action.value,
            "symbol": symbol,
            "is_long": True if opens else None,
            "collateral_usdc": Decimal(5) if opens else None,
            "leverage_x": Decimal(2) if opens else None,
            "slippage_pct": Decimal("0.5"),
        }
        intent, _ = open_intent(key=f"sig:test:{self._count}", by="test", **{**defaults, **fields})
        return intent

    def submit(self) -> None:
        rounds.submit(self.wallet.pk)

    def track(self) -> list[int]:
        return rounds.track()

    def mine(self, blocks: int = 1) -> None:
        rpc_call("anvil_mine", hex(blocks))

    def keep(self) -> None:
        """The keeper executes what is registered, in a block of its own."""
        rpc_call("evm_setAutomine", True)
        self.keeper.step()
        rpc_call("evm_setAutomine", False)

    def run(self) -> None:
        """Submit, mine, let the keeper execute, and track until all is settled."""
        self.submit()
        self.mine()
        self.track()
        self.keep()
        self.track()
        self.mine(4)
        self.track()

    def finish(self, rounds: int = 1) -> None:
        """Timers pass, and everything that can be settled is."""
        for _ in range(rounds):
            pass_a_minute()
            self.run()


def rpc_call(method: str, *params: Any) -> Any:
    """One call of the test to its node, in anvil's words."""
    if isinstance(real_parts.anvil, hardhat_node.Hardhat):
        return hardhat_node.call(real_parts.anvil.url, method, *params)
    return endpoint().call(method, *params)


def rpc_calls(*calls: tuple[Any, ...]) -> list[Any]:
    """Several of them, none of which needs another one's effect."""
    if isinstance(real_parts.anvil, hardhat_node.Hardhat):
        return [rpc_call(*call) for call in calls]
    answers = endpoint().batch([(method, params) for method, *params in calls])
    failed = [answer for answer in answers if isinstance(answer, rpc.NodeError)]
    assert not failed, failed
    return answers


def _order(sender: str, to: str, data: bytes, nonce: int | None = None) -> dict[str, str]:
    """A transaction that the node signs itself."""
    order = {"from": sender, "to": to, "data": f"0x{data.hex()}", "gas": hex(GRANT_GAS)}
    return order if nonce is None else order | {"nonce": hex(nonce)}


def endpoint() -> rpc.Endpoint:
    """The test's own connection to its node, for batches."""
    return _node(real_parts.anvil.url, os.getpid())


@lru_cache(maxsize=4)
def _node(url: str, _pid: int) -> rpc.Endpoint:
    """One for each process: the connections of a forked one's parent are the parent's."""
    return rpc.Endpoint(url)
