"""What is kept about a person is handed out whole, and forgotten without breaking a chain or losing a trade."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from execution_app import audit, people
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused
from execution_app.models import Archive, AuditEntry, Cap, Person, Position, Trader, TxIntent
from execution_app.models.people import PSEUDONYMS_BEGIN
from ops.audit import reader, verifier
from ops.bot.models import Role, TelegramUpdate, TelegramUser
from ops.bot.people import allow
from ops.rollout import privacy
from ops.rollout.privacy_tables import KEPT
from signals_app.models import Signal, SourceGrant
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each

WHO = 123
WHY: dict[str, Any] = {"by": "ann", "reason": "asked for by letter"}


def told(action: AuditAction, subject: str, **state: Any) -> AuditEntry:
    with transaction.atomic():
        audit.record(action, subject, **state)
    found = AuditEntry.objects.order_by("-seq").first()
    assert found is not None
    return found


def chain_is_intact() -> bool:
    walk = verifier.Walk()
    for entry in reader.entries():
        walk.step(entry)
    walk.end()
    return walk.is_intact and walk.entries > 0


def settled() -> TxIntent:
    """A person with one of each row, nothing of it open."""
    intent = one_of_each()
    allow(WHO, Role.TRADER, label="Bob", by="ann")
    TelegramUpdate.objects.create(update_id=9, tg_user_id=WHO, body={"message": {"from": {"id": WHO}}})
    with without_guards():
        Position.objects.update(
            state="closed", closed_at="2026-01-01T00:00:00Z", ended_by="close", close_price=1
        )
        ended = {"settled_at": "2026-01-01T00:00:00Z"}
        TxIntent.objects.filter(settled_at=None, nonce=None).update(state="rejected", **ended)
        TxIntent.objects.filter(settled_at=None).update(state="final_cancelled", **ended)
        Signal.objects.filter(decided_at=None).update(decided_at="2026-01-01T00:00:00Z", decision="rejected")
    return intent


def exported(tg_user_id: int = WHO) -> dict[str, list[dict[str, Any]]]:
    file = io.BytesIO()
    privacy.export(tg_user_id, file, **WHY)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jsonl")]
        return {
            name.removesuffix(".jsonl"): [json.loads(line) for line in archive.read(name).splitlines()]
            for name in names
        }


def test_the_audit_log_tells_of_people_by_numbers_that_mean_nothing_alone(database: None) -> None:
    one = told(
        AuditAction.SOURCE_GRANTED,
        f"trader {WHO}",
        after={"tg_user_id": WHO, "label": "Bob", "list": [f"telegram {WHO}"]},
    )
    number = Person.objects.get(pk=WHO).pseudonym
    assert number >= PSEUDONYMS_BEGIN
    assert one.subject == f"trader {number}"
    assert one.after == {"tg_user_id": number, "label": "[not kept]", "list": [f"telegram {number}"]}
    again = told(
        AuditAction.SOURCE_REVOKED,
        f"telegram {WHO}",
        reason=f"telegram {WHO} left",
        before={"tg_user_id": str(WHO)},
    )
    assert (again.subject, again.reason) == (f"telegram {number}", f"telegram {number} left")
    assert again.before == {"tg_user_id": str(number)}
    other = told(AuditAction.CAP_SET, "cap leverage_x trader 124", after={"leverage_x": WHO})
    assert other.after == {"leverage_x": WHO}, "only what names a person is a person"
    assert Person.objects.get(pk=124).pseudonym != number
    assert chain_is_intact()


def test_an_id_that_telegram_cannot_have_given_is_nobodys(database: None) -> None:
    assert told(AuditAction.LOGIN, f"telegram {2**52}").subject == f"telegram {2**52}"
    assert told(AuditAction.LOGIN, "telegram -5").subject == "telegram -5"
    assert not Person.objects.exists()


def test_every_table_that_has_a_telegram_id_is_in_the_export() -> None:
    listed = {kept.model for kept in KEPT}
    ours = [
        model
        for app in ("execution_app", "signals_app", "bot")
        for model in apps.get_app_config(app).get_models()
    ]
    with_id = {model for model in ours if any(field.name == "tg_user_id" for field in model._meta.fields)}
    assert with_id - listed == set()
    of_traders = {
        model for model in ours if any(field.related_model is Trader for field in model._meta.fields)
    }
    of_intents = {
        model for model in ours if any(field.related_model is TxIntent for field in model._meta.fields)
    }
    # A request of the signer lasts until it is signed, and carries an order that is under way.
    assert {model.__name__ for model in (of_traders | of_intents) - listed} <= {"SignRequest"}


def test_an_export_is_everything_and_no_secret(database: None, tmp_path: Path) -> None:
    intent = settled()
    found = exported()
    assert {
        "people",
        "telegram_users",
        "traders",
        "tx_intents",
        "signals",
        "fills",
        "positions",
        "audit_log",
    } <= found.keys()
    assert [row["label"] for row in found["telegram_users"]] == ["Bob"]
    assert intent.intent_key in [row["intent_key"] for row in found["tx_intents"]]
    assert found["fills"][0]["collateral_usdc"] == "5.000000"
    assert "telegram_allowed" in [row["action"] for row in found["audit_log"]]
    with pytest.raises(Refused, match="nothing is kept"):
        exported(999)
    entry = AuditEntry.objects.get(action="person_exported")
    assert (entry.actor, entry.reason) == ("ann", WHY["reason"])
    path = tmp_path / "bob.zip"
    call_command("privacy", "export", str(WHO), "--to", str(path), "--reason", "asked for")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandError, match="is there already"):
        call_command("privacy", "export", str(WHO), "--to", str(path), "--reason", "asked for")


def test_a_pseudonym_stands_everywhere_and_the_chain_holds(database: None) -> None:
    intent = settled()
    Cap.objects.create(
        scope="trader", scope_value=str(WHO), name="leverage_x", value=3, set_by="ann", reason="drill"
    )
    told(AuditAction.TRADER_ENABLED, f"trader {WHO}")
    before = AuditEntry.objects.count()
    number = people.pseudonym_of(WHO)
    privacy.pseudonymise(WHO, **WHY)
    trader, intent = Trader.objects.get(), TxIntent.objects.get(pk=intent.pk)
    assert (trader.tg_user_id, trader.label, trader.enabled) == (number, "", False)
    assert intent.tg_user_id == number
    assert set(Signal.objects.values_list("tg_user_id", flat=True)) == {number}
    assert Cap.objects.get(scope="trader").scope_value == str(number)
    gone = (Person, TelegramUser, TelegramUpdate, SourceGrant)
    assert [model.__name__ for model in gone if model.objects.exists()] == []
    assert chain_is_intact()
    assert AuditEntry.objects.count() == before + 1
    assert AuditEntry.objects.get(action="person_pseudonymised").subject == f"telegram {number}"
    assert people.whose({number}) == {}
    with connection.cursor() as cursor:
        for table in (
            "audit_log",
            "signals",
            "tx_intents",
            "traders",
            "caps",
            "intent_transitions",
            "risk_reservations",
        ):
            cursor.execute(
                f"SELECT count(*) FROM {table} t WHERE t::text ~ %s", [rf"(^|[^0-9a-fx.]){WHO}([^0-9]|$)"]
            )
            assert cursor.fetchone() == (0,), table
    with pytest.raises(Refused, match="nobody is known"):
        privacy.pseudonymise(WHO, **WHY)


def open_position() -> None:
    with without_guards():
        Position.objects.update(state="open", closed_at=None, ended_by="", close_price=None)


def unsettled_intent() -> None:
    with without_guards():
        TxIntent.objects.filter(nonce=None).update(state="held", settled_at=None)


def undecided_signal() -> None:
    with without_guards():
        Signal.objects.update(decided_at=None, decision="")


@pytest.mark.parametrize(
    ("still", "why"),
    [
        (open_position, "1 open positions"),
        (unsettled_intent, "intents that are not settled"),
        (undecided_signal, "signals that are not decided"),
    ],
)
def test_nobody_is_forgotten_while_anything_of_theirs_is_open(database: None, still: Any, why: str) -> None:
    settled()
    still()
    with pytest.raises(Refused, match=why):
        privacy.pseudonymise(WHO, **WHY)
    assert Trader.objects.get().tg_user_id == WHO
    assert Person.objects.filter(pk=WHO).exists()
    assert TelegramUser.objects.exists()
    with pytest.raises(CommandError, match=f"in the way.*{why}"):
        call_command("privacy", "pseudonymise", str(WHO), "--reason", "asked for")


@pytest.mark.parametrize(
    "change",
    [
        lambda: Trader.objects.update(tg_user_id=124),
        lambda: Trader.objects.update(tg_user_id=PSEUDONYMS_BEGIN, address="0x" + "ab" * 20),
        lambda: TxIntent.objects.update(tg_user_id=124),
        lambda: TxIntent.objects.update(tg_user_id=PSEUDONYMS_BEGIN, symbol="SOL-USD"),
        lambda: Signal.objects.update(tg_user_id=124),
        lambda: Signal.objects.update(tg_user_id=PSEUDONYMS_BEGIN, symbol="SOL-USD"),
        lambda: Cap.objects.update(scope_value="124"),
        lambda: Cap.objects.update(scope_value=str(PSEUDONYMS_BEGIN), value=9),
    ],
)
def test_history_changes_in_no_other_way(database: None, change: Any) -> None:
    one_of_each()
    with without_guards():
        Cap.objects.update(scope="trader", scope_value=str(WHO), name="leverage_x", value=3)
    with pytest.raises(IntegrityError), transaction.atomic():
        change()


def archive_of_their_day(**other: Any) -> str:
    """An archive whose days and ids say that it may hold their signal."""
    with without_guards():
        Signal.objects.update(received_at="2026-01-01T12:00:00Z")
        ids = Signal.objects.order_by("id").values_list("id", flat=True)
        fields = {"table_name": "signals", "day": "2026-01-01", "part": 1, "rows": 1, "sha256": "0" * 64}
        row = fields | {"first_id": ids[0], "last_id": ids[len(ids) - 1]} | other
        return str(Archive.objects.create(file=f"signals-{row['day']}.{row['part']}.jsonl.gz", **row).file)


def test_archives_that_remember_are_named(
    database: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were written before, with the id and what its sender added, and no word in the database reaches them."""
    settled()
    file = archive_of_their_day()
    archive_of_their_day(day="2026-01-02")
    archive_of_their_day(part=2, first_id=10_000, last_id=10_001)
    path = tmp_path / "bob.zip"
    call_command("privacy", "export", str(WHO), "--to", str(path), "--reason", "asked for")
    with zipfile.ZipFile(path) as handed_out:
        assert json.loads(handed_out.read("about.json"))["archives"] == [file]
    with pytest.raises(CommandError, match=rf"nothing is in the way.*{file}"):
        call_command("privacy", "pseudonymise", str(WHO), "--reason", "asked for")
    capsys.readouterr()
    with pytest.raises(CommandError, match=file) as ended:
        call_command("privacy", "pseudonymise", str(WHO), "--reason", "asked for", "--yes", "--json")
    assert ended.value.returncode == 3
    assert json.loads(capsys.readouterr().out)["in_archives"] == [file]
    entry = AuditEntry.objects.get(action="person_pseudonymised")
    assert (entry.after or {})["archives"] == [file]
    assert not Person.objects.exists()


def test_forgotten_is_forgotten(database: None) -> None:
    settled()
    number = people.pseudonym_of(WHO)
    privacy.pseudonymise(WHO, **WHY)
    for becomes in (WHO, PSEUDONYMS_BEGIN):
        with pytest.raises(IntegrityError), transaction.atomic():
            Trader.objects.update(tg_user_id=becomes)
    with pytest.raises(CommandError, match="nobody knows any more"):
        call_command("privacy", "who", str(number))
