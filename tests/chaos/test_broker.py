"""A worker keeps its places for messages through an outage of Redis, and reaches for Redis soon again."""

import pytest
from redis.exceptions import TimeoutError as NoAnswer

from tests.redis_outages import dead_redis, frozen_redis
from vanta.broker import Broker
from vanta.celery import app

QUEUE = "places"


def broker() -> Broker:
    found = app.connection_for_read()
    assert isinstance(found, Broker)
    return found


@pytest.mark.parametrize("verb", ["ack", "reject"])
def test_an_answer_that_redis_does_not_hear_frees_the_place(valkey: object, verb: str) -> None:
    with broker() as connection:
        connection.transport_options = {"socket_timeout": 0.3}
        queue = connection.SimpleQueue(QUEUE)
        queue.put("bell")
        message = queue.get(timeout=60)
        assert message.channel is not None
        qos = message.channel.qos
        qos.prefetch_count = 1
        assert not qos.can_consume()
        with frozen_redis(), pytest.raises(NoAnswer):
            getattr(message, verb)()
        assert qos.can_consume()


def test_a_lost_redis_is_looked_for_again_soon(valkey: object) -> None:
    pauses_s: list[float] = []

    def note(_: Exception, pause_s: float) -> None:
        pauses_s.append(pause_s)
        if len(pauses_s) == 2:
            raise EnoughError

    with dead_redis(), broker() as connection, pytest.raises(EnoughError):
        connection.ensure_connection(note)
    assert pauses_s == [0.5, 1.0]


class EnoughError(Exception):
    """Seen what was to be seen."""
