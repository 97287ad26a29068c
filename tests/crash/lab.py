"""The bench of one process, over parts of its own: a database, a Redis and a node that nobody else uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from execution_app.gate import watch
from execution_app.node import rpc
from execution_app.tasks import submit
from ops.rehearsal.gateway.server import Gateway
from tests import patience, real_parts
from tests.crash.bench import TIMERS, Bench
from tests.crash.door import Door
from tests.crash.lent import lent
from tests.crash.liar import Liar
from tests.crash.store import Store
from tests.rig import Rig
from vanta.celery import app

# What it does beside our statements; the store vacuums by itself.
QUIET = {"autovacuum": "off", "jit": "off", "checkpoint_timeout": "1h", "max_wal_size": "4GB"}


@contextmanager
def bench() -> Iterator[Bench]:
    """Django is set up, and the database is this process's own. Its tables are as migrations leave them."""
    call_command("migrate", verbosity=0)
    _spare_the_server()
    client = redis.Redis.from_url(real_parts.valkey.url, decode_responses=True)
    usual = settings.ENVIRONMENT
    with (
        pytest.MonkeyPatch.context() as patch,
        Door(real_parts.anvil.url) as door,
        Gateway(real_parts.anvil.url, real_parts.deployment) as gateway,
        Liar(real_parts.anvil.url) as liar,
        Liar(real_parts.anvil.url) as witness,
    ):
        urls = {
            "veranta_batched_market_url": f"{gateway.url}/batched-market",
            "veranta_core_api_url": f"{gateway.url}/core",
        }
        settings.ENVIRONMENT = usual.model_copy(update={"base_rpc_url": door.url, **urls, **TIMERS})
        rpc.endpoints.cache_clear()
        # Only `look` makes new what is known of the mode, and no road ends anything by waiting.
        for lengthen in (patience.age_slowly, patience.be_patient, patience.look_long):
            lengthen(patch)
        built = Bench(Rig(client), door, Store(client), gateway, (liar, witness))
        app.finalize()
        with app.connection_for_write() as broker:
            assert broker.transport.driver_type == "redis"
            # Nobody hears it; what is looked up for the first bell is known to every child.
            submit.apply_async((0,), connection=broker)  # type: ignore[call-arg]
        try:
            built.build()
            yield built
        finally:
            watch.stop()
            built.rig.close()
            settings.ENVIRONMENT = usual
            rpc.endpoints.cache_clear()
            lent.end()
            connection.close()
            client.close()


def _spare_the_server() -> None:
    with connection.cursor() as cursor:
        for setting, value in QUIET.items():
            cursor.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        cursor.execute("SELECT pg_reload_conf()")
