"""The engine alone: intents of a plain call with calldata, from the first nonce taken to the last one mined."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Max, Min
from eth_account import Account

from execution_app import tasks
from execution_app.engine import reconcile, rounds
from execution_app.gate import watch
from execution_app.models import IntentTransition, Trader, TxIntent, TxSend, Wallet
from execution_app.moves import open_intent
from execution_app.node import gas, rpc, signers
from execution_app.states import UNMINED, WAITING, Action, IntentState
from ops.rehearsal import venue
from ops.rehearsal.deployment import Contracts
from ops.rehearsal.rpc import Node
from tests import real_parts
from tests.bench import plain
from tests.bench.failed import BenchError
from tests.bench.shares import Shares, limit
from tests.processes import FORK, processes

ETH = 10**18
USDC_UNITS = 1_000_000 * 10**6
BLOCK_TIME_S = 1
GAS_LIMIT = 1_000_000_000
TRACK_EVERY_S = 0.4  # as beat rings for it
IDLE_S = 0.01
POLL_S = 0.05
STILL_S = 60.0  # without one more mined
MINED = (IntentState.MINED, IntentState.ORDERED)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One wallet on a chain with 1 s blocks, which calls `plain.vy` in the venue's place."""

    node: Node
    wallet: Wallet
    address: str  # of what is called
    gas_limit: int
    usual_gas_limit: int


@contextmanager
def on_stage(in_flight: int) -> Iterator[Stage]:
    """The test run's own parts, with a fresh wallet; needs an empty database, and leaves the chain as it was."""
    node = Node(real_parts.anvil.url)
    usual = int(node.request("eth_getBlockByNumber", "latest", False)["gasLimit"], 16)
    node.request("evm_setAutomine", True)
    snapshot = node.request("evm_snapshot")
    before = settings.ENVIRONMENT
    try:
        person = Account.create()
        trader = Trader.objects.create(tg_user_id=123, label="bench", address=person.address)
        wallet = Wallet.objects.create(
            trader=trader, chain_id=31337, address=signers.create_key(), max_in_flight=in_flight
        )
        venue.fund(node.url, real_parts.deployment, wallet.address, 1_000 * ETH, 0)
        address = plain.deploy(node.url, wallet.address)
        _permit(node, wallet, bytes(person.key), address)
        settings.ENVIRONMENT = before.model_copy(
            update={"venue_trading_address": address, "venue_storage_address": address}
        )
        _forget()
        node.request("evm_setBlockGasLimit", hex(GAS_LIMIT))
        node.request("evm_setAutomine", False)
        node.request("evm_setIntervalMining", BLOCK_TIME_S)
        yield Stage(node, wallet, address, GAS_LIMIT, usual)
    finally:
        settings.ENVIRONMENT = before
        _forget()
        node.request("evm_setIntervalMining", 0)
        node.request("anvil_dropAllTransactions")
        node.request("evm_setBlockGasLimit", hex(usual))
        node.request("evm_revert", snapshot)
        node.request("evm_setAutomine", True)
        node.request("evm_setTime", int(time.time()))


def _permit(node: Node, wallet: Wallet, trader_key: bytes, address: str) -> None:
    """What is asked for again where bytes have waited: an open that would fail by then is cancelled in its slot."""
    venue.fund(node.url, real_parts.deployment, wallet.trader.address, ETH, USDC_UNITS)
    called = Contracts(trading=address, storage=address, usdc=real_parts.deployment.usdc)
    venue.delegate(node.url, called, trader_key, wallet.address, plain.FAR_FUTURE_S, USDC_UNITS)


def _forget() -> None:
    """What this process remembers of the node and the venue."""
    rpc.endpoints.cache_clear()
    reconcile._check_venue.cache_clear()
    gas.has_oracle.cache_clear()


def run(stage: Stage, count: int, say: Say) -> dict[str, Any]:
    """Place so many intents, and follow them until all are known to be mined. Raises BenchError."""
    wallet_id = stage.wallet.pk
    go = FORK.Event()
    live = FORK.Event()

    def submit() -> None:
        """As the door does it, bell after bell."""
        if watch.view().mode != "LIVE":
            time.sleep(IDLE_S)
            return
        live.set()
        if go.is_set():
            tasks.submit(wallet_id)
        time.sleep(IDLE_S)

    def track() -> None:
        begun_s = time.monotonic()
        rounds.track()
        time.sleep(max(0.0, TRACK_EVERY_S - (time.monotonic() - begun_s)))

    with processes(submit, track) as (submitter, tracker):
        say(f"{count} intents wait")
        _fill(stage.wallet, count)
        if not live.wait(STILL_S):
            raise BenchError("the gate does not open")
        pids = {
            "submit": submitter,
            "track": tracker,
        }
        pids |= {part.name: part.pid or 0 for part in (real_parts.postgres, real_parts.anvil)}
        shares = Shares(pids)
        go.set()
        mined_s = _await_mined(stage, count, say)
        cores = shares.read()
    check(stage, count)
    spent = {name: share * shares.took_s * 1_000 / count for name, share in cores.items() if name != "idle"}
    return _facts(stage, count, mined_s, cores, spent)


