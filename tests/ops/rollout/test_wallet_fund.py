"""`wallet fund`: on the rehearsal chain it is done; on every other it is written down, and nothing is sent."""

import io
import json
import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from eth_abi.abi import decode
from eth_account import Account

from execution_app.models import Trader, Wallet
from execution_app.node import rpc
from execution_app.venues import grants, onchain
from ops.rehearsal import venue
from ops.rehearsal.rpc import Message, Node, Sender
from ops.rollout import funding
from tests import real_parts
from tests.guards import without_guards
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call

DAY_S = 86_400
USDC = 10**6


@pytest.fixture
def newcomer(rig: Rig) -> Wallet:
    """A trader whose key nobody here has, with a fresh wallet; neither owns anything."""
    with without_guards():
        rig.wallet.delete()
        Trader.objects.update(address=Account.create().address)
    call_command("wallet", "create", "123", stdout=io.StringIO())
    rpc_call("evm_setAutomine", True)
    return Wallet.objects.get()


def fund(*words: str) -> tuple[dict[str, Any], int]:
    out = io.StringIO()
    try:
        call_command("wallet", "fund", "123", "--json", *words, stdout=out)
    except CommandError as error:
        return json.loads(out.getvalue() or "{}"), error.returncode
    return json.loads(out.getvalue()), 0


def granted(trader: str) -> tuple[int, int, tuple[str, int]]:
    """USDC, allowance, and the delegate with its end, from the chain."""
    deployed = real_parts.deployment
    usdc, allowance, delegate = rpc.read_views(
        [
            (deployed.usdc, onchain.call_balance(trader)),
            (deployed.usdc, onchain.call_allowance(trader, deployed.storage)),
            (deployed.trading, onchain.call_delegate(trader)),
        ]
    )
    return onchain.read_uint(usdc), onchain.read_uint(allowance), onchain.read_delegate(delegate)


def count(address: str) -> int:
    return int(rpc.read("eth_getTransactionCount", address, "latest"), 16)


def test_on_the_rehearsal_chain_the_wallet_can_trade_afterwards(newcomer: Wallet) -> None:
    trader = newcomer.trader.address
    with pytest.raises(CommandError):
        call_command("wallet", "check", "123", stdout=io.StringIO())
    found, code = fund("--usdc", "12.5", "--days", "30")
    assert (code, found["funded"], found["usdc"], found["wallet_eth"]) == (0, True, "12.5", "1")
    usdc, allowance, (delegate, expiry_s) = granted(trader)
    assert (usdc, allowance, delegate) == (12_500_000, 12_500_000, newcomer.address)
    assert 29 * DAY_S < expiry_s - time.time() <= 30 * DAY_S
    assert expiry_s == found["delegate_until"]
    assert int(rpc.read("eth_getBalance", newcomer.address, "latest"), 16) == 10**18
    out = io.StringIO()
    call_command("wallet", "check", "123", "--json", stdout=out)
    assert json.loads(out.getvalue())["ok"] is True


def test_funding_again_on_the_same_day_grants_nothing_anew(newcomer: Wallet) -> None:
    trader = newcomer.trader.address
    fund()
    before = (count(trader), granted(trader))
    assert before[0] == 2
    assert fund()[1] == 0
    assert (count(trader), granted(trader)) == before


def test_nobody_can_be_played_after_it(newcomer: Wallet) -> None:
    fund()
    with pytest.raises(rpc.NodeError, match="No Signer available"):
        rpc_call("eth_sendTransaction", {"from": newcomer.trader.address, "to": newcomer.address})


def test_elsewhere_nothing_is_sent_and_the_steps_are_exact(newcomer: Wallet, settings: Any) -> None:
    """Whatever the node says: here it is even one that would take transactions."""
    deployed, trader = real_parts.deployment, newcomer.trader.address
    address = newcomer.address
    with without_guards():
        newcomer.delete()
    Wallet.objects.create(trader=Trader.objects.get(), chain_id=8453, address=address)
    with Proxy(real_parts.anvil.url) as proxy:
        settings.REHEARSAL = False
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
            update={"chain_id": 8453, "base_rpc_url": proxy.url}
        )
        found, code = fund("--usdc", "50", "--eth", "0.02", "--days", "90")
        assert proxy.requests == 0
    assert (code, found["funded"], found["chain_id"]) == (1, False, 8453)
    gas, money, approve, delegate = found["steps"]
    assert (gas["to"], gas["value_wei"], gas["data"]) == (address, str(2 * 10**16), "")
    assert (money["to"], money["data"]) == (trader, "")
    assert "50 USDC" in money["words"]
    assert (approve["sender"], approve["to"], approve["value_wei"]) == (trader, deployed.usdc, "0")
    assert approve["data"].startswith("0x095ea7b3")
    spender, units = decode(("address", "uint256"), bytes.fromhex(approve["data"][10:]))
    assert (spender, units) == (deployed.storage.lower(), 50 * USDC)
    assert (delegate["sender"], delegate["to"]) == (trader, deployed.trading)
    assert delegate["data"].startswith("0xd6a510d9")
    named, expiry_s = decode(("address", "uint256"), bytes.fromhex(delegate["data"][10:]))
    assert named == address.lower()
    assert 89 * DAY_S < expiry_s - time.time() <= 90 * DAY_S
    # Not a thing has changed for this wallet or this trader.
    assert granted(trader)[:2] == (0, 0)


