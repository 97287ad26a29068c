"""The rehearsal venue on its chain: deploy it, find it again, fund and delegate accounts, set prices.

All of it refuses any chain but 31337. The owner and the keeper are anvil's development accounts, whose keys
everyone knows. Not for two processes at once: they would share the owner's nonce.
"""

from decimal import Decimal
from pathlib import Path
from typing import TypedDict, Unpack

import rlp  # type: ignore[import-untyped]
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from execution_app.venues.grants import encode_approve, encode_set_delegate
from execution_app.venues.onchain import (
    PAIRS,
    call_allowance,
    call_balance,
    call_delegate,
    read_delegate,
    read_uint,
)
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units
from ops.rehearsal.contracts import artefact, bytecode_hash
from ops.rehearsal.deployment import Contracts, Deployment, check, code_hash, load, record
from ops.rehearsal.rpc import Guise, Message, Node, Sender

# Accounts 0 and 1 of "test test test test test test test test test test test junk".
OWNER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
OPERATOR_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"

SEED_PRICES: dict[str, Decimal] = {
    "ETH-USD": Decimal(3500),
    "BTC-USD": Decimal(100_000),
    "SOL-USD": Decimal(200),
    "BNB-USD": Decimal(650),
    "DOGE-USD": Decimal("0.2"),
    "EUR-USD": Decimal("1.08"),
    "USD-JPY": Decimal(150),
    "GBP-USD": Decimal("1.27"),
    "XAG-USD": Decimal(30),
    "XAU-USD": Decimal(2600),
    "XRP-USD": Decimal("2.5"),
    "HYPE-USD": Decimal(30),
}
_CREATE_GAS = 6_000_000
_CALL_GAS = 200_000
_ETH_GAS = 21_000
_TRADER_WEI = 10**18  # the gas of a trader's own grants


class Terms(TypedDict, total=False):
    """What a deployment may choose; TERMS holds the rest."""

    min_notional_usdc: Decimal
    max_trades_per_pair: int
    max_pending_orders: int
    max_leverage_x: Decimal
    open_fee_bps: int
    close_fee_bps: int
    spread_pct: Decimal
    execution_fee_wei: int
    liquidity_usdc: Decimal


# The opening fee is 0 so that an order of 5 USDC is a stored trade of 5 USDC; the close bears both.
TERMS = Terms(
    min_notional_usdc=Decimal(5),
    max_trades_per_pair=40,
    max_pending_orders=200,
    max_leverage_x=Decimal(75),
    open_fee_bps=0,
    close_fee_bps=8,
    spread_pct=Decimal("0.01"),
    execution_fee_wei=350_000_000_000_000,
    liquidity_usdc=Decimal(100_000_000),
)


def deploy(rpc_url: str, **terms: Unpack[Terms]) -> Deployment:
    """Create the venue and seed its pairs, prices and liquidity, all in one run of the owner's nonces."""
    node = Node(rpc_url)
    node.require_rehearsal()
    owner, operator = Sender(node, OWNER_KEY), Sender(node, OPERATOR_KEY)
    full = completed(terms)
    nonce = owner.next_nonce()
    usdc, aggregator, storage, trading = (_created(owner.address, nonce + step) for step in range(4))
    receipts = owner.node.receipts(
        owner.send(
            [
                Message(None, artefact("USDC").creation_code(), _CREATE_GAS),
                Message(None, artefact("PriceAggregator").creation_code(), _CREATE_GAS),
                Message(None, artefact("TradingStorage").creation_code(usdc), _CREATE_GAS),
                Message(
                    None,
                    artefact("Trading").creation_code(
                        storage, aggregator, operator.address, _limits(full), _costs(full)
                    ),
                    _CREATE_GAS,
                ),
                Message(storage, artefact("TradingStorage").call("setTrading", trading), _CALL_GAS),
                _mint(usdc, storage, to_units(full["liquidity_usdc"], USDC_DIGITS, "liquidity_usdc")),
                *_pair_seeds(aggregator),
            ],
            first_nonce=nonce,
        )
    )
    return Deployment(
        chain_id=node.number("eth_chainId"),
        genesis_hash=node.genesis_hash(),
        deployed_at_block=int(receipts[0]["blockNumber"], 16),
        trading=trading,
        storage=storage,
        usdc=usdc,
        price_aggregator=aggregator,
        owner=owner.address,
        operator=operator.address,
        code_hash=code_hash(node, (trading, storage, usdc, aggregator)),
        bytecode_hash=bytecode_hash(),
    )


