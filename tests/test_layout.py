"""The layout holds: imports point one way, files stay short, none is homeless."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.real_parts import ROOT

ROOMS = ("vanta", "ops", "signals_app", "execution_app", "tests")
MAX_LINES = 320
MAX_TEST_LINES = 400  # tables of cases are read by the line, not by the page
BANNED = {"utils", "helpers", "common", "services", "misc"}


def files() -> list[Path]:
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted(path for path in found if "migrations" not in path.parts)


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_short_and_is_named_for_its_noun(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    limit = MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES
    assert lines <= limit, f"{path} has {lines} lines"
    assert path.stem not in BANNED


def test_every_test_file_has_a_test() -> None:
    empty = [
        path for path in files() if path.name.startswith("test_") and "def test_" not in path.read_text()
    ]
    assert empty == []


def test_nothing_lies_outside_the_rooms() -> None:
    outside = {path.name for path in ROOT.glob("*.py")} - {"manage.py"}
    assert outside == set()


def test_no_command_looks_at_all_pages_before_it_does_anything() -> None:
    """Django's checks take a second of every start, also of `manage.py stop`; `make check` runs them."""
    ours = [(name, app) for name, app in get_commands().items() if str(app).partition(".")[0] in ROOMS]
    assert {"stop", "drill", "source", "seed_rehearsal"} <= {name for name, _ in ours}
    slow = [name for name, app in ours if load_command_class(str(app), name).requires_system_checks]
    assert slow == ["migrate"], "what changes the schema may look first"
