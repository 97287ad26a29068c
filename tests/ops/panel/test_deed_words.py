"""What the pages of deeds say before anything is done: units, and what will be asked for."""

import re
from decimal import Decimal

from django.contrib.auth.models import User
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.gate import cap_rows
from execution_app.models import Cap
from execution_app.states import CapName, CapScope
from tests.ops.panel.test_deeds import held_close, page, press


def test_a_cap_is_told_with_its_unit_wherever_it_stands(admin: Client) -> None:
    cap_rows.set_cap(CapName.GAS_PER_DAY, CapScope.GLOBAL, "", Decimal(10**16), by="root", reason="drill")
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal("12500.5"), by="root", reason="drill")
    listed = admin.get("/admin/execution_app/cap/").content.decode()
    for row, said in zip(
        Cap.objects.order_by("pk"), ("10,000,000,000,000,000 wei (0.01 ETH)", "12,500.5 USDC"), strict=True
    ):
        assert said in page(admin, f"lift-cap/{row.pk}")
        assert said in listed
        assert said in admin.get(f"/admin/execution_app/cap/{row.pk}/change/").content.decode()
    cap_rows.set_cap(CapName.BANNED, CapScope.SYMBOL, "BTC-USD", Decimal(0), by="root", reason="drill")
    assert "nothing may be opened" in page(admin, f"lift-cap/{Cap.objects.latest('pk').pk}")
    assert "1,000 USDC" in page(admin, "set-cap"), "the ceiling of the environment"
    told = {"cap": "leverage_x", "scope": "global", "scope_value": "", "value": "5"}
    answer = admin.get(press(admin, "set-cap", "CAP", **told).headers["Location"])
    assert "none before, 5x now." in answer.content.decode()


def test_how_long_a_reason_has_to_be_is_said_before_it_is_refused(admin: Client) -> None:
    close = held_close()
    TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    for path, said in (
        (f"reject/{close.intent_key}", "Reason (at least 3 characters)"),
        (f"approve/{close.intent_key}", "Reason (at least 8 characters)"),
        ("set-cap", "Reason (at least 3 characters, 8 for a higher value)"),
    ):
        assert said in page(admin, path)
    actions = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", admin.get("/admin/do/").content.decode()))
    assert "Set a cap asks for a one-time code for a higher value" in actions
    assert "Let only exits pass asks" not in actions
