"""Least privilege: each kind of process does its work as its role, and a table of attacks is refused."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client
from django.urls import reverse

from execution_app.gate import control, watch
from execution_app.models import AuditEntry, Position, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from ops.audit import reader
from ops.audit.management.commands.audit import verify
from ops.bot import binding_pages
from ops.bot.models import TelegramPage
from ops.rollout.grants import BOT, READONLY, ROLES, TABLES, WEB, WORKER
from ops.watch import health, readiness
from signals_app import decisions, tasks
from signals_app.models import Signal, SourceGrant
from tests.execution import rows
from tests.guarded import look, open_guarded
from tests.rig import Rig
from tests.signals.sender import get_trace, open_body, post
from vanta import schedule

LOGINS = {"test_web": WEB, "test_worker": WORKER, "test_bot": BOT, "test_people": READONLY}
PASSWORD = "only-for-this-test-server"


def roles(verb: str) -> dict[str, Any]:
    out = io.StringIO()
    with suppress(CommandError):
        call_command("roles", verb, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


@pytest.fixture
def applied(database: None) -> Iterator[None]:
    """The roles as the command makes them, and one real login in each."""
    assert roles("apply")["ok"]
    for name, role in LOGINS.items():
        rows.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
    try:
        yield
    finally:
        for name in LOGINS:
            rows.execute(f"DROP OWNED BY {name}")
            rows.execute(f"DROP ROLE {name}")


@contextmanager
def logged_in(name: str) -> Iterator[None]:
    """Every new connection of this process is this login's, whatever thread opens it."""
    places = [connections.settings["default"], connections["default"].settings_dict]
    kept = [(place["USER"], place["PASSWORD"]) for place in places]
    connections["default"].close()
    for place in places:
        place["USER"], place["PASSWORD"] = name, PASSWORD
    try:
        assert rows.one("SELECT current_user") == name
        yield
    finally:
        connections["default"].close()
        for place, (user, password) in zip(places, kept, strict=True):
            place["USER"], place["PASSWORD"] = user, password


def test_every_table_has_its_line_and_applying_twice_changes_nothing(database: None) -> None:
    first, second = roles("apply"), roles("apply")
    assert first == second == {"ok": True, "wider": [], "missing": [], "unlisted": []}
    assert roles("check")["ok"]
    assert set(TABLES) == set(connection.introspection.table_names())
    assert AuditEntry.objects.filter(action="roles_applied").count() <= 1


def test_a_signal_becomes_a_trade_with_each_process_as_its_role(rig: Rig, applied: None) -> None:
    SourceGrant.objects.create(source="drill", tg_user_id=rig.trader.tg_user_id)
    watch.stop()
    with logged_in("test_web"):
        body = open_body(tg_user_id=rig.trader.tg_user_id)
        assert post(body).status_code == 202
        assert post(body).json()["status"] == "duplicate"
    with logged_in("test_worker"):
        schedule.install()
        rig.open_gate()
        decisions.decide(Signal.objects.get().pk)
        rig.run()
        guarded = open_guarded(rig, trailing_stop_pct="5", stop_loss="99000")
        assert [look(price).fired for price in (101_000, 98_000, 94_000)] == [0, 0, 1]
        rig.run()
        guarded.refresh_from_db()
        assert guarded.state == "closed"
        close = rig.intent(Action.CLOSE)
        rig.run()
        tasks.sweep_signals()
        close.refresh_from_db()
        assert close.state == "filled"
        watch.stop()
    intent = TxIntent.objects.order_by("pk").first()
    assert intent is not None
    assert (intent.state, intent.settled_at is not None) == ("filled", True)
    assert set(Position.objects.values_list("state", flat=True)) == {"closed"}
    with logged_in("test_web"):
        assert get_trace(f"/signals/drill/{body['signal_id']}").json()["intent"]["state"] == "filled"