def ensure(rpc_url: str, path: Path, **terms: Unpack[Terms]) -> Deployment:
    """Return the deployment recorded at `path`; deploy and record one only where the file is absent.

    A recorded one gets the limits and costs of `terms`. Raises VenueMismatchError where file and chain disagree.
    """
    node = Node(rpc_url)
    node.require_rehearsal()
    if not path.exists():
        deployment = deploy(rpc_url, **terms)
        record(path, deployment)
        return deployment
    deployment = load(path)
    check(node, deployment, path)
    apply(node, deployment, completed(terms))
    return deployment


def fund(rpc_url: str, contracts: Contracts, address: str, eth_wei: int, usdc_units: int) -> None:
    """Bring an account's balances up to these amounts; balances above stay."""
    owner = _owner(rpc_url)
    lacking_wei = eth_wei - owner.node.number("eth_getBalance", address, "latest")
    lacking_usdc = usdc_units - read_uint(owner.node.call(contracts.usdc, call_balance(address)))
    messages = []
    if lacking_wei > 0:
        messages.append(Message(address, b"", _ETH_GAS, lacking_wei))
    if lacking_usdc > 0:
        messages.append(_mint(contracts.usdc, address, lacking_usdc))
    owner.transact(*messages)


def delegate(  # noqa: PLR0917 - what it takes to tie a trader to a delegate
    rpc_url: str,
    contracts: Contracts,
    trader_key: bytes | str,
    delegate_address: str,
    expiry: int,
    allowance_units: int,
) -> None:
    """Let the holder of this key `grant`."""
    grant(Sender(Node(rpc_url), trader_key), contracts, delegate_address, expiry, allowance_units)


def grant(
    trader: Sender | Guise, contracts: Contracts, delegate_address: str, expiry_s: int, allowance_units: int
) -> None:
    """Make the trader name a delegate until the unix second `expiry_s`, and allow the storage that much USDC.

    The allowance is set to this amount, also where trades have spent some of a former one: it is the most
    that the delegate can lose. What already is so costs no transaction.
    """
    node = trader.node
    node.require_rehearsal()
    approval = encode_approve(contracts.storage, allowance_units)
    messages = []
    allowance = read_uint(node.call(contracts.usdc, call_allowance(trader.address, contracts.storage)))
    if allowance != allowance_units:
        messages.append(Message(contracts.usdc, approval, _CALL_GAS))
    named = read_delegate(node.call(contracts.trading, call_delegate(trader.address)))
    if named != (to_checksum_address(delegate_address), expiry_s):
        data = encode_set_delegate(delegate_address, expiry_s)
        messages.append(Message(contracts.trading, data, _CALL_GAS))
    trader.transact(*messages)


def equip(
    trader: Sender | Guise,
    contracts: Contracts,
    wallet_address: str,
    *,
    wallet_wei: int,
    usdc_units: int,
    expiry_s: int,
) -> None:
    """Everything a trade needs: gas for the delegate's wallet, USDC for the trader, and the trader's grants."""
    fund(trader.node.url, contracts, trader.address, _TRADER_WEI, usdc_units)
    fund(trader.node.url, contracts, wallet_address, wallet_wei, 0)
    grant(trader, contracts, wallet_address, expiry_s, usdc_units)


