"""Another process that does something beside the one that walks the road, with a session of the database of its own."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections

WITHIN_S = 3.0


def begin(work: Sequence[Callable[[], Any]]) -> int:
    """Returns its process id. It ends with the last of its work, and what it raises ends it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            connections["default"].connection = None
            for verb in work:
                verb()
            code = 0
        finally:
            os._exit(code)
    return pid


def has_ended(pid: int) -> bool:
    """Wait for its end, or until somebody waits for a lock, which the caller may have: then it goes on beside us."""
    clock = time.clock_gettime
    begun_s = clock(time.CLOCK_MONOTONIC)
    # By a session of its own: ours may be between a commit and what comes after it.
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value(), autocommit=True) as own:
        while clock(time.CLOCK_MONOTONIC) - begun_s < WITHIN_S:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
            if own.execute("SELECT FROM pg_locks WHERE NOT granted LIMIT 1").fetchone() is not None:
                return False
            time.sleep(0.01)
    return False
