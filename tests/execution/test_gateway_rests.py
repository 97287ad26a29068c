"""The gateway's breaker: one that hangs, or fails again and again, is not asked for a while; an answer ends that."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from execution_app.errors import Retryable
from execution_app.node import gateway
from execution_app.node.breaker import BreakerState, Rules
from execution_app.node.gateway import UnknownOrderError
from execution_app.venues.gateway import Offer
from ops.rehearsal.gateway.server import Gateway
from tests import real_parts
from tests.feeds import scripted

WELL_BEFORE_ITS_END_S = 15.0  # a server that drips does so for 20 s
ORDER = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gateway, "ACCEPT_S", 0.3)
    monkeypatch.setattr(gateway, "STATUS_S", 0.3)
    monkeypatch.setattr(gateway, "RULES", Rules(faults=3, slow_s=0.2, rest_s=3600.0))
    gateway.breaker.cache_clear()
    yield
    gateway.breaker.cache_clear()


def be_patient(monkeypatch: pytest.MonkeyPatch, rules: Rules) -> None:
    """With one that answers: however late, it is no hang."""
    monkeypatch.setattr(gateway, "ACCEPT_S", 30.0)
    monkeypatch.setattr(gateway, "STATUS_S", 30.0)
    monkeypatch.setattr(gateway, "RULES", rules)
    gateway.breaker.cache_clear()


def lead_to(settings: Any, url: str) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"veranta_batched_market_url": url})


@pytest.fixture
def silent(settings: Any) -> Iterator[socket.socket]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        lead_to(settings, f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_one_hang_is_enough(silent: socket.socket) -> None:
    assert not gateway.rests()
    assert gateway.post(Offer(b"{}")).is_fault
    assert gateway.rests()
    assert gateway.post_all([Offer(b"{}")], lambda: True) == [None]
    with pytest.raises(Retryable, match="rests"):
        gateway.status(ORDER, -1)


def test_a_status_that_hangs_counts_as_well(silent: socket.socket) -> None:
    with pytest.raises(Retryable, match="no status"):
        gateway.status(ORDER, -1)
    assert gateway.rests()


def test_one_that_drips_is_a_hang(settings: Any) -> None:
    """Each byte comes in time, and none is the last: whoever asks has a chain to follow."""
    with scripted() as dripping:
        dripping.drip_s = 0.05
        lead_to(settings, dripping.url)
        begun_s = time.monotonic()
        with pytest.raises(Retryable, match="no status"):
            gateway.status(ORDER, -1)
        assert time.monotonic() - begun_s < WELL_BEFORE_ITS_END_S
    assert gateway.rests()


def test_refused_connections_count_three_times(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lead_to(settings, f"http://127.0.0.1:{port}")
    for left in (True, True, False):
        gateway.post(Offer(b"{}"))
        assert gateway.rests() is not left


def test_what_is_refused_is_an_answer_and_what_is_busy_is_none(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch, Rules(faults=3, slow_s=60.0, rest_s=3600.0))
    with Gateway(real_parts.anvil.url, real_parts.deployment) as served:
        lead_to(settings, f"{served.url}/batched-market")
        for _ in range(4):
            gateway.post(Offer(b"{}"))
        assert not gateway.rests()
        served.faults.set({"refuse_next": 3, "refuse_status": 429})
        for _ in range(3):
            gateway.post(Offer(b"{}"))
        assert gateway.rests()


def test_when_its_rest_is_over_one_answer_opens_the_way(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch, Rules(faults=3, slow_s=60.0, rest_s=0.0))
    with Gateway(real_parts.anvil.url, real_parts.deployment) as served:
        lead_to(settings, f"{served.url}/batched-market")
        served.faults.refuse_next = 3
        for _ in range(3):
            gateway.post(Offer(b"{}"))
        assert gateway.breaker().state() is BreakerState.OPEN
        with pytest.raises(UnknownOrderError):
            gateway.status(ORDER, -1)
        assert gateway.breaker().state() is BreakerState.CLOSED
