"""The panel in a real browser: read home, stop, resume with a second factor, follow a trace; on a desktop and a phone.

The tests are one visit, in their order; pictures go to var/screens when PANEL_SCREENS is set.
"""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.db.models.functions import Now
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from selenium.webdriver.common.keys import Keys

from execution_app.gate import control
from execution_app.models import Cap, Passkey, PriceTick, TxIntent, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.panel import roles
from tests.browser import DESKTOP, PHONE, Browser, browser
from tests.conftest import empty_database
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each
from tests.real_parts import ROOT

PASSWORD = "correct-horse-battery-staple"
KEY = "sig:drill:page-001"
SIZES = {"desktop": DESKTOP, "phone": PHONE}
DO_IT = ".vanta-deed form button"
STOP, RESUME = "a[href$='/control/stop/']", "a[href$='/control/resume/']"
PAGES = {
    "home": "/admin/",
    "trace": f"/admin/trace/{KEY}/",
    "find": "/admin/find/?q=123",
    "charts": "/admin/charts/",
    "stop": "/admin/execution_app/control/stop/",
    "intents": "/admin/execution_app/txintent/",
    "positions": "/admin/execution_app/position/",
    "position": "/admin/execution_app/position/1/change/",
    "actions": "/admin/do/",
    "cap": "/admin/do/set-cap/",
    "flatten": "/admin/do/flatten/",
    "export": "/admin/export/",
    "runbook": "/admin/runbook/",
    "passkeys": "/admin/passkeys/",
    "forget": "/admin/do/forget-person/",
    "export-person": "/admin/do/export-person/",
    "caps": "/admin/execution_app/cap/",
    "user-new": "/admin/auth/user/add/",
    "user": "/admin/auth/user/1/change/",
    "group": "/admin/auth/group/1/change/",
    "group-new": "/admin/auth/group/add/",
    "password": "/admin/auth/user/1/password/",
}
# Tables of many columns scroll inside their frame.
WIDE = ("intents", "positions", "caps")
DRAWN = ("charts", "position")


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Pytest's output is for what fails."""


@pytest.fixture(scope="module")
def device(django_db_setup: None, django_db_blocker: object) -> Iterator[TOTPDevice]:
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        empty_database()
        one_of_each()
        _keep_prices()
        root = User.objects.create_superuser("root", password=PASSWORD)
        roles.group(roles.SiteRole.OPERATOR)
        yield TOTPDevice.objects.create(user=root, name="app", confirmed=True)
        connections.close_all()


@pytest.fixture(scope="module")
def visit(device: TOTPDevice) -> Iterator[Browser]:
    """The whole application behind a port of its own, static files too, and one window that looks at it."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(get_wsgi_application())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with browser(f"http://127.0.0.1:{server.server_port}") as window:
            yield window
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def _keep_prices() -> None:
    """A minute of them for the position's chart, which begins before it was opened."""
    moments = [datetime.now(UTC) - timedelta(seconds=back) for back in range(60, 0, -5)]
    PriceTick.objects.bulk_create(
        PriceTick(symbol="BTC-USD", at=at, price=Decimal(60_000 + 37 * (number * number % 11)))
        for number, at in enumerate(moments)
    )


def judged_in_both_themes(visit: Browser, name: str) -> None:
    """Of the page that stands there now; a picture of each."""
    for theme in ("light", "dark"):
        visit.theme(theme)
        visit.driver.refresh()  # the theme is chosen as the page comes
        assert visit.judge() == [], theme
        assert visit.overflow_px() <= 0
        shoot(visit, f"{name}-{theme}")


def shoot(visit: Browser, name: str) -> None:
    if os.environ.get("PANEL_SCREENS"):
        visit.shoot(ROOT / "var" / "screens" / f"{name}.png")


@pytest.mark.timeout(120)
def test_log_in_and_home_tells_whether_money_is_safe(visit: Browser) -> None:
    visit.size(DESKTOP)
    visit.open("/admin/")
    assert visit.judge() == []
    shoot(visit, "login-desktop")
    visit.find("#id_username").send_keys("root")
    visit.find("#id_password").send_keys(PASSWORD)
    visit.click("#login-form [type=submit]")
    assert visit.text(".vanta-word") == "DRY"
    assert "1.5 ETH" in visit.text("#box-wallets")
    assert "drift" in visit.text("#box-agreement")
    assert visit.find(STOP).is_displayed()
    assert visit.complaints() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.timeout(300)
