"""The bench: a rig whose node is behind the proxy, with short timers."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from execution_app.gate import watch
from execution_app.node import rpc
from tests import real_parts
from tests.crash.bench import Bench
from tests.proxy import proxied
from tests.rig import Rig
from vanta.celery import app


@pytest.fixture
def bench(rig: Rig, settings: Settings) -> Iterator[Bench]:
    with proxied(real_parts.anvil.url) as proxy:
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
            update={"base_rpc_url": proxy.url, "rebroadcast_after_s": 1, "bump_after_s": 2}
        )
        rpc.endpoints.cache_clear()
        watch.stop()
        bench = Bench(rig, proxy)
        # What is imported here need not be in every child.
        bench.client.get("/health/live")
        app.finalize()
        with app.connection_for_write() as connection:
            assert connection.transport.driver_type == "redis"
        yield bench
        rpc.endpoints.cache_clear()
