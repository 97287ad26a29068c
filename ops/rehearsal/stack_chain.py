"""The rehearsal chain of a clone: its node, its contracts, its keeper, its faucet."""

import os
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ops.rehearsal import stack_commands, stack_env, stack_gateway, venue
from ops.rehearsal.deployment import Deployment, VenueMismatchError
from ops.rehearsal.parts import Anvil, PartError, port
from ops.rehearsal.parts.anvil import CHAIN_ID, chain_id
from ops.rehearsal.rpc import NodeRefusedError, NodeUnreachableError
from ops.rehearsal.stack_lock import StackLock, end_orphans, tag
from ops.rehearsal.supervisor import Service, StoppedError, Supervisor

CHAIN_PORT = 8545
# Account 9 of the well-known development mnemonic; nobody else uses it, so its nonces are the operator's own.
FAUCET_ADDRESS = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"
FAUCET_KEY = "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7103dff6d409c6"
# The live venue takes 40; a rehearsal also has to bear load. 40 here rehearses the refusal.
MAX_TRADES_PER_PAIR = "500"
FAUCET_WEI = 10_000 * 10**18
FAUCET_USDC_UNITS = 1_000_000 * 10**6
PUBLISHED = (
    "BASE_RPC_URL",
    "CHAIN_ID",
    "VENUE_TRADING_ADDRESS",
    "VENUE_STORAGE_ADDRESS",
    "USDC_ADDRESS",
    "VENUE_PRICE_AGGREGATOR_ADDRESS",
    "FAUCET_ADDRESS",
    "FAUCET_KEY",
)


class UsageError(RuntimeError):
    """What the operator asked for cannot be; the message says what to change. Nothing was started."""


@dataclass(frozen=True)
class ChainTerms:
    """What the environment may say about the rehearsal chain."""

    block_time_s: Decimal
    max_trades_per_pair: int

    @classmethod
    def from_environment(cls) -> "ChainTerms":
        """Raises UsageError."""
        block_time = os.environ.get("REHEARSAL_BLOCK_TIME_S", "").strip() or "2"
        trades = os.environ.get("REHEARSAL_MAX_TRADES_PER_PAIR", "").strip() or MAX_TRADES_PER_PAIR
        try:
            terms = cls(Decimal(block_time), int(trades))
        except (InvalidOperation, ValueError):
            terms = cls(Decimal(0), 0)
        if not terms.block_time_s.is_finite() or terms.block_time_s <= 0:
            raise UsageError(f"REHEARSAL_BLOCK_TIME_S must be above zero: {block_time!r}")
        if terms.max_trades_per_pair < 1:
            raise UsageError(f"REHEARSAL_MAX_TRADES_PER_PAIR must be at least 1: {trades!r}")
        return terms


def lock(folder: Path, verb: str) -> StackLock:
    """Held by whoever owns this clone's node, `make chain` or `make run`."""
    return StackLock(folder / "chain.lock", verb)


def node(folder: Path, at_port: int, terms: ChainTerms) -> Anvil:
    return Anvil(folder / "chain", at_port, tools=folder / "tools", block_time_s=float(terms.block_time_s))


def deployed(rpc_url: str, folder: Path, terms: ChainTerms) -> Deployment:
    """The venue on that chain, deployed when the clone has none. Raises PartError with the remedy."""
    try:
        return venue.ensure(rpc_url, folder / "chain.json", max_trades_per_pair=terms.max_trades_per_pair)
    except (VenueMismatchError, NodeUnreachableError, NodeRefusedError) as error:
        raise PartError(str(error)) from error


def require_chain_id() -> None:
    """Raises UsageError where the environment asks for another chain: nothing here may be taken for it."""
    wanted = stack_env.given("CHAIN_ID")
    if wanted not in {"", str(CHAIN_ID)}:
        raise UsageError(
            f"CHAIN_ID is {wanted}, and only the rehearsal chain {CHAIN_ID} is run here: `unset CHAIN_ID`. "
            "Other chains are for a deployment (docs/deployment.md)"
        )


def require_rehearsal(rpc_url: str) -> None:
    """Raises UsageError unless a node answers there with the rehearsal chain's id."""
    for url in rpc_url.split(","):
        found = chain_id(url.strip())
        if found is None:
            raise UsageError(
                f"BASE_RPC_URL: no node answers at {url.strip()}; start it, or `unset BASE_RPC_URL` for an embedded one "
                "(sourcing stack.env sets DATABASE_URL and REDIS_URL, too)"
            )
        if found != CHAIN_ID:
            raise UsageError(
                f"BASE_RPC_URL: {url.strip()} is chain {found}; `make run` trades on {CHAIN_ID} only, "
                "other chains are for a deployment"
            )


def run(folder: Path) -> int:
    """`make chain`: in the foreground until Ctrl-C. Raises UsageError, RunningError, PartError."""
    require_chain_id()
    terms = ChainTerms.from_environment()
    try:
        gateway_port = stack_gateway.port_of(port.next_free(stack_gateway.PORT))
    except ValueError as error:
        raise UsageError(str(error)) from None
    own = lock(folder, "chain")
    own.acquire()
    supervisor = Supervisor(folder, "chain.pids.json")
    try:
        end_orphans(folder, "chain")
        anvil = node(folder, CHAIN_PORT, terms)
        anvil.end_orphans()
        if not port.is_free(CHAIN_PORT):
            raise UsageError(f"port {CHAIN_PORT} is in use: stop what listens there, then `make chain` again")
        supervisor.listen()
        mark = tag(folder, "chain")
        supervisor.start(Service.of(anvil, stack_commands.STAGE_OF_CHAIN, mark))
        supervisor.every_tick(anvil.keep_copy)
        deployment = deployed(anvil.url, folder, terms)
        venue.fund(anvil.url, deployment, FAUCET_ADDRESS, FAUCET_WEI, FAUCET_USDC_UNITS)
        values = {
            "BASE_RPC_URL": anvil.url,
            "CHAIN_ID": str(CHAIN_ID),
            "FAUCET_ADDRESS": FAUCET_ADDRESS,
            "FAUCET_KEY": FAUCET_KEY,
            **stack_env.venue_variables(deployment),
            **stack_gateway.variables(gateway_port),
        }
        names = (*PUBLISHED, *stack_gateway.variables(gateway_port))
        stack_env.publish(folder / "chain.env", values, names)
        keeper = stack_commands.service(
            "keeper",
            dict(os.environ) | mark,
            rpc=anvil.url,
            deployment=folder / "chain.json",
            gateway_port=gateway_port,
        )
        supervisor.start(keeper)
        supervisor.say(
            f"chain {CHAIN_ID} at {anvil.url}, its addresses in {folder / 'chain.env'}; Ctrl-C stops it"
        )
        while True:
            supervisor.pause(1)
    except StoppedError:
        supervisor.say("stopping")
        return 0
    finally:
        supervisor.stop()
        own.release()
