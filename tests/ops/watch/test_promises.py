"""The scrape of one process keeps the contract; tests/e2e/test_stack.py asks the same of a running stack."""

import pytest
import redis as redis_py
from django.test import Client

from execution_app.node import rpc
from tests import promises
from tests.ops.panel.rows import one_of_each


def test_a_scrape_keeps_every_promise(client: Client, database: None, valkey: redis_py.Redis) -> None:
    one_of_each()
    rpc.read("eth_chainId")
    client.get("/health/live")
    promises.hold(client.get("/metrics").content.decode())


@pytest.mark.parametrize(
    "text", ["# TYPE vanta_x counter\nvanta_x 1\n", "# TYPE vanta_y_total gauge\nvanta_y_total 1\n"]
)
def test_promtool_is_really_asked(text: str) -> None:
    with pytest.raises(AssertionError):
        promises.lint(text)
