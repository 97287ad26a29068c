"""A few orders of moves in `make test`, the same each time; `make model EXAMPLES=200` tries new ones."""

import os

import pytest
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test
from pytest_django.fixtures import Settings

from execution_app.node import rpc
from tests import patience, real_parts
from tests.model.machine import Machine
from tests.proxy import proxied

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
FIXED, STEPS = 4, 30


@pytest.mark.timeout(300 + 60 * EXAMPLES)
def test_any_order_of_moves(database: None, settings: Settings) -> None:
    with proxied(real_parts.anvil.url) as node, pytest.MonkeyPatch.context() as patch:
        patience.age_slowly(patch)
        patience.be_patient(patch)
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
            update={"base_rpc_url": node.url, "rebroadcast_after_s": 1, "bump_after_s": 2}
        )
        rpc.endpoints.cache_clear()
        Machine.node = node
        try:
            run_state_machine_as_test(Machine, settings=_settings())
        finally:
            rpc.endpoints.cache_clear()


def _settings() -> bounds:
    return bounds(
        max_examples=EXAMPLES or FIXED,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        verbosity=Verbosity.normal,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
