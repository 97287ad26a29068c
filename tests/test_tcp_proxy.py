"""Each fault of the proxy as a client of an echoing server meets it, and that nothing is left of it afterwards."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.stack import wait_until
from tests.tcp_proxy import Fault, TcpProxy

PATIENCE_S = 0.4  # where nobody answers
GENEROUS_S = 15.0


class _Echo(socketserver.BaseRequestHandler):
    heard: list[bytes] = []

    def handle(self) -> None:
        with suppress(ConnectionError):
            while part := self.request.recv(100):
                self.heard.append(part)
                self.request.sendall(part)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def way() -> Iterator[TcpProxy]:
    _Echo.heard.clear()
    with _Server(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with TcpProxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connect(way: TcpProxy, patience_s: float = GENEROUS_S) -> socket.socket:
    return socket.create_connection(("127.0.0.1", way.port), timeout=patience_s)


def ask(client: socket.socket, word: bytes = b"a") -> bytes:
    client.sendall(word)
    return client.recv(100)


def patience_s(wanted: type[OSError]) -> float:
    """Whoever is answered in some way waits until he is."""
    return PATIENCE_S if wanted is TimeoutError else GENEROUS_S


@pytest.mark.parametrize(
    ("fault", "kept", "fresh", "afterwards"),
    [
        (Fault.REFUSE, ConnectionResetError, ConnectionRefusedError, ConnectionResetError),
        (Fault.RESET, ConnectionResetError, ConnectionResetError, ConnectionResetError),
        (Fault.BLACK_HOLE, TimeoutError, TimeoutError, ConnectionResetError),
        (Fault.HALF_OPEN, TimeoutError, TimeoutError, TimeoutError),
        (Fault.LOST_ANSWERS, ConnectionResetError, ConnectionResetError, ConnectionResetError),
    ],
)
def test_what_a_client_meets(
    way: TcpProxy, fault: Fault, kept: type[OSError], fresh: type[OSError], afterwards: type[OSError]
) -> None:
    with connect(way) as old, connect(way) as idle:
        assert (ask(old), ask(idle)) == (b"a", b"a")
        old.settimeout(patience_s(kept))
        with way.failing(fault):
            with pytest.raises(kept):
                ask(old)
            with pytest.raises(fresh), connect(way, patience_s(fresh)) as new:
                ask(new)
        old.settimeout(patience_s(afterwards))
        with pytest.raises((afterwards, BrokenPipeError) if afterwards is kept else afterwards):
            ask(old)
        with connect(way) as new:
            assert ask(new) == b"a"
    wait_until(lambda: way.open_links == 0, 60, "no link is left")


def test_lost_answers_arrive_and_are_done(way: TcpProxy) -> None:
    with connect(way) as client, way.failing(Fault.LOST_ANSWERS), pytest.raises(ConnectionResetError):
        ask(client, b"done")
    assert _Echo.heard == [b"done"]


def test_slow_answers_come_late_and_whole(way: TcpProxy) -> None:
    way.delay_s = 3.0
    with connect(way, PATIENCE_S) as client, way.failing(Fault.SLOW):
        with pytest.raises(TimeoutError):
            ask(client)
        client.settimeout(GENEROUS_S)
        assert client.recv(100) == b"a"


def test_a_duplicate_arrives_twice_and_is_answered_once(way: TcpProxy) -> None:
    with connect(way) as client:
        with way.failing(Fault.DUPLICATE):
            assert ask(client, b"kept") == b"kept"
            wait_until(lambda: _Echo.heard == [b"kept"] * 2, 60, "both")
        assert ask(client, b"once") == b"once"
        client.settimeout(PATIENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(100)
    assert _Echo.heard == [b"kept", b"kept", b"once"]


def test_a_server_that_is_away_is_a_reset(way: TcpProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        way.target = gone.getsockname()[1]
    # Whether it is noticed with the first byte or before is up to the kernel.
    with pytest.raises(ConnectionResetError), connect(way) as client:
        ask(client)
