"""Points at which a process may die: around every commit, every RPC request, every signature, every bell.

The wrappers only count; what they wrap runs as it is. They are put on in a
forked child that never returns, so nothing is taken off again.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

from execution_app import bells
from execution_app.node import rpc, signers

WRITES = ("INSERT", "UPDATE", "DELETE")


class Points:
    """Counts points and dies by SIGKILL at number `die_at`; every label goes into the pipe first."""

    def __init__(self, die_at: int, pipe: int) -> None:
        self.reached = 0
        self._die_at = die_at
        self._pipe = pipe
        self._thread = threading.get_ident()

    def reach(self, label: str) -> None:
        if threading.get_ident() != self._thread:
            return  # the mode watch and the bell ringer are not on the road
        self.reached += 1
        os.write(self._pipe, f"point {label}\n".encode())
        if self.reached == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, label: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.reach(f"before {label}")
        result = work(*args, **kwargs)
        self.reach(f"after {label}")
        return result


def instrument(points: Points, rpc_url: str) -> None:
    """Count from now on, in this process, what goes to this node and to the default database."""
    _count_commits(points)
    _count_requests(points, rpc_url)
    sign = signers.sign
    signers.sign = lambda slot, fee: points.around(f"sign nonce {slot.nonce}", sign, slot, fee)
    ring = bells._pending.put_nowait
    bells._pending.put_nowait = lambda item: points.around(f"bell {item[0].name.split('.')[-1]}", ring, item)  # type: ignore[method-assign]


def _count_commits(points: Points) -> None:
    database = connections["default"]
    commit = database._commit  # type: ignore[attr-defined]
    database._commit = lambda: points.around("commit", commit)  # type: ignore[attr-defined]

    def statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        verb, _, rest = sql.lstrip().partition(" ")
        if verb.upper() not in WRITES or database.in_atomic_block:
            return execute(sql, params, many, context)
        table = rest.replace('"', "").replace("INTO ", "").replace("FROM ", "").split(" ", 1)[0]
        return points.around(f"{verb.lower()} {table}", execute, sql, params, many, context)

    database.execute_wrappers.append(statement)


def _count_requests(points: Points, rpc_url: str) -> None:
    post = rpc.Endpoint._post

    def counted(endpoint: rpc.Endpoint, body: Any) -> Any:
        if endpoint.url != rpc_url:
            return post(endpoint, body)
        calls = body if isinstance(body, list) else [body]
        name = calls[0]["method"] + (f" and {len(calls) - 1} more" if len(calls) > 1 else "")
        return points.around(name, post, endpoint, body)

    rpc.Endpoint._post = counted  # type: ignore[method-assign, assignment]
