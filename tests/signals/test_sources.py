"""Which secret stands for which source, over HTTP, and the command that hands them out."""

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from execution_app.errors import Refused
from execution_app.models import Trader
from signals_app import keyring, seals, sources
from signals_app.keyring import MAX_ACTIVE, MAX_READS, READS_WITHIN_S
from signals_app.models import Signal, SourceGrant, SourceSecret
from signals_app.signatures import MAX_SECRETS
from tests.signals.sender import Elsewhere, default_secret, open_body, post, post_webhook, sign

pytestmark = pytest.mark.usefixtures("database")


def send(source: str, secret: str | None = None) -> tuple[int, str]:
    raw = json.dumps(open_body(source=source)).encode()
    answer = post(raw, HTTP_X_SIGNATURE=sign(raw, secret))
    return answer.status_code, answer.json()["status"]


def run(*words: object, **options: Any) -> dict[str, Any]:
    out = io.StringIO()
    call_command("source", *map(str, words), "--json", stdout=out, **options)
    return dict(json.loads(out.getvalue()))


def test_a_source_with_a_secret_of_its_own_is_served_by_that_alone() -> None:
    assert send("alpha") == (202, "queued")
    issued = sources.add("alpha")
    assert send("alpha", issued.secret) == (202, "queued")
    assert send("alpha") == (401, "wrong_source")
    assert send("beta") == (202, "queued"), "the default serves those that have none"
    assert Signal.objects.filter(secret_id=issued.secret_id).count() == 1


def test_no_source_is_served_by_the_secret_of_another() -> None:
    alpha, beta = sources.add("alpha"), sources.add("beta")
    assert send("alpha", beta.secret) == (401, "wrong_source")
    assert send("gamma", alpha.secret) == (401, "wrong_source"), "nor one that has none"
    assert not Signal.objects.exists()


def test_a_repeat_under_the_wrong_secret_learns_nothing() -> None:
    raw = json.dumps(open_body(source="alpha")).encode()
    mine, other = sources.add("alpha"), sources.add("beta")
    assert post(raw, HTTP_X_SIGNATURE=sign(raw, mine.secret)).status_code == 202
    answer = post(raw, HTTP_X_SIGNATURE=sign(raw, other.secret))
    assert (answer.status_code, answer.json()["status"]) == (401, "wrong_source")
    assert "intent_key" not in answer.json()


def test_both_forms_of_signature_under_one_secret() -> None:
    for secret in (sources.add("alpha").secret, sources.rotate("alpha", "plain-" + "x" * 30).secret):
        assert send("alpha", secret)[0] == 202
        assert post_webhook(open_body(source="alpha"), f"msg_{secret[:5]}", secret).status_code == 202


def test_rotation_keeps_the_old_secret_until_it_is_retired() -> None:
    old = sources.add("alpha")
    new = sources.rotate("alpha")
    assert new.others_active == (old.secret_id,)
    assert send("alpha", old.secret)[0] == send("alpha", new.secret)[0] == 202
    assert sources.retire("alpha", old.secret_id) == 1
    assert send("alpha", old.secret)[0] == 401, "at once, though this process knows it still"
    assert send("alpha", new.secret)[0] == 202


def test_a_source_whose_last_secret_is_retired_is_shut_out() -> None:
    issued = sources.add("alpha")
    assert sources.retire("alpha", issued.secret_id) == 0
    assert send("alpha", issued.secret)[0] == 401
    assert send("alpha") == (401, "wrong_source"), "the default does not step in"
    assert send("alpha", sources.rotate("alpha").secret)[0] == 202


def test_secrets_are_bounded_for_a_source_and_in_all() -> None:
    assert MAX_SECRETS == MAX_ACTIVE + 1
    for number in range(MAX_ACTIVE):
        name = f"s{number // sources.MAX_PER_SOURCE}"
        (sources.rotate if number % sources.MAX_PER_SOURCE else sources.add)(name)
    with pytest.raises(Refused, match="8 active"):
        sources.rotate("s0")
    with pytest.raises(Refused, match="64 active"):
        sources.add("one-too-many")
    assert send("s0") == (401, "wrong_source")
    last = sources.retire("s7", SourceSecret.objects.latest("pk").pk)
    assert last == 7
    assert send("s7", sources.rotate("s7").secret)[0] == 202


@pytest.mark.parametrize("secret", ["short", "x" * 257, "with space " + "x" * 24, "line\n" + "x" * 24, ""])
def test_a_weak_or_unspeakable_secret_is_refused(secret: str) -> None:
    with pytest.raises(Refused, match="24 to 256"):
        sources.add("alpha", secret)


