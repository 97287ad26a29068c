"""The local gateway of a stack: whether it is wanted, where it listens, and what the processes are told of it."""

from collections.abc import Mapping

from ops.rehearsal import stack_env

PORT = 58546
NONE = 0  # no gateway: the keeper alone
ROADS = ("onchain", "gateway")
URL, CORE_URL = "VERANTA_BATCHED_MARKET_URL", "VERANTA_CORE_API_URL"


def road() -> str:
    """VENUE, as the caller has it. Raises ValueError for one that there is not."""
    found = stack_env.given("VENUE") or ROADS[0]
    if found not in ROADS:
        raise ValueError(f"VENUE must be {' or '.join(ROADS)}: {found!r}")
    return found


def port_of(free: int) -> int:
    """Where our gateway listens: nowhere unless it is wanted and nobody else's is named."""
    return free if road() == "gateway" and not stack_env.given(URL) else NONE


def variables(port: int) -> Mapping[str, str]:
    """What processes are told of ours, if there is one."""
    base = f"http://127.0.0.1:{port}"
    return {URL: f"{base}/batched-market", CORE_URL: f"{base}/core"} if port else {}