def _fill(wallet: Wallet, count: int) -> None:
    """Waiting intents, as a decision leaves them."""
    for number in range(count):
        open_intent(
            key=f"sig:bench:{number}",
            by="bench",
            trader=wallet.trader,
            wallet=wallet,
            tg_user_id=wallet.trader.tg_user_id,
            action=Action.OPEN.value,
            symbol="BTC-USD",
            is_long=True,
            collateral_usdc=Decimal(5),
            leverage_x=Decimal(2),
            slippage_pct=Decimal("0.5"),
        )


def _await_mined(stage: Stage, count: int, say: Say) -> float:
    """Wait until the engine knows all of them as mined; returns when the chain had them, time.time()."""
    chain_s, last, moved_s, said_s = 0.0, -1, time.monotonic(), 0.0
    while True:
        known = TxIntent.objects.filter(state__in=MINED).count()
        on_chain = stage.node.number("eth_getTransactionCount", stage.wallet.address, "latest")
        if on_chain >= count and not chain_s:
            chain_s = time.time()
        if known >= count:
            return chain_s
        now_s = time.monotonic()
        if known + on_chain != last:
            last, moved_s = known + on_chain, now_s
        if now_s - moved_s > STILL_S:
            states = dict(Counter(TxIntent.objects.values_list("state", flat=True)))
            raise BenchError(
                f"{on_chain} of {count} are mined, {known} known to be, and nothing moves: {states}"
            )
        if now_s - said_s > 1:
            said_s = now_s
            waiting = TxIntent.objects.filter(state__in=sorted(WAITING)).count()
            under_way = TxIntent.objects.filter(state__in=sorted(UNMINED)).count()
            say(f"{waiting} wait, {under_way} are under way, {on_chain} mined, {known} known to be")
        time.sleep(POLL_S)


def check(stage: Stage, count: int) -> None:
    """Every intent was executed once, in the order of nonces, which is the order in which they came. Raises BenchError."""
    rows = list(TxIntent.objects.order_by("id").values_list("nonce", flat=True))
    if rows != list(range(count)):
        raise BenchError("nonces are not in the order of the intents")
    sends = dict(TxSend.objects.values_list("tx_hash", "intent__nonce"))
    head = stage.node.number("eth_blockNumber")
    mined: list[int | None] = []
    for number in range(head, -1, -1):
        block = stage.node.request("eth_getBlockByNumber", hex(number), True)
        ours = [tx for tx in block["transactions"] if tx["from"].lower() == stage.wallet.address.lower()]
        mined = [sends[tx["hash"]] for tx in ours] + mined
        if len(mined) >= count:
            break
    if mined != list(range(count)):
        raise BenchError("blocks do not hold each intent once, in the order of nonces")


def _facts(
    stage: Stage, count: int, mined_s: float, cores: dict[str, float], cpu_ms: dict[str, float]
) -> dict[str, Any]:
    moments = {
        name: dict(IntentTransition.objects.filter(to_state=name).aggregate(first=Min("at"), last=Max("at")))
        for name in ("reserved", "signed", "pending_inclusion", "mined")
    }
    begun = moments["reserved"]["first"]
    since = {name: round((found["last"] - begun).total_seconds(), 2) for name, found in moments.items()}
    since["known_mined"] = since.pop("mined")  # which is when we knew
    took_s = mined_s - begun.timestamp()
    return {
        "intents": count,
        "took_s": round(took_s, 2),
        "per_s": round(count / took_s, 1),
        "last_after_s": since,
        "cores": cores,
        "cpu_ms_each": {name: round(each_ms, 2) for name, each_ms in cpu_ms.items()},
        "most_per_s": round((os.cpu_count() or 1) * 1_000 / sum(cpu_ms.values())),
        "limited_by": limit(cores),
        "gas_limit": [stage.gas_limit, stage.usual_gas_limit],
        "in_flight": [stage.wallet.max_in_flight, 16],
    }
