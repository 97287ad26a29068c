"""A desk of each kind over the real parts, and how its world goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from execution_app.desks.desk import Desk
from execution_app.desks.onchain import OnChainDesk
from execution_app.desks.paper import PaperDesk
from execution_app.models import Trader
from execution_app.venues.interface import Venue
from tests.rig import Rig, rpc_call


@dataclass
class World:
    """`go_on` lets everything happen that can; nothing else does."""

    rig: Rig
    desk: Desk

    @property
    def venue(self) -> Venue:
        """Typed so that the checker holds the desk against the interface."""
        desk: Venue = self.desk
        return desk

    def go_on(self) -> None:
        self.rig.run()
        self.rig.mine(4)
        self.rig.track()

    def sent(self) -> int:
        """Transactions that the node has seen of the wallet."""
        return int(rpc_call("eth_getTransactionCount", self.rig.wallet.address, "pending"), 16)


KINDS: dict[str, Callable[[Trader], Desk]] = {"onchain": OnChainDesk, "paper": PaperDesk}
