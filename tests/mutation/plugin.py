"""What stands in pytest's loop in a worker's processes: it watches tests, or shows them a mutant."""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType

import pytest

from tests.mutation.passes import Passed, Probes
from tests.mutation.stopwatch import Stopwatch

Index = dict[tuple[str, str, int], list[FunctionType]]


class Loop:
    """Runs `main(session)` where pytest would run its tests."""

    def __init__(self, main: Callable[["pytest.Session"], None]) -> None:
        self._main = main

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._main(session)
        return True


class Verdict:
    """Whether a test failed in any of its parts; the worker's log says how."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            sys.stdout.write(f"\n{report.nodeid}: {getattr(crash, 'message', report.longrepr)!s:.400}\n")


def run(session: pytest.Session, names: Sequence[str], begin: Callable[[str], None]) -> str:
    """Run these tests in this order until one fails; its name, or blank. What they opened is closed.

    `begin` is told each test before it runs.
    """
    known = {item.nodeid: item for item in session.items}
    items = [known[name] for name in names if name in known]
    verdict = Verdict()
    session.config.pluginmanager.register(verdict)
    _begin(session, items)
    for at, item in enumerate(items):
        following = items[at + 1] if at + 1 < len(items) else None
        begin(item.nodeid)
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if verdict.failed:
            if following is not None:
                session._setupstate.teardown_exact(None)
            return item.nodeid
    return ""


def watch(
    session: pytest.Session,
    names: Sequence[str],
    probes: Probes,
    index: Index,
    *,
    stopwatch: Stopwatch,
    begin: Callable[[str], None],
) -> dict[str, Passed]:
    """Run these tests, each to its end, and say where it came by. For a process that ends afterwards."""
    for source, probed in probes.codes():
        for function, _ in source.functions:
            swap = fitting(index, function, source.code, probed)
            if swap is not None:
                swap()
    known = {item.nodeid: item for item in session.items}
    items = [known[name] for name in names]
    watched = {}
    _begin(session, items)
    for at, item in enumerate(items):
        verdict = Verdict()
        session.config.pluginmanager.register(verdict)
        probes.take()
        begin(item.nodeid)
        begun_s = time.monotonic()
        stopwatch.begin()
        following = items[at + 1] if at + 1 < len(items) else None
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds = round(time.monotonic() - begun_s, 3)
        session.config.pluginmanager.unregister(verdict)
        costs_s = round(stopwatch.costs_s(), 3)
        watched[item.nodeid] = Passed(seconds, not verdict.failed, probes.take(), costs_s)
    return watched


def _begin(session: pytest.Session, items: Sequence[pytest.Item]) -> None:
    """The test that ran before the fork left open what the one after it there would have shared."""
    if items:
        session._setupstate.teardown_exact(items[0])


def indexed(files: set[str]) -> Index:
    """Every function of these files that is alive, by file, qualified name and first line."""
    index: Index = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in files:
            code = one.__code__
            index.setdefault((code.co_filename, code.co_qualname, code.co_firstlineno), []).append(one)
    return index


def fitting(index: Index, function: str, before: CodeType, after: CodeType) -> Callable[[], None] | None:
    """How to give every living copy of the function its mutated code; None where none lives or it does not fit."""
    old, new = within(before, function), within(after, function)
    alive = index.get((old.co_filename, old.co_qualname, old.co_firstlineno), [])
    if not alive or old.co_freevars != new.co_freevars:
        return None

    def swap() -> None:
        for one in alive:
            one.__code__ = new

    return swap


def within(code: CodeType, function: str) -> CodeType:
    """The code of an outermost function. The last of a name wins, as it does when a module is executed."""
    for name in function.split("."):
        found = [one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name]
        if not found:
            raise KeyError(function)
        code = found[-1]
    return code


def arguments(*more: str) -> list[str]:
    """Of every pytest here. Tracebacks are for nobody, and their making costs more than a test."""
    return [
        "-q",
        "--tb=no",
        "--no-header",
        "--no-summary",
        "-p",
        "no:xdist",
        "-p",
        "no:randomly",
        "-s",
        *more,
    ]
