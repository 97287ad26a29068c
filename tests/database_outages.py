"""Ways in which PostgreSQL is there and says nothing, each undone at the end."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil  # type: ignore[import-untyped]

from tests import real_parts
from tests.patience import own_limits_of_the_database


@contextmanager
def frozen_postgres() -> Iterator[None]:
    """SIGSTOP to the server and all its sessions: it accepts connections and answers nothing, as a hung host does."""
    server = psutil.Process(real_parts.postgres.pid)
    stopped: list[psutil.Process] = []
    with own_limits_of_the_database():
        try:
            # The server first, so that no session begins that would not be stopped.
            server.suspend()
            stopped.append(server)
            for session in server.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    session.suspend()
                    stopped.append(session)
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


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