def test_pages_are_readable_at_every_width_in_both_themes(visit: Browser, size: str, theme: str) -> None:
    visit.size(SIZES[size])
    visit.theme(theme)
    wrong = {}
    for name, path in PAGES.items():
        visit.open(path)
        visit.wait_for_text(".vanta-word", "DRY")
        visit.wait_for_charts(1 if name in DRAWN else 0)
        findings = visit.judge()
        if name not in WIDE:
            findings += [f"{visit.overflow_px()} px too wide"] if visit.overflow_px() > 0 else []
        findings += visit.complaints()
        if findings:
            wrong[name] = findings
        shoot(visit, f"{name}-{size}-{theme}")
    assert wrong == {}


def test_a_wide_list_scrolls_below_its_lowest_row_and_by_keyboard(visit: Browser) -> None:
    visit.size(DESKTOP)
    visit.open("/admin/execution_app/position/")
    visit.find("[data-simplebar] .simplebar-horizontal[style*='visible']")
    bar = """
        const bar = document.querySelector("#result_list").closest("[data-simplebar]");
        return bar.querySelector(":scope > .simplebar-horizontal .simplebar-scrollbar").getBoundingClientRect().top;
    """
    rows = "return [...document.querySelectorAll('#result_list tr')].pop().getBoundingClientRect().bottom"
    assert visit.driver.execute_script(rows) <= visit.driver.execute_script(bar)
    frame = visit.driver.execute_script(
        "const frame = document.querySelector('#result_list').closest('.simplebar-content-wrapper'); frame.focus(); return frame"
    )
    frame.send_keys(Keys.ARROW_RIGHT)
    visit.wait(lambda driver: driver.execute_script("return arguments[0].scrollLeft", frame) > 0)
    assert visit.judge() == []
    shoot(visit, "positions-scrolled")


def test_a_list_to_tick_is_filtered_and_hides_no_tick_from_the_form(visit: Browser) -> None:
    visit.size(DESKTOP)
    group = Group.objects.get(name="operator")
    visit.open(f"/admin/auth/group/{group.pk}/change/")
    had = group.permissions.count()
    assert visit.text("[data-ticks-count]").startswith(f"{had} of ")
    visit.find("[data-ticks-filter] [type=search]").send_keys("change_cap\n")
    shown = [
        one.text for one in visit.driver.find_elements("css selector", "[data-tick]") if one.is_displayed()
    ]
    assert shown == ["Can change cap (change_cap)"]
    visit.click("[data-tick]:not([hidden]) input")
    assert visit.text("[data-ticks-count]").startswith(f"{had - 1} of ")
    assert visit.judge() == []
    visit.click("[name=_save]")
    visit.wait(lambda _: group.permissions.count() == had - 1)
    roles.group(roles.SiteRole.OPERATOR)


def test_home_lives_without_a_reload(visit: Browser) -> None:
    visit.size(DESKTOP)
    visit.open("/admin/")
    visit.driver.execute_script("window.stillHere = true")
    TxIntent.objects.filter(action="close").update(state="held", reason="mode_degraded")
    visit.wait_for_text("#box-attention", "held: mode_degraded")
    assert visit.driver.execute_script("return window.stillHere") is True
    assert not visit.find("[data-stale]").is_displayed()


def test_times_stand_in_the_viewers_zone_too_and_stay_so_while_the_page_lives(visit: Browser) -> None:
    visit.size(DESKTOP)
    visit.zone("Asia/Tehran")
    try:
        visit.open(f"/admin/trace/{KEY}/")
        utc, local = visit.text(".vanta-when time"), visit.text(".vanta-when .vanta-local")
        at = datetime.fromisoformat(utc.split(" UTC")[0]) + timedelta(hours=3, minutes=30)
        assert f"{at:%H:%M:%S} GMT+3:30" in local
        assert visit.find(".vanta-when .vanta-local").get_attribute("title") == "Asia/Tehran"
        assert visit.judge() == []
        shoot(visit, "trace-zone")
        visit.open("/admin/")
        visit.driver.execute_script("document.querySelector('#box-gap').kept = true")
        began = "GMT+3:30" in visit.text("#box-agreement")
        Wallet.objects.update(balance_wei=Decimal(14 * 10**17))
        visit.wait_for_text("#box-wallets", "1.4 ETH")
        assert (began, "GMT+3:30" in visit.text("#box-agreement")) == (True, True)
        assert visit.text("#box-agreement").count("GMT+3:30") == 1, "told once, however often it is fetched"
        assert visit.driver.execute_script("return document.querySelector('#box-gap').kept") is True
        assert visit.judge() == []
        shoot(visit, "home-zone")
        visit.open("/admin/execution_app/txintent/")
        assert "GMT+3:30" in visit.text("#result_list")
        assert visit.complaints() == []
    finally:
        visit.zone("UTC")
        Wallet.objects.update(balance_wei=Decimal(15 * 10**17))


