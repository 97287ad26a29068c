"""A harness that finds nothing proves nothing: each patch in `plants/` is a bug, and has to be found.

A patch is put on a copy of the code; the copy is walked, and judged by the same
checker as always. A patch may name scenarios to begin with, in a line before the
first `---`: `Scenarios: open; bump`. All others follow.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash import plan
from tests.crash.pool import Pool
from tests.crash.report import describe, say
from tests.crash.sites import ROOT

FOLDER = Path(__file__).with_name("plants")
COPIED = ("execution_app", "signals_app", "ops", "vanta", "tests", "config")
TRIALS = 400  # after which a bug counts as not found


class DoesNotApplyError(RuntimeError):
    """The code has moved away from under a patch: it has to be made anew."""


def patches(name: str = "") -> list[Path]:
    return [path for path in sorted(FOLDER.glob("*.patch")) if name in path.name]


@contextmanager
def planted(patch: Path) -> Iterator[Path]:
    """A copy of the code with the bug in it. Raises DoesNotApplyError."""
    with tempfile.TemporaryDirectory(prefix="vanta-plant-") as folder:
        copy = Path(folder) / "vanta"
        for part in COPIED:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "manage.py", copy)
        (copy / "var").mkdir()
        (copy / "var" / "tools").symlink_to(ROOT / "var" / "tools")
        put = subprocess.run(
            [*_putting(), str(patch.absolute())], cwd=copy, capture_output=True, text=True, check=False
        )
        if put.returncode:
            raise DoesNotApplyError(f"{patch.name} does not apply any more:\n{put.stdout}{put.stderr}")
        yield copy


def _putting() -> list[str]:
    """Whichever of the two a machine has; neither forgives a line that has changed."""
    if shutil.which("patch"):
        return ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", "--input"]
    return ["git", "apply", "-p1"]


def hunt(patch: Path, jobs: int, logs: Path, seed: int) -> dict[str, Any]:
    """Walk the copy until something is wrong: first without a death, then with."""
    said: dict[str, Any] = {"name": patch.stem, "caught": False, "after": 0, "by": "", "problem": ""}
    with planted(patch) as copy, Pool(jobs, copy, logs / patch.stem) as pool:
        pool.await_ready()
        for roads in _roads(patch, pool.roads):
            explored = []
            for found in pool.run(plan.explorations(roads)):
                said["after"] += 1
                explored.append(found)
                if found["problem"]:
                    return said | {"caught": True, "by": describe(found), "problem": found["problem"]}
            for found in pool.run(plan.jobs(plan.draw(explored, TRIALS, "", seed))):
                said["after"] += 1
                if found["problem"]:
                    return said | {"caught": True, "by": describe(found), "problem": found["problem"]}
    return said


def _hints(patch: Path) -> list[str]:
    for line in patch.read_text(encoding="utf-8").splitlines():
        if line.startswith("---"):
            break
        if line.startswith("Scenarios: "):
            return [name.strip() for name in line.removeprefix("Scenarios: ").split(";")]
    return []


def _roads(patch: Path, known: Mapping[str, Sequence[str]]) -> list[dict[str, Sequence[str]]]:
    """The scenarios that the patch names, then all others."""
    hints = _hints(patch)
    assert set(hints) <= known.keys(), f"{patch.name}: no such scenario among {hints}"
    hinted = {name: known[name] for name in hints}
    return [hinted, {name: faults for name, faults in known.items() if name not in hinted}]


def run_all(jobs: int, logs: Path, seed: int, name: str = "") -> Iterator[dict[str, Any]]:
    """Every plant, one after another. One that does not apply is not caught, and says why."""
    for patch in patches(name):
        try:
            found = hunt(patch, jobs, logs, seed)
        except DoesNotApplyError as error:
            found = {"name": patch.stem, "caught": False, "after": 0, "by": "", "problem": str(error)}
            say(str(error))
        say(f"plant {found['name']}: {'caught, ' + found['by'] if found['caught'] else 'NOT CAUGHT'}")
        yield found
