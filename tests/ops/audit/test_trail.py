"""Every operator's action and automatic decision leaves its entry, in the transaction of its effect."""

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from execution_app import audit
from execution_app.engine import reconcile
from execution_app.errors import Disagreement
from execution_app.gate import control
from execution_app.models import AuditEntry, Chain, Trader, Wallet
from execution_app.people import pseudonym_of
from execution_app.states import Origin, RestrictionKind
from ops.panel import logins, whence
from signals_app import sources
from tests.execution import rows
from tests.rig import Rig, rpc_call

ADDRESS = "0x" + "ab" * 20
PASSWORD = "a-Planted-canary-7"
CANARY = "canary-secret-that-is-long-enough"


def entries() -> list[Any]:
    return list(AuditEntry.objects.order_by("seq"))


def actions() -> list[str]:
    return [entry.action for entry in entries()]


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("kind", RestrictionKind)
@pytest.mark.parametrize("origin", Origin)
def test_a_restriction_is_told_when_it_comes_and_goes(
    database: None, kind: RestrictionKind, origin: Origin
) -> None:
    for _ in range(2):
        control.impose(kind, origin, by="ann", reason="because")
    for _ in range(2):
        control.lift(kind, origin, by="bob", reason="over")
    set_, lifted = entries()
    word = f"{kind.value} of {origin.value}"
    assert (set_.action, lifted.action) == ("restriction_imposed", "restriction_lifted")
    assert (set_.actor, set_.origin, set_.subject, set_.reason) == ("ann", origin.value, word, "because")
    assert (lifted.actor, lifted.reason, lifted.address) == ("bob", "over", audit.here())
    assert set_.before["restrictions"] == lifted.after["restrictions"] == []
    assert set_.after["restrictions"] == lifted.before["restrictions"] == [word]
    assert set_.after["epoch"] - set_.before["epoch"] == int(origin is Origin.REDIS)


def refuse_entries() -> None:
    rows.execute("ALTER TABLE audit_log ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")


def allow_entries() -> None:
    rows.execute("ALTER TABLE audit_log DROP CONSTRAINT nothing_more")


def test_without_its_entry_there_is_no_effect(database: None) -> None:
    """The entry and what it tells are one transaction: neither without the other."""
    trader = rows.one("SELECT tg_user_id FROM traders WHERE id = %s", rows.trader())
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="ann", reason="")
    refuse_entries()
    try:
        for act in (
            lambda: control.lift(RestrictionKind.DRY, Origin.HTTP, by="ann"),
            lambda: sources.add("drill"),
            lambda: sources.grant("drill", trader),
            lambda: run("trader", "disable", str(trader)),
            lambda: run("create_admin", "eve"),
        ):
            with pytest.raises((DatabaseError, CommandError), match=r"nothing_more|exists already"):
                act()
    finally:
        allow_entries()
    assert control.active_kinds() == {RestrictionKind.DRY}
    assert sources.names() == []
    assert Trader.objects.get().enabled
    assert not User.objects.exists()


def test_a_stop_and_a_halt_hold_without_their_entries(rig: Rig) -> None:
    """What is broken in the log, and be it for good, must not keep anybody from stopping."""
    refuse_entries()
    try:
        assert control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="now").changed
        reconcile.halt_wallet(rig.wallet, "its key was used elsewhere")
    finally:
        allow_entries()
    assert control.active_kinds() == {RestrictionKind.STOP}
    rig.wallet.refresh_from_db()
    assert rig.wallet.halted_reason == "its key was used elsewhere"


def test_a_wallet_that_halts_by_itself_is_told_once(rig: Rig) -> None:
    before = len(entries())
    for _ in range(2):
        reconcile.check_wallets({rig.wallet.pk: 9})
    (entry,) = entries()[before:]
    assert (entry.action, entry.origin, entry.actor) == ("wallet_halted", "automatic", "vanta")
    assert entry.subject == f"wallet {rig.wallet.address}"
    assert "9 transactions" in entry.reason
    assert entry.after == {"halted_reason": entry.reason}


def test_a_chain_that_halts_and_agrees_again_is_told(rig: Rig) -> None:
    before = len(entries())
    for _ in range(2):
        with pytest.raises(Disagreement):
            reconcile.check_identity(1, "0x")
    rig.track()
    rig.track()
    halted, resumed = entries()[before:]
    assert (halted.action, resumed.action) == ("chain_halted", "chain_resumed")
    assert "chain 1" in halted.reason
    assert resumed.before == halted.after == {"halted_reason": halted.reason}
    assert Chain.objects.get().halted_reason == ""


def test_the_first_chain_is_told(rig: Rig) -> None:
    assert [entry.subject for entry in entries() if entry.action == "chain_adopted"] == ["chain 31337"]


