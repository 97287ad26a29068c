"""Work that goes on in processes of its own beside a test, as workers do it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import structlog
from django.db import InterfaceError, OperationalError, connections

from execution_app.errors import Retryable
from execution_app.gate import watch
from execution_app.node import rpc

log = structlog.get_logger(__name__)
FORK = multiprocessing.get_context("fork")
READY_S = 15
TRIES = 4


@contextmanager
def processes(*works: Callable[[], None]) -> Iterator[list[int]]:
    """Each work again and again in a process of its own, until the block ends. One that fails fails the test.

    Yields their process ids, in the order of the works.
    """
    ended = FORK.Event()
    watch.stop()
    connections.close_all()
    running: list[ForkProcess] = []
    try:
        running += (_begin(work, ended) for work in works)
        yield [process.pid or 0 for process in running]
    finally:
        ended.set()
        for process in running:
            process.join(60)
    assert [process.exitcode for process in running] == [0] * len(works), (
        "a worker failed; its words are above"
    )


def _begin(work: Callable[[], None], ended: Event) -> ForkProcess:
    """A process that watches the mode. This one has threads, whose locks a child may inherit: then another is made."""
    for _ in range(TRIES):
        ready = FORK.Event()
        process = FORK.Process(target=_again_and_again, args=(work, ready, ended), daemon=True)
        process.start()
        if ready.wait(READY_S):
            return process
        process.kill()
        process.join()
    raise AssertionError(f"{TRIES} processes never looked at the mode")


def _again_and_again(work: Callable[[], None], ready: Event, ended: Event) -> None:
    connections.close_all()
    rpc.endpoints.cache_clear()
    watcher = watch.start("worker")
    while watcher.snapshot is None:
        ended.wait(0.02)
    ready.set()
    while not ended.is_set():
        try:
            work()
        except (Retryable, OperationalError, InterfaceError) as problem:
            # As the doors do: the rows are as they were, and the next bell tries again.
            log.warning("waits", problem=f"{type(problem).__name__}: {problem}".strip())
    watch.stop()
    connections.close_all()
