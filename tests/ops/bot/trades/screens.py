"""`make screens`: pictures of conversations and of the page of /bind, for people to look at, in var/screens/bot.

No part of the suite: what is said and done is tested beside it, and how it looks is for eyes.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from execution_app.gate import control
from execution_app.models import ModeChange, Price
from execution_app.states import Origin, Reason, RestrictionKind
from ops.bot.models import Notice, TelegramPage
from tests.browser import DESKTOP, PHONE, Browser
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, STRANGER, TRADER, VIEWER
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.phone import Phone
from tests.ops.bot.queued import notice, step
from tests.ops.bot.trades.test_page import LINK
from tests.ops.bot.trades.wallets import wallet_in
from tests.real_parts import ROOT
from tests.rig import Rig

SCREENS = ROOT / "var" / "screens" / "bot"


def shoot(phone: Phone, window: Browser, name: str) -> None:
    phone.shoot(window, SCREENS / f"{name}.png")


def priced(symbol: str, price: str) -> None:
    now = datetime.now(UTC)
    moments = dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), now)
    Price.objects.update_or_create(symbol=symbol, defaults={"price": Decimal(price), **moments})


@pytest.mark.parametrize("language", ["en", "de"])
def test_looks(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    chat.ask(TRADER, f"/language {language}")
    phone = Phone(chat, TRADER)
    for symbol, price in (("BTC-USD", "100000"), ("ETH-USD", "4000.5")):
        priced(symbol, price)
    for text in (
        "/start",
        "/help",
        "/status",
        "/mode",
        "/health",
        "/markets",
        "/price btc",
        "/caps",
        "/risk",
    ):
        phone.ask(text)
    shoot(phone, window, f"looks-{language}")
    phone = Phone(chat, TRADER)
    for text in ("/trade", "/price", "/why", "/why sig:nobody:1", "/stop", "/bind 0x12", "/open btc up 5 2x"):
        phone.ask(text)
    shoot(phone, window, f"errors-{language}")


@pytest.mark.parametrize("language", ["en", "de"])
def test_operating(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    Enrolled(OPERATOR)
    chat.ask(OPERATOR, f"/language {language}")
    phone = Phone(chat, OPERATOR)
    for text in (
        "/start", "/users", "/held", "/reconcile", "/reduceonly looked odd", "/flatten", "/stop the price is wrong",
        "/stop", "/mode", "/resume", "/resume 123456 looked into it", "/approve sig:nobody:1 123456 x", "/notify",
        "/logs", "/version",
    ):  # fmt: skip
        phone.ask(text)
    shoot(phone, window, f"operating-{language}")
    if language == "en":
        for user, name in ((STRANGER, "stranger"), (VIEWER, "viewer")):
            phone = Phone(chat, user)
            phone.ask("/start") if user == VIEWER else chat.ask(user, "/start")
            if user == VIEWER:
                phone.ask("/stop")
                phone.ask("/open")
            phone._look(show=True)
            shoot(phone, window, name)


@pytest.mark.parametrize("language", ["en", "de"])
def test_notices(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    told.ask(TRADER, f"/language {language}")
    phone = Phone(told, TRADER)
    at = datetime.now(UTC)
    wallet = {"wallet": rig.wallet.address}
    position = {
        "symbol": "BTC-USD",
        "is_long": True,
        "collateral_usdc": "5",
        "leverage_x": "2",
        "position": 7,
    }
    made: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
        (
            "trade 1",
            {**position, "intent_key": "sig:drill:1"},
            [
                step("pending", "accepted"),
                step("pending_inclusion", "sent", hash="0x" + "ab" * 32),
                step("mined", "mined", hash="0x" + "ab" * 32),
                step("filled", "filled", mode="LIVE", price="100012.5", fee_usdc="0.006"),
            ],
        ),
        ("trade 2", {**position, "intent_key": "sig:drill:2"}, [step("pending", "accepted"), step("rejected", "refused", reason=Reason.NOTIONAL_ABOVE_CAP.value)]),
        ("trade 3", {**position, "intent_key": "sig:drill:3"}, [step("pending", "accepted"), step("held", "accepted", reason=Reason.MODE_DEGRADED.value), step("expired", "refused", reason=Reason.LAG_EXCEEDED.value)]),
        ("trade 4", {**position, "is_long": None, "collateral_usdc": None, "intent_key": "tpsl:7:1", "owner": 999}, [step("pending", "accepted"), step("simulated", "filled", mode="DRY", price="0.4012345", fee_usdc="0.006", pnl_usdc="-1234.5")]),
        *[
            (f"trade {number}", {**position, "intent_key": f"sig:drill:{number}"}, [step("pending", "accepted"), step(state, event, number, **facts)])
            for number, (state, event, facts) in enumerate((
                ("bump", "replaced", {"hash": "0x" + "ab" * 32}),
                ("cancel", "replaced", {"hash": "0x" + "ab" * 32}),
                ("taken_back", "mined", {"hash": "0x" + "ab" * 32}),
                ("mined_reverted", "reverted", {"hash": "0x" + "ab" * 32}),
                ("no_op", "refused", {"reason": Reason.NO_POSITION.value}),
                ("changed", "filled", {}),
                ("venue_cancelled", "reverted", {"reason": Reason.VENUE_WOULD_CANCEL.value, "hash": "0x" + "ab" * 32}),
                ("final_reverted", "reverted", {"reason": Reason.VENUE_REVERT.value, "hash": "0x" + "ab" * 32}),
                ("final_cancelled", "reverted", {"hash": "0x" + "ab" * 32}),
                ("lost_nonce", "reverted", {"reason": Reason.MAY_BE_EXECUTED.value, "hash": "0x" + "ab" * 32}),
                ("lapsed", "reverted", {"reason": Reason.ORDER_LOST.value}),
            ), 10)
        ],
        ("level 1", position, [step("x", "level", kind="stop_loss", price="89990", level="90000", position=7)]),
        ("level 2", position, [step("x", "level", kind="time_stop", price=None, level=None, position=7)]),
        ("gone 1", position, [step("x", "liquidated")]),
        ("drift 1", position, [step("x", "drift", drift="collateral_usdc is 5, the venue has 4")]),
        ("drift 2", position, [step("x", "drift", drift="")]),
        ("gas 1", wallet, [step("x", "gas", low=True, balance_wei="1200000000000000")]),
        ("gas 2", wallet, [step("x", "gas", low=False, balance_wei="51200000000000000")]),
        *[(f"delegate {n}", wallet, [step("x", "delegate", stage=stage, until=(at + timedelta(days=n)).isoformat())]) for n, stage in enumerate(("ended", "day", "week", ""))],
        ("daily 1", {"picture": {"kind": "pnl", "mode": "LIVE", "points": [(f"2026-01-{day:02}", str(day % 7 - 3)) for day in range(1, 31)]}}, [step("x", "daily", day=f"{at:%Y-%m-%d}", modes=[{"mode": "LIVE", "pnl_usdc": "-1.25", "closes": 2, "opens": 3, "held": 1, "exposure_usdc": "10"}, {"mode": "DRY", "pnl_usdc": "0", "closes": 0, "opens": 0, "held": 0, "exposure_usdc": "0"}])]),
    ]  # fmt: skip
    for thread, about, steps in made:
        notice(
            TRADER,
            0,
            thread=thread,
            about={"owner": TRADER, "whose": "ann", **about},
            steps=steps,
            wanted=len(steps),
        ).save()
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.ADMIN, by="ann", reason="drill")
    assert control.lift(RestrictionKind.STOP, Origin.HTTP, by="bob", reason="over")
    ModeChange.objects.create(
        kind="effective", mode="DRY", reason="redis is away", streak=0, epoch=1, said_by="test"
    )
    told.bot.wait_for(lambda: not Notice.objects.filter(due_at__isnull=False).exists())
    phone.look()
    shoot(phone, window, f"notices-{language}")


@pytest.mark.parametrize("language", ["en", "de"])
def test_binding(told: Chat, window: Browser, language: str, database: None) -> None:
    person = Account.create()
    told.ask(TRADER, f"/language {language}")
    phone = Phone(told, TRADER)
    phone.ask("/wallet")
    said = phone.ask("/bind")
    found = LINK.search(said.text)
    assert found is not None
    driver = window.driver
    with wallet_in(window):
        for theme in ("light", "dark"):
            window.theme(theme)
            for size, name in ((PHONE, "phone"), (DESKTOP, "desktop")):
                window.size(size)
                window.open(found[1])
                assert window.judge() == []
                window.shoot(SCREENS / f"page-address-{language}-{theme}-{name}.png")
                window.open(f"{found[1]}?address={person.address}")
                assert window.judge() == []
                assert window.overflow_px() <= 0
                window.shoot(SCREENS / f"page-sign-{language}-{theme}-{name}.png")
        window.theme("light")
        window.size(PHONE)
        window.click("#sign")
        window.wait_for_text("#problem", ".")
        window.shoot(SCREENS / f"page-other-account-{language}.png")
        window.open(found[1])
        driver.execute_script(f"window.__accounts = ['{person.address.lower()}']")
        window.click("#connect")
        window.find("#sign")
        driver.execute_script(f"window.__accounts = ['{person.address.lower()}']")
        window.click("#sign")
        window.wait(lambda one: one.execute_script("return window.__asked"))
        text = bytes.fromhex(driver.execute_script("return window.__asked.params[0]").removeprefix("0x"))
        signature = person.sign_message(encode_defunct(text)).signature.hex()
        driver.execute_script(f"window.__answer('0x{signature.removeprefix('0x')}')")
        window.find("#done")
        window.shoot(SCREENS / f"page-done-{language}.png")
        window.open(found[1])
        window.shoot(SCREENS / f"page-over-{language}.png")
        assert window.complaints() == [] or all("410" in one for one in window.complaints())
    told.bot.wait_for(lambda: TelegramPage.objects.filter(settled_at__isnull=False).exists())
    told.bot.wait_for(lambda: any(person.address in one.text for one in told.said(TRADER)))
    phone.ask("/bind")
    phone.ask("/balance")
    shoot(phone, window, f"binding-{language}")