def set_price(
    rpc_url: str, deployment: Deployment, symbol: str, price: Decimal, published_at: int = 0
) -> None:
    """Set a pair's price; `published_at` 0 keeps it fresh for ever, a unix second lets it age."""
    _owner(rpc_url).transact(_price(deployment.price_aggregator, symbol, price, published_at))


def set_market(
    rpc_url: str,
    deployment: Deployment,
    symbol: str,
    *,
    closed: bool = False,
    close_only: bool = False,
    next_open_s: int = 0,
    next_close_s: int = 0,
) -> None:
    """Say of a pair whether it is open, or to be closed only; times in unix seconds, 0 for none. By default it is open for ever."""
    market = (closed, close_only, next_open_s, next_close_s)
    data = artefact("PriceAggregator").call("setMarket", PAIRS[symbol], market)
    _owner(rpc_url).transact(Message(deployment.price_aggregator, data, _CALL_GAS))


def set_paused(rpc_url: str, deployment: Deployment, *, paused: bool) -> None:
    """Pause or resume orders; registered ones are still executed."""
    data = artefact("Trading").call("setPaused", paused)
    _owner(rpc_url).transact(Message(deployment.trading, data, _CALL_GAS))


def _owner(rpc_url: str) -> Sender:
    node = Node(rpc_url)
    node.require_rehearsal()
    return Sender(node, OWNER_KEY)


def completed(terms: Terms) -> Terms:
    """Fill up with TERMS; more trades a pair allow as many orders to wait."""
    full: Terms = {**TERMS, **terms}
    if "max_pending_orders" not in terms:
        full["max_pending_orders"] = max(full["max_pending_orders"], full["max_trades_per_pair"])
    return full


def _limits(terms: Terms) -> tuple[int, ...]:
    return (
        to_units(terms["min_notional_usdc"], USDC_DIGITS, "min_notional_usdc"),
        terms["max_trades_per_pair"],
        terms["max_pending_orders"],
        to_units(terms["max_leverage_x"], VENUE_DIGITS, "max_leverage_x"),
    )


def _costs(terms: Terms) -> tuple[int, ...]:
    return (
        terms["open_fee_bps"],
        terms["close_fee_bps"],
        to_units(terms["spread_pct"], VENUE_DIGITS, "spread_pct"),
        terms["execution_fee_wei"],
    )


def apply(node: Node, deployment: Deployment, terms: Terms) -> None:
    """Set the limits and costs that differ from those on the chain."""
    contract = artefact("Trading")
    messages = []
    for view, setter, wanted in (
        ("limits", "setLimits", _limits(terms)),
        ("costs", "setCosts", _costs(terms)),
    ):
        found = node.call(deployment.trading, contract.call(view))
        if [int.from_bytes(found[at : at + 32]) for at in range(0, len(found), 32)] != list(wanted):
            messages.append(Message(deployment.trading, contract.call(setter, wanted), _CALL_GAS))
    Sender(node, OWNER_KEY).transact(*messages)


def _pair_seeds(aggregator: str) -> list[Message]:
    contract = artefact("PriceAggregator")
    seeds = []
    for symbol, price in SEED_PRICES.items():
        data = contract.call("addPair", PAIRS[symbol], *symbol.split("-"))
        seeds += [Message(aggregator, data, _CALL_GAS), _price(aggregator, symbol, price, 0)]
    return seeds


def _price(aggregator: str, symbol: str, price: Decimal, published_at: int) -> Message:
    units = to_units(price, VENUE_DIGITS, "price")
    data = artefact("PriceAggregator").call("setPrice", PAIRS[symbol], units, published_at)
    return Message(aggregator, data, _CALL_GAS)


def _mint(usdc: str, receiver: str, units: int) -> Message:
    return Message(usdc, artefact("USDC").call("mint", receiver, units), _CALL_GAS)


def _created(creator: str, nonce: int) -> str:
    return to_checksum_address(keccak(rlp.encode([to_canonical_address(creator), nonce]))[-20:])
