"""Allowance, USDC and delegation: held with their amounts before a nonce, cancelled in the slot before the first broadcast."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast, reserve, rounds
from execution_app.engine.permissions import Permissions
from execution_app.models import TxIntent, TxSend
from execution_app.node import signers
from execution_app.states import Action, Reason
from execution_app.venues import onchain
from tests import invariants, real_parts
from tests.guards import without_guards
from tests.proxy import Proxy
from tests.rig import USDC, Rig, rpc_call
from tests.timers import pass_a_minute

STRANGER = "0x00000000000000000000000000000000000000Aa"


def as_trader(rig: Rig, to: str, function: bytes, *words: int) -> None:
    """The trader's own transaction, in a block of its own."""
    data = function + b"".join(word.to_bytes(32, "big") for word in words)
    rpc_call("anvil_impersonateAccount", rig.trader.address)
    rpc_call("evm_setAutomine", True)
    call = {"from": rig.trader.address, "to": to, "data": "0x" + data.hex(), "gas": hex(500_000)}
    rpc_call("eth_sendTransaction", call)
    rpc_call("evm_setAutomine", False)


def allow(rig: Rig, units: int) -> None:
    storage = int(real_parts.deployment.storage, 16)
    as_trader(
        rig, real_parts.deployment.usdc, onchain._selector("approve", ("address", "uint256")), storage, units
    )


def send_away(rig: Rig, left: int) -> None:
    """All of the trader's USDC but these units."""
    usdc = real_parts.deployment.usdc
    call = {"to": usdc, "data": "0x" + onchain.call_balance(rig.trader.address).hex()}
    units = int(rpc_call("eth_call", call, "latest"), 16) - left
    as_trader(rig, usdc, onchain._selector("transfer", ("address", "uint256")), int(STRANGER, 16), units)


def delegate(rig: Rig, to: str) -> None:
    function = onchain._selector("setDelegate", ("address", "uint256"))
    as_trader(rig, real_parts.deployment.trading, function, int(to, 16), 4_000_000_000)


LOSSES: dict[str, tuple[Any, Any, Reason, str]] = {
    "allowance": (
        lambda rig: allow(rig, 3 * USDC),
        lambda rig: allow(rig, 1_000 * USDC),
        Reason.INSUFFICIENT_ALLOWANCE,
        "may take 3.000000 USDC",
    ),
    "usdc": (
        lambda rig: send_away(rig, 1 * USDC),
        None,
        Reason.INSUFFICIENT_USDC,
        "has 1.000000 USDC",
    ),
    "delegation": (
        lambda rig: delegate(rig, STRANGER),
        lambda rig: delegate(rig, rig.wallet.address),
        Reason.NO_DELEGATION,
        "trade, not 0x",
    ),
}


DELEGATE, TRADER = "0x" + "ab" * 20, "0x" + "cd" * 20
ENOUGH = Permissions(DELEGATE, TRADER, DELEGATE, 1_001, 1_000, Decimal(5), Decimal(5))
UNIT = Decimal("0.000001")


def test_what_just_suffices_is_enough() -> None:
    assert ENOUGH.missing(Decimal(5)) is None
    assert replace(ENOUGH, delegate=DELEGATE.upper().replace("0X", "0x")).missing(Decimal(5)) is None
    assert replace(ENOUGH, allowance_usdc=Decimal(0), balance_usdc=Decimal(0)).missing(None) is None


@pytest.mark.parametrize(
    ("loss", "reason", "words"),
    [
        ({"expires_at": 1_000}, Reason.NO_DELEGATION, "ended 0 s ago"),
        ({"expires_at": 900}, Reason.NO_DELEGATION, "ended 100 s ago"),
        ({"delegate": STRANGER}, Reason.NO_DELEGATION, f"lets {STRANGER} trade, not {DELEGATE}"),
        (
            {"allowance_usdc": 5 - UNIT, "balance_usdc": Decimal(1)},
            Reason.INSUFFICIENT_ALLOWANCE,
            "may take 4.999999 USDC of",
        ),
        ({"balance_usdc": 5 - UNIT}, Reason.INSUFFICIENT_USDC, "has 4.999999 USDC, this needs 5"),
    ],
    ids=str,
)
def test_what_falls_short_by_the_least_is_missing(loss: dict[str, Any], reason: Reason, words: str) -> None:
    """A delegation has ended in the second that it names."""
    missing = replace(ENOUGH, **loss).missing(Decimal(5))
    assert missing is not None
    assert missing[0] is reason
    assert words in missing[1]
    without_usdc = replace(ENOUGH, **loss).missing(None)
    assert (without_usdc is not None) is (reason is Reason.NO_DELEGATION)


@pytest.mark.parametrize("what", LOSSES)
def test_what_is_missing_holds_an_open_with_its_amounts(rig: Rig, node: Proxy, what: str) -> None:
    lose, mend, reason, words = LOSSES[what]
    lose(rig)
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("held", reason, None)
    assert words in intent.reason_detail
    assert not node.log
    if mend is not None:
        mend(rig)
        rig.finish()
        intent.refresh_from_db()
        assert intent.state == "filled"
        invariants.check(node)


@pytest.mark.parametrize("what", LOSSES)
def test_what_is_lost_after_the_signature_is_cancelled_in_its_slot(rig: Rig, node: Proxy, what: str) -> None:
    """Nothing of it ever leaves but the cancel, and what is behind it passes."""
    rig.intent()
    rig.run()
    first = TxSend.objects.get()
    intent, exit_ = rig.intent(symbol="ETH-USD"), None
    assert reserve.reserve(rig.wallet.pk) == 1
    LOSSES[what][0](rig)
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(updated_at="2026-01-01T00:00:00Z")
    rig.submit()
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    assert set(node.first_seen()) == {first.tx_hash, intent.sends.get(kind="cancel").tx_hash}
    if what == "delegation":
        delegate(rig, rig.wallet.address)
    exit_ = rig.intent(Action.CLOSE)
    rig.finish(2)
    for done, state in ((intent, "final_cancelled"), (exit_, "filled")):
        done.refresh_from_db()
        assert done.state == state
    invariants.check(node)


def test_a_node_that_is_away_keeps_nothing_from_leaving(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(updated_at="2026-01-01T00:00:00Z")
    market = rounds._market()
    node.faults.http_5xx_next = 1
    assert broadcast.broadcast(rig.wallet.pk, market) == 1
    assert intent.sends.get().kind == "exec"
    pass_a_minute()
    rig.finish()
    invariants.check(node)


@pytest.mark.parametrize(("margin_pct", "most"), [(0, 1.0), (40, 1.4), (300, 4.0)])
def test_the_margin_of_gas_is_a_setting(
    rig: Rig, node: Proxy, settings: Settings, margin_pct: int, most: float
) -> None:
    intent = rig.intent()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"gas_margin_pct": margin_pct})
    assert reserve.reserve(rig.wallet.pk) == 1
    intent.refresh_from_db()
    call = {
        "from": rig.wallet.address,
        "to": intent.to_address,
        "data": "0x" + bytes(intent.calldata or b"").hex(),
        "value": hex(int(intent.value_wei or 0)),
    }
    least = int(rpc_call("eth_estimateGas", call, "latest"), 16)
    assert intent.gas_limit is not None
    assert Decimal(intent.gas_limit) == min(int(least * (100 + margin_pct) // 100), signers.MAX_GAS)
    assert intent.gas_limit <= least * most
