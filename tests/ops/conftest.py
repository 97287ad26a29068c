"""What the tests of the control room share."""

import inspect
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import connections

from ops.panel.home import box, wallets
from ops.rehearsal.rpc import Node, NodeRefusedError
from ops.watch import gauges, health, readiness
from tests import real_parts
from tests.patience import age_slowly, be_patient

PARTS = (gauges, health, readiness, wallets)
PROBES = (*health.PROBES, *gauges.PROBES, readiness._PROBE, wallets.ALLOWANCES)
PATIENT_S = 30.0
BOX_WITHIN_MS = 10_000
HEARTBEAT_WITHIN_S = 45  # less than the minute after which tests say that one is old


@pytest.fixture(autouse=True)
def look_anew(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test sees what another one saw a moment ago, and no look outlives the test that began it.

    An answer comes in time even while a part hangs; the look itself ends later,
    and must have ended before the database is taken away.
    """
    if "database" in request.fixturenames:
        request.getfixturevalue("database")
    for part in PARTS:
        part.forget()
    yield
    for part in PARTS:
        part.forget()


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that loses a second has lost no part; where one hangs, the product's own limits hold."""
    if "own_limits" in request.fixturenames:
        return
    be_patient(monkeypatch)
    age_slowly(monkeypatch)
    monkeypatch.setattr(inspect.unwrap(box.bounded), "__defaults__", (BOX_WITHIN_MS,))
    for probe in PROBES:
        monkeypatch.setattr(probe, "_patience_s", PATIENT_S)
    monkeypatch.setattr(health, "TIMEOUT_S", PATIENT_S)
    monkeypatch.setattr(health, "HEARTBEAT_WITHIN_S", HEARTBEAT_WITHIN_S)
    monkeypatch.setattr(gauges, "REDIS_TIMEOUT_S", PATIENT_S)


@pytest.fixture(autouse=True)
def fresh_head() -> None:
    """The tests' chain mines only when asked, and a head that stands still is a fault that health names."""
    node = Node(real_parts.anvil.url)
    # Taking the chain back after a test takes its clock back, too.
    with suppress(NodeRefusedError):  # the head may be of this very second already
        node.request("evm_setNextBlockTimestamp", hex(int(time.time())))
    node.request("anvil_mine", "0x1")


@pytest.fixture
def database_away(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing listens where the database should be."""
    kept = connections["default"].settings_dict["PORT"]
    connections["default"].close()
    monkeypatch.setitem(connections.settings["default"], "PORT", "1")
    connections["default"].settings_dict["PORT"] = "1"
    yield
    connections["default"].close()
    connections["default"].settings_dict["PORT"] = kept
