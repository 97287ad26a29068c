"""Beat's scheduler: no bell is rung while others like it wait unheard.

What waits is looked for where it waits. A time at which a bell is worthless would be told by beat's clock and judged by
the worker's: one that is two seconds ahead would drop every bell, the sweep's too, and nothing would be done at all.

Nor does a clock that was set back silence it. By Celery's own reckoning no bell is due before that clock has caught up:
nobody would follow the chain or watch a level until then, while beat is alive for every check, and to start it anew helps nothing.
"""

import time
from typing import Any

import structlog
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from vanta.schedule import LONG_AGO

log = structlog.get_logger(__name__)
# One that is about to be heard, and one for what happens meanwhile.
MOST_ALIKE = 2


class Bell(ModelEntry):  # type: ignore[misc]
    """A row of the schedule, as beat keeps it in mind."""

    last_run_at: Any

    def is_due(self) -> Any:
        """What was last rung in the future was rung before the clock was set back, or by a beat whose clock is ahead: it is due."""
        if self.last_run_at > self._default_now():
            self.last_run_at = LONG_AGO
        return super().is_due()


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    Entry = Bell
    _heap: Any
    _ticked_at_s = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Ring what is due, by when each was rung last and not by when it was to be next, where the clock was set back since."""
        now_s = time.time()
        if now_s < self._ticked_at_s:
            log.warning("the clock was set back", by_s=round(self._ticked_at_s - now_s, 3))
            self._heap = None
        self._ticked_at_s = now_s
        return super().tick(*args, **kwargs)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Ring, unless enough of the same wait already: after an outage workers find those, and no backlog."""
        try:
            waiting = self._waiting(entry)
        except (RedisError, OperationalError, OSError) as problem:
            # Ringing says itself what is wrong.
            log.debug("nobody says what waits", bell=entry.name, problem=type(problem).__name__)
            waiting = 0
        if waiting >= MOST_ALIKE:
            log.debug("not rung: others like it wait", bell=entry.name, waiting=waiting)
            return
        super().apply_entry(entry, producer)

    def _waiting(self, entry: Any) -> int:
        queue = self.app.amqp.router.route(dict(entry.options), entry.task)["queue"]
        return int(self.producer.channel.alike(queue.name, entry.task))