def test_the_webhook_does_all_its_pages_and_stops_as_its_role(applied: None, settings: Any) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    token = settings.ENVIRONMENT.admin_token.get_secret_value()
    bearer: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    link = "A" * 32
    TelegramPage.objects.create(
        token_sha256=binding_pages.hashed(link), tg_user_id=7, language="en", nonce="ab" * 16,
        domain="vanta.invalid", chain_id=31337, expires_at="2999-01-01T00:00:00Z",
    )  # fmt: skip
    with logged_in("test_web"):
        assert Client().post("/admin/emergency-stop", **bearer).json()["changed"]
        assert Client().delete("/admin/emergency-stop", **bearer).json()["changed"]
        client = Client()
        answer = client.post(reverse("admin:login"), {"username": "root", "password": PASSWORD})
        assert answer.status_code == 302
        for model in ("auditentry", "txintent", "wallet", "control", "restriction", "position"):
            page = reverse(f"admin:execution_app_{model}_changelist")
            assert client.get(page).status_code == 200, model
        assert client.post(reverse("admin:execution_app_control_stop"), {}).status_code == 302
        user = {"username": "ann", "password1": "long-enough-4", "password2": "long-enough-4"}
        user |= {"usable_password": "true", "reason": "agreed on by two"}
        assert client.post(reverse("admin:auth_user_add"), user).status_code == 302
        for part in (health, readiness):
            part.forget()
        assert Client().get("/health/ready").status_code == 200
        assert Client().get("/health").json()["checks"]["database"]["status"] == "ok"
        assert Client().get("/metrics").status_code == 200
        assert Client().get(f"/bind/{link}").status_code == 200
        signed = {"address": "0x" + "ab" * 20, "signature": "0x" + "00" * 65}
        assert [Client().post(f"/bind/{link}", signed).status_code for _ in range(2)] == [200, 410]
        watcher = watch.ModeWatch("webhook")
        watcher.look()
        assert watcher.database_problem == ""
        control.impose(RestrictionKind.DRY, Origin.REDIS, by="redis", reason="")
    assert verify(reader.entries(), {}).is_intact
    assert AuditEntry.objects.filter(action="restriction_imposed").count() == 3


