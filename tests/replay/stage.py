"""A rig whose positions are simulated, outside of a test run."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind
from tests import real_parts
from tests.rig import Rig


@contextmanager
def in_dry() -> Iterator[Rig]:
    client = redis.Redis.from_url(real_parts.valkey.url, decode_responses=True)
    rig = Rig(client)
    try:
        rig.build()
        control.impose(RestrictionKind.DRY, Origin.HTTP, by="replay", reason="replay")
        yield rig
    finally:
        rig.close()
        client.close()
