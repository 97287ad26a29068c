"""The rig's node behind the proxy, with timers that the minute of tests/timers.py outlasts and a slow machine does not."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from execution_app.node import rpc
from tests import real_parts
from tests.proxy import Proxy, proxied
from tests.rig import Rig


@pytest.fixture
def node(rig: Rig, settings: Settings) -> Iterator[Proxy]:
    """What the engine believes to be its node."""
    with proxied(real_parts.anvil.url) as proxy:
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
            update={"base_rpc_url": proxy.url, "rebroadcast_after_s": 20, "bump_after_s": 40}
        )
        rpc.endpoints.cache_clear()
        yield proxy
        rpc.endpoints.cache_clear()
