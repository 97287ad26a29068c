"""The venue's own SDK, unmodified, pointed at a local gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from veranta_sdk import Veranta


@contextmanager
def client(url: str, trader: str, key: str | None = None) -> Iterator[Any]:
    """As a trader's delegate with a key, or as somebody who only looks."""
    sdk = Veranta(
        private_key=key,
        trader_address=trader,
        tx_builder_url=f"{url}/tx-builder",
        core_api_url=f"{url}/core",
        batched_market_url=f"{url}/batched-market",
        data_api_url=f"{url}/data",
        feed_url=f"{url}/feed",
        history_api_url=f"{url}/history",
        api_base_url=f"{url}/nowhere",
        relay_poll_interval_s=0.05,
        relay_poll_timeout_s=20.0,
    )
    try:
        yield sdk
    finally:
        sdk.close()