# The bot's own work, beside which it is refused what the others are; its conversations run as its role (tests/ops/bot).
OF_THE_BOT = {
    "UPDATE tx_intents SET approved_at = now(), approved_by = 'x'",
    "UPDATE tx_intents SET approved_by = 'x'",
    "UPDATE traders SET enabled = true",
    "INSERT INTO traders DEFAULT VALUES",
}
# What is refused to whom. `{}` in a statement stands for nothing; every table it names has a row.
ATTACKS: list[tuple[str, str, str]] = [
    *(
        (login, statement, "permission denied|owns its key, mode, slot")
        for login in LOGINS
        for statement in (
            "UPDATE tx_intents SET nonce = 7", "UPDATE tx_intents SET intent_key = 'x'", "DELETE FROM tx_intents",
            "UPDATE tx_intents SET approved_at = now(), approved_by = 'x'", "UPDATE tx_intents SET approved_by = 'x'",
            "DELETE FROM tx_sends", "UPDATE tx_sends SET raw = ''", "UPDATE tx_sends SET tx_hash = ''",
            "DELETE FROM tx_receipts", "DELETE FROM signals", "UPDATE signals SET collateral_usdc = 9",
            "DELETE FROM intent_transitions", "UPDATE intent_transitions SET why = ''",
            "INSERT INTO intent_moves (from_state, to_state) VALUES ('filled', 'pending')", "DELETE FROM intent_moves",
            "UPDATE audit_log SET reason = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log",
            ("INSERT INTO audit_log (seq, actor, origin, address, action, subject, reason)"
            " VALUES (9, 'a', 'http', '', 'login', '', '')"),
            "DELETE FROM mode_history", "UPDATE mode_history SET reason = 'x'", "TRUNCATE mode_history",
            "DELETE FROM mode_changes", "UPDATE mode_changes SET reason = 'x'", "DELETE FROM control",
            "UPDATE wallets SET address = ''", "INSERT INTO wallets DEFAULT VALUES", "DELETE FROM wallets",
            "UPDATE traders SET enabled = true", "UPDATE traders SET address = ''", "INSERT INTO traders DEFAULT VALUES",
            "INSERT INTO source_grants (source, tg_user_id) VALUES ('evil', 1)", "UPDATE sources SET open_burst = 9",
            "UPDATE source_secrets SET active = true", "TRUNCATE signals CASCADE", "TRUNCATE tx_sends CASCADE",
            "CREATE TEMP TABLE audit_log (seq bigint)", "CREATE TABLE mine (a int)", "CREATE SCHEMA mine",
            "SET session_replication_role = replica", "SET ROLE vanta", "CREATE ROLE mine",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "COPY signals TO PROGRAM 'true'",
        )
        if login != "test_bot" or statement not in OF_THE_BOT
    ),
    *(
        (login, statement, "must be owner|permission denied for schema")
        for login in LOGINS
        for statement in (
            "ALTER TABLE audit_log DISABLE TRIGGER ALL", "DROP TABLE audit_log", "DROP TRIGGER chain_audit ON audit_log",
            "DROP FUNCTION vanta_chain_audit() CASCADE",
            "CREATE OR REPLACE FUNCTION vanta_chain_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
    ),
    *(
        ("test_web", statement, "permission denied")
        for statement in (
            "UPDATE wallets SET next_nonce = 9", "UPDATE tx_intents SET state = 'signed'", "UPDATE signals SET decision = ''",
            "INSERT INTO tx_sends DEFAULT VALUES", "INSERT INTO fills DEFAULT VALUES", "UPDATE positions SET state = 'void'",
            "UPDATE telegram_pages SET tg_user_id = 9", "UPDATE telegram_pages SET settled_at = now()",
            "INSERT INTO telegram_pages DEFAULT VALUES", "SELECT 1 FROM telegram_bindings",
            "UPDATE chains SET halted_reason = ''", "UPDATE django_celery_beat_periodictask SET enabled = false",
        )
    ),
    *(
        ("test_worker", statement, "permission denied")
        for statement in (
            "SELECT password FROM auth_user", "SELECT sealed FROM source_secrets", "SELECT * FROM django_session",
            "UPDATE auth_user SET is_superuser = true", "INSERT INTO signals (source) VALUES ('x')",
        )
    ),
    *(
        ("test_bot", statement, "permission denied")
        for statement in (
            "SELECT password FROM auth_user", "SELECT sealed FROM source_secrets", "SELECT * FROM django_session",
            "SELECT 1 FROM api_tokens", "UPDATE auth_user SET is_superuser = true", "UPDATE otp_totp_totpdevice SET key = ''",
            "INSERT INTO otp_totp_totpdevice (name) VALUES ('x')", "DELETE FROM otp_totp_totpdevice",
            "INSERT INTO telegram_users (tg_user_id) VALUES (1)", "UPDATE telegram_users SET role = 'operator'",
            "UPDATE wallets SET next_nonce = 9", "UPDATE wallets SET halted_reason = ''", "UPDATE tx_intents SET mode = 'LIVE'",
            "UPDATE tx_intents SET calldata = ''", "INSERT INTO signals (source) VALUES ('x')", "UPDATE signals SET decision = ''",
            "INSERT INTO tx_sends DEFAULT VALUES", "INSERT INTO sign_requests DEFAULT VALUES", "INSERT INTO fills DEFAULT VALUES",
            "UPDATE positions SET state = 'void'", "UPDATE positions SET collateral_usdc = 9", "DELETE FROM traders",
            "UPDATE stack_mode SET mode = 'LIVE'", "INSERT INTO caps DEFAULT VALUES", "UPDATE caps SET lifted_at = now()",
            "UPDATE risk_reservations SET released_at = now()", "UPDATE protections SET watermark = 0", "DELETE FROM protections",
        )
    ),
    *(
        ("test_people", statement, "permission denied")
        for statement in (
            "SELECT password FROM auth_user", "SELECT sealed FROM source_secrets", "SELECT * FROM django_session",
            "INSERT INTO audit_log (actor) VALUES ('x')", "UPDATE control SET epoch = 9", "SELECT 1 FROM control FOR SHARE",
            "INSERT INTO mode_changes (kind) VALUES ('dry')", "UPDATE mode_changes SET lifted_at = now()",
        )
    ),
    # What a role may do to a table in general, a guard refuses where it is wrong.
    ("test_web", "UPDATE control SET epoch = epoch - 1", "never steps back"),
    ("test_worker", "UPDATE control SET epoch = epoch - 1", "never steps back"),
    ("test_worker", "UPDATE wallets SET next_nonce = next_nonce - 1", "never steps back"),
    ("test_worker", "UPDATE tx_intents SET nonce = nonce + 9", "for life"),
    ("test_worker", "UPDATE tx_intents SET state = 'pending', nonce = NULL", "cannot move|for life"),
    ("test_web", "UPDATE mode_changes SET lifted_at = NULL", "lifted already"),
    ("test_bot", "UPDATE control SET epoch = epoch - 1", "never steps back"),
]  # fmt: skip


@pytest.fixture
def stage(applied: None) -> None:
    rows.receipt(send_id=rows.send(outcome="accepted"))
    rows.execute("UPDATE wallets SET next_nonce = 5")
    rows.signal()
    rows.secret()
    rows.transition()
    rows.restriction(lifted_at="2026-01-01T00:00:00Z")
    rows.audit_entry()
    User.objects.create_superuser("root", password=PASSWORD)


@pytest.mark.parametrize("login", LOGINS)
def test_attacks_are_refused(stage: None, login: str) -> None:
    mine = [(statement, words) for name, statement, words in ATTACKS if name == login]
    assert len(mine) > 40
    with logged_in(login):
        for statement, words in mine:
            with pytest.raises(DatabaseError, match=words), transaction.atomic():
                rows.execute(statement)


def test_people_may_look(stage: None) -> None:
    with logged_in("test_people"):
        for table in ("tx_intents", "signals", "audit_log", "positions", "mode_changes", "wallets"):
            assert rows.one(f"SELECT count(*) FROM {table}") >= 0
        assert rows.one("SELECT username FROM auth_user") == "root"
        assert verify(reader.entries(), {}).is_intact


@pytest.mark.parametrize(
    ("widen", "undo", "named"),
    [
        ("GRANT UPDATE ON wallets TO vanta_web", "REVOKE UPDATE ON wallets FROM vanta_web", "vanta_web: UPDATE on wallets"),
        (
            "GRANT UPDATE (nonce) ON tx_intents TO vanta_web",
            "REVOKE UPDATE (nonce) ON tx_intents FROM vanta_web",
            "vanta_web: UPDATE on tx_intents(nonce)",
        ),
        ("GRANT SELECT ON signals TO PUBLIC", "REVOKE SELECT ON signals FROM PUBLIC", "PUBLIC: SELECT on signals"),
        ("GRANT DELETE ON audit_log TO test_people", "REVOKE DELETE ON audit_log FROM test_people", "test_people: DELETE on audit_log"),
        ("ALTER ROLE vanta_worker LOGIN", "ALTER ROLE vanta_worker NOLOGIN", "vanta_worker: rolcanlogin"),
        ("ALTER ROLE test_worker CREATEROLE", "ALTER ROLE test_worker NOCREATEROLE", "test_worker: rolcreaterole"),
        ("GRANT pg_write_all_data TO test_web", "REVOKE pg_write_all_data FROM test_web", "test_web: member of pg_write_all_data"),
        ("GRANT vanta_worker TO vanta_readonly", "REVOKE vanta_worker FROM vanta_readonly", "vanta_readonly: member of vanta_worker"),
        ("GRANT CREATE ON SCHEMA public TO vanta_web", "REVOKE CREATE ON SCHEMA public FROM vanta_web", "vanta_web: CREATE on the schema"),
    ],
)  # fmt: skip
def test_check_names_what_is_wider(applied: None, widen: str, undo: str, named: str) -> None:
    rows.execute(widen)
    try:
        found = roles("check")
        assert not found["ok"]
        assert named in found["wider"]
    finally:
        rows.execute(undo)
    assert roles("check")["ok"]


def test_check_names_what_is_missing_and_apply_puts_it_right(applied: None) -> None:
    rows.execute("REVOKE INSERT ON tx_sends FROM vanta_worker")
    rows.execute("GRANT DELETE ON tx_sends TO vanta_worker")
    found = roles("check")
    assert "vanta_worker: INSERT on tx_sends" in found["missing"]
    assert found["wider"] == ["vanta_worker: DELETE on tx_sends"]
    assert roles("apply")["ok"]
    told = AuditEntry.objects.order_by("-seq").first()
    assert told is not None
    assert told.after is not None
    assert (told.action, told.after["taken"]) == ("roles_applied", found["wider"])


def test_a_table_without_a_line_is_named(applied: None) -> None:
    rows.execute("CREATE TABLE forgotten (a int)")
    try:
        assert roles("check")["unlisted"] == ["forgotten"]
    finally:
        rows.execute("DROP TABLE forgotten")


def test_roles_are_groups_that_nobody_logs_in_as(applied: None) -> None:
    assert rows.one(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s) AND NOT rolcanlogin", list(ROLES)
    ) == len(ROLES)


