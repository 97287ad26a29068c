"""Ringing is best effort: a bell that is lost is found by the next sweep.

A dead or stopped Redis must not slow whoever rings, so a thread of this
process publishes, from a short queue; when the queue is full the bell is
dropped and said so.
"""

import queue
import threading
from typing import Any

import structlog
from celery import Task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

QUEUE_LIMIT = 1_000
# An unheard bell is worthless after this: the sweeps have rung again, and old ones would crowd out new. By the clock of
# whoever rings: a worker whose clock is further ahead hears the sweeps', which are rung by workers and by beat
# (`vanta/beat.py`, without a clock).
EXPIRES_S = 10

_pending: queue.Queue[tuple[Task[Any, Any], tuple[Any, ...]]] = queue.Queue(QUEUE_LIMIT)
_ringer: threading.Thread | None = None
_ringer_lock = threading.Lock()


def ring(task: Task[Any, Any], *args: Any) -> None:
    """Ask a worker to run the task soon. Never raises, never waits."""
    _ensure_ringer()
    try:
        _pending.put_nowait((task, args))
    except queue.Full:
        log.warning("bell dropped", task=task.name, why="queue full; the sweep will find the row")


def _ensure_ringer() -> None:
    global _ringer  # noqa: PLW0603  (one thread per process, also after a fork)
    if _ringer is not None and _ringer.is_alive():
        return
    with _ringer_lock:
        if _ringer is None or not _ringer.is_alive():
            _ringer = threading.Thread(target=_publish_forever, name="bells", daemon=True)
            _ringer.start()


def _publish_forever() -> None:
    while True:
        task, args = _pending.get()
        try:
            task.apply_async(args=args, expires=EXPIRES_S)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("bell lost", task=task.name, error=type(error).__name__)
