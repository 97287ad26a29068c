"""`make price`: move a price of the running rehearsal chain, and see levels fire and resting orders fill."""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path

from execution_app.venues import onchain
from ops.rehearsal import venue
from ops.rehearsal.deployment import Deployment, VenueMismatchError, load
from ops.rehearsal.parts.part import PartError
from ops.rehearsal.rpc import Node, NodeRefusedError, NodeUnreachableError, TransactionFailedError
from ops.rehearsal.stack_chain import CHAIN_PORT, UsageError
from ops.rehearsal.stack_env import given

MOST_USD = Decimal(10) ** 12  # what the rehearsal venue's storage packs
PLACES = 10


def run(folder: Path, symbol: str | None, usd: str | None) -> int:
    """Set the price where one is given, then print every price. Raises UsageError and PartError."""
    wanted = None if symbol is None else _wanted(symbol, usd)
    try:
        deployment, url = load(folder / "chain.json"), _rpc_url(folder)
        if wanted is not None:
            venue.set_price(url, deployment, *wanted)
        for name in sorted(onchain.PAIRS, key=lambda one: onchain.PAIRS[one]):
            _print(Node(url), deployment, name)
    except FileNotFoundError:
        raise UsageError("no chain was started here yet; `make run` or `make chain` does") from None
    except (NodeUnreachableError, NodeRefusedError, TransactionFailedError, VenueMismatchError) as fault:
        raise PartError(f"the rehearsal chain does not take it: {fault}") from fault
    return 0


def _rpc_url(folder: Path) -> str:
    """The caller's node, or where the stack of this folder has its own."""
    ports = folder / "ports.json"
    port = json.loads(ports.read_text())["anvil"] if ports.exists() else CHAIN_PORT
    return given("BASE_RPC_URL").partition(",")[0] or f"http://127.0.0.1:{port}"


def _wanted(symbol: str, usd: str | None) -> tuple[str, Decimal]:
    if symbol not in onchain.PAIRS:
        raise UsageError(f"symbol: {symbol!r} is none of {', '.join(sorted(onchain.PAIRS))}")
    try:
        price = Decimal(usd or "")
    except InvalidOperation:
        raise UsageError(f"usd: {usd!r} is no price, such as 95000 or 0.1234") from None
    if not price.is_finite() or not 0 < price < MOST_USD or price != round(price, PLACES):
        raise UsageError(f"usd: above 0, below {MOST_USD:,} and with {PLACES} decimals at most, not {usd!r}")
    return symbol, price


def _print(node: Node, deployment: Deployment, symbol: str) -> None:
    data = onchain.call_price(onchain.PAIRS[symbol])
    try:
        price, _ = onchain.read_price(node.call(deployment.price_aggregator, data))
    except ValueError:
        return  # a pair that this deployment does not list
    print(f"{symbol:<8} {price.normalize():>16,f} USD")
