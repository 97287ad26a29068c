"""Programs of the machine that tests ask for: without one a test is left out, and fails on a build machine."""

import os
import shutil
from typing import NoReturn

import pytest


def need(package: str, *programs: str) -> str:
    """The path of the first of these programs that is there; else pytest's last lines say what is missing."""
    found = next((path for path in map(shutil.which, programs) if path is not None), None)
    if found is None:
        leave_out(
            f"{programs[0]} is not installed (Debian: apt-get install --no-install-recommends {package})"
        )
    return found


def leave_out(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