def test_a_secret_stands_for_one_source() -> None:
    sources.add("alpha", "s" * 30)
    for taken in ("s" * 30, default_secret()):
        with pytest.raises(Refused, match="in use"):
            sources.add("beta", taken)
    assert not SourceSecret.objects.filter(source="beta").exists()


def test_secrets_lie_sealed_and_only_for_their_source() -> None:
    secret = sources.add("alpha").secret
    sealed = bytes(SourceSecret.objects.get().sealed)
    assert secret.encode() not in sealed
    key = "some secret key"
    sealed = seals.seal(secret, "alpha", key)
    assert seals.unseal(sealed, "alpha", key) == secret
    assert seals.seal(secret, "alpha", key) != sealed
    spoiled = [(sealed, "beta", key), (sealed, "alpha", "other key"), (sealed[:-1], "alpha", key)]
    spoiled += [(b"", "alpha", key), (b"\x02" + sealed[1:], "alpha", key), (sealed[:20], "alpha", key)]
    for wrong in spoiled:
        with pytest.raises(seals.Unreadable):
            seals.unseal(*wrong)


def test_an_unreadable_secret_shuts_out_its_source_alone() -> None:
    sources.add("alpha")
    beta = sources.add("beta")
    SourceSecret.objects.filter(source="alpha").update(sealed=b"\x01" + b"x" * 60)
    assert send("beta", beta.secret)[0] == 202
    assert send("alpha") == (401, "wrong_source")
    assert not sources.secret_states("alpha")[0].readable


def test_the_default_secret_costs_no_look_at_the_others() -> None:
    send("alpha")
    with CaptureQueriesContext(connections["default"]) as queries:
        send("alpha")
    assert not [query["sql"] for query in queries if "sealed" in query["sql"]]
    assert len(queries) == 2, "a token and the signal"


def test_a_storm_of_unknown_signatures_reads_the_secrets_ten_times_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr(keyring, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    raw = json.dumps(open_body()).encode()
    for _ in range(2):
        with CaptureQueriesContext(connections["default"]) as queries:
            answers = [post(raw, HTTP_X_SIGNATURE="0" * 64).status_code for _ in range(15)]
        assert answers == [401] * 15
        assert len(queries) == MAX_READS
        now_s[0] += READS_WITHIN_S + 0.1


def test_without_a_database_an_unknown_signature_is_not_called_wrong(
    elsewhere: Elsewhere, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "PORT", closed_port)
    answer = elsewhere(lambda: post(open_body(), HTTP_X_SIGNATURE="0" * 64))
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0


def test_the_command_from_the_first_secret_to_the_last() -> None:
    Trader.objects.create(tg_user_id=123, address="0x" + "a" * 40)
    first = run("add", "alpha")
    assert first["secret"].startswith("whsec_")
    assert run("grant", "alpha", 123) == {"source": "alpha", "trades_for": 123, "changed": True}
    assert run("grant", "alpha", 123)["changed"] is False
    second = run("rotate", "alpha")
    assert second["still_valid"] == [first["secret_id"]]
    assert send("alpha", second["secret"])[0] == 202
    run("retire", "alpha", first["secret_id"])
    run("limit", "alpha", "--opens-per-minute", 60, "--open-burst", 5)
    (shown,) = run("list", "alpha")["sources"]
    assert [secret["active"] for secret in shown["secrets"]] == [False, True]
    assert shown["secrets"][0]["last_signal_at"] is None
    assert shown["secrets"][1]["last_signal_at"] is not None
    assert shown["trades_for"] == [123]
    assert shown["limits"] == {
        "open_burst": 5,
        "opens_per_minute": 60,
        "close_burst": 1000,
        "closes_per_minute": 3000,
    }
    run("revoke", "alpha", 123)
    assert not SourceGrant.objects.exists()
    assert "whsec" not in json.dumps(run("list"))


def test_the_command_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("source", "add", "alpha")
    call_command("source", "list")
    said = capsys.readouterr().out
    assert "secret: whsec_" in said
    assert "trades_for: none" in said
    assert said.count("secret: whsec_") == 1


def test_a_secret_from_outside_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from-outside-" + "x" * 20 + "\n"))
    assert "secret" not in run("add", "alpha", "--secret-stdin")
    assert send("alpha", "from-outside-" + "x" * 20)[0] == 202


@pytest.mark.parametrize(
    "words",
    [
        ("rotate", "nobody"),
        ("add", "bad name"),
        ("add", "\u0661"),
        ("retire", "nobody", 1),
        ("grant", "alpha", 999),
        ("grant", "alpha", -1),
        ("revoke", "alpha", 1),
        ("limit", "alpha", "--close-burst", 0),
        ("limit", "alpha", "--opens-per-minute", 10**9),
    ],
)
def test_the_command_says_what_is_wrong(words: tuple[object, ...]) -> None:
    with pytest.raises(CommandError):
        run(*words)