def test_a_nonce_that_was_lost_is_told_with_its_wallet(rig: Rig) -> None:
    """Somebody else uses the key: the slot is consumed by a transaction that is not ours, and final."""
    from execution_app.node import signers

    rig.intent()
    rig.submit()
    rpc_call("anvil_dropAllTransactions")
    rpc_call("anvil_setNonce", rig.wallet.address, "0x1")
    rig.mine(40)
    rig.track()
    told = [entry for entry in entries() if entry.action == "wallet_halted"]
    assert signers.has_key(rig.wallet.address)
    assert [entry.subject for entry in told] == [f"wallet {rig.wallet.address}"]
    assert Wallet.objects.get().halted_reason == told[0].reason


def test_sources_are_told_without_their_secrets(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trader = rows.one("SELECT tg_user_id FROM traders WHERE id = %s", rows.trader())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CANARY}\n"))
    run("source", "add", "drill", "--secret-stdin", "--reason", "a new desk")
    made = json.loads(run("source", "rotate", "drill", "--json"))
    run("source", "grant", "drill", str(trader))
    run("source", "grant", "drill", str(trader))
    run("source", "limit", "drill", "--open-burst", "7")
    run("source", "revoke", "drill", str(trader))
    run("source", "retire", "drill", str(made["secret_id"]))
    assert actions() == [
        *("source_secret_issued", "source_secret_issued", "source_granted", "source_limited"),
        *("source_revoked", "source_secret_retired"),
    ]
    first, second, granted, limited, revoked, retired = entries()
    assert (first.reason, first.origin, first.subject) == ("a new desk", "command", "source drill")
    assert first.actor == audit.operator().actor
    assert second.after == {"secret_id": made["secret_id"], "secrets_active": 2}
    assert granted.after == revoked.before == {"tg_user_id": pseudonym_of(trader)}
    assert (limited.before["open_burst"], limited.after["open_burst"]) == (1000, 7)
    assert retired.after["secrets_active"] == 1
    everything = str(list(AuditEntry.objects.values()))
    assert CANARY not in everything
    assert made["secret"] not in everything


