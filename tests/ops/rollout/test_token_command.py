"""`manage.py token`: made once, shown once, listed without its text, revoked for ever."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from signals_app import signatures
from signals_app.models import ApiToken
from tests.real_parts import ROOT

pytestmark = pytest.mark.usefixtures("database")


def run(*words: str) -> Any:
    out = io.StringIO()
    call_command("token", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_from_the_first_day_to_the_last() -> None:
    made = run("create", "grafana", "--days", "30")
    assert (made["name"], made["scope"]) == ("grafana", "read")
    row = ApiToken.objects.get()
    assert row.sha256 == signatures.sha256(made["token"])
    assert row.expires_at is not None
    assert (row.expires_at - row.created_at).total_seconds() == 30 * 86_400
    (listed,) = run("list")
    assert (listed["state"], listed["last_used_at"]) == ("active", None)
    assert listed["expires_at"] == made["expires_at"]
    assert made["token"] not in json.dumps(listed)
    assert run("revoke", "grafana") == {"name": "grafana", "state": "revoked", "changed": True}
    assert run("revoke", "grafana")["changed"] is False
    assert run("list")[0]["state"] == "revoked"


def test_without_days_it_lives_until_revoked() -> None:
    assert run("create", "grafana")["expires_at"] is None
    assert run("list")[0]["expires_at"] is None


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("token", "create", "grafana", "--days", "1")
    call_command("token", "create", "exporter")
    call_command("token", "revoke", "exporter")
    call_command("token", "list")
    said = capsys.readouterr().out
    assert said.count("token, shown only now: vanta_") == 2
    assert said.count("vanta_") == 2
    assert "grafana  read  active until 2" in said
    assert "exporter  read  revoked at 2" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "taken"), "a name stands for one token"),
        (("create", "a b"), "1 to 64 characters"),
        (("create", "new", "--days", "0"), "1 to 3650 days"),
        (("create", "new", "--days", "3651"), "1 to 3650 days"),
        (("revoke", "nobody"), "no token nobody"),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], why: str) -> None:
    run("create", "taken")
    with pytest.raises(CommandError, match=why):
        run(*words)
    assert ApiToken.objects.count() == 1


def test_exit_codes_of_the_command_line() -> None:
    def code(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "manage.py", "token", *words],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        return done.returncode

    assert code("create", "grafana") == 0
    assert code("create", "grafana") == 1
    assert code("create", "grafana", "--days", "ten") == 2
    assert code() == 2
    assert code("--help") == 0
