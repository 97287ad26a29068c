import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from signals_app.keyring import KEYRING
from tests.signals.sender import Elsewhere


@pytest.fixture(autouse=True)
def _no_keys_of_another_test() -> None:
    KEYRING.forget()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Run calls one after another in one other thread, which has a database connection of its own."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda call: thread.submit(call).result(timeout=60)
        thread.submit(connections.close_all).result(timeout=60)


@pytest.fixture
def closed_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
