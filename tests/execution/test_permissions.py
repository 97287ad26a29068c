"""What the trader lets the delegate do and the venue take, and what an order lacks of it."""

from dataclasses import replace
from decimal import Decimal

import pytest
from eth_abi.abi import encode
from pytest_django.fixtures import Settings

from execution_app.engine import permissions
from execution_app.engine.permissions import CALLS, Permissions
from execution_app.models import Trader, Wallet
from execution_app.node import rpc
from execution_app.states import Reason
from execution_app.venues import onchain

WALLET, TRADER, OTHER = f"0x{10:040x}", f"0x{11:040x}", f"0x{12:040x}"
SOUND = Permissions(WALLET, TRADER, WALLET.upper().replace("X", "x"), 101, 100, Decimal(5), Decimal(5))
NEEDS = Decimal(5)


def test_who_has_all_lacks_nothing() -> None:
    assert SOUND.missing(NEEDS) is None
    assert replace(SOUND, wallet=SOUND.delegate, delegate=WALLET).missing(NEEDS) is None


def test_another_delegate_is_none() -> None:
    lacks = replace(SOUND, delegate=OTHER).missing(NEEDS)
    assert lacks == (Reason.NO_DELEGATION, f"{TRADER} lets {OTHER} trade, not {WALLET}")


@pytest.mark.parametrize("ago", [0, 7])
def test_a_delegation_ends_at_its_second(ago: int) -> None:
    ended = replace(SOUND, expires_at=100 - ago)
    words = f"the delegation of {TRADER} ended {ago} s ago"
    assert ended.missing(NEEDS) == ended.missing(None) == (Reason.NO_DELEGATION, words)


def test_an_order_needs_the_allowance_first_and_then_the_balance() -> None:
    short = replace(SOUND, allowance_usdc=Decimal("4.999999"), balance_usdc=Decimal(1))
    words = f"the venue may take 4.999999 USDC of {TRADER}, this needs 5"
    assert short.missing(NEEDS) == (Reason.INSUFFICIENT_ALLOWANCE, words)
    poor = replace(SOUND, balance_usdc=Decimal("4.999999"))
    assert poor.missing(NEEDS) == (Reason.INSUFFICIENT_USDC, f"{TRADER} has 4.999999 USDC, this needs 5")


def test_a_close_needs_no_usdc() -> None:
    assert replace(SOUND, allowance_usdc=Decimal(0), balance_usdc=Decimal(0)).missing(None) is None


# What the chain says


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(address=WALLET, trader=Trader(address=TRADER))


def answers(**changed: object) -> list[object]:
    views = {
        "block": {"timestamp": "0x64"},
        "delegation": encode(("address", "uint256"), (WALLET, 101)),
        "allowance": (5_000_000).to_bytes(32, "big"),
        "balance": (6_000_000).to_bytes(32, "big"),
    }
    return [
        "0x" + answer.hex() if isinstance(answer, bytes) else answer for answer in (views | changed).values()
    ]


def test_block_delegate_allowance_and_balance_are_asked_for(settings: Settings, wallet: Wallet) -> None:
    environment = settings.ENVIRONMENT
    asked = permissions.calls(wallet)
    assert len(asked) == CALLS
    assert asked == [
        ("eth_getBlockByNumber", ("latest", False)),
        rpc.eth_call(environment.venue_trading_address, onchain.call_delegate(TRADER)),
        rpc.eth_call(
            environment.usdc_address, onchain.call_allowance(TRADER, environment.venue_storage_address)
        ),
        rpc.eth_call(environment.usdc_address, onchain.call_balance(TRADER)),
    ]


def test_what_the_chain_says_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    found = permissions.read(wallet, answers())
    assert found == Permissions(WALLET, TRADER, found.delegate, 101, 100, Decimal(5), Decimal(6))
    assert found.delegate.lower() == WALLET
    monkeypatch.setattr(
        rpc, "read_batch", lambda asked: answers() if asked == permissions.calls(wallet) else []
    )
    assert permissions.look(wallet) == found


@pytest.mark.parametrize("name", ["block", "delegation", "allowance", "balance"])
def test_where_the_node_cannot_say_nobody_guesses(wallet: Wallet, name: str) -> None:
    with pytest.raises(rpc.NodeError, match="busy"):
        permissions.read(wallet, answers(**{name: rpc.NodeError(-32000, "busy")}))
    with pytest.raises(rpc.RpcFault, match="the node does not know its latest block"):
        permissions.read(wallet, answers(**{name: None}))


def test_bytes_of_another_shape_are_a_fault_of_the_node(wallet: Wallet) -> None:
    for changed in ({"delegation": b"\x01"}, {"balance": b"\x01"}):
        with pytest.raises(rpc.RpcFault, match="the node does not say what the trader permits: "):
            permissions.read(wallet, answers(**changed))
