"""`manage.py incident capture`: everything that answers is in the archive, no secret is, and what is away is named."""

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from execution_app.engine import reserve
from execution_app.models import Restriction, TxSend
from execution_app.scrubbing import GONE, Scrubber
from ops.rollout import incident_parts
from ops.rollout.incident_parts import SERVICES
from signals_app.models import Source, SourceSecret
from tests import real_parts
from tests.rig import Rig

CLOSED = "127.0.0.1:9"
# In forms that a log may hold by mistake; none of them is known to the process.
PLANTED = (
    "Authorization: Bearer canary-0-of-nobody",
    "connecting to postgresql://vanta:canary-1-of-nobody@db:5432/vanta",
    '{"api_key": "canary-2-of-nobody", "event": "x"}',
    "POST https://api.telegram.org/bot1234567:AAcanary-3-of-nobody-0123456789/sendMessage",
    "X-Signature: canary-4-of-nobody",
    "private_key=canary-5-of-nobody",
)


def secret_values() -> list[str]:
    environment = settings.ENVIRONMENT
    named = ("webhook_hmac_secret", "admin_token", "secret_key", "signer_key_password")
    return [value for name in named if (value := getattr(environment, name).get_secret_value())]


@pytest.fixture
def webhook() -> Iterator[str]:
    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{self.path} {' '.join(secret_values())}".encode())

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stack's folder in whose logs secrets stand."""
    (tmp_path / "log").mkdir()
    lines = [
        *PLANTED,
        *(f"a mistake printed {value}" for value in secret_values()),
        "intent=7 move=signed>sending",
    ]
    (tmp_path / "log" / "worker.log").write_text("\n".join(lines))
    (tmp_path / "pids.json").write_text('{"worker": 1}')
    return tmp_path


def contents(path: str) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def capture(folder: Path, url: str, *words: str, code: int = 0) -> dict[str, Any]:
    told = StringIO()
    where = ("--var", str(folder), "--to", str(folder / "incidents"), "--url", url)
    with pytest.raises(SystemExit, match=f"^{code}$") if code else nullcontext():
        call_command("incident", "capture", *where, "--json", *words, stdout=told)
    found: dict[str, Any] = json.loads(told.getvalue())
    return found


def test_all_of_it_and_not_one_secret(rig: Rig, valkey: redis_py.Redis, folder: Path, webhook: str) -> None:
    valkey.set("exec_mode", '{"mode":"DRY"}')
    rig.intent()
    reserve.reserve(rig.wallet.pk)
    raw = bytes(TxSend.objects.get().raw).hex()
    user = User.objects.create_user("ann", password="canary-6-of-nobody")
    Restriction.objects.create(
        kind="emergency_stop", origin="command", reason=f"somebody pasted {secret_values()[0]}"
    )
    source = Source.objects.create(name="drill")
    SourceSecret.objects.create(source=source, sealed=b"canary-7-of-nobody")
    said = capture(folder, webhook, "--reason", f"for {secret_values()[1]}")
    assert said["whole"], said["away"]
    assert Path(said["file"]).stat().st_mode & 0o077 == 0
    files = contents(said["file"])
    everything = "\n".join(files.values())
    secrets = [*secret_values(), real_parts.postgres.url.split(":")[2].split("@")[0], user.password, raw]
    for secret in (*secrets, "of-nobody", b"canary-7-of-nobody".hex()):
        assert secret not in everything, secret
    assert everything.count(GONE) >= len(PLANTED) + len(secret_values())
    assert "intent=7 move=signed>sending" in files["logs/worker.log"]
    (intent,) = files["database/tx_intents.jsonl"].splitlines()
    assert json.loads(intent)["state"] == "signed"
    assert json.loads(files["database/tx_sends.jsonl"])["tx_hash"] == TxSend.objects.get().tx_hash
    assert "ann" in files["database/auth_user.jsonl"]
    # As set, or as a watcher has written it anew since.
    assert json.loads(json.loads(files["redis.json"])["exec_mode"])["mode"] == "DRY"
    (endpoint,) = json.loads(files["chain.json"])["endpoints"]
    assert endpoint["wallets"][rig.wallet.address]["latest"] == "0x0"
    assert json.loads(files["configuration.json"])["ADMIN_TOKEN"] == "set"
    assert set(json.loads(files["summary.json"])["files"]) == set(files) - {"summary.json", "SUMMARY.md"}
    assert "Nothing is missing." in files["SUMMARY.md"]