def test_a_login_that_may_not_make_roles_is_told_so(applied: None) -> None:
    with logged_in("test_worker"), pytest.raises(CommandError, match="tables' owner"):
        call_command("roles", "apply", stdout=io.StringIO())


def test_a_deed_that_the_webhooks_login_may_not_do_is_refused_with_words(stage: None) -> None:
    """Its admin site may stop and resume; what moves orders or caps is done by the command, as the tables' owner."""
    client = Client()
    client.force_login(User.objects.get(username="root"))
    deeds = {
        "set-cap": {"cap": "leverage_x", "scope": "global", "value": "3", "confirm": "CAP"},
        "forget-person": {"tg_user_id": "123", "confirm": "FORGET"},
        "export-person": {"tg_user_id": "123", "confirm": "EXPORT"},
    }
    before = AuditEntry.objects.count()
    with logged_in("test_web"):
        for name, words in deeds.items():
            page = client.get(f"/admin/do/{name}/").content.decode()
            once = re.search(r'name="once" value="([^"]+)"', page)
            assert once, name
            told = {"once": once[1], "reason": "agreed on by two", **words}
            answer = client.post(f"/admin/do/{name}/", told)
            assert answer.status_code == 422, (name, answer.status_code)
            assert "logs in to the database as a role that may not do that" in answer.content.decode(), name
    assert AuditEntry.objects.count() == before, "nothing was done, and nothing was told as done"
