"""The local gateway of a stack: where it listens, and what the processes are told of it.

Its feed and its catalogue are served on either road, orders are taken where VENUE says so.
"""

import os
from collections.abc import Mapping

from ops.rehearsal import stack_env

PORT = 58546
NONE = 0  # no gateway: the keeper alone
ROADS = ("onchain", "gateway")
URL, CORE_URL = "VERANTA_BATCHED_MARKET_URL", "VERANTA_CORE_API_URL"
READ = {"VERANTA_FEED_URL": "feed", "VERANTA_DATA_API_URL": "data"}


def road() -> str:
    """VENUE, as the caller has it. Raises ValueError for one that there is not."""
    found = stack_env.given("VENUE") or ROADS[0]
    if found not in ROADS:
        raise ValueError(f"VENUE must be {' or '.join(ROADS)}: {found!r}")
    return found


def port_of(free: int) -> int:
    """Where our gateway listens: nowhere where somebody else's are named for all that ours would be asked."""
    return free if variables(free) else NONE


def variables(port: int) -> Mapping[str, str]:
    """What processes are told of ours, if there is one.

    A feed or a catalogue that the caller names stands, also a blank one: then there is none.
    """
    if not port:
        return {}
    base = f"http://127.0.0.1:{port}"
    found = {name: f"{base}/{path}" for name, path in READ.items() if name not in os.environ}
    if road() == "gateway" and not stack_env.given(URL):
        found |= {URL: f"{base}/batched-market", CORE_URL: f"{base}/core"}
    return found
