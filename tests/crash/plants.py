"""A harness that finds nothing proves nothing: each patch in `plants/` is a bug, and has to be found.

A patch is put on a copy of the code; the copy is walked, and judged by the same
checker as always. A patch may name scenarios to begin with, in a line before the
first `---`: `Scenarios: open; bump`. All others follow. Another line, `Found: I8|wrong end`, is a regular
expression that says as what it is to be found: anything else that goes wrong is not this bug.
"""

import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
            # With what is compiled, but for what somebody is writing just now.
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("*.pyc.*"))
        shutil.copy(ROOT / "manage.py", copy)
        (copy / "var").mkdir()
        for kept in ("tools", "tests"):
            (copy / "var" / kept).symlink_to(ROOT / "var" / kept)
        _put(patch, copy, _putting())
        _forget_compiled(patch, copy)
        yield copy


def check_applies(patch: Path) -> None:
    """Without putting it anywhere. Raises DoesNotApplyError."""
    _put(patch, ROOT, _trying())


def _put(patch: Path, where: Path, words: Sequence[str]) -> None:
    put = subprocess.run(
        [*words, str(patch.absolute())], cwd=where, capture_output=True, text=True, check=False
    )
    if put.returncode:
        raise DoesNotApplyError(f"{patch.name} does not apply any more:\n{put.stdout}{put.stderr}")


def _forget_compiled(patch: Path, copy: Path) -> None:
    """What was compiled of the files that the patch has changed, so that nothing but the bug is walked there."""
    for line in patch.read_text(encoding="utf-8").splitlines():
        if line.startswith("+++ b/"):
            changed = copy / line.removeprefix("+++ b/").partition("\t")[0]
            for compiled in (changed.parent / "__pycache__").glob(f"{changed.stem}.*.pyc"):
                compiled.unlink()


def _putting() -> list[str]:
    """Whichever of the two a machine has; neither forgives a line that has changed."""
    if shutil.which("patch"):
        return ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", "--input"]
    return ["git", "apply", "-p1"]


def _trying() -> list[str]:
    """As `_putting`, and nothing is written."""
    tool, *words = _putting()
    return [tool, "--dry-run", *words] if tool == "patch" else [tool, words[0], "--check", *words[1:]]


def hunt(
    patch: Path,
    logs: Path,
    seed: int,
    ended: threading.Event | None = None,
    *,
    database: Path | None = None,
    core: int | None = None,
) -> dict[str, Any]:
    """Walk the copy until something is wrong: first without a death, then with. `ended` set from elsewhere ends it.

    `database` is as a Pool takes it, and `core` its first.
    """
    begun_s = time.monotonic()
    said: dict[str, Any] = {"name": patch.stem, "caught": False, "after": 0, "by": "", "problem": ""}
    with planted(patch) as copy, Pool(1, copy, logs / patch.stem, database=database, first=core) as pool:
        pool.await_ready()
        for found in _walks(patch, pool, seed):
            said["after"] += 1
            if found["problem"]:
                said |= {"caught": is_found(patch, found["problem"]), "by": describe(found)}
                said["problem"] = found["problem"]
            if said["caught"] or (ended is not None and ended.is_set()):
                break
    return said | {"took_s": round(time.monotonic() - begun_s, 1)}


def _walks(patch: Path, pool: Pool, seed: int) -> Iterator[dict[str, Any]]:
    """Cheap ones first: each scenario by itself, then with troubles at the node, then deaths."""
    for roads in _roads(patch, pool.roads):
        explored = []
        for found in pool.run(plan.one_by_one(roads)):
            explored.append(found)
            yield found
        yield from pool.run(plan.jobs(plan.draw(explored, TRIALS, "", seed)))


def is_found(patch: Path, problem: str) -> bool:
    """Whether this is what the bug does. A stage that cannot be set tells of the harness, not of what it would judge."""
    expected = _line(patch, "Found")
    return not problem.startswith("stage:") and (not expected or re.search(expected, problem) is not None)


def _hints(patch: Path) -> list[str]:
    return [name.strip() for name in _line(patch, "Scenarios").split(";") if name.strip()]


def _line(patch: Path, word: str) -> str:
    """What a patch says of itself before its first `---`; blank where it says nothing."""
    for line in patch.read_text(encoding="utf-8").splitlines():
        if line.startswith("---"):
            break
        if line.startswith(f"{word}: "):
            return line.removeprefix(f"{word}: ")
    return ""


def _roads(patch: Path, known: Mapping[str, Sequence[str]]) -> list[dict[str, Sequence[str]]]:
    """The scenarios that the patch names, then all others."""
    hints = _hints(patch)
    assert set(hints) <= known.keys(), f"{patch.name}: no such scenario among {hints}"
    hinted = {name: known[name] for name in hints}
    return [hinted, {name: faults for name, faults in known.items() if name not in hinted}]


def run_all(
    jobs: int, logs: Path, seed: int, name: str = "", database: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Every plant, `jobs` of them side by side, each with a shard of its own."""
    ended = threading.Event()
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in range(jobs):
        cores.put(core)
    with ThreadPoolExecutor(jobs) as hunters:
        hunts = [
            hunters.submit(_hunt, patch, logs, seed, ended, cores, database=database)
            for patch in patches(name)
        ]
        try:
            for hunted in as_completed(hunts):
                found = hunted.result()
                say(f"plant {found['name']}: {'caught, ' + found['by'] if found['caught'] else 'NOT CAUGHT'}")
                yield found
        finally:
            ended.set()
            hunters.shutdown(cancel_futures=True)


def _hunt(
    patch: Path,
    logs: Path,
    seed: int,
    ended: threading.Event,
    cores: queue.SimpleQueue[int],
    *,
    database: Path | None,
) -> dict[str, Any]:
    """One that does not apply is not caught, and says why."""
    core = cores.get()
    try:
        return hunt(patch, logs, seed, ended, database=database, core=core)
    except DoesNotApplyError as error:
        say(str(error))
        return {
            "name": patch.stem,
            "caught": False,
            "after": 0,
            "by": "",
            "problem": str(error),
            "took_s": 0.0,
        }
    finally:
        cores.put(core)