def test_no_more_rows_and_bytes_than_asked_for(
    rig: Rig, valkey: redis_py.Redis, folder: Path, webhook: str
) -> None:
    newest = [rig.intent().pk for _ in range(3)][-1]
    files = contents(capture(folder, webhook, "--rows", "1", "--log-bytes", "10")["file"])
    (row,) = files["database/tx_intents.jsonl"].splitlines()
    assert json.loads(row)["id"] == newest
    assert files["logs/worker.log"] == "ed>sending"


def test_servers_that_are_away_are_named_and_the_rest_is_there(folder: Path) -> None:
    """As a command of its own: it starts without any of them."""
    env = {
        **os.environ,
        "DATABASE_URL": f"postgresql://vanta:canary-8-of-nobody@{CLOSED}/vanta",
        "REDIS_URL": f"redis://{CLOSED}/0",
        "BASE_RPC_URL": f"http://{CLOSED}/canary-9-of-nobody",
    }
    words = ("incident", "capture", "--var", str(folder), "--to", str(folder), "--url", f"http://{CLOSED}")
    done = subprocess.run(
        [sys.executable, str(real_parts.ROOT / "manage.py"), *words, "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert set(said["away"]) == {"web", "database", "redis", "chain"}
    files = contents(said["file"])
    assert "the database does not answer" in files["SUMMARY.md"]
    assert "intent=7" in files["logs/worker.log"]
    assert "of-nobody" not in done.stdout + done.stderr + "\n".join(files.values())


def test_one_that_is_away_leaves_the_others(
    rig: Rig, valkey: redis_py.Redis, folder: Path, webhook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": f"http://{CLOSED}"})
    monkeypatch.setattr(settings, "ENVIRONMENT", environment)
    said = capture(folder, webhook, code=1)
    assert set(said["away"]) == {"chain"}
    assert "database/tx_intents.jsonl" in said["files"]


def test_where_nothing_can_be_written_there_is_no_archive(folder: Path) -> None:
    (folder / "incidents").write_text("a file, not a folder")
    with pytest.raises(CommandError, match="no archive") as refused:
        capture(folder, f"http://{CLOSED}")
    assert refused.value.returncode == 2


def test_under_compose_logs_come_from_it(tmp_path: Path) -> None:
    """The words, against a stand-in for the engine."""
    program = tmp_path / "docker"
    program.write_text(f'#!{sys.executable}\nimport sys\nprint(*sys.argv[1:], "password=canary-of-nobody")\n')
    program.chmod(0o755)
    found = incident_parts.compose_logs((str(program), "compose"), incident_parts.Limits())
    assert found["processes.txt"].startswith("compose ps --all")
    assert set(found) == {"processes.txt", *(f"logs/{name}.log" for name in SERVICES)}
    with pytest.raises(incident_parts.Away, match="FileNotFoundError"):
        incident_parts.compose_logs(("/nowhere/docker",), incident_parts.Limits())


def test_what_is_no_secret_stays() -> None:
    scrub = Scrubber(
        ["postgresql://vanta:a-password@db:5432/vanta", "https://rpc.example/v2/0123456789abcdef"]
    )
    plain = (
        "intent=7 tx_hash=0x" + "ab" * 32,
        "second factor token refused for ann",
        "postgresql://db:5432/vanta http://127.0.0.1:8545",
        "the secret of source drill was retired",
    )
    for line in plain:
        assert scrub(line) == line
    assert scrub("at postgresql://vanta:a-password@db/vanta") == f"at postgresql://vanta:{GONE}@db/vanta"
    assert "0123456789abcdef" not in scrub("https://rpc.example/v2/0123456789abcdef: 429")
