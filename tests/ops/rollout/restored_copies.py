"""What the tests of restores share: restores of the run's own database, and what they leave behind taken away."""

from collections.abc import Iterator

import pytest
from django.db import connection

from ops.rollout import postgres_tools
from ops.rollout.postgres_tools import Place


def beside() -> list[str]:
    """Databases that a restore made or set aside."""
    name = Place.configured().name
    with Place.configured().connected() as session:
        found = session.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [f"{name}_"]
        ).fetchall()
    return [str(row[0]) for row in found]


@pytest.fixture
def aside(database: None) -> Iterator[None]:
    """Databases that were set aside are dropped after the test."""
    yield
    connection.close()
    with Place.configured().connected() as session:
        for name in beside():
            postgres_tools.drop(session, name)
