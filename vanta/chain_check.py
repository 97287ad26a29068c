"""The question that every process which executes or serves asks once, before it begins."""

from django.conf import settings

from execution_app.node import chain_ids
from vanta.environment import Misconfigured


def refuse_other_chains() -> None:
    """Raise Misconfigured when an endpoint says that it is on another chain than CHAIN_ID.

    A node that does not answer keeps nobody from starting: /health says so, and the gate stays closed
    until chain and database have been compared. No URL is in the message, since keys stand in them.
    """
    foreign = chain_ids.foreign()
    if foreign:
        lines = "".join(
            f"\n  - endpoint {position} says {chain_id}" for position, chain_id in foreign.items()
        )
        raise Misconfigured(
            f"Vanta does not start; CHAIN_ID is {settings.ENVIRONMENT.chain_id}, but of BASE_RPC_URL{lines}"
        )
