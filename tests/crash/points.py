"""Points at which a process may die: before and after every commit, write, signature, request and bell.

The wrappers stand at the few functions that everything of that kind goes through,
only count, and run what they wrap as it is. Which place of the code is at work is
read from the stack and looked up in `sites`. They are put on in a forked child that
never returns, so nothing is taken off again.
"""

import os
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

from celery import Task
from django.db import connections

from execution_app import bells
from execution_app.node import gateway, rpc, signers
from tests.crash import power, sites
from tests.crash.sites import Site

PUBLISHED_WITHIN_S = 3.0


@lru_cache(maxsize=1)
def by_file() -> dict[str, list[Site]]:
    """Places by the path of their file; what is read before a fork need not be in every child."""
    found: dict[str, list[Site]] = defaultdict(list)
    for site in sites.inspect():
        found[str(sites.ROOT / site.file)].append(site)
    return dict(found)


class Points:
    """Counts points and dies by SIGKILL at occurrence `die_at` of label `label`; every point goes into the file first."""

    def __init__(self, said: int, label: str = "", die_at: int = 1) -> None:
        self._said = said
        self._label = label
        self._die_at = die_at
        self._reached: Counter[str] = Counter()
        self._within: set[str] = set()
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._aside = False
        self._meetings: dict[str, Callable[[], Any]] = {}
        self._by_file = by_file()

    def is_ours(self) -> bool:
        """The mode watch and whoever publishes are not on the road, nor is another process that was forked on it."""
        return not self._aside and threading.get_ident() == self._thread and os.getpid() == self._pid

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing is counted meanwhile."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def reach(self, side: str, name: str) -> None:
        if not self.is_ours():
            return
        label = f"{side} {name}"
        self._reached[label] += 1
        os.write(self._said, f"point {label}\n".encode())
        if label == self._label and self._reached[label] == self._die_at:
            power.fail()
            os.kill(os.getpid(), signal.SIGKILL)
        meeting = self._meetings.pop(label, None)
        if meeting is not None:
            with self.aside():
                meeting()

    def meet(self, label: str, work: Callable[[], Any]) -> None:
        """Somebody else does this once, when the road comes to this point."""
        self._meetings[label] = work

    def missed(self) -> list[str]:
        """Points at which somebody waited, and to which the road did not come."""
        return sorted(self._meetings)

    def note_within(self, name: str) -> None:
        """A write or an inner block: it happens at the commit around it or not at all."""
        if name not in self._within and self.is_ours():
            self._within.add(name)
            os.write(self._said, f"within {name}\n".encode())

    def around(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.reach("before", name)
        result = work(*args, **kwargs)
        self.reach("after", name)
        return result

    def find(self, *kinds: str) -> str:
        """The name of the place that is at work, by the innermost frame that stands in one of these kinds."""
        frame: FrameType | None = sys._getframe(1)
        nearest = ""
        while frame is not None:
            known = self._by_file.get(frame.f_code.co_filename)
            if known is not None:
                line = frame.f_lineno
                here = [s for s in known if s.kind in kinds and s.first_line <= line <= s.last_line]
                if here:
                    return min(here, key=lambda s: s.last_line - s.first_line).name
                function = frame.f_code.co_qualname.replace(".<locals>.<lambda>", "")
                same = [s for s in known if s.kind in kinds and s.function == function]
                nearest = nearest or (same[0].name if len(same) == 1 else "")
            frame = frame.f_back
        return nearest


def instrument(points: Points, rpc_url: str) -> None:
    """Count from now on, in this process, what goes to this node and to the default database."""
    power.watch()
    _count_commits(points)
    _count_requests(points, rpc_url)
    _count_posts(points)
    _count_bells(points)
    sign = signers.sign

    def counted(*args: Any, **kwargs: Any) -> Any:
        return points.around(points.find("sign") or "unknown:sign", sign, *args, **kwargs)

    signers.sign = counted


def _count_commits(points: Points) -> None:
    database: Any = connections["default"]
    commit, savepoint_commit = database._commit, database._savepoint_commit

    def counted() -> None:
        # Of several rows at once Django writes in a transaction of its own.
        points.around(points.find("commit") or points.find("write") or "unknown:commit", commit)

    def within(sid: str) -> None:
        points.note_within(points.find("commit"))
        savepoint_commit(sid)

    def statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not writes(sql):
            return execute(sql, params, many, context)
        name = points.find("write") or "unknown:write"
        if database.in_atomic_block:
            points.note_within(name)
            return execute(sql, params, many, context)
        return points.around(name, execute, sql, params, many, context)

    database._commit, database._savepoint_commit = counted, within
    database.execute_wrappers.append(statement)


@lru_cache(maxsize=4096)
def writes(sql: str) -> bool:
    """Whether it changes rows; the same statements come again and again."""
    return sites.WRITING_SQL.search(sql) is not None


def _count_requests(points: Points, rpc_url: str) -> None:
    post = rpc.Endpoint._post

    def counted(endpoint: rpc.Endpoint, body: Any) -> Any:
        if endpoint.url != rpc_url or not points.is_ours():
            return post(endpoint, body)
        return points.around(points.find("request") or "unknown:request", post, endpoint, body)

    rpc.Endpoint._post = counted  # type: ignore[method-assign, assignment]


def _count_posts(points: Points) -> None:
    for verb in sorted(sites.GATEWAY_VERBS):
        setattr(gateway, verb, _counting(points, getattr(gateway, verb)))


def _counting(points: Points, ask: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        return points.around(points.find("request") or "unknown:request", ask, *args, **kwargs)

    return counted


def _count_bells(points: Points) -> None:
    """A bell is put into the queue by the road, and published by another thread: three points, one after another."""
    put, publish = bells._pending.put_nowait, Task.apply_async
    may_publish, published = threading.Semaphore(0), threading.Semaphore(0)

    def counted(item: Any) -> None:
        name = points.find("bell") or "unknown:bell"
        points.around(name, put, item)
        may_publish.release()
        published.acquire(timeout=PUBLISHED_WITHIN_S)
        points.reach("after", _publishing())

    def gated(task: Any, *args: Any, **kwargs: Any) -> Any:
        may_publish.acquire(timeout=PUBLISHED_WITHIN_S)
        try:
            return publish(task, *args, **kwargs)
        finally:
            published.release()

    bells._pending.put_nowait = counted  # type: ignore[method-assign]
    Task.apply_async = gated  # type: ignore[method-assign, assignment]


def _publishing() -> str:
    return next((s.name for s in sites.inspect() if s.kind == "publish"), "unknown:publish")
