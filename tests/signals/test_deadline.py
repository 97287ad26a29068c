"""A database that accepts connections and then says nothing must not hold a sender."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connections

from signals_app.models import Signal
from tests.signals.sender import Elsewhere, get_trace, open_body, post

pytestmark = pytest.mark.usefixtures("database")

LIMIT_S = 4.5  # 3.5 s, what a busy machine adds, and never the minutes of a socket without a deadline


class Proxy:
    """Before PostgreSQL: passes bytes both ways until it is frozen, then swallows them."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._thawed = threading.Event()
        self._thawed.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def close(self) -> None:
        self.thaw()
        for opened in (self._listener, *self._sockets):
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while part := source.recv(65_536):
                self._thawed.wait()
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


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
        assert time.monotonic() - began_s < LIMIT_S
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    proxy.thaw()
    assert elsewhere(lambda: post(lost)).status_code in {200, 202}
    assert elsewhere(lambda: post(lost)).status_code == 200


def test_a_lock_held_for_long_is_not_waited_for_without_end(elsewhere: Elsewhere) -> None:
    body = open_body()
    with connections["default"].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE signals IN ACCESS EXCLUSIVE MODE")
        began_s = time.monotonic()
        answer = elsewhere(lambda: post(body))
        took_s = time.monotonic() - began_s
        cursor.execute("ROLLBACK")
    assert answer.status_code == 503
    assert took_s < LIMIT_S
    # The server may finish the statement of a sender that is gone: stored or not, never twice.
    assert elsewhere(lambda: post(body)).status_code in {200, 202}
    assert Signal.objects.count() == 1


def test_the_trace_keeps_the_deadline_too(proxy: Proxy, elsewhere: Elsewhere) -> None:
    proxy.freeze()
    began_s = time.monotonic()
    assert elsewhere(lambda: get_trace("/signals/drill/a")).status_code == 503
    assert time.monotonic() - began_s < LIMIT_S
