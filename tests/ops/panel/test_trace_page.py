"""The decision trace as a page, and the box that finds it."""

import re
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.models import Trader, TxIntent
from ops.panel import story
from signals_app.models import Signal
from tests.ops.panel.rows import one_of_each

KEY = "sig:drill:page-001"
SENT, FILLED = "0x" + "ee" * 32, "0x" + "ff" * 32
TRADER, WALLET = "0x" + "aa" * 20, "0x" + "bb" * 20


def trace(key: str) -> str:
    return reverse("panel:trace", args=[key])


def words(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


def find(client: Client, asked: str) -> tuple[int, str]:
    answer = client.get(reverse("panel:find"), {"q": asked})
    return answer.status_code, answer.headers.get("Location", "") or answer.content.decode()


def test_the_whole_way_is_on_one_page_in_the_order_of_time(admin: Client) -> None:
    one_of_each()
    text = words(admin, trace(KEY))
    for step in (
        "Body received and stored source drill for Telegram id 123 symbol BTC-USD side LONG",
        "collateral_usdc 5 USDC leverage_x 2x slippage_pct 0.5 %",
        "Intent pending signal by test",
        f"Signed: attempt 1 (exec) {SENT} max fee 2 gwei tip 1 gwei nonce 0",
        f"Mined in block 7 {SENT} fee 0.0003 ETH gas used 300,000 gas price 1 gwei",
        "Order 1 registered at the venue",
        f"LIVE open filled {FILLED} price 60,000 USD collateral 5 USDC leverage 2x",
        "Position opened: LIVE BTC-USD LONG",
        "10 USDC reserved of the caps",
    ):
        assert step in text, step
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \d s ago", text)
    times = re.findall(r'<time datetime="([^"]+)"', admin.get(trace(KEY)).content.decode())
    steps = [step.at for each in story.find(KEY).stories for step in each.steps]  # type: ignore[union-attr]
    assert steps == sorted(steps)
    assert len(times) >= len(steps) >= 8


def test_a_rejected_signal_says_why_and_that_nothing_was_made_of_it(admin: Client) -> None:
    one_of_each()
    one = Signal.objects.get()
    fields = {
        name: getattr(one, name) for name in ("source", "tg_user_id", "symbol", "slippage_pct", "body_sha256")
    }
    Signal.objects.create(signal_id="no-1", side="LONG", decision="rejected", reasons=["unknown_trader"],
                          decided_at=one.received_at, **fields)  # fmt: skip
    text = words(admin, trace("sig:drill:no-1"))
    assert "decision: rejected · unknown_trader" in text
    assert "No intent was made of it" in text


def test_an_intent_that_no_signal_asked_for_has_its_page(admin: Client) -> None:
    one_of_each()
    key = TxIntent.objects.get(action="close").intent_key
    assert key.startswith("tpsl:")
    assert "no signal asked for this" in words(admin, trace(key))


def test_what_was_decided_about_it_stands_beside_it(admin: Client) -> None:
    one_of_each()
    with transaction.atomic():
        audit.record(AuditAction.INTENT_DECIDED, KEY, reason="checked by two")
    text = words(admin, trace(KEY))
    assert "intent_decided sig:drill:page-001" in text
    assert "checked by two" in text


def test_the_audit_log_is_for_whoever_may_read_it(admin: Client) -> None:
    one_of_each()
    user = User.objects.create_user("trader", password="not-used-here", is_staff=True)
    client = Client()
    client.force_login(user)
    assert client.get(trace(KEY)).status_code == 403
    assert client.get(reverse("panel:find")).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_signal", "view_txintent")))
    text = words(client, trace(KEY))
    assert "Mined in block 7" in text
    assert "Audit log" not in text
    assert "trader_added" not in text
    assert "trader_added trader 123" in words(admin, trace(KEY))


def test_an_entry_is_found_by_halving(database: None) -> None:
    for number in range(9):
        with transaction.atomic():
            audit.record(AuditAction.LOGIN, f"user {number}")
    from execution_app.models import AuditEntry

    for entry in AuditEntry.objects.all():
        assert story._seq_at(entry.at) == entry.seq
    assert story._seq_at(AuditEntry.objects.get(seq=9).at.replace(year=2099)) == 10


@pytest.mark.parametrize("asked", [KEY, "page-001", f"  {SENT}  ", SENT.upper().replace("0X", "0x"), FILLED])
def test_one_hit_leads_to_its_trace(admin: Client, asked: str) -> None:
    one_of_each()
    assert find(admin, asked) == (302, trace(KEY))


@pytest.mark.parametrize("asked", [TRADER, WALLET, "123"])
def test_who_trades_leads_to_the_newest(admin: Client, asked: str) -> None:
    one_of_each()
    status, page = find(admin, asked)
    assert status == 200
    assert page.index("tpsl:") < page.index(f'href="{trace(KEY)}"'), "the newest first"


def test_ids_of_several_sources_are_all_found(admin: Client) -> None:
    one_of_each()
    one = Signal.objects.get()
    for source in ("alpha", "zulu"):
        one.pk, one.source = None, source
        one.save(force_insert=True)
    page = find(admin, "page-001")[1]
    for source in ("alpha", "drill", "zulu"):
        assert trace(f"sig:{source}:page-001") in page


@pytest.mark.parametrize(
    "asked",
    ["", "nothing", "0x" + "12" * 32, "0x" + "12" * 20, "9" * 19, "sig:a:b", "\x00", "a\x00", "é" * 300, "%"],
)
def test_what_is_not_known_says_so(admin: Client, asked: str) -> None:
    one_of_each()
    Trader.objects.filter(tg_user_id=999).delete()
    status, page = find(admin, asked)
    assert status == 200
    assert "Nothing is known by" in page or "Type a signal id" in page
    if asked and "\x00" not in asked:
        assert admin.get(trace(asked)).status_code == 404


def test_charts_show_numbers_apart_by_mode_and_say_when_there_are_none(admin: Client) -> None:
    assert "No LIVE close in the last 14 UTC days." in words(admin, reverse("panel:charts"))
    one_of_each()
    text = words(admin, reverse("panel:charts"))
    assert "LIVE: exposure now (USDC) Numbers Symbol Notional at stake Orders BTC-USD 10 USDC 1" in text
    assert "DRY: exposure now (USDC) Nothing is at stake in DRY." in text
    assert "States of the newest 5,000 intents Numbers State LIVE DRY No mode yet" in text
    assert "filled 1 0 0" in text
    assert "pending 0 0 1" in text
    assert "Not known" not in text