def test_traders_wallets_and_admins_are_told(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    for _ in range(2):
        run("trader", "add", "5", "--address", ADDRESS, "--reason", "asked by mail")
        run("wallet", "create", "5")
        run("trader", "disable", "5")
    run("trader", "enable", "5")
    run("create_admin", "ann", "--password-stdin")
    run("create_admin", "bob")
    assert actions() == [
        *("trader_added", "wallet_created", "trader_disabled", "trader_enabled"),
        *("admin_created", "admin_created"),
    ]
    added, wallet, disabled, *_, admin, _ = entries()
    assert (added.subject, added.reason) == (f"trader {pseudonym_of(5)}", "asked by mail")
    assert wallet.subject == f"wallet {Wallet.objects.get().address}"
    assert (disabled.before, disabled.after) == ({"enabled": True}, {"enabled": False})
    assert (admin.subject, admin.after["is_superuser"]) == ("user ann", True)
    assert PASSWORD not in str(list(AuditEntry.objects.values()))


@pytest.fixture
def admin(database: None) -> Client:
    User.objects.create_superuser("root", password=PASSWORD)
    client = Client(REMOTE_ADDR="192.0.2.7")
    answer = client.post(reverse("admin:login"), {"username": "root", "password": PASSWORD})
    assert answer.status_code == 302
    return client


def test_accounts_are_told_by_the_page(admin: Client) -> None:
    before = len(entries())
    name, other = "user", "other-Planted-9"
    why = {"reason": "agreed on by two"}
    created = {
        "username": name,
        "password1": PASSWORD,
        "password2": PASSWORD,
        "usable_password": "true",
    } | why
    assert admin.post(reverse("admin:auth_user_add"), created).status_code == 302
    user = User.objects.get(username=name)
    page = reverse("admin:auth_user_change", args=[user.pk])
    form = {"username": name, "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    for changed in ({"is_active": "on", "is_superuser": "on"} | why, {"is_superuser": "on"}):
        assert admin.post(page, form | changed).status_code == 302, changed
    secret = {"password1": other, "password2": other, "usable_password": "true"} | why
    assert admin.post(reverse("admin:auth_user_password_change", args=[user.pk]), secret).status_code == 302
    assert admin.post(reverse("admin:auth_user_delete", args=[user.pk]), {"post": "yes"}).status_code == 302
    told = entries()[before:]
    assert [entry.action for entry in told] == [
        *("admin_created", "admin_changed", "admin_disabled", "admin_changed", "admin_deleted"),
    ]
    assert {(entry.actor, entry.origin, entry.address) for entry in told} == {("root", "admin", "192.0.2.7")}
    assert (told[1].before["is_superuser"], told[1].after["is_superuser"]) == (False, True)
    assert [entry.reason for entry in told] == [
        *("agreed on by two", "agreed on by two", "", "password changed: agreed on by two", ""),
    ]
    everything = str(list(AuditEntry.objects.values()))
    assert PASSWORD not in everything
    assert other not in everything
    assert user.password not in everything


def test_groups_and_bulk_deletions_are_told(admin: Client) -> None:
    before = len(entries())
    new = {"name": "desk", "reason": "agreed on by two"}
    assert admin.post(reverse("admin:auth_group_add"), new).status_code == 302
    group = Group.objects.get()
    chosen = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    assert admin.post(reverse("admin:auth_group_changelist"), chosen).status_code == 302
    assert [entry.action for entry in entries()[before:]] == ["group_changed", "group_deleted"]
    assert not Group.objects.exists()


def test_stop_and_resume_of_the_site_and_by_http_tell_from_where(admin: Client, settings: Any) -> None:
    before = len(entries())
    admin.post(reverse("admin:execution_app_control_stop"), {"reason": "odd fills"})
    admin.post(reverse("admin:execution_app_control_resume"), {"reason": "explained"})
    token = settings.ENVIRONMENT.admin_token.get_secret_value()
    sent: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {token}", "REMOTE_ADDR": "198.51.100.9"}
    reason = {"reason": f"pager {token}"}
    Client().post("/admin/emergency-stop", reason, content_type="application/json", **sent)
    Client().delete("/admin/emergency-stop", **sent)
    told = entries()[before:]
    assert [(e.actor, e.origin, e.address, e.reason) for e in told] == [
        ("root", "admin", "192.0.2.7", "odd fills"),
        ("root", "admin", "192.0.2.7", "explained"),
        ("http", "http", "198.51.100.9", "pager [withheld]"),
        ("http", "http", "198.51.100.9", "no reason given"),
    ]


def try_to_log_in(name: str, password: str = CANARY) -> None:
    page = reverse("admin:login")
    Client(REMOTE_ADDR="203.0.113.5").post(page, {"username": name, "password": password})


def test_logins_and_failed_logins_are_told(database: None) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    try_to_log_in("root", PASSWORD)
    try_to_log_in("root")
    try_to_log_in(CANARY)  # a password typed where the name belongs
    good, bad, strange = entries()
    assert (good.action, good.actor, good.address) == ("login", "root", "203.0.113.5")
    assert (bad.action, bad.actor) == ("login_failed", "root")
    assert (strange.action, strange.actor) == ("login_failed", "unknown")
    everything = str(list(AuditEntry.objects.values()))
    assert CANARY not in everything
    assert PASSWORD not in everything


def test_nobody_floods_the_log_by_failing_to_log_in(database: None, settings: Any) -> None:
    settings.AXES_ENABLED = (
        False  # who is shut out after ten failures floods nothing either, and cannot log in
    )
    User.objects.create_superuser("root", password=PASSWORD)
    for number in range(logins.FAILED_PER_MINUTE + 5):
        try_to_log_in(f"name-{number}")
    assert actions() == ["login_failed"] * logins.FAILED_PER_MINUTE
    assert "only in the process's log" in entries()[-1].reason
    try_to_log_in("root", PASSWORD)
    assert actions()[-1] == "login", "who succeeds is told all the same"


def test_failures_at_once_stay_within_the_bound(database: None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def fail(_: int) -> None:
        try:
            logins._failed({"username": "nobody"})
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(40)))
    assert len(entries()) == logins.FAILED_PER_MINUTE


def test_a_logout_is_told(admin: Client) -> None:
    admin.post(reverse("admin:logout"))
    assert (actions()[-1], entries()[-1].actor) == ("logout", "root")


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "expected"),
    [
        (0, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        (0, "192.0.2.1:5123", "", "192.0.2.1"),
        (0, "[2001:db8::1]:80", "", "2001:db8::1"),
        (0, "2001:db8::1", "", "2001:db8::1"),
        (0, "", "", "unknown"),
        (1, "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "10.0.0.1", "203.0.113.9", "10.0.0.1"),
        (1, "10.0.0.1", "nonsense", "10.0.0.1"),
        (1, "10.0.0.1", "", "10.0.0.1"),
        (1, "10.0.0.1", ",".join(["6.6.6.6"] * 500) + ", 203.0.113.9", "203.0.113.9"),
    ],
)
def test_from_where_is_what_the_trusted_proxies_saw(
    settings: Any, proxies: int, peer: str, forwarded: str, expected: str
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"trusted_proxies": proxies})
    sent: dict[str, Any] = {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})
    assert whence.client_address(RequestFactory().get("/", **sent)) == expected


def test_who_acts_is_forgotten_after_the_request() -> None:
    seen: list[audit.Who] = []

    def answer(_: HttpRequest) -> HttpResponse:
        seen.append(audit.current())
        return HttpResponse()

    whence.Whence(answer)(RequestFactory().get("/", REMOTE_ADDR="192.0.2.1"))
    assert (seen[0].origin, seen[0].address) == ("http", "192.0.2.1")
    assert audit.current().origin == "automatic"


def test_a_container_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    assert audit.operator().actor == "uid 4000000"


def test_the_page_of_the_log_shows_and_changes_nothing(admin: Client) -> None:
    with transaction.atomic():
        sources.limit("drill", open_burst=3)
    text = admin.get(reverse("admin:execution_app_auditentry_changelist")).content.decode()
    assert "source_limited" in text
    page = reverse("admin:execution_app_auditentry_change", args=[1])
    assert admin.post(page, {"reason": "x"}).status_code == 403
