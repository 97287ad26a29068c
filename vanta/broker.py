"""Celery's way to Redis, so that a worker comes through any outage by itself.

They mend what no setting reaches; docs/adr/0003-celery.md has the measurements.
"""

import json
from typing import Any, Self

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import redis

LOOK = 100  # messages of a queue that are looked at


class Places(redis.QoS):
    """A worker's places for messages under way: an end frees its place even when Redis does not hear of it.

    Otherwise each acknowledgement that times out keeps its place for ever, and with one place per child
    the second one leaves a worker that is connected, alive, and never takes a message again. The message
    itself comes back after the visibility timeout, and its row is found done.
    """

    def ack(self, delivery_tag: str) -> None:
        super(redis.QoS, self).ack(delivery_tag)  # what frees the place, and asks nobody
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        super(redis.QoS, self).ack(delivery_tag)  # what frees the place, and asks nobody
        super().reject(delivery_tag, requeue)


class Channel(redis.Channel):
    QoS = Places

    def alike(self, queue: str, task: str) -> int:
        """How many messages for this task wait in the queue, among its newest LOOK."""
        with self.conn_or_acquire() as client:
            waiting = client.lrange(queue, 0, LOOK - 1)
        return sum(_task_of(raw) == task for raw in waiting)


def _task_of(raw: bytes | str) -> str:
    """Blank for what is no message of Celery's."""
    try:
        return str(json.loads(raw)["headers"]["task"])
    except (ValueError, TypeError, KeyError):
        return ""


class Transport(redis.Transport):
    Channel = Channel


class Broker(Connection):
    """Looks for a lost Redis at least every 2 s.

    By default the pauses grow to 30 s: after a minute without Redis nobody would follow the chain for
    another half.
    """

    def ensure_connection(self, *args: Any, **limits: Any) -> Self:
        pauses_s = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}
        return super().ensure_connection(*args, **{**pauses_s, **limits})

    def get_transport_cls(self) -> type[Any]:
        found: type[Any] = super().get_transport_cls()
        return Transport if found is redis.Transport else found


class Amqp(AMQP):
    """Where Celery takes its connections from."""

    Connection = Broker
