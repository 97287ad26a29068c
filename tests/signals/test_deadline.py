"""A database that accepts connections and then says nothing must not hold a sender."""

import time
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connections

from signals_app.deadline import TOTAL_S
from signals_app.models import Signal
from tests.database_outages import Proxy
from tests.signals.sender import Elsewhere, get_trace, open_body, post

pytestmark = pytest.mark.usefixtures("database", "own_limits")

GENEROUS_S = 12.0  # never the minutes of a socket without a deadline
TOO_SLOW = "database too slow"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    proxy = Proxy(int(str(settings.DATABASES["default"]["PORT"])))
    monkeypatch.setitem(connections.settings["default"], "PORT", proxy.port)
    yield proxy
    proxy.close()


def test_a_frozen_database_is_told_within_the_deadline_and_comes_back(
    proxy: Proxy, elsewhere: Elsewhere
) -> None:
    assert elsewhere(lambda: post(open_body())).status_code == 202
    proxy.freeze()
    lost = open_body()
    for _ in range(2):  # once over the open connection, once while connecting
        began_s = time.monotonic()
        answer = elsewhere(lambda: post(lost))
        assert time.monotonic() - began_s < GENEROUS_S
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    proxy.thaw()
    assert elsewhere(lambda: post(lost)).status_code in {200, 202}
    assert elsewhere(lambda: post(lost)).status_code == 200


def test_nobody_waits_longer_than_promised() -> None:
    assert TOTAL_S <= 3.5


def test_a_lock_held_for_long_is_not_waited_for_without_end(
    elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    """The server itself would give the lock up later: it is the deadline that ends this."""
    body = open_body()
    with connections["default"].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE signals IN ACCESS EXCLUSIVE MODE")
        caplog.clear()
        answer = elsewhere(lambda: post(body))
        cursor.execute("ROLLBACK")
    assert answer.status_code == 503
    assert TOO_SLOW in [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    # The server may finish the statement of a sender that is gone: stored or not, never twice.
    assert elsewhere(lambda: post(body)).status_code in {200, 202}
    assert Signal.objects.count() == 1


def test_the_trace_keeps_the_deadline_too(proxy: Proxy, elsewhere: Elsewhere) -> None:
    proxy.freeze()
    began_s = time.monotonic()
    assert elsewhere(lambda: get_trace("/signals/drill/a")).status_code == 503
    assert time.monotonic() - began_s < GENEROUS_S
