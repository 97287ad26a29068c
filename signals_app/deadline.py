"""How long a request may wait for the database.

PostgreSQL's own timeouts do not help when PostgreSQL is frozen or the network
swallows packets: the client would wait on its socket for ever. So the socket
is shut from outside, which the driver reports as a lost connection.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Error as DriverError

log = structlog.get_logger(__name__)

HEALTH_CHECK_S = 0.7
TOTAL_S = 3.5
# What is left for the work even when connecting took nearly everything.
LEAST_S = 0.3


@contextlib.contextmanager
def database_deadline(total_s: float = TOTAL_S) -> Iterator[None]:
    """Let the block use the default database for `total_s` in all, then lose the connection under it.

    The loss reaches the block as django.db.OperationalError or InterfaceError.
    Connecting has its own limit in the settings (`connect_timeout`).
    """
    started_s = time.monotonic()
    # Not `django.db.connection`: to the thread that cuts, that is another connection.
    database = connections[DEFAULT_DB_ALIAS]
    if database.connection is not None and not database.in_atomic_block:
        with _cut_after(HEALTH_CHECK_S, database):
            database.close_if_health_check_failed()
    database.ensure_connection()
    left_s = max(total_s - (time.monotonic() - started_s), LEAST_S)
    with _cut_after(left_s, database), database.execute_wrapper(_let_go_of_what_is_lost):
        try:
            yield
        except (OperationalError, InterfaceError):
            # The next request shall find no connection rather than a dead one.
            if not database.in_atomic_block:
                database.close()
            raise


def _let_go_of_what_is_lost(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Close a lost connection while still inside its transaction block.

    The end of a block would otherwise connect anew, only to roll back what is
    gone, and against a database that is frozen that waits, too.
    """
    try:
        return execute(sql, params, many, context)
    except (OperationalError, InterfaceError):
        database: BaseDatabaseWrapper = context["connection"]
        if database.connection is not None and database.connection.closed:
            database.close()
        raise


@contextlib.contextmanager
def _cut_after(limit_s: float, database: BaseDatabaseWrapper) -> Iterator[None]:
    guard = threading.Lock()
    over = False

    def cut() -> None:
        with guard:
            if not over:
                log.warning("database too slow", limit_s=limit_s)
                _shut(database)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Once over, the connection may be another request's.
        with guard:
            over = True


def _shut(database: BaseDatabaseWrapper) -> None:
    """Shut the socket without closing its descriptor, which belongs to the driver's thread."""
    opened = database.connection
    if opened is None:
        return
    try:
        descriptor = os.dup(opened.pgconn.socket)
    except (DriverError, OSError):
        return  # closed meanwhile, so nobody waits on it
    with socket.socket(fileno=descriptor) as handle, contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
