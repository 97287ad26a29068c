"""Ways in which the real Redis fails, each undone at the end, and waiting for what follows."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis as redis_py

from execution_app.gate import watch
from tests import real_parts


@contextmanager
def frozen_redis() -> Iterator[None]:
    """SIGSTOP: it accepts connections and answers nothing, as a hung host does."""
    pid = real_parts.valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def dead_redis() -> Iterator[None]:
    """SIGKILL: connections are refused until it is started again over its own file."""
    real_parts.valkey.kill()
    try:
        yield
    finally:
        real_parts.valkey.start()


def flush() -> None:
    """Everything in Redis is gone: queues, mode, epoch."""
    client = redis_py.Redis.from_url(real_parts.valkey.url)
    client.flushall()
    client.close()


def eventually(holds: Callable[[], bool], within_s: float = 60) -> float:
    """Wait until it holds; returns how long that took."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < within_s, watch.view()
        time.sleep(0.01)
    return time.monotonic() - began_s


def await_mode(mode: str) -> float:
    return eventually(lambda: watch.view().mode == mode)
