"""PostgreSQL takes no more signals."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.alerts.ground import Ground

OFFERS, EVERY_S = 20, 0.5


def play(ground: Ground) -> None:
    """Signals are answered 503, and then taken; everything else goes on."""
    with _no_signal_fits(ground):
        ground.ledger.injected(
            "VantaHttpErrors",
            "PostgreSQL refuses each row of a signal with disk_full, so signals are answered 503",
        )
        for number in range(OFFERS):
            assert ground.client.offer(f"full-{number}", max_lag_s=1) == 503
            time.sleep(EVERY_S)
        ground.await_told("VantaHttpErrors")
    ground.signal()


@contextmanager
def _no_signal_fits(ground: Ground) -> Iterator[None]:
    with psycopg.connect(ground.stack.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION nothing_fits() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER nothing_fits BEFORE INSERT ON signals FOR EACH ROW EXECUTE FUNCTION nothing_fits()"
        )
        try:
            yield
        finally:
            connection.execute("DROP FUNCTION nothing_fits() CASCADE")
