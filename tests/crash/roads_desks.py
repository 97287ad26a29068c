"""Roads of orders that are asked for at a desk, not by a signal: the asker asks again under the same key."""

from decimal import Decimal

from execution_app.desks.onchain import OnChainDesk
from execution_app.desks.paper import PaperDesk
from execution_app.venues.interface import OpenRequest
from tests.crash.bench import Bench
from tests.crash.scenario import FILLED, Scenario, one_of

ASK = OpenRequest(
    key="desk:one", symbol="BTC-USD", is_long=True, collateral_usdc=Decimal(5), leverage_x=Decimal(2)
)


def _ask_onchain(bench: Bench) -> None:
    bench.look()
    OnChainDesk(bench.rig.trader).open(ASK)


def _ask_paper(bench: Bench) -> None:
    bench.look()
    PaperDesk(bench.rig.trader).open(ASK)


def _onchain(bench: Bench) -> None:
    _ask_onchain(bench)
    bench.submit()
    bench.live_on()


ROADS = [
    Scenario("desk", _onchain, _ask_onchain, {"desk:one": FILLED}, left=1, faults=("lost", "reset")),
    Scenario("paper desk", _ask_paper, _ask_paper, {"desk:one": one_of("simulated")}, left=0),
]