def test_who_is_logged_out_elsewhere_is_told_that_nothing_is_refreshed(visit: Browser) -> None:
    visit.open("/admin/")
    cookie = visit.driver.get_cookie("sessionid")
    assert cookie is not None
    visit.driver.delete_cookie("sessionid")
    visit.wait_for_text("[data-stale]", "you are logged out; reload the page")
    visit.driver.add_cookie({name: cookie[name] for name in ("name", "value", "path")})
    visit.wait(lambda _: not visit.find("[data-stale]").is_displayed())


@pytest.mark.parametrize("size", SIZES)
def test_stop_is_one_click_and_one_confirmation_and_resume_takes_the_code(
    visit: Browser, device: TOTPDevice, size: str
) -> None:
    visit.size(SIZES[size])
    visit.open(f"/admin/execution_app/txintent/{TxIntent.objects.get(nonce=0).pk}/change/")
    visit.click(STOP)
    visit.click("form .vanta-button-stop")
    visit.wait_for_text(".vanta-word", "EMERGENCY STOP")
    assert [row.origin for row in control.active()] == ["admin"]
    assert "stopped by root (admin)" in visit.text(".vanta-banner")
    assert visit.judge() == []
    shoot(visit, f"stopped-{size}")
    visit.click(RESUME)
    judged_in_both_themes(visit, f"resume-{size}")
    visit.find("#id_reason").send_keys("checked by two")
    visit.find("#id_code").send_keys("000000")
    visit.click("form .vanta-button-resume")
    visit.wait_for_text(".vanta-error", "the code is wrong")
    assert len(control.active()) == 1
    visit.find("#id_code").clear()
    visit.find("#id_code").send_keys(code_of(device))
    visit.click("form .vanta-button-resume")
    visit.wait_for_text("body", "Resumed.")
    visit.wait_for_text(".vanta-word", "DRY")
    assert control.active() == []


def code_of(device: TOTPDevice) -> str:
    """A code is good for one use, and a wrong one makes the next wait."""
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None, last_t=-1)
    return f"{totp(device.bin_key):06d}"


@pytest.mark.parametrize("size", SIZES)
def test_a_held_close_is_approved_from_its_trace(visit: Browser, device: TOTPDevice, size: str) -> None:
    close = TxIntent.objects.get(action="close")
    with without_guards():
        waits = {"state": "held", "reason": "mode_degraded", "approved_at": None, "approved_by": ""}
        TxIntent.objects.filter(pk=close.pk).update(**waits)
    visit.size(SIZES[size])
    visit.open(f"/admin/trace/{close.intent_key}/")
    shoot(visit, f"trace-held-{size}")
    visit.click("a[href*='/do/approve/']")
    judged_in_both_themes(visit, f"approve-{size}")
    visit.find("#id_reason").send_keys("looked at the venue")
    visit.find("#id_confirm").send_keys("ETH-USD")
    visit.find("#id_code").send_keys("000000")
    visit.click(DO_IT)
    visit.wait_for_text(".vanta-error", "type exactly BTC-USD")
    close.refresh_from_db()
    assert close.approved_at is None
    for name, word in (("confirm", "BTC-USD"), ("code", code_of(device))):
        visit.find(f"#id_{name}").clear()
        visit.find(f"#id_{name}").send_keys(word)
    visit.click(DO_IT)
    visit.wait_for_text("body", "Approved; unused, it runs out")
    close.refresh_from_db()
    assert close.approved_by == "root"
    # The browser tells of the page that was refused.
    assert [one for one in visit.complaints() if "status of 422" not in one] == []


