"""The chain: made by the database whatever an INSERT says, in order under load, and refused any change."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.models import AuditEntry
from ops.audit import reader, verifier
from ops.audit.management.commands.audit import verify
from tests.execution import rows

WORDS = "('a', 'command', 'here', 'login', 's', '', NULL, NULL)"
SHORT = (
    f"INSERT INTO audit_log (actor, origin, address, action, subject, reason, before, after) VALUES {WORDS}"
)


def say(subject: str = "subject", **more: object) -> None:
    with transaction.atomic():
        audit.record(AuditAction.TRADER_ADDED, subject, **more)  # type: ignore[arg-type]


def is_intact() -> bool:
    walk = verify(reader.entries(), {})
    assert walk.faults == []
    return walk.is_intact


def test_entries_follow_one_another_without_gaps(database: None) -> None:
    for number in range(5):
        say(f"subject {number}", before=None, after={"number": number, "words": ["ä", '"', "\\", "\n"]})
    found = AuditEntry.objects.order_by("seq")
    assert [entry.seq for entry in found] == [1, 2, 3, 4, 5]
    assert [entry.prev_hash for entry in found] == ["0" * 64, *[entry.hash for entry in found[:4]]]
    assert is_intact()


def test_the_python_rule_and_the_database_agree_on_awkward_words(database: None) -> None:
    awkward = ["", "=", "5:abc\n", "\n", "ß€😀", "\u2028", "a=-\n", "'", "\\x00", "\x7f", "{}", "null"]
    for word in awkward:
        say(word, reason=word, before={word: word}, after={"n": 10**30, "deep": {word: [None, True, word]}})
    say("numbers", after={"float": 1.5, "negative": -3})
    assert is_intact()
    assert AuditEntry.objects.count() == len(awkward) + 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seq", 77),
        ("at", "2020-01-01T00:00:00+00:00"),
        ("prev_hash", "f" * 64),
        ("hash", "f" * 64),
        ("digests", "none"),
    ],
)
def test_whatever_an_insert_says_the_database_makes_the_link(
    database: None, column: str, value: object
) -> None:
    say("before")
    names = f"actor, origin, address, action, subject, reason, {column}"
    rows.execute(
        f"INSERT INTO audit_log ({names}) VALUES ('a', 'command', 'here', 'login', 's', '', %s)", value
    )
    say("after")
    assert AuditEntry.objects.filter(**{column: value}).count() == 0
    assert is_intact()


def test_many_rows_in_one_insert_are_chained(database: None) -> None:
    rows.execute(f"{SHORT}, {WORDS}, {WORDS}")
    assert [entry.seq for entry in AuditEntry.objects.order_by("seq")] == [1, 2, 3]
    assert is_intact()


def test_a_table_of_the_same_name_does_not_deceive_the_chain(database: None) -> None:
    say("before")
    with transaction.atomic():
        rows.execute("CREATE TEMP TABLE audit_log (LIKE public.audit_log) ON COMMIT DROP")
        rows.execute(SHORT.replace("audit_log", "public.audit_log"))
    assert [entry.seq for entry in AuditEntry.objects.order_by("seq")] == [1, 2]
    assert is_intact()


def test_what_is_rolled_back_leaves_no_gap(database: None) -> None:
    say("kept")
    with transaction.atomic():
        audit.record(AuditAction.TRADER_ADDED, "undone")
        transaction.set_rollback(True)
    say("kept, too")
    assert list(AuditEntry.objects.order_by("seq").values_list("seq", "subject")) == [
        (1, "kept"),
        (2, "kept, too"),
    ]
    assert is_intact()


def test_writers_at_once_are_put_in_one_order(database: None) -> None:
    together = threading.Barrier(8)

    def write(number: int) -> None:
        try:
            together.wait(timeout=20)
            for _ in range(25):
                say(f"writer {number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert [entry.seq for entry in AuditEntry.objects.order_by("seq")] == list(range(1, 201))
    assert is_intact()


def test_a_writer_with_an_old_view_is_refused_rather_than_forking_the_chain(database: None) -> None:
    say("first")
    with transaction.atomic():
        rows.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows.one("SELECT count(*) FROM audit_log")
        with ThreadPoolExecutor(1) as other:
            other.submit(say, "second").result(timeout=20)
            other.submit(connections.close_all).result(timeout=20)
        with pytest.raises(IntegrityError, match="audit_log_pkey"):
            say("third")
    assert is_intact()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit_log SET reason = 'another'",
        "UPDATE audit_log SET seq = seq + 10",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "MERGE INTO audit_log a USING (SELECT 1 AS seq) b ON a.seq = b.seq WHEN MATCHED THEN DELETE",
        "UPDATE audit_log SET reason = reason",
    ],
)
def test_nobody_changes_or_removes_an_entry(database: None, attack: str) -> None:
    say("kept")
    before = list(AuditEntry.objects.values())
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        rows.execute(attack)
    assert list(AuditEntry.objects.values()) == before


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("action", "did_something", "ck_audit_log_action"),
        ("origin", "email", "ck_audit_log_origin"),
        ("before", "{", "json"),
    ],
)
def test_only_known_words_are_kept(database: None, column: str, value: str, words: str) -> None:
    row: rows.Row = {"actor": "a", "origin": "http", "address": "", "action": "login", "subject": ""}
    with pytest.raises(DatabaseError, match=words), transaction.atomic():
        rows.insert("audit_log", row | {"reason": "", column: value})


def test_an_entry_is_written_inside_a_transaction_only(database: None) -> None:
    with pytest.raises(RuntimeError, match="in the transaction"):
        audit.record(AuditAction.TRADER_ADDED, "nobody")


def test_words_are_cut_and_cleaned_for_the_database(database: None) -> None:
    who = audit.Who("a" * 999, AuditOrigin.COMMAND, "h" * 999, "why" * 999)
    with audit.acting(who):
        say("s" * 999)
    say("nul\0 and half \ud800 a pair", reason="\0", after={"\0": "\ud800"})
    first, second = AuditEntry.objects.order_by("seq")
    assert [len(getattr(first, name)) for name in ("actor", "address", "subject", "reason")] == [
        150,
        150,
        200,
        400,
    ]
    assert (first.actor[0], first.reason[:3]) == ("a", "why")
    assert second.subject == "nul� and half ? a pair"
    assert is_intact()


def test_without_anybody_the_machine_acts(database: None) -> None:
    say("alone")
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.origin) == ("vanta", "automatic")
    assert entry.address == audit.here()


def test_secrets_are_withheld_wherever_they_stand(database: None, settings: object) -> None:
    token = settings.ENVIRONMENT.admin_token.get_secret_value()  # type: ignore[attr-defined]
    with audit.acting(audit.Who(f"a {token}", AuditOrigin.HTTP, token)):
        say(
            f"about {token}",
            reason=f"because {token}",
            before={"password": "canary-1", "nested": {"api_token": "canary-2"}, token: 1},
            after={"list": [{"private_key": "canary-3"}, token], "secret_id": 7, "secrets_active": 2},
        )
    text = str(AuditEntry.objects.values().get())
    assert token not in text
    assert "canary" not in text
    assert "'secret_id': 7" in text
    assert is_intact()


def test_the_head_is_noted_in_the_log(database: None, caplog: pytest.LogCaptureFixture) -> None:
    audit.note_head()
    say("one")
    with caplog.at_level("INFO"):
        audit.note_head()
    seq, found = audit.head()
    assert f"{seq}:{found}" in caplog.text
    assert verifier.read_head(f"{seq}:{found}") == (1, found)


def test_the_head_is_not_noted_while_the_database_is_away(
    database: None, caplog: pytest.LogCaptureFixture
) -> None:
    kept: Callable[..., object] = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        audit.note_head()
    finally:
        connection.close()
        connection.settings_dict["PORT"] = kept
    assert "audit head not noted" in caplog.text


def test_the_verifier_stands_alone() -> None:
    source = Path(verifier.__file__).read_text(encoding="utf-8")
    imported = {
        line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported <= {"argparse", "hashlib", "json", "sys", "collections", "dataclasses", "pathlib"}
