"""What a shard does once, so that each of the thousands of processes that it forks costs less.

A process that is forked from one which never ran the engine's code pays for every first time: modules that are
imported late, caches of libraries that fill, code that the interpreter makes faster while it runs. So a few roads are
walked in the parent. What they leave in modules of ours is taken away again: a child is as fresh as before. Then the
parent's memory is put into few large pages: to fork copies an entry for each page, twice a trial.
"""

import ctypes
import gc
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

from django.db import connection
from psycopg import _queries

from execution_app import bells
from tests.crash import points, trial
from tests.crash.bench import Bench
from tests.crash.roads import SCENARIOS

ROADS = ("open", "close", "bump", "stop, then resume")
OURS = frozenset({"execution_app", "signals_app", "ops", "vanta"})
LARGE_PAGE = 2 * 1024 * 1024
STATEMENTS = 4096
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # linux/mman.h


def make_ready(bench: Bench) -> None:
    """Afterwards the world is as `base`, and no stage is set."""
    # The library remembers how 128 statements are read; a road has more, so each was read again and again.
    _queries._query2pg_client = lru_cache(STATEMENTS)(_queries._query2pg_client_nocache)
    try:
        with _without_a_trace(), connection.execute_wrapper(_classify):
            for name in ROADS:
                _walk(bench, name)
    except Exception:  # noqa: BLE001  (of the engine's code, which is what is tried)
        # Whatever is wrong with a road, its own walk tells; here it only makes children dearer.
        traceback.print_exc()
    bench.take_back("base")
    gather_memory()


def _walk(bench: Bench, name: str) -> None:
    scenario = SCENARIOS[name]
    trial.set_stage(bench, scenario)
    bench.take_back()
    bench.go_on(scenario.mode)
    scenario.walk(bench)
    trial.judge(bench, scenario, finished=False)
    bench.start_process(scenario.mode)
    scenario.again(bench)
    bench.age()
    bench.sweep()
    bench.live_on_unseen()
    bench.live_on()
    trial.judge(bench, scenario)


def _classify(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """What a child asks of each statement is remembered from here on."""
    points.writes(sql)
    return execute(sql, params, many, context)


@contextmanager
def _without_a_trace() -> Iterator[None]:
    """Names of modules of ours mean what they meant, caches that were empty are empty, and no bell was rung."""
    before = {module: dict(vars(module)) for module in _modules()}
    filled = {id(cache) for cache in _caches() if cache.cache_info().currsize}
    # A thread that waits at a queue is not in a child, and would be woken there instead of the one that is.
    bells._pending, bells._ringer = queue.Queue(bells.QUEUE_LIMIT), threading.current_thread()
    try:
        yield
    finally:
        for module, names in before.items():
            for name, value in names.items():
                if getattr(module, name, None) is not value:
                    setattr(module, name, value)
        for cache in _caches():
            if id(cache) not in filled:
                cache.cache_clear()


def _modules() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in OURS]


def _caches() -> list[Any]:
    found = (value for module in _modules() for value in list(vars(module).values()))
    return list({id(one): one for one in found if callable(getattr(one, "cache_clear", None))}.values())


def gather_memory() -> None:
    """Where the kernel knows how; where it does not, nothing is lost but time."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    for first, last in _own_memory():
        advise(first, last - first, MADV_HUGEPAGE)
        advise(first, last - first, MADV_COLLAPSE)


def _own_memory() -> Iterator[tuple[int, int]]:
    """Private memory that is no file's and mostly in use, as whole large pages: the first byte's address and the end's."""
    with open("/proc/self/smaps", encoding="utf-8") as file:  # noqa: PTH123  (no file of a folder)
        lines = file.read().splitlines()
    first = last = 0
    for line in lines:
        words = line.split(maxsplit=5)
        if "-" in words[0]:
            span, rights, _, _, inode = words[:5]
            first, last = (int(address, 16) for address in span.split("-"))
            if rights[1] != "w" or rights[3] != "p" or inode != "0":
                first = last
        elif words[0] == "Rss:" and 2 * 1024 * int(words[1]) > last - first:
            begin, end = -(-first // LARGE_PAGE) * LARGE_PAGE, last // LARGE_PAGE * LARGE_PAGE
            if begin < end:
                yield begin, end
