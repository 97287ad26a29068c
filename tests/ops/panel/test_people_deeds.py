"""A person's data from the site: the file, the pseudonym, and where the login of the database may not."""

import io
import json
import zipfile

import pytest
from django.test import Client

from execution_app import people
from execution_app.models import AuditEntry, Trader
from ops.panel import roles
from tests.ops.panel.rows import one_of_each
from tests.ops.panel.test_deeds import WHY, press, somebody
from tests.ops.rollout.test_privacy import WHO, settled


def test_an_admin_exports_a_person_as_one_file(database: None) -> None:
    intent = one_of_each()
    admin = somebody(roles.SiteRole.ADMIN)
    answer = press(admin, "export-person", "EXPORT", tg_user_id=str(WHO))
    assert answer.status_code == 200, answer.content
    assert f"vanta-person-{WHO}.zip" in answer.headers["Content-Disposition"]
    assert "no-store" in answer.headers["Cache-Control"]
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        keys = [json.loads(line)["intent_key"] for line in archive.read("tx_intents.jsonl").splitlines()]
    assert intent.intent_key in keys
    entry = AuditEntry.objects.get(action="person_exported")
    assert (entry.actor, entry.origin, entry.reason) == ("somebody", "admin", WHY)
    assert press(admin, "export-person", "EXPORT", tg_user_id="999").status_code == 422


def test_an_admin_forgets_a_person_once_nothing_is_open(database: None) -> None:
    one_of_each()
    admin = somebody(roles.SiteRole.ADMIN)
    refused = press(admin, "forget-person", "FORGET", tg_user_id=str(WHO))
    assert refused.status_code == 422
    assert "open positions" in refused.content.decode()
    assert Trader.objects.get().tg_user_id == WHO


def test_a_forgotten_person_is_a_number_on_every_page(admin: Client, database: None) -> None:
    settled()
    audit_page = "/admin/execution_app/auditentry/"
    assert f"(Telegram {WHO})" in admin.get(audit_page).content.decode()
    assert f"(Telegram {WHO})" in admin.get(audit_page, {"q": str(WHO)}).content.decode()
    number = people.pseudonym_of(WHO)
    assert press(admin, "forget-person", "FORGET", tg_user_id=str(WHO)).status_code == 302
    for path in (audit_page, "/admin/execution_app/trader/", "/admin/execution_app/txintent/", "/admin/"):
        text = admin.get(path).content.decode()
        assert f"Telegram {WHO}" not in text
        assert f"trader {WHO}" not in text
    assert str(number) in admin.get("/admin/execution_app/trader/").content.decode()


@pytest.mark.parametrize("role", [roles.SiteRole.VIEWER, roles.SiteRole.TRADER, roles.SiteRole.OPERATOR])
def test_nobody_below_an_admin_does(database: None, role: roles.SiteRole) -> None:
    one_of_each()
    client = somebody(role)
    for deed in ("export-person", "forget-person"):
        assert client.get(f"/admin/do/{deed}/").status_code == 403
    assert "export-person" not in client.get("/admin/do/").content.decode()
