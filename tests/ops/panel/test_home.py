"""The first page: every box says what the rows say, one that fails says so alone, and each is for whoever may see it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from execution_app.gate import control
from execution_app.models import Chain, Fill, ModeChange, Position, Price, Shadow, TxIntent, TxSend, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.panel import roles
from ops.panel.home.box import BOX_WITHIN_MS, Box, Line, UnreadError, show
from ops.panel.home.page import BOXES
from ops.panel.home.wallets import LOW_WEI
from ops.panel.ways import WAYS
from signals_app.models import Signal
from tests.database_outages import frozen_postgres
from tests.guards import without_guards
from tests.ops.panel.rows import VENUE, one_of_each
from tests.ops.panel.test_deeds import somebody

HOME, BOXES_ALONE, BANNER_ALONE = "/admin/", "/admin/live/home/", "/admin/live/banner/"


def text_of(client: Client, path: str = BOXES_ALONE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer
    return re.sub(r"\s+", " ", answer.content.decode())


def box(text: str, key: str) -> str:
    """One box as words alone."""
    found = re.search(rf'<section[^>]* id="box-{key}".*?</section>', text)
    assert found, f"no box {key}"
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0])).strip())


def whole_box(text: str, key: str) -> str:
    found = re.search(rf'<section[^>]* id="box-{key}".*?</section>', text)
    assert found
    return found[0]


def test_without_rows_every_box_says_what_to_do(admin: Client) -> None:
    text = text_of(admin)
    assert [shown in text for shown in (f'id="box-{each.key}"' for each in BOXES)] == [True] * len(BOXES)
    looked_for = (
        "held, sent without an answer, nonces lost, signals undecided, drift, wallets halted, resting orders"
    )
    assert box(text, "attention") == f"Needs a person {looked_for} 0 of each"
    assert "vanta-line-good" in whole_box(text, "attention")
    assert "Send a signal to POST /signals." in box(text, "result")
    assert "manage.py wallet create" in box(text, "wallets")
    assert "no price yet never seen" in box(text, "prices")
    assert "no cap: set MAX_EXPOSURE_USDC" in box(text, "caps")
    assert "Not known" not in text


def test_the_page_and_its_live_part_are_the_same_boxes(admin: Client) -> None:
    one_of_each()
    page, part = text_of(admin, HOME), text_of(admin)
    for each in BOXES:
        assert f'id="box-{each.key}"' in page
    assert box(page, "caps") == box(part, "caps")
    assert 'data-live="/admin/live/home/"' in page
    assert "vanta-banner" in text_of(admin, BANNER_ALONE)
    assert re.findall(r"<script(?![^>]* src=)[^>]*>", page) == [], "no script is written into the page"


def test_what_waits_for_a_person_is_counted_and_listed(admin: Client) -> None:
    intent = one_of_each()
    TxSend.objects.update(outcome="unknown")
    fields = {"trader": intent.trader, "wallet": intent.wallet, "tg_user_id": 123, "action": "close"}
    held = TxIntent.objects.create(intent_key="sig:drill:held", symbol="BTC-USD", slippage_pct=1, **fields)
    TxIntent.objects.filter(pk=held.pk).update(state="held", reason="mode_degraded")
    text = text_of(admin)
    words = box(text, "attention")
    assert "held: mode_degraded 1 LIVE is not permitted right now; the oldest for" in words
    assert "drift 1 open LIVE positions" in words
    assert words.endswith("nonces lost, wallets halted, resting orders 0 of each")
    assert "sent, answer unknown 1" in words
    assert "signals undecided 1" in words
    for href in re.findall(r'href="([^"]+)"', whole_box(text, "attention")):
        assert admin.get(href.replace("&amp;", "&")).status_code == 200, href
    page = admin.get("/admin/execution_app/txintent/?state__exact=held&reason__exact=mode_degraded")
    assert "sig:drill:held" in page.content.decode()
    assert "sig:drill:page-001" not in page.content.decode()


def test_what_rests_at_the_venue_is_told_and_is_nothing_late(admin: Client) -> None:
    """It waits for its price, for weeks perhaps, and under a stop it may still fill."""
    intent = one_of_each()
    rests = {"order_type": "limit", "limit_price": 50_000, "road": "onchain", "state": "ordered"}
    with without_guards():
        TxIntent.objects.exclude(pk=intent.pk).update(settled_at=Now())
        TxIntent.objects.filter(pk=intent.pk).update(
            **rests, settled_at=None, accepted_at=Now() - timedelta(days=9)
        )
    text = text_of(admin)
    assert (
        "LIVE orders that rest at the venue 1 10 USDC notional; each may fill by its price alone, also under a stop"
        in box(text, "attention")
    )
    assert "vanta-line-warn" not in re.findall(r"<div[^>]*>(?:(?!</div>).)*rest at the venue", text)[0]
    assert "oldest unsettled none" in box(text, "line")
    control.impose(RestrictionKind.STOP, Origin.TELEGRAM, by="ann", reason="the price is wrong")
    text = text_of(admin)
    assert "may fill by its price alone, under this stop, too" in box(text, "attention")
    banner = text_of(admin, BANNER_ALONE)
    assert re.search(
        r"stopped by <b>ann</b> \(telegram\) \d s ago, since [\d: -]+ UTC: the price is wrong</span> mode DRY",
        banner,
    )
    assert "emergency stop;" not in banner, "the largest word says so"


def test_every_link_of_every_box_leads_somewhere(admin: Client) -> None:
    one_of_each()
    Wallet.objects.update(halted_reason="key used elsewhere")
    hrefs = set(re.findall(r'href="([^"]+)"', text_of(admin)))
    assert len(hrefs) > len(BOXES)
    for href in hrefs:
        assert admin.get(href.replace("&amp;", "&")).status_code == 200, href


def test_caps_are_shown_as_used_against_their_limit(admin: Client) -> None:
    one_of_each()
    words = box(text_of(admin), "caps")
    assert "one order's notional 10 USDC of 1,000 USDC 1 %" in words
    assert "one order's leverage 2x of 75x 2 %" in words
    assert "LIVE exposure 10 USDC no cap" in words
    assert "DRY exposure 0 USDC no cap" in words
    assert "LIVE open positions 1 no cap" in words
    assert "opens of symbol BTC-USD banned cap 1" in words


def test_a_full_cap_is_red_and_its_bar_is_full(admin: Client, settings: object) -> None:
    from execution_app.models import Cap

    one_of_each()
    Cap.objects.create(scope="global", name="exposure_usdc", value=10, set_by="ops", reason="drill")
    part = whole_box(text_of(admin), "caps")
    assert re.search(r'vanta-line-bad">.{0,120}exposure</dt>.{0,120}10 USDC of 10 USDC', part)
    assert 'value="100"' in part
    assert "100 % of cap 2" in part


def test_dry_and_live_are_never_in_one_sum(admin: Client) -> None:
    intent = one_of_each()
    opened = Position.objects.get()
    for number, (mode, paid) in enumerate((("DRY", "1007.5"), ("LIVE", "997.25"), ("LIVE", None))):
        key = f"sig:drill:closed-{number}"
        fields = {"trader": intent.trader, "tg_user_id": 123, "action": "close", "position": opened}
        close = TxIntent.objects.create(intent_key=key, symbol="BTC-USD", slippage_pct=1, **fields)
        Fill.objects.create(
            intent=close, position=opened, action="close", mode=mode, price=60_000, collateral_usdc=1000,
            leverage_x=2, sent_to_trader_usdc=paid, fee_usdc=Decimal("0.5"), tx_hash=f"hash-{number}",
            log_index=0, block_number=9,
        )  # fmt: skip
    words = box(text_of(admin), "result")
    assert "LIVE realised -2.75 USDC 2 closed, 1 opened since" in words
    assert "1 whose payment is not known are left out" in words
    assert "DRY realised +7.5 USDC 1 closed, 0 opened since" in words
    assert "LIVE gas 0.0003 ETH transactions mined: 1" in words


def test_a_day_is_the_utc_day(admin: Client) -> None:
    one_of_each()
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(seconds=1)
    with without_guards():
        Fill.objects.update(filled_at=yesterday)
    assert "No fill yet since 00:00 UTC" in box(text_of(admin), "result")


def test_positions_their_worth_and_their_drift(admin: Client) -> None:
    one_of_each()
    Price.objects.update(price=66_000)
    text = text_of(admin)
    assert "LIVE open positions 1 10 USDC notional LIVE if closed now ≈ +1.00 USDC" in box(text, "positions")
    assert "drift 1 open LIVE positions" in box(text, "agreement")
    assert re.search(r"reconciled \d+ s ago", box(text, "agreement"))
    Price.objects.all().delete()
    assert "1 without a price are left out" in box(text_of(admin), "positions")
    Chain.objects.update(reconciled_at=None)
    assert "reconciled never" in box(text_of(admin), "agreement")


def test_latency_is_told_from_the_rows_of_the_last_hour(admin: Client) -> None:
    one_of_each()
    now = datetime.now(UTC)
    with without_guards():
        TxIntent.objects.filter(nonce=0).update(accepted_at=now - timedelta(seconds=30))
        TxSend.objects.update(offered_at=now - timedelta(seconds=28))
    words = box(text_of(admin), "latency")
    assert re.search(r"to broadcast p50 2.00 s · p99", words), words
    assert re.search(r"to mined p50 (2\d|30) s · p99 (2\d|30) s orders: 1", words), words
    assert re.search(r"to filled p50 (2\d|30) s", words), words


def test_the_gap_between_live_and_dry_is_told_with_its_count_and_age(admin: Client) -> None:
    intent = one_of_each()
    assert "No LIVE fill has an estimate yet" in box(text_of(admin), "gap")
    told = {"oracle_price": 60_000, "price": 60_000, "fee_usdc": Decimal("0.5")}
    gaps = {"price_gap_pct": Decimal("0.012345"), "fee_gap_usdc": Decimal("0.01"), "delay_ms": 2_500}
    shadow = Shadow.objects.create(intent=intent, **told, **gaps)
    words = box(text_of(admin), "gap")
    assert re.search(r"fills compared 1 of 7 days; the newest \d+ s ago", words), words
    assert "price 0.0123 % worse on average; at most 0.0123 %" in words
    assert "fees +0.01 USDC more than the 0.5 USDC estimated, 2 %" in words
    assert "delay 2.50 s from the estimate to the fill, on average; DRY waits" in words
    assert "vanta-line-bad" not in whole_box(text_of(admin), "gap")
    with without_guards():
        Shadow.objects.filter(pk=shadow.pk).update(price_gap_pct=-1, delay_ms=31_000, refusal="no liquidity")
    part = whole_box(text_of(admin), "gap")
    assert "1 % better" in part
    assert part.count("vanta-line-bad") == 2, "the delay, and a fill that DRY would not have made"
    with without_guards():
        Shadow.objects.update(estimated_at=Now() - timedelta(days=8))
    assert "No LIVE fill has an estimate yet" in box(text_of(admin), "gap")


def test_wallets_say_what_they_can_still_pay_and_do(admin: Client) -> None:
    one_of_each()
    words = box(text_of(admin), "wallets")
    assert "rehearsal · 0xbbbbbb…bbbbbb 1.5 ETH" in words
    assert "delegation ends in 89 d 23 h" in words
    Wallet.objects.update(balance_wei=LOW_WEI - 1, delegated_until=Now())
    part = whole_box(text_of(admin), "wallets")
    assert "vanta-line-bad" in part
    assert "0.001999999999999999 ETH" in part
    assert "delegation ended" in part


def test_the_banner_says_since_when_and_who_saw_it(admin: Client, client: Client) -> None:
    ModeChange.objects.create(
        kind="effective", mode="DRY", reason="boot", streak=0, epoch=1, said_by="worker/1"
    )
    text = text_of(admin, BANNER_ALONE)
    assert re.search(
        r"DRY since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(.* ago\), first seen by worker/1: boot", text
    )
    assert "worker/1" not in client.get(reverse("admin:login")).content.decode()
    ModeChange.objects.create(kind="effective", mode="LIVE", reason="", streak=3, epoch=1, said_by="worker/2")
    assert "since" not in text_of(admin, BANNER_ALONE), (
        "the history is about another mode than this process sees"
    )


def test_stop_is_on_every_page_for_whoever_may(admin: Client) -> None:
    intent = one_of_each()
    for path in (
        HOME,
        "/admin/execution_app/txintent/",
        f"/admin/execution_app/txintent/{intent.pk}/change/",
    ):
        assert 'href="/admin/execution_app/control/stop/"' in text_of(admin, path), path


def failing(problem: str) -> Iterator[Line]:
    raise UnreadError(problem)


@pytest.mark.usefixtures("own_limits")
def test_a_box_that_fails_says_so_and_hides_no_other(admin: Client) -> None:
    def slow(_now: datetime) -> list[Line]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")
        return []

    def writes(_now: datetime) -> list[Line]:
        Signal.objects.all().delete()
        return []

    root = User.objects.get(username="root")
    may = "execution_app.view_txintent"
    boxes = (
        Box("slow", "Slow", may, slow, ""),
        Box("away", "Away", may, lambda _now: list(failing("Redis does not answer")), ""),
        Box("writes", "Writes", may, writes, ""),
        Box("well", "Well", may, lambda _now: [Line("rows", str(Signal.objects.count()))], ""),
    )
    shown = {each.box.key: each for each in show(boxes, root)}
    assert str(BOX_WITHIN_MS) in shown["slow"].problem
    assert shown["away"].problem == "Redis does not answer"
    assert shown["writes"].problem, "a look changes nothing"
    assert (shown["well"].problem, [line.value for line in shown["well"].lines]) == ("", ["0"])


def test_nobody_sees_what_they_may_not(database: None) -> None:
    user = User.objects.create_user("keeper", password="not-used-here", is_staff=True)
    client = Client()
    client.force_login(user)
    one_of_each()
    assert "Your account may see none of these boxes" in text_of(client)
    user.user_permissions.set(Permission.objects.filter(codename="view_wallet"))
    text = text_of(client)
    assert re.findall(r'id="box-(\w+)"', text) == ["wallets"]
    assert VENUE not in text


def test_whoever_sees_no_table_is_led_to_what_is_theirs_and_nowhere_else(database: None) -> None:
    one_of_each()
    trader, operator = somebody(roles.SiteRole.TRADER, "ann"), somebody(roles.SiteRole.OPERATOR, "bob")
    for path in (HOME, BOXES_ALONE):
        assert "What is yours is in the lists" in text_of(trader, path)
    for client, ways in ((trader, WAYS[2:]), (operator, WAYS)):
        text = text_of(client, HOME)
        assert [way.title for way in WAYS if way.title in text] == [way.title for way in ways]
        for way in ways:
            assert "can permit it" not in text_of(client, reverse(way.name))
    for href in re.findall(r'href="(/admin/(?:execution_app|signals_app)/[a-z]+/)"', text_of(trader)):
        assert trader.get(href).status_code == 200, href
    assert 'id="vanta-find"' in text_of(trader, HOME)
    nobody = Client()
    nobody.force_login(User.objects.create_user("keeper", password="not-used-here", is_staff=True))
    assert 'id="vanta-find"' not in text_of(nobody, HOME), "which would be refused"


@pytest.mark.parametrize("path", [HOME, BOXES_ALONE, BANNER_ALONE])
def test_only_staff_and_never_later_than_the_deadline(client: Client, admin: Client, path: str) -> None:
    assert client.get(path).status_code == 302
    assert admin.get(path).status_code == 200
    with frozen_postgres():
        answer = admin.get(path)
    assert answer.status_code == 503
    assert "To stop without this page" in answer.content.decode()


def test_no_page_may_run_a_script_that_is_not_a_file_of_ours(admin: Client, client: Client) -> None:
    for who, path in (
        (admin, HOME),
        (admin, "/admin/execution_app/txintent/"),
        (client, reverse("admin:login")),
    ):
        policy = dict(part.split(" ", 1) for part in who.get(path)["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' 'unsafe-eval'"
        assert policy["connect-src"] == "'self'"
