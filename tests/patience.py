"""A machine that loses a few seconds has lost no part: the product's limits of time, lengthened for whoever tests something else.

What the limits themselves are good for is asked where a test takes a part away and wants its `own_limits`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from execution_app.engine import broadcast, offers, remote_signing, restored
from execution_app.engine.gateway import posting, signing
from execution_app.gate import control, look, watch
from execution_app.node import chain_ids, feed, gateway, rpc
from execution_app.node import connections as dialled
from execution_app.node.breaker import Breaker, Rules
from signals_app import deadline, keyring

PATIENT_S = 30.0
LOOK_GOOD_FOR_S = 60.0
# Shorter than the minute that tests/timers.py lets pass.
TIMER_S = 45
TIMERS = {"rebroadcast_after_s": TIMER_S, "bump_after_s": TIMER_S, "rpc_slow_after_s": PATIENT_S}
LEASE_S = 45.0
# Of the engine, where there is a rig.
ENGINE = (
    (watch, "REDIS_TIMEOUT_S", 10.0),
    (broadcast, "SIMULATED_S", LEASE_S),
    *(
        (module, "LEASE_S", LEASE_S)
        for module in (control, broadcast, offers, remote_signing, posting, signing)
    ),
)
# Of the windows, whoever looks through them.
WINDOWS = (
    *((feed, name, PATIENT_S) for name in ("ANSWER_S", "WITHIN_S")),
    (feed, "RULES", replace(feed.RULES, slow_s=PATIENT_S)),
    *((gateway, name, PATIENT_S) for name in ("ACCEPT_S", "STATUS_S")),
    (gateway, "RULES", replace(gateway.RULES, slow_s=PATIENT_S)),
    (rpc, "READ_TIMEOUT_S", PATIENT_S),
    (restored, "REDIS_TIMEOUT_S", PATIENT_S),
    (keyring, "WAIT_S", PATIENT_S),
    (posting, "LISTEN_S", PATIENT_S),
    (inspect.unwrap(chain_ids.foreign), "__defaults__", (PATIENT_S,)),
)
_DATABASE = (
    (deadline, "HEALTH_CHECK_S", PATIENT_S),
    (inspect.unwrap(deadline.database_deadline), "__defaults__", (2 * PATIENT_S,)),
)
_OWN_OF_DATABASE = tuple((place, name, getattr(place, name)) for place, name, _ in _DATABASE)
CONNECT_S, OWN_CONNECT_S = int(PATIENT_S), 2
LOCK_TIMEOUT = "lock_timeout=5000", "lock_timeout=12000"  # shorter than a statement may last


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """Nothing that the engine watches is given up for a second or two that the machine has lost."""
    for module, name, value in ENGINE:
        patch.setattr(module, name, value)


def age_slowly(patch: pytest.MonkeyPatch) -> None:
    """What was seen is good for longer; a part that does not answer is noticed all the same."""
    limits = watch.limits
    patch.setattr(watch, "limits", lambda: replace(limits(), snapshot_age_s=LOOK_GOOD_FOR_S))
    patch.setattr(look, "RECONCILED_WITHIN_S", 600)


def look_long(patch: pytest.MonkeyPatch) -> None:
    """Who answers late has answered."""
    for place, name, value in (*WINDOWS, *_DATABASE):
        patch.setattr(place, name, value)
    patch.setitem(_options(), "connect_timeout", CONNECT_S)
    patch.setitem(_options(), "options", _options()["options"].replace(*LOCK_TIMEOUT))


@contextmanager
def own_limits_of_the_database() -> Iterator[None]:
    """While it does not answer."""
    with pytest.MonkeyPatch.context() as patch:
        for place, name, value in _OWN_OF_DATABASE:
            patch.setattr(place, name, value)
        patch.setitem(_options(), "connect_timeout", OWN_CONNECT_S)
        yield


def hurry(endpoint: rpc.Endpoint) -> None:
    """Do not wait long for this one alone, which does not answer; nor ask it soon again."""
    endpoint._pool = dialled.pool(endpoint._dials, rpc.CONNECT_TIMEOUT_S, 0.5)
    endpoint.breaker = Breaker(Rules(slow_s=0.4), endpoint._changed)


def _options() -> dict[str, Any]:
    found: dict[str, Any] = connections.settings["default"]["OPTIONS"]
    return found
