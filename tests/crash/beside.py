"""Another process that does something beside the one that walks the road, with a session of the database of its own."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections

from execution_app.errors import Retryable
from execution_app.node.rpc import NodeError

WITHIN_S = 3.0


def begin(work: Sequence[Callable[[], Any]]) -> int:
    """Returns its process id. It ends with the last of its work; what it raises ends it, is told and counts as a fault.

    But for what a task is called again for: a process that walks the road ends with that, too.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            connections["default"].connection = None
            for verb in work:
                verb()
            code = 0
        except (Retryable, NodeError):
            code = 0
        except BaseException:  # noqa: BLE001  (a child must not return into whoever forked it, whatever happened)
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
        finally:
            os._exit(code)
    return pid


def await_end(pid: int) -> None:
    """Wait for its end. Raises AssertionError where it did not do what it was to."""
    _judge(os.waitpid(pid, 0)[1])


def _judge(status: int) -> None:
    assert status == 0, f"the other process ended with status {status}; what it raised is in the shard's log"


def has_ended(pid: int) -> bool:
    """Wait for its end, or until somebody waits for a lock, which the caller may have: then it goes on beside us.

    Raises AssertionError where it did not do what it was to.
    """
    clock = time.clock_gettime
    begun_s = clock(time.CLOCK_MONOTONIC)
    # By a session of its own: ours may be between a commit and what comes after it.
    with psycopg.connect(settings.ENVIRONMENT.database_url.get_secret_value(), autocommit=True) as own:
        while clock(time.CLOCK_MONOTONIC) - begun_s < WITHIN_S:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _judge(status)
                return True
            if own.execute("SELECT FROM pg_locks WHERE NOT granted LIMIT 1").fetchone() is not None:
                return False
            time.sleep(0.01)
    return False
