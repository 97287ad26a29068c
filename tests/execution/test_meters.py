"""Counters that say what happened, once each."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from execution_app import tasks
from execution_app.node import rpc
from tests.rig import Rig


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, name
    return found


def change(settings: Any, **fields: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)
    rpc.endpoints.cache_clear()


def test_a_look_at_the_venue_that_succeeds_is_no_error(rig: Rig) -> None:
    before = value("vanta_tpsl_errors_total")
    rig.intent()
    rig.run()
    tasks.compare_positions()
    assert value("vanta_tpsl_errors_total") == before


def test_a_look_that_no_node_answers_is_one_error(rig: Rig, settings: Any) -> None:
    before = value("vanta_tpsl_errors_total")
    change(settings, base_rpc_url="http://127.0.0.1:1")
    tasks.compare_positions()
    assert value("vanta_tpsl_errors_total") == before + 1
    rpc.endpoints.cache_clear()


def test_a_look_that_ends_in_something_nobody_foresaw_is_one_error(rig: Rig, settings: Any) -> None:
    rig.intent()
    rig.run()
    before = value("vanta_tpsl_errors_total")
    change(settings, venue_storage_address=rig.trader.address)  # answers, but not as a storage does
    with pytest.raises(ValueError, match="not the bytes of"):
        tasks.compare_positions()
    assert value("vanta_tpsl_errors_total") == before + 1
    rpc.endpoints.cache_clear()
