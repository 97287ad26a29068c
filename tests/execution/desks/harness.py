"""A desk of each kind over the real parts, and how its world goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from execution_app.desks.desk import Desk
from execution_app.desks.gateway import GatewayDesk
from execution_app.desks.onchain import OnChainDesk
from execution_app.desks.paper import PaperDesk
from execution_app.models import Trader
from execution_app.venues.interface import Venue
from ops.rehearsal.gateway.server import Gateway
from tests import real_parts
from tests.rig import Rig, rpc_call


@dataclass
class World:
    """`go_on` lets everything happen that can; nothing else does. `gateway` is the venue's, where the desk has one."""

    rig: Rig
    desk: Desk
    gateway: Gateway | None = None

    @property
    def venue(self) -> Venue:
        """Typed so that the checker holds the desk against the interface."""
        desk: Venue = self.desk
        return desk

    def go_on(self) -> None:
        if self.gateway is None:
            self.rig.run()
        else:
            run(self.rig, self.gateway)
        self.rig.mine(4)
        self.rig.track()

    def sent(self) -> int:
        """What the node has seen of the wallet, and the gateway of anybody."""
        posted = len(self.gateway.posts) if self.gateway is not None else 0
        return posted + int(rpc_call("eth_getTransactionCount", self.rig.wallet.address, "pending"), 16)


@contextmanager
def served(settings: Any) -> Iterator[Gateway]:
    """A gateway over the test's chain, which this process posts to."""
    with Gateway(real_parts.anvil.url, real_parts.deployment) as gateway:
        urls = {
            "veranta_batched_market_url": f"{gateway.url}/batched-market",
            "veranta_core_api_url": f"{gateway.url}/core",
        }
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=urls)
        yield gateway


def operate(gateway: Gateway) -> None:
    """The operator submits what it accepted, each in a block, and looks at what became of it."""
    rpc_call("evm_setAutomine", True)
    gateway.step()
    gateway.step()
    rpc_call("evm_setAutomine", False)


def run(rig: Rig, gateway: Gateway) -> None:
    """As `Rig.run` with an operator between."""
    rig.submit()
    operate(gateway)
    rig.mine()
    rig.track()
    rig.keep()
    gateway.operator.step()
    rig.track()
    rig.mine(4)
    rig.track()


KINDS: dict[str, Callable[[Trader], Desk]] = {
    "gateway": GatewayDesk,
    "onchain": OnChainDesk,
    "paper": PaperDesk,
}