@pytest.mark.parametrize("size", SIZES)
def test_a_cap_is_edited_with_the_code_where_it_is_looser(
    visit: Browser, device: TOTPDevice, size: str
) -> None:
    visit.size(SIZES[size])
    for value, code in (("100", ""), ("200", code_of(device))):
        visit.open("/admin/execution_app/cap/")
        visit.click("a[href$='/do/set-cap/']")
        visit.find("#id_cap").send_keys("exposure_usdc")
        visit.find("#id_scope").send_keys("symbol")
        told = {
            "scope_value": "ETH-USD",
            "value": value,
            "reason": "agreed on by two",
            "confirm": "CAP",
            "code": code,
        }
        for name, word in told.items():
            visit.find(f"#id_{name}").send_keys(word)
        visit.click(DO_IT)
        visit.wait_for_text("body", f"{value} USDC now.")
    shoot(visit, f"caps-{size}")
    (cap,) = Cap.objects.filter(lifted_at=None, name="exposure_usdc")
    assert (cap.value, cap.set_by, cap.scope_value) == (Decimal(200), "root", "ETH-USD")
    Cap.objects.filter(pk=cap.pk).update(lifted_at=Now(), lifted_by="test", lifted_reason="the next size")
    assert visit.complaints() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_trace_is_found_from_home_by_keyboard_alone(visit: Browser, size: str) -> None:
    visit.size(SIZES[size])
    visit.open("/admin/")
    box = visit.find("#vanta-find")
    box.send_keys("page-001\n")
    visit.wait(lambda driver: KEY in driver.current_url)
    text = visit.text("#content")
    for step in ("Body received and stored", "Mined in block 7", "LIVE open filled", "Position opened"):
        assert step in text
    assert visit.complaints() == []


@pytest.mark.timeout(120)
def test_a_passkey_is_added_with_the_code_and_stands_in_for_it(visit: Browser, device: TOTPDevice) -> None:
    """Last, since a passkey is bound to a name, and the visit began at an address."""
    visit.size(DESKTOP)
    visit.base = visit.base.replace("127.0.0.1", "localhost")
    visit.open("/admin/")
    visit.find("#id_username").send_keys("root")
    visit.find("#id_password").send_keys(PASSWORD)
    visit.click("#login-form [type=submit]")
    visit.driver.execute_cdp_cmd("WebAuthn.enable", {"enableUI": False})
    phone = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    visit.driver.execute_cdp_cmd(
        "WebAuthn.addVirtualAuthenticator", {"options": phone | {"automaticPresenceSimulation": True}}
    )
    visit.open("/admin/passkeys/")
    visit.find("#id_name").send_keys("my phone")
    visit.find("#id_code").send_keys(code_of(device))
    visit.click("[data-passkey-new]")
    visit.wait_for_text("body", "Added. It counts")
    assert Passkey.objects.get().name == "my phone"
    assert visit.judge() == []
    for size, pixels in SIZES.items():
        visit.size(pixels)
        assert visit.overflow_px() <= 0
        shoot(visit, f"passkeys-one-{size}")
    control.impose(RestrictionKind.DRY, Origin.ADMIN, by="root", reason="drill")
    visit.open("/admin/do/live/")
    assert visit.judge() == []
    shoot(visit, "passkey-instead-of-code")
    visit.find("#id_reason").send_keys("agreed on by two")
    visit.find("#id_confirm").send_keys("LIVE")
    visit.click("[data-passkey]")
    visit.wait(lambda _: control.active() == [])
    assert Passkey.objects.get().last_used_at is not None
    # Lists to tick are sent as they stand, though no button sent them.
    bob = User.objects.create_user("bob", is_staff=True)
    bob.groups.add(Group.objects.get(name="operator"))
    visit.open(f"/admin/auth/user/{bob.pk}/change/")
    visit.find("#id_is_superuser").click()
    visit.find("#id_reason").send_keys("agreed on by two")
    visit.click("[data-passkey]")
    visit.wait(lambda _: User.objects.get(pk=bob.pk).is_superuser)
    assert [group.name for group in bob.groups.all()] == ["operator"]
    assert visit.complaints() == []
