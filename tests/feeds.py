"""The rehearsal's feed and catalogue before the test's own processes, and a server that answers whatever it is told to."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from execution_app.node import feed, feed_cache
from ops.rehearsal import venue
from ops.rehearsal.gateway.server import Gateway
from tests import real_parts
from tests.rig import rpc_call


@contextmanager
def served_feed(settings: Any, **more: Any) -> Iterator[Gateway]:
    """Prices and market hours out of the chain; `faults` of what is yielded bend them, and the next look sees it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Gateway(real_parts.anvil.url, real_parts.deployment) as gateway,
    ):
        patch.setattr(feed_cache, "KEPT_S", 0.0)
        lead_to(settings, gateway.url, **more)
        yield gateway


def lead_to(settings: Any, url: str, **more: Any) -> None:
    feed.breaker.cache_clear()
    urls = {"veranta_feed_url": f"{url}/feed", "veranta_data_api_url": f"{url}/data"}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={**urls, **more})


def set_market(symbol: str = "BTC-USD", **fields: Any) -> None:
    """By default it is open for ever."""
    rpc_call("evm_setAutomine", True)
    venue.set_market(real_parts.anvil.url, real_parts.deployment, symbol, **fields)
    rpc_call("evm_setAutomine", False)


@dataclass
class Scripted:
    """Answers every path with the same; `asked` are the paths, in order."""

    status: int = 200
    body: bytes = b"{}"
    hang_s: float = 0.0
    drip_s: float = 0.0  # between two bytes of the head, which then has no end
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scripted() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append(self.path)
            script.over.wait(script.hang_s)
            if script.drip_s:
                self._drip()
                return
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            deadline_s = time.monotonic() + 20
            while time.monotonic() < deadline_s and not script.over.wait(script.drip_s):
                self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who asked has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