def test_the_steps_do_what_they_say(newcomer: Wallet) -> None:
    """Sent by the trader as they are written, they are what the rehearsal's own funding does."""
    person = Account.create()
    with without_guards():
        Trader.objects.update(address=person.address)
    wallet = Wallet.objects.select_related("trader").get()
    plan = funding.plan(wallet.trader, wallet, wallet_wei=10**17, usdc_units=50 * USDC, days=90)
    gas, money, approve, delegate = funding.steps(plan)
    url, deployed = real_parts.anvil.url, real_parts.deployment
    venue.fund(url, deployed, gas.to, gas.value_wei, 0)
    venue.fund(url, deployed, money.to, 10**18, 50 * USDC)
    trader = Sender(Node(url), person.key)
    trader.transact(
        *(Message(step.to, bytes.fromhex(step.data[2:]), 200_000) for step in (approve, delegate))
    )
    assert granted(person.address) == (50 * USDC, 50 * USDC, (wallet.address, plan.expiry_s))


def test_people_read_the_steps(newcomer: Wallet, settings: Any) -> None:
    settings.REHEARSAL = False
    out = io.StringIO()
    with pytest.raises(CommandError, match="nothing was sent: chain 31337 is not") as caught:
        call_command("wallet", "fund", "123", stdout=out)
    assert caught.value.returncode == 1
    lines = out.getvalue().splitlines()
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. ", "   ", "4. ", "   "]
    assert "0.01 ETH for gas" in lines[0]
    assert f"to {real_parts.deployment.usdc}  value 0  data 0x095ea7b3" in lines[3]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--usdc", "0"), "above zero"),
        (("--usdc", "1.0000001"), "decimals"),
        (("--usdc", "1e3"), "plain decimal"),
        (("--eth", "-1"), "plain decimal"),
        (("--days", "91"), "argument --days: must be from 1 to 90"),
    ],
)
def test_amounts_that_cannot_be_are_refused(words: tuple[str, ...], why: str, newcomer: Wallet) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("wallet", "fund", "123", *words)
    assert granted(newcomer.trader.address)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"base_rpc_url": "http://127.0.0.1:1"}, "is not funded: eth_chainId"),
        ({"usdc_address": "", "venue_storage_address": ""}, "not set: VENUE_STORAGE_ADDRESS, USDC_ADDRESS"),
        ({"usdc_address": "0x" + "1" * 40}, "is not funded"),
    ],
)
def test_what_keeps_it_from_funding_is_said(
    fields: dict[str, str], why: str, newcomer: Wallet, settings: Any
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)
    with pytest.raises(CommandError, match=why):
        call_command("wallet", "fund", "123")


def test_a_node_of_another_chain_gets_nothing(newcomer: Wallet, settings: Any) -> None:
    """CHAIN_ID says rehearsal, the node says otherwise: the node is believed."""
    rpc_call("anvil_setChainId", 8453)
    try:
        with pytest.raises(CommandError, match="chain 8453 is not the rehearsal chain"):
            call_command("wallet", "fund", "123")
    finally:
        rpc_call("anvil_setChainId", 31337)
    assert granted(newcomer.trader.address)[:2] == (0, 0)


def test_without_a_wallet_there_is_nothing_to_fund(rig: Rig) -> None:
    with without_guards():
        rig.wallet.delete()
    with pytest.raises(CommandError, match=r"manage\.py wallet create 123"):
        call_command("wallet", "fund", "123")


@pytest.mark.parametrize("units", [0, 2**128, 2**256 - 1])
def test_no_allowance_is_endless(units: int) -> None:
    with pytest.raises(ValueError, match="finite"):
        grants.encode_approve("0x" + "1" * 40, units)


@pytest.mark.parametrize("expiry_s", [0, 2**64])
def test_no_delegation_is_endless(expiry_s: int) -> None:
    with pytest.raises(ValueError, match="must end"):
        grants.encode_set_delegate("0x" + "1" * 40, expiry_s)
