"""What makes a delegate's wallet able to trade: sent on the rehearsal chain, written down for every other."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from execution_app.models import Trader, Wallet
from execution_app.venues.grants import encode_approve, encode_set_delegate
from execution_app.venues.scales import USDC_DIGITS, from_units
from ops.rehearsal import venue
from ops.rehearsal.deployment import Contracts
from ops.rehearsal.rpc import Guise, Node

DAY_S = 86_400
ETH_DIGITS = 18


@dataclass(frozen=True)
class Funding:
    """Who gets what. `usdc_units` is the trader's money and the allowance, in 1e-6; `expiry_s` a unix second."""

    trader: str
    wallet: str
    contracts: Contracts
    wallet_wei: int
    usdc_units: int
    expiry_s: int


@dataclass(frozen=True)
class Step:
    """One thing for somebody to send. `data` is blank where it is a plain transfer."""

    sender: str
    to: str
    value_wei: int
    data: str
    words: str

    def as_json(self) -> dict[str, str]:
        """Wei as text: they are more than many readers of JSON can count."""
        return {**asdict(self), "value_wei": str(self.value_wei)}


def plan(trader: Trader, wallet: Wallet, *, wallet_wei: int, usdc_units: int, days: int) -> Funding:
    """Raises ValueError when the venue's addresses are not set."""
    environment = settings.ENVIRONMENT
    addresses = {
        "VENUE_TRADING_ADDRESS": environment.venue_trading_address,
        "VENUE_STORAGE_ADDRESS": environment.venue_storage_address,
        "USDC_ADDRESS": environment.usdc_address,
    }
    blank = [name for name, address in addresses.items() if not address]
    if blank:
        raise ValueError(f"not set: {', '.join(blank)}")
    # Whole days, so that the same command on the same day asks for the same delegation.
    expiry_s = (int(time.time()) // DAY_S + days) * DAY_S
    contracts = Contracts(
        trading=environment.venue_trading_address,
        storage=environment.venue_storage_address,
        usdc=environment.usdc_address,
    )
    return Funding(trader.address, wallet.address, contracts, wallet_wei, usdc_units, expiry_s)


def carry_out(funding: Funding) -> None:
    """Send all of it, the trader's own grants in the trader's guise. Only on the rehearsal chain.

    Raises ValueError on every other one, NodeUnreachableError, NodeRefusedError, TransactionFailedError.
    """
    node = Node(settings.ENVIRONMENT.rpc_urls[0])
    node.require_rehearsal()
    venue.equip(
        Guise(node, funding.trader),
        funding.contracts,
        funding.wallet,
        wallet_wei=funding.wallet_wei,
        usdc_units=funding.usdc_units,
        expiry_s=funding.expiry_s,
    )


def steps(funding: Funding) -> list[Step]:
    """The same as transactions that people send; asks nobody."""
    contracts = funding.contracts
    usdc = f"{plain(funding.usdc_units, USDC_DIGITS)} USDC"
    eth = f"{plain(funding.wallet_wei, ETH_DIGITS)} ETH"
    until = datetime.fromtimestamp(funding.expiry_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    approve = encode_approve(contracts.storage, funding.usdc_units)
    delegate = encode_set_delegate(funding.wallet, funding.expiry_s)
    return [
        Step("operator", funding.wallet, funding.wallet_wei, "", f"{eth} for gas to the delegate's wallet"),
        Step(
            "trader's funds",
            funding.trader,
            0,
            "",
            f"{usdc} (of {contracts.usdc}) and a little ETH for gas to the trader's own address",
        ),
        Step(
            funding.trader,
            contracts.usdc,
            0,
            f"0x{approve.hex()}",
            f"approve({contracts.storage}, {funding.usdc_units}): the storage may take {usdc} at most",
        ),
        Step(
            funding.trader,
            contracts.trading,
            0,
            f"0x{delegate.hex()}",
            f"setDelegate({funding.wallet}, {funding.expiry_s}): the wallet trades for the trader until {until}",
        ),
    ]


def facts(funding: Funding) -> dict[str, Any]:
    """What is the same in every answer; amounts as decimal strings."""
    return {
        "chain_id": settings.ENVIRONMENT.chain_id,
        "trader": funding.trader,
        "wallet": funding.wallet,
        "wallet_eth": plain(funding.wallet_wei, ETH_DIGITS),
        "usdc": plain(funding.usdc_units, USDC_DIGITS),
        "delegate_until": funding.expiry_s,
    }


def plain(units: int, digits: int) -> str:
    """An amount without zeros at its end, such as 12.5."""
    words = f"{from_units(units, digits):f}"
    return words.rstrip("0").rstrip(".") if "." in words else words
