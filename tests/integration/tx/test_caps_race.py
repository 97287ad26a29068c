"""Many signals of several traders at once at a cap: the sum never above it at any commit, and nobody waits for ever."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from eth_account import Account

from execution_app.engine import heads, reserve
from execution_app.gate import cap_rows, control
from execution_app.models import Reservation, Trader, TxIntent, TxSend, Wallet
from execution_app.node import signers
from execution_app.states import Action, CapName, CapScope, Origin, Reason, RestrictionKind
from ops.rehearsal import venue
from signals_app import decisions
from signals_app.models import SourceGrant
from tests import real_parts, stakes
from tests.execution import rows
from tests.rig import ETH, FAR_FUTURE_S, USDC, Rig, rpc_call

# `make test` runs a slice; the whole load is CAPS_SIGNALS=1000.
SIGNALS = int(os.environ.get("CAPS_SIGNALS", "120"))
TRADERS = 4
THREADS = 8
SOURCES = ("left", "right")
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
TEN = Decimal(10)
# In orders of 10 USDC: all together, and one symbol, source and trader of several.
CAPS = {
    (CapScope.GLOBAL, ""): 24,
    (CapScope.SYMBOL, "BTC-USD"): 9,
    (CapScope.SOURCE, "left"): 11,
    (CapScope.TRADER, "123"): 7,
}

pytestmark = pytest.mark.timeout(600)


def cap(name: CapName, scope: tuple[CapScope, str], value: Decimal | int) -> None:
    cap_rows.set_cap(name, *scope, Decimal(value), by="test", reason="for the test")


def traders(rig: Rig, count: int) -> list[Wallet]:
    """The rig's trader and others like it, each with a funded delegate."""
    url, deployed = real_parts.anvil.url, real_parts.deployment
    rpc_call("evm_setAutomine", True)
    for number in range(1, count):
        person = Account.create()
        trader = Trader.objects.create(tg_user_id=123 + number, label="test", address=person.address)
        wallet = Wallet.objects.create(trader=trader, chain_id=31337, address=signers.create_key())
        venue.fund(url, deployed, person.address, ETH, 1_000_000 * USDC)
        venue.fund(url, deployed, wallet.address, 1_000 * ETH, 0)
        venue.delegate(url, deployed, person.key, wallet.address, FAR_FUTURE_S, 1_000_000 * USDC)
    rpc_call("evm_setAutomine", False)
    Wallet.objects.update(max_in_flight=512)
    for trader in Trader.objects.all():
        for source in SOURCES:
            SourceGrant.objects.create(source=source, tg_user_id=trader.tg_user_id)
    return list(Wallet.objects.order_by("id"))


def signal_and_submit(number: int) -> None:
    """One signal from its row to its nonce or its refusal, as a worker would take it."""
    tg_user_id = 123 + number % TRADERS
    source = SOURCES[number // TRADERS % 2]
    signal = rows.signal(
        max_lag_s=3600,  # nothing expires here, however slow the machine is
        source=source,
        signal_id=str(number),
        tg_user_id=tg_user_id,
        symbol=SYMBOLS[number % len(SYMBOLS)],
    )
    decisions.decide(signal)  # or whoever decides a later signal of the trader was faster
    intent = TxIntent.objects.get(intent_key=f"sig:{source}:{number}")
    assert intent.source == source
    assert intent.wallet_id is not None
    if number % 10 == 0:
        heads.follow()  # LIVE needs chain and database compared lately
    reserve.reserve(intent.wallet_id)


def everywhere(calls: list[Callable[[], object]], threads: int = THREADS) -> None:
    """Run all calls on threads with connections of their own; the first error is raised."""

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, call) for call in calls]:
            done.result()


def drain(wallets: list[Wallet]) -> None:
    """Until nothing waits: what a pass left is looked at by the next."""
    deadline_s = time.monotonic() + 240
    while TxIntent.objects.filter(state__in=["pending", "held"]).exists():
        assert time.monotonic() < deadline_s, list(TxIntent.objects.values_list("state", "reason").distinct())
        heads.follow()
        TxIntent.objects.filter(state__in=["pending", "held"]).update(next_try_at=None)
        everywhere([lambda pk=wallet.pk: reserve.reserve(pk) for wallet in wallets], len(wallets))  # type: ignore[misc]


def of(scope: CapScope, value: str) -> dict[str, Any]:
    if scope is CapScope.GLOBAL:
        return {}
    return {"trader__tg_user_id": int(value)} if scope is CapScope.TRADER else {scope.value: value}


@pytest.mark.parametrize("name", [CapName.EXPOSURE, CapName.OPEN_POSITIONS])
def test_the_sum_is_never_above_a_cap_at_any_commit(rig: Rig, name: CapName) -> None:
    wallets = traders(rig, TRADERS)
    exposure = name is CapName.EXPOSURE
    for where, orders in CAPS.items():
        cap(name, where, TEN * orders if exposure else orders)
    everywhere([lambda number=number: signal_and_submit(number) for number in range(SIGNALS)])  # type: ignore[misc]
    drain(wallets)
    assert TxIntent.objects.count() == SIGNALS
    most: dict[CapScope, Decimal | int] = {}
    for (scope, value), orders in CAPS.items():
        whose = of(scope, value)
        most[scope] = stakes.highest(**whose) / TEN if exposure else stakes.most_at_once(**whose)
        assert most[scope] <= orders, f"{scope} {value}: {most[scope]} orders at once, {orders} permitted"
    assert most[CapScope.GLOBAL] == CAPS[CapScope.GLOBAL, ""], "the load was too small to reach the cap"
    placed = TxIntent.objects.filter(nonce__isnull=False)
    assert (
        placed.count() == Reservation.objects.count() == TxSend.objects.count() == CAPS[CapScope.GLOBAL, ""]
    )
    refused = TxIntent.objects.filter(nonce=None)
    reason = Reason.EXPOSURE_ABOVE_CAP if exposure else Reason.OPEN_POSITIONS_AT_CAP
    assert set(refused.values_list("state", "reason")) == {("rejected", reason.value)}


def test_stops_caps_exits_and_opens_never_lock_one_another_up(rig: Rig) -> None:
    """Every order of locks at once; PostgreSQL would end one of two that wait for each other."""
    wallets = traders(rig, 2)
    rig.intent()
    rig.run()
    cap(CapName.EXPOSURE, (CapScope.GLOBAL, ""), 100_000)
    ended = threading.Event()

    def stop_and_resume() -> None:
        while not ended.is_set():
            control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="race")
            control.lift(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test")
            ended.wait(0.05)  # an open that meets reduce-only is refused for good

    def tighten() -> None:
        value = 50_000
        while not ended.is_set():
            cap(CapName.EXPOSURE, (CapScope.GLOBAL, ""), value)
            value -= 1

    def follow() -> None:
        while not ended.is_set():
            rig.mine()
            rig.track()

    def trade() -> None:
        for number in range(240):
            if number >= 24 and Reservation.objects.count() > 1:
                return  # every order of locks has had its turn, and opens were among them
            wallet = wallets[number % 2]
            fields: dict[str, Any] = {
                "trader": wallet.trader,
                "wallet": wallet,
                "tg_user_id": wallet.trader.tg_user_id,
            }
            rig.intent(Action.CLOSE if number % 5 == 4 else Action.OPEN, **fields)
            reserve.reserve(wallet.pk)

    def until_traded() -> None:
        try:
            trade()
        finally:
            ended.set()

    everywhere([until_traded, stop_and_resume, tighten, follow])
    assert Reservation.objects.count() > 1
    assert control.active_kinds() == frozenset()
