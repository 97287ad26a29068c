"""What the trader lets the delegate do and the venue take: asked before a nonce is taken, and again before old bytes leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution_app.models import Wallet
from execution_app.node import rpc
from execution_app.states import Reason
from execution_app.venues import onchain
from execution_app.venues.scales import USDC_DIGITS, from_units

CALLS = 4


@dataclass(frozen=True)
class Permissions:
    """As the chain has them at its latest block; `at` and `expires_at` in unix seconds of the chain."""

    wallet: str
    trader: str
    delegate: str
    expires_at: int
    at: int
    allowance_usdc: Decimal
    balance_usdc: Decimal

    def missing(self, collateral_usdc: Decimal | None) -> tuple[Reason, str] | None:
        """The first thing that an order lacks, with its amounts; None where it has all. A close needs no USDC."""
        if self.delegate.lower() != self.wallet.lower():
            return Reason.NO_DELEGATION, f"{self.trader} lets {self.delegate} trade, not {self.wallet}"
        if self.expires_at <= self.at:
            return (
                Reason.NO_DELEGATION,
                f"the delegation of {self.trader} ended {self.at - self.expires_at} s ago",
            )
        if collateral_usdc is None:
            return None
        if self.allowance_usdc < collateral_usdc:
            detail = f"the venue may take {self.allowance_usdc:f} USDC of {self.trader}, this needs {collateral_usdc:f}"
            return Reason.INSUFFICIENT_ALLOWANCE, detail
        if self.balance_usdc < collateral_usdc:
            return (
                Reason.INSUFFICIENT_USDC,
                f"{self.trader} has {self.balance_usdc:f} USDC, this needs {collateral_usdc:f}",
            )
        return None


def calls(wallet: Wallet) -> list[rpc.Call]:
    """CALLS questions; their answers go to `read`."""
    environment, trader = settings.ENVIRONMENT, wallet.trader.address
    return [
        ("eth_getBlockByNumber", ("latest", False)),
        rpc.eth_call(environment.venue_trading_address, onchain.call_delegate(trader)),
        rpc.eth_call(
            environment.usdc_address, onchain.call_allowance(trader, environment.venue_storage_address)
        ),
        rpc.eth_call(environment.usdc_address, onchain.call_balance(trader)),
    ]


def read(wallet: Wallet, answers: Sequence[Any]) -> Permissions:
    """Raises NodeError or RpcFault where the node cannot say."""
    for answer in answers:
        if isinstance(answer, rpc.NodeError):
            raise answer
        if answer is None:
            raise rpc.RpcFault("the node does not know its latest block")
    block, *views = answers
    delegation, allowance, balance = (bytes.fromhex(str(view).removeprefix("0x")) for view in views)
    try:
        delegate, expires_at = onchain.read_delegate(delegation)
        return Permissions(
            wallet=wallet.address,
            trader=wallet.trader.address,
            delegate=delegate,
            expires_at=expires_at,
            at=int(block["timestamp"], 16),
            allowance_usdc=from_units(onchain.read_uint(allowance), USDC_DIGITS),
            balance_usdc=from_units(onchain.read_uint(balance), USDC_DIGITS),
        )
    except ValueError as error:
        raise rpc.RpcFault(f"the node does not say what the trader permits: {error}") from error


def look(wallet: Wallet) -> Permissions:
    """Ask for them alone. Raises NodeError or RpcFault."""
    return read(wallet, rpc.read_batch(calls(wallet)))
