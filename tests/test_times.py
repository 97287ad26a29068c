"""Times of the database are read by the compiled reader, and are what Django's own reader makes of them."""

from datetime import UTC, datetime

import psycopg
import pytest
from django.db import DataError, connection
from psycopg.pq import Format

from vanta import times

pytestmark = pytest.mark.django_db
MOMENTS = (
    "2026-11-29 05:31:36.123456+00",
    "2026-11-29 07:31:36+02",
    "0001-01-01 00:00:00+00",
    "2000-02-29 23:59:59.9+00",
)


@pytest.mark.parametrize("text", MOMENTS)
def test_a_time_is_read_as_it_is_in_utc(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz, ARRAY[%s]::timestamptz[], NULL::timestamptz", [text, text])
        found, several, nothing = cursor.fetchone()
    assert found == several[0] == datetime.fromisoformat(text)
    assert found.tzinfo is several[0].tzinfo is UTC
    assert nothing is None


def test_every_connection_reads_so_and_says_what_no_python_time_is() -> None:
    connection.ensure_connection()
    oid = psycopg.adapters.types["timestamptz"].oid
    assert connection.connection is not None
    assert connection.connection.adapters.get_loader(oid, Format.TEXT) is times._Times
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'infinity'::timestamptz")
        with pytest.raises(DataError):
            cursor.fetchone()
