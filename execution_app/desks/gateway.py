"""The gateway's road: a delegate's signed messages, which the venue's operator submits; made and followed by the engine."""

from typing import Any

from execution_app.desks.onchain import OnChainDesk
from execution_app.states import Road
from execution_app.venues.interface import Submission


class GatewayDesk(OnChainDesk):
    """The same orders, holdings and book as on-chain: only the way to the venue is another."""

    name = "gateway"
    road = Road.GATEWAY

    def _take_down(self, key: str, **asked: Any) -> Submission:
        return super()._take_down(key, road=Road.GATEWAY.value, **asked)
