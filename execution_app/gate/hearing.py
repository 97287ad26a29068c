"""A worker that is there and hears no bells: alive for every check, and of no use.

Whatever made it so, its main process cannot mend it. A child of its pool notices that
nothing is handed out any more although everything needed for it is there, and ends the
main process, so that whoever supervises it starts another. Nothing is lost by that: no
task is under way, and rows hold the work.
"""

import os
import signal
import time
from datetime import timedelta

import structlog
from django.db.models.functions import Now

from execution_app.gate import beats
from execution_app.models import Heartbeat

log = structlog.get_logger(__name__)

# Beat rings several times a second, for the quietest queue every 5 s.
DEAF_AFTER_S = 20.0
BEAT_WITHIN_S = 10.0
GRACE_S = 3.0


class Hearing:
    """Judged by one child's watching thread; not for two threads."""

    def __init__(self) -> None:
        self._main_pid = os.getppid()
        self._there_since_s: float | None = None
        self._asked_at_s: float | None = None

    def check(self, *, redis_is_healthy: bool) -> None:
        """End the main process once it is deaf: asked first, then by force. Raises DatabaseError."""
        now_s = time.monotonic()
        if not redis_is_healthy:
            self._there_since_s = None
            return
        if self._there_since_s is None:
            self._there_since_s = now_s
        silent_s = min(beats.idle_s(), now_s - self._there_since_s)
        if silent_s < DEAF_AFTER_S or os.getppid() != self._main_pid:
            self._asked_at_s = None
            return
        if self._asked_at_s is None:
            if not _beat_rings():
                return
            self._asked_at_s = now_s
            log.error("this worker hears no bells; it ends, to be started again", silent_s=round(silent_s))
            os.kill(self._main_pid, signal.SIGTERM)
        elif now_s - self._asked_at_s > GRACE_S:
            os.kill(self._main_pid, signal.SIGKILL)


def _beat_rings() -> bool:
    """Whether there is somebody to be heard, and has been for as long as nothing was."""
    beat = Heartbeat.objects.filter(component="beat", at__gt=Now() - timedelta(seconds=BEAT_WITHIN_S))
    return beat.filter(started_at__lt=Now() - timedelta(seconds=DEAF_AFTER_S)).exists()
