"""A slice of the tests on Hardhat's EDR, in a run of its own: another kind of node than the one they are written on."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.real_parts import ROOT

SLICE = (
    "tests/integration/tx/test_flush.py::test_forty_orders_through_lost_answers",
    "tests/integration/tx/test_bytes_that_did_not_arrive.py",
)
LIMIT_S = 1500

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


def test_a_slice_on_another_kind_of_node() -> None:
    """Where no npm is, a build machine fetches one, and nobody else waits for that."""
    if shutil.which("npm") is None and os.environ.get("CI") != "true":
        pytest.skip("npm is not installed (Debian: npm)")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *SLICE],
        cwd=ROOT,
        env=environ | {"TEST_NODE": "hardhat"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
