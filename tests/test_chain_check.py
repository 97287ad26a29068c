"""A node of another chain stops a start; a node that is away, or talks nonsense, does not."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution_app.node import chain_ids
from ops.rehearsal import stack_commands
from ops.rehearsal.parts import port
from ops.rehearsal.parts.process import Child
from tests import real_parts
from tests.test_environment import DRY, VENUE
from vanta import chain_check
from vanta.environment import Misconfigured

CLOSED = "http://127.0.0.1:1"
KEY = "key-that-stands-in-the-url"
SAYS = "Vanta does not start; CHAIN_ID is 8453, but of BASE_RPC_URL\n  - endpoint 1 says 31337\n"
WITHIN_S = 150


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def use(settings: Any, chain_id: int, *urls: str) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"chain_id": chain_id, "base_rpc_url": ",".join(urls)}
    )


def test_every_endpoint_is_asked_and_the_foreign_ones_are_named(settings: Any) -> None:
    here = real_parts.anvil.url
    use(settings, 8453, CLOSED, f"{here}?{KEY}", f"{here}/{KEY}")
    with pytest.raises(Misconfigured) as caught:
        chain_check.refuse_other_chains()
    assert "CHAIN_ID is 8453" in str(caught.value)
    assert "endpoint 1 says 31337" in str(caught.value)
    assert "endpoint 0" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_right_chain_starts(settings: Any) -> None:
    use(settings, 31337, real_parts.anvil.url, CLOSED)
    chain_check.refuse_other_chains()


def test_who_is_silent_has_said_nothing_and_costs_the_patience_once(settings: Any, silent: str) -> None:
    use(settings, 8453, silent, CLOSED, f"{silent}/again", postgres_url())
    begun_s, asked = time.monotonic(), silent_ones()
    assert chain_ids.foreign(patience_s=0.5) == {}
    assert time.monotonic() - begun_s >= 0.5
    assert silent_ones() - asked == 2, "both at once, and nobody waits for them any more"


def silent_ones() -> int:
    """Threads that still wait for an endpoint that says nothing."""
    return [thread.name for thread in threading.enumerate()].count("chain-id")


def test_a_silent_endpoint_does_not_hide_a_foreign_one(settings: Any, silent: str) -> None:
    use(settings, 8453, silent, real_parts.anvil.url)
    assert chain_ids.foreign(patience_s=6) == {1: 31337}


def postgres_url() -> str:
    """A server that answers, but not in JSON-RPC."""
    return real_parts.postgres.url.replace("postgresql://", "http://").partition("?")[0]


@pytest.mark.parametrize("name", ["webhook", "worker", "tpsl", "beat"])
def test_no_process_begins_on_another_chain(name: str, tmp_path: Path, django_db_setup: None) -> None:
    at = port.any_free()
    env = {
        **DRY,
        **VENUE,
        "DATABASE_URL": real_parts.postgres.url,
        "REDIS_URL": real_parts.valkey.url,
        "BASE_RPC_URL": f"{CLOSED},{real_parts.anvil.url}?{KEY}",
    }
    log = tmp_path / f"{name}.log"
    child = Child(stack_commands.service(name, env, port=at).command(), log)
    with contextlib.ExitStack() as after:
        after.callback(child.stop, 10)
        deadline_s = time.monotonic() + WITHIN_S
        # The webhook's parent restarts a child that ended, once at least; it never serves.
        while child.is_alive and not (name == "webhook" and SAYS in log.read_text()):
            assert time.monotonic() < deadline_s, log.read_text()[-2000:]
            time.sleep(0.05)
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", at), 1) as line,
        ):
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            line.settimeout(2)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                assert line.recv(1) == b""
    assert SAYS in log.read_text()
    assert KEY not in log.read_text()
    assert child.exit_code != 0 or name == "webhook"
