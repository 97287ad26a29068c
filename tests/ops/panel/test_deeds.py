"""Deeds on the site: each presses the verb of the commands, with a reason, a typed word, and a code where it loosens."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.gate import cap_rows, control
from execution_app.models import AuditEntry, Cap, Position, TxIntent, TxSend
from execution_app.states import CapName, CapScope, Origin, RestrictionKind
from ops.bot.models import TelegramUser
from ops.panel import roles
from ops.panel.deeds.page import OFFERED
from signals_app.models import Signal, SourceGrant, SourceSecret
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each
from tests.rig import Rig

WHY = "agreed on by two of us"


def page(client: Client, path: str) -> str:
    answer = client.get(f"/admin/do/{path}/")
    assert answer.status_code == 200, (path, answer.status_code)
    return answer.content.decode()


def press(client: Client, path: str, confirm: str, **told: Any) -> Any:
    """As a browser would: with the token that the page carries."""
    once = re.search(r'name="once" value="([^"]+)"', page(client, path))
    assert once, f"nothing can be pressed on {path}"
    return client.post(f"/admin/do/{path}/", {"once": once[1], "reason": WHY, "confirm": confirm, **told})


def somebody(role: roles.SiteRole, name: str = "somebody") -> Client:
    user = User.objects.create_user(name, password="not-used-here", is_staff=True)
    user.groups.add(roles.group(role))
    client = Client()
    client.force_login(user)
    return client


def held_close() -> TxIntent:
    one_of_each()
    close = TxIntent.objects.get(action="close")
    TxIntent.objects.filter(pk=close.pk).update(state="held", reason="mode_degraded")
    close.refresh_from_db()
    return close


def entry() -> AuditEntry:
    found = AuditEntry.objects.order_by("-seq").first()
    assert found is not None
    return found


def test_a_held_intent_is_rejected_once_with_who_and_why(admin: Client) -> None:
    close = held_close()
    answer = press(admin, f"reject/{close.intent_key}", "BTC-USD")
    assert answer.status_code == 302, answer.content
    close.refresh_from_db()
    assert (close.state, close.reason, close.reason_detail) == ("rejected", "operator_rejected", WHY)
    assert (entry().action, entry().actor, entry().origin, entry().reason) == (
        "intent_decided",
        "root",
        "admin",
        WHY,
    )
    assert "it is not held" in page(admin, f"reject/{close.intent_key}")


def test_several_are_rejected_by_their_count(admin: Client) -> None:
    close = held_close()
    for number in range(3):
        TxIntent.objects.create(
            intent_key=f"sig:drill:held-{number}", trader=close.trader, wallet=close.wallet, tg_user_id=123,
            action="close", symbol="BTC-USD", slippage_pct=1,
        )  # fmt: skip
    TxIntent.objects.filter(intent_key__startswith="sig:drill:held-").update(state="held", reason="no_wallet")
    chosen = list(TxIntent.objects.order_by("pk").values_list("pk", flat=True))
    told = {"action": "reject_several", "_selected_action": chosen}
    answer = admin.post("/admin/execution_app/txintent/", told)
    assert answer.status_code == 302
    path = answer.headers["Location"].removeprefix("/admin/do/").rstrip("/")
    assert "REJECT 4" in page(admin, path)
    assert press(admin, path, "REJECT 3").status_code == 422
    assert TxIntent.objects.filter(state="held").count() == 4
    assert press(admin, path, "REJECT 4").status_code == 302
    assert TxIntent.objects.filter(reason="operator_rejected").count() == 4
    assert "none of them is held" in page(admin, path)


@pytest.mark.parametrize(
    "told", [{"confirm": "btc-usd"}, {"confirm": ""}, {"reason": ""}, {"reason": "  x "}, {"once": "none"}]
)
def test_without_the_typed_word_and_a_reason_nothing_is_done(admin: Client, told: dict[str, str]) -> None:
    close = held_close()
    before = AuditEntry.objects.count()
    answer = press(admin, f"reject/{close.intent_key}", **{"confirm": "BTC-USD", **told})
    assert answer.status_code == 422
    close.refresh_from_db()
    assert close.state == "held"
    assert AuditEntry.objects.count() == before


def test_what_loosens_asks_for_the_code_of_whoever_presses(admin: Client) -> None:
    one_of_each()
    device = TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    control.impose(RestrictionKind.DRY, Origin.ADMIN, by="root", reason="drill")
    refused = press(admin, "live", "LIVE", code="000000")
    assert refused.status_code == 422
    assert "the code is wrong" in refused.content.decode()
    assert control.active_kinds() == {RestrictionKind.DRY}
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None, last_t=-1)
    assert press(admin, "live", "LIVE", code=f"{totp(device.bin_key):06d}").status_code == 302
    assert control.active_kinds() == frozenset()
    assert (entry().action, entry().origin, entry().actor) == ("restriction_lifted", "admin", "root")


@pytest.mark.parametrize(
    ("deed", "word", "kind"),
    [("dry", "DRY", RestrictionKind.DRY), ("reduce-only", "REDUCE", RestrictionKind.REDUCE_ONLY)],
)
def test_restricting_needs_no_code(admin: Client, deed: str, word: str, kind: RestrictionKind) -> None:
    TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    assert "One-time code" not in page(admin, deed)
    assert press(admin, deed, word).status_code == 302
    (row,) = control.active()
    assert (row.kind, row.origin, row.set_by, row.reason) == (kind.value, "admin", "root", WHY)


def test_what_another_origin_set_is_not_lifted_here(admin: Client) -> None:
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.TELEGRAM, by="somebody", reason="drill")
    assert "no reduce_only was set on this site" in page(admin, "allow-opens")
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.ADMIN, by="root", reason="drill")
    press(admin, "allow-opens", "OPENS")
    assert [row.origin for row in control.active()] == ["telegram"]


def test_a_cap_is_set_and_raised_only_with_a_code(admin: Client) -> None:
    device = TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    cap = {"cap": "exposure_usdc", "scope": "symbol", "scope_value": "BTC-USD"}
    assert press(admin, "set-cap", "CAP", value="100.5", **cap).status_code == 302
    assert Cap.objects.get(lifted_at=None).value == Decimal("100.5")
    raised = press(admin, "set-cap", "CAP", value="200", code="", **cap)
    assert raised.status_code == 422
    assert Cap.objects.get(lifted_at=None).value == Decimal("100.5")
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None, last_t=-1)
    press(admin, "set-cap", "CAP", value="200", code=f"{totp(device.bin_key):06d}", **cap)
    row = Cap.objects.get(lifted_at=None)
    assert (row.value, row.set_by, row.reason) == (Decimal(200), "root", WHY)
    assert (entry().action, entry().origin, entry().before) == ("cap_set", "admin", {"value": "100.500000"})


@pytest.mark.parametrize(
    "wrong",
    [{"value": "-1"}, {"value": "NaN"}, {"value": "1e60"}, {"scope_value": ""}, {"cap": "luck"},
     {"scope": "global"}, {"scope_value": "no symbol"}, {"value": "0.0000001"}],
)  # fmt: skip
def test_a_wrong_cap_is_refused_with_words(admin: Client, wrong: dict[str, str]) -> None:
    cap = {"cap": "exposure_usdc", "scope": "symbol", "scope_value": "BTC-USD", "value": "5", **wrong}
    answer = press(admin, "set-cap", "CAP", **cap)
    assert answer.status_code == 422
    assert "vanta-error" in answer.content.decode()
    assert not Cap.objects.exists()


def test_a_cap_is_lifted(admin: Client) -> None:
    cap_rows.set_cap(CapName.BANNED, CapScope.SYMBOL, "BTC-USD", Decimal(0), by="root", reason="drill")
    row = Cap.objects.get()
    assert press(admin, f"lift-cap/{row.pk}", "banned").status_code == 302
    row.refresh_from_db()
    assert (row.lifted_by, row.lifted_reason) == ("root", WHY)


@pytest.mark.parametrize(("deed", "part"), [("close", None), ("halve", Decimal(50))])
def test_a_position_is_closed_once_however_often_the_page_is_sent(
    admin: Client, deed: str, part: Decimal | None
) -> None:
    one_of_each()
    position = Position.objects.get()
    once = re.search(r'name="once" value="([^"]+)"', page(admin, f"{deed}/{position.pk}"))
    assert once
    for _ in range(3):
        told = {"once": once[1], "reason": WHY, "confirm": "BTC-USD"}
        assert admin.post(f"/admin/do/{deed}/{position.pk}/", told).status_code == 302
    close = TxIntent.objects.get(intent_key__startswith=f"admin:{deed}:{position.pk}:")
    assert (close.action, close.position_id, close.only_position) == ("close", position.pk, True)
    assert close.reduce_pct == part


def test_a_position_is_increased_where_its_road_has_that(admin: Client, settings: Any) -> None:
    one_of_each()
    position = Position.objects.get()
    path = f"increase/{position.pk}"
    assert "onchain does not support increase" in page(admin, path)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    assert press(admin, path, "BTC-USD", collateral_usdc="0").status_code == 422
    assert press(admin, path, "BTC-USD", collateral_usdc="1.0000001").status_code == 422
    assert press(admin, path, "ETH-USD", collateral_usdc="7.5").status_code == 422
    once = re.search(r'name="once" value="([^"]+)"', page(admin, path))
    assert once
    for _ in range(2):
        told = {"once": once[1], "reason": WHY, "confirm": "BTC-USD", "collateral_usdc": "7.5"}
        assert admin.post(f"/admin/do/{path}/", told).status_code == 302
    intent = TxIntent.objects.get(action="increase")
    assert intent.intent_key.startswith(f"admin:increase:{position.pk}:")
    assert (intent.position_id, intent.only_position, intent.road) == (position.pk, True, "gateway")
    assert (intent.collateral_usdc, intent.leverage_x) == (Decimal("7.5"), position.leverage_x)
    assert intent.expires_at is not None
    TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    refused = press(admin, path, "BTC-USD", collateral_usdc="7.5", code="000000")
    assert (refused.status_code, TxIntent.objects.filter(action="increase").count()) == (422, 1)


def test_a_dry_position_is_left_to_signals(admin: Client) -> None:
    one_of_each()
    with without_guards():
        Position.objects.update(mode="DRY")
    assert "it is a DRY position" in page(admin, f"close/{Position.objects.get().pk}")


def test_flatten_tells_how_many_and_sets_reduce_only(admin: Client) -> None:
    one_of_each()
    assert "FLATTEN 1" in page(admin, "flatten")
    assert press(admin, "flatten", "FLATTEN 2").status_code == 422
    assert control.active_kinds() == frozenset()
    assert press(admin, "flatten", "FLATTEN 1").status_code == 302
    assert control.active_kinds() == {RestrictionKind.REDUCE_ONLY}
    assert TxIntent.objects.filter(intent_key__startswith="admin:flatten:", action="close").count() == 1


def test_an_open_is_cancelled_in_its_slot_and_an_exit_is_not(admin: Client) -> None:
    intent = one_of_each()
    assert "only what is signed and not mined" in page(admin, f"cancel/{intent.intent_key}")
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(state="pending_inclusion", settled_at=None)
    assert press(admin, f"cancel/{intent.intent_key}", "BTC-USD").status_code == 302
    intent.refresh_from_db()
    assert intent.cancel_asked_at is not None
    assert (entry().action, entry().origin) == ("pending_cancelled", "admin")
    assert "asked for already" in page(admin, f"cancel/{intent.intent_key}")
    close = TxIntent.objects.get(action="close")
    assert "exits are not cancelled" in page(admin, f"cancel/{close.intent_key}")


def test_an_order_that_rests_is_taken_back_once(admin: Client) -> None:
    intent = one_of_each()
    assert "no order that rests" in page(admin, f"take-back/{intent.intent_key}")
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(
            state="ordered", settled_at=None, order_type="limit", limit_price=95_000, road="onchain"
        )
    assert press(admin, f"take-back/{intent.intent_key}", "BTC-USD").status_code == 302
    cancel = TxIntent.objects.get(action="cancel_order")
    assert (cancel.target, cancel.state) == (intent, "pending")
    assert (entry().action, entry().origin) == ("pending_cancelled", "admin")
    assert "is taking it back already" in page(admin, f"take-back/{intent.intent_key}")
    assert TxIntent.objects.filter(action="cancel_order").count() == 1


def test_an_order_that_rests_is_changed_as_the_form_says(admin: Client) -> None:
    intent = one_of_each()
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(
            state="ordered", settled_at=None, order_type="limit", limit_price=95_000, road="onchain"
        )
    path = f"change-order/{intent.intent_key}"
    assert "95,000 USD" in page(admin, path)
    refused = press(admin, path, "BTC-USD")
    assert (refused.status_code, b"names a price" in refused.content) == (422, True)
    assert press(admin, path, "BTC-USD", take_profit="no number").status_code == 422
    assert press(admin, path, "BTC-USD", limit_price="-1").status_code == 422
    assert not TxIntent.objects.filter(action="update_order").exists()
    told = {"limit_price": "94000.5", "take_profit": "none"}
    assert press(admin, path, "BTC-USD", **told).status_code == 302
    change = TxIntent.objects.get(action="update_order")
    assert (change.target, change.state, change.limit_price) == (intent, "pending", Decimal("94000.5"))
    assert (change.take_profit, change.stop_loss, change.new_slippage_pct) == (0, None, None)
    assert (entry().action, entry().origin) == ("order_changed", "admin")


def test_collateral_goes_into_a_position_and_comes_out(admin: Client, settings: Any) -> None:
    one_of_each()
    position = Position.objects.get()
    with without_guards():
        closes = TxIntent.objects.filter(action="close")
        closes.update(state="rejected", settled_at=Now(), holds_position=False)
        Position.objects.update(mode="LIVE", state="open")
    for path, amount in ((f"deposit/{position.pk}", "2.5"), (f"withdraw/{position.pk}", "1")):
        assert press(admin, path, "BTC-USD", amount_usdc="0").status_code == 422
        assert press(admin, path, "BTC-USD", amount_usdc="1.0000001").status_code == 422
        assert press(admin, path, "BTC-USD", amount_usdc=amount).status_code == 302
        assert (entry().action, entry().origin) == ("margin_asked", "admin")
    asked = TxIntent.objects.filter(action="margin").order_by("pk")
    assert list(asked.values_list("margin_usdc", "position", "road", "only_position")) == [
        (Decimal("2.5"), position.pk, "onchain", True),
        (Decimal(-1), position.pk, "onchain", True),
    ]
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "gateway"})
    assert "gateway does not support change_margin" in page(admin, f"deposit/{position.pk}")
    TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue": "onchain"})
    refused = press(admin, f"withdraw/{position.pk}", "BTC-USD", amount_usdc="1", code="000000")
    assert (refused.status_code, asked.count()) == (422, 2)


def test_what_is_in_flight_is_sped_up_as_the_page_has_shown_it(admin: Client) -> None:
    intent = one_of_each()
    assert "only what has left and is not mined" in page(admin, f"speed-up/{intent.intent_key}")
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(state="pending_inclusion", settled_at=None)
        TxSend.objects.update(held_at=Now())
    path = f"speed-up/{intent.intent_key}"
    newest = max(TxSend.objects.values_list("attempt", flat=True))
    assert press(admin, path, "BTC-USD").status_code == 422
    other = press(admin, path, f"BTC-USD {newest + 2}")
    assert other.status_code == 422, "another transaction than the one that is shown"
    assert press(admin, path, f"BTC-USD {newest + 1}").status_code == 302
    intent.refresh_from_db()
    assert intent.speed_up_asked_at is not None
    assert (entry().action, entry().actor, entry().reason) == ("speed_up_asked", "root", WHY)
    assert "asked for already" in page(admin, path)
    assert "audit entries" in admin.get("/admin/execution_app/auditentry/").content.decode().lower()


def test_a_secret_is_shown_once_and_in_no_cookie(admin: Client) -> None:
    one_of_each()
    answer = press(admin, "rotate-secret", "SECRET", source="drill")
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())
    assert secret
    assert "no-store" in answer.headers["Cache-Control"]
    assert secret[0] not in str(answer.cookies)
    assert SourceSecret.objects.filter(active=True).count() == 2
    assert secret[0] not in str(AuditEntry.objects.values_list("before", "after", "reason"))
    assert (entry().action, entry().actor, entry().reason) == ("source_secret_issued", "root", WHY)
    old = SourceSecret.objects.order_by("id")[0]
    assert press(admin, f"retire-secret/{old.pk}", "drill").status_code == 302
    assert SourceSecret.objects.filter(active=True).count() == 1


def test_a_source_is_bound_to_a_trader_and_let_go(admin: Client) -> None:
    one_of_each()
    assert press(admin, "bind-trader", "BIND", source="other", tg_user_id="123").status_code == 302
    grant = SourceGrant.objects.get(source="other")
    assert press(admin, "bind-trader", "BIND", source="other", tg_user_id="999").status_code == 422
    assert press(admin, f"unbind-trader/{grant.pk}", "other").status_code == 302
    assert not SourceGrant.objects.filter(source="other").exists()


def test_each_deed_is_for_its_role_alone(database: None) -> None:
    held_close()
    viewer, operator = somebody(roles.SiteRole.VIEWER, "v"), somebody(roles.SiteRole.OPERATOR, "o")
    for name in OFFERED:
        assert viewer.get(f"/admin/do/{name}/").status_code == 403
    admins = {name for name in OFFERED if operator.get(f"/admin/do/{name}/").status_code == 403}
    assert admins == {"bind-trader", "rotate-secret", "export-person", "forget-person"}


def test_a_trader_closes_what_is_theirs_and_nothing_else(database: None) -> None:
    one_of_each()
    position = Position.objects.get()
    trader = somebody(roles.SiteRole.TRADER, "theirs")
    assert trader.get(f"/admin/do/close/{position.pk}/").status_code == 403
    TelegramUser.objects.create(tg_user_id=123, role="trader", account="theirs", allowed_by="test")
    assert press(trader, f"close/{position.pk}", "BTC-USD").status_code == 302
    with without_guards():
        TelegramUser.objects.update(tg_user_id=124)
    answer = trader.post(f"/admin/do/halve/{position.pk}/", {"reason": WHY, "confirm": "BTC-USD"})
    assert answer.status_code == 403
    assert not TxIntent.objects.filter(intent_key__startswith="admin:halve").exists()


def test_a_signal_is_replayed_on_paper_whatever_the_mode(rig: Rig, admin: Client) -> None:
    signal = Signal.objects.create(
        source="drill", signal_id="again", body_sha256="ab" * 32, tg_user_id=rig.trader.tg_user_id, symbol="BTC-USD",
        side="SHORT", collateral_usdc=Decimal(5), leverage_x=Decimal(2), slippage_pct=Decimal("0.5"),
    )  # fmt: skip
    assert press(admin, f"replay-dry/{signal.pk}", "BTC-USD").status_code == 302
    intent = TxIntent.objects.get(intent_key__startswith=f"admin:replay:{signal.pk}:")
    assert (intent.state, intent.mode, intent.is_long, intent.nonce) == ("simulated", "DRY", False, None)
    assert Position.objects.get().mode == "DRY"
    with without_guards():
        Signal.objects.filter(pk=signal.pk).update(side="CLOSE")
    assert "only what opens can be replayed" in page(admin, f"replay-dry/{signal.pk}")
