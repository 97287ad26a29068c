"""Beat's scheduler: no bell is rung while others like it wait unheard.

What waits is looked for where it waits. A time at which a bell is worthless would be told by beat's clock and judged by
the worker's: one that is two seconds ahead would drop every bell, the sweep's too, and nothing would be done at all.
"""

from typing import Any

import structlog
from django_celery_beat.schedulers import DatabaseScheduler
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
# One that is about to be heard, and one for what happens meanwhile.
MOST_ALIKE = 2


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
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
