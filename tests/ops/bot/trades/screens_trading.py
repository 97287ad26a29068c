"""As `screens.py`: pictures of trading, of what came of it, and of what operators decide."""

from decimal import Decimal

import pytest
from django.db.models.functions import Now

from execution_app.gate import control
from execution_app.models import Cap, Position, StackMode, Trader
from execution_app.moves import move
from execution_app.states import Action, IntentState, Origin, Reason, RestrictionKind
from ops.bot.models import Event, NoticeLevel, TelegramConfirmation
from signals_app.models import Signal
from tests.browser import Browser
from tests.integration.tx.test_resting import place
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.phone import Phone
from tests.ops.bot.telegram import Message
from tests.ops.bot.trades.screens import SCREENS
from tests.ops.bot.trades.steps import OPEN
from tests.rig import Rig
from tests.timers import pass_a_minute

LANGUAGES = pytest.mark.parametrize("language", ["en", "de"])


def begun(chat: Chat, language: str, user: int = TRADER) -> Phone:
    chat.ask(user, f"/language {language}")
    return Phone(chat, user)


def shoot(phone: Phone, window: Browser, name: str) -> None:
    phone.shoot(window, SCREENS / f"{name}.png")


def forget_codes(person: Enrolled) -> None:
    """Neither wrong codes nor used ones stand in the way of the next; nobody waits half a minute here."""
    person.device.refresh_from_db()
    person.device.last_t = -1
    person.device.throttle_reset()


@LANGUAGES
def test_open_step_by_step(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    """Each question once answered wrongly, then the quote, the tap, and the card of the trade as it goes."""
    phone = begun(told, language)
    said = phone.ask("/open")
    said = phone.ask("doge")
    phone.press(said, "BTC-USD")
    said = phone.ask("up")
    phone.press(said, "LONG")
    said = phone.ask("five")
    phone.press(said, "5 USDC")
    said = phone.ask("5000")
    phone.press(said, "q:back")
    phone.press(said, "5 USDC")
    phone.press(said, "2\N{MULTIPLICATION SIGN}")
    said = phone.ask("90%")
    phone.press(said, "0.5 %")
    said = phone.ask("high")
    said = phone.ask("1200000.5")
    said = phone.ask("60000")
    shoot(phone, window, f"open-{language}")
    phone = Phone(told, TRADER)
    phone.press(said, "ok:")
    rig.submit()
    phone.look()
    rig.mine()
    rig.track()
    phone.look()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    told.bot.wait_for(lambda: any("LIVE" in one.text and "tg:" in one.text for one in told.said(TRADER)))
    phone.look()
    phone.press(said, "why:")
    phone.ask("/chart exposure 1")
    phone.ask("/card")
    shoot(phone, window, f"open-card-{language}")


@LANGUAGES
def test_open_in_one_line(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    phone = begun(chat, language)
    for wrong in (
        "/open btc up 5 2x", "/open btc long five 2x", "/open btc long 5.0000001 2x", "/open btc long 5 2000x",
        "/open btc long 5 2x 1% 7", "/open btc long 5 2x tp=1 tp=2", "/open btc long 5 2x to=1", "/open doge",
        "/open btc long 600 2x", "/open btc long 5 76x", "/open btc long 5 2x sl=900000", "/open btc long 5 2x tp=1",
        "/open btc long 5 2x sl=1",
    ):  # fmt: skip
        phone.ask(wrong)
    shoot(phone, window, f"open-wrong-{language}")
    phone = Phone(chat, TRADER)
    said = phone.ask("/open eth short 1.5 3x 0.3%")
    phone.press(said, "no:")
    said = phone.ask(OPEN)
    TelegramConfirmation.objects.update(created_at="2026-01-01T00:00:00Z", expires_at=Now())
    phone.press(said, "ok:")
    phone.press(said, "again:")
    asked = TelegramConfirmation.objects.latest("created_at")
    asked.asked["price"] = str(Decimal(asked.asked["price"]) * Decimal("0.9"))
    asked.save()
    phone.press(said, "ok:")
    phone.press(said, "again:")
    ok = next(data for data in said.buttons.values() if data.startswith("ok:"))
    phone.press(said, "ok:")
    chat.press(TRADER, said, ok)
    phone.look()
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    phone.ask(OPEN)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="ann", reason="drill")
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="over")
    phone.ask(OPEN)
    control.lift(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="ann", reason="over")
    Trader.objects.update(enabled=False)
    phone.ask(OPEN)
    Trader.objects.update(enabled=True)
    ann = Enrolled(TRADER)
    phone.ask("/open btc long 60 2x")
    phone.ask("please")
    phone.ask("000000")
    forget_codes(ann)
    phone.ask(ann.code())
    shoot(phone, window, f"open-line-{language}")
    phone = begun(chat, language, OPERATOR)
    phone.ask(OPEN)
    phone.ask("/close")
    shoot(phone, window, f"no-trader-{language}")


@LANGUAGES
def test_increase(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    phone = begun(told, language)
    rig.intent(Action.OPEN)
    rig.run()
    phone = Phone(told, TRADER)
    for wrong in ("/increase", "/increase btc five", "/increase #999 5", "/increase btc 5"):
        phone.ask(wrong)
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="ann", reason="drill")
    rig.intent(Action.OPEN, symbol="ETH-USD")
    rig.submit()
    phone.ask("/increase eth 6000")
    phone.press(phone.ask("/increase eth 5 0.4%"), "no:")
    phone.press(phone.ask("/increase eth 5"), "ok:")
    rig.submit()
    phone.look()
    phone.ask("/positions")
    shoot(phone, window, f"increase-{language}")


@LANGUAGES
def test_close_and_levels(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    NoticeLevel.objects.bulk_create(
        NoticeLevel(tg_user_id=TRADER, event=one.value, level="off")
        for one in (Event.ACCEPTED, Event.SENT, Event.MINED)
    )
    phone = begun(told, language)
    phone.ask("/close")
    rig.intent(Action.OPEN)
    rig.intent(Action.OPEN, symbol="ETH-USD", collateral_usdc=Decimal("123.45"), is_long=False)
    rig.intent(Action.OPEN)
    rig.run()
    phone = Phone(told, TRADER)
    for wrong in (
        "/reduce", "/reduce btc half", "/reduce btc 101%", "/close doge", "/tp btc", "/tp btc up", "/tp btc 120000",
        "/sl #999 1",
    ):  # fmt: skip
        phone.ask(wrong)
    first = Position.objects.filter(symbol="BTC-USD").earliest("id")
    said = phone.ask(f"/tp #{first.pk} 1200000.25")
    phone.press(said, "ok:")
    said = phone.ask(f"/sl #{first.pk} 20000")
    phone.press(said, "ok:")
    phone.press(phone.ask(f"/sl #{first.pk} off"), "no:")
    phone.ask(f"/sl #{first.pk} 20000")
    Enrolled(TRADER)
    phone.ask(f"/sl #{first.pk} off")
    shoot(phone, window, f"levels-{language}")
    phone = Phone(told, TRADER)
    phone.press(phone.ask("/reduce eth 33.3"), "ok:")
    rig.run()
    phone.look()
    phone.ask("/close btc")
    phone.ask("/close eth")
    said = phone.ask("/close")
    phone.press(said, "ok:")
    rig.run()
    told.bot.wait_for(
        lambda: sum("LIVE" in one.text and "CLOSE" in one.text for one in told.said(TRADER)) > 1
    )
    phone.look()
    phone.ask(f"/close #{first.pk}")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    # Told first, or the notice would be taken for the answer.
    told.bot.wait_for(lambda: any("drill" in one.text for one in told.said(TRADER)))
    phone.look()
    phone.press(phone.ask("/close"), "ok:")
    rig.submit()
    phone.look()
    shoot(phone, window, f"close-{language}")


def confirming(chat: Chat) -> Message:
    """The newest question that one tap answers."""
    return offering(chat, "ok:")


def offering(chat: Chat, data: str, user: int = TRADER) -> Message:
    """The newest message with such a button: what is told unasked may come before an answer."""
    said = reversed(chat.said(user))
    return next(one for one in said if any(held.startswith(data) for held in one.buttons.values()))


@LANGUAGES
def test_resting_orders(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    """What rests is taken back from /orders; then what is in the way, by name."""
    first, second = place(rig), place(rig, is_long=False, limit_price=Decimal("105000.5"))
    rig.intent(Action.OPEN, symbol="ETH-USD", collateral_usdc=Decimal("123.45"), is_long=False)
    phone = begun(told, language)
    phone.ask("/orders")
    said = offering(told, f"back:{first.pk}")
    phone.press(said, f"back:{first.pk}")
    phone.press(confirming(told), "no:")
    phone.press(said, f"back:{first.pk}")
    phone.press(confirming(told), "ok:")
    phone.ask("/orders")
    phone.press(said, f"back:{first.pk}")
    rig.finish(2)
    phone.look()
    phone.ask("/history")
    shoot(phone, window, f"resting-{language}")
    phone = Phone(told, TRADER)
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    told.bot.wait_for(lambda: any("drill" in one.text for one in told.said(TRADER)))
    phone.look()
    phone.ask("/orders")
    said = offering(told, f"back:{second.pk}")
    phone.press(said, f"back:{second.pk}")
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="over")
    StackMode.objects.update(mode="DRY", requested="LIVE")
    phone.press(said, f"back:{second.pk}")
    StackMode.objects.update(mode="LIVE", requested="LIVE")
    shoot(phone, window, f"resting-refused-{language}")
    phone = begun(told, language, OPERATOR)
    phone.ask("/orders")
    said = offering(told, f"back:{second.pk}", OPERATOR)
    phone.press(said, f"back:{second.pk}")
    shoot(phone, window, f"resting-operator-{language}")


@LANGUAGES
def test_what_came_of_it(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    rig.intent(Action.OPEN)
    rig.run()
    rig.intent(Action.CLOSE)
    rig.run()
    opened = rig.intent(Action.OPEN, collateral_usdc=Decimal("123.456789"))
    rig.intent(Action.OPEN, symbol="ETH-USD", is_long=False)
    rig.run()
    rig.intent(Action.OPEN, symbol="SOL-USD", collateral_usdc=Decimal(5000))
    rig.submit()
    waits = rig.intent(Action.CLOSE)
    move(waits, IntentState.HELD, why="LIVE is degraded", by="test", reason=Reason.MODE_DEGRADED.value)
    for number, (decision, reasons) in enumerate(
        (("accepted", []), ("rejected", [Reason.NOTIONAL_ABOVE_CAP.value, Reason.BANNED.value]), ("", []))
    ):
        Signal.objects.create(
            source="drill", signal_id=f"s{number}", tg_user_id=TRADER, symbol="BTC-USD", side="LONG", slippage_pct=1,
            body_sha256="0" * 64, decision=decision, reasons=reasons,
        )  # fmt: skip
    Cap.objects.create(
        name="exposure_usdc", scope="trader", scope_value="123", value=50_000, set_by="x", reason="x"
    )
    Cap.objects.create(name="daily_loss_usdc", scope="global", value=250, set_by="x", reason="x")
    Cap.objects.create(name="orders_per_minute", scope="global", value=7, set_by="x", reason="x")
    phone = begun(chat, language)
    refused, ended = rig.intent(), rig.intent()
    detail = "notional 1600 USDC is above MAX_NOTIONAL_USDC (10 USDC; global, environment)"
    for one, told in ((refused, detail), (ended, "KMS does not sign now (ThrottlingException)")):
        reason = {"reason": Reason.NOTIONAL_ABOVE_CAP.value, "reason_detail": told}
        move(one, IntentState.REJECTED, why=told, by="test", **reason)
    for text in (
        "/positions",
        "/orders",
        "/history",
        "/signals",
        *(f"/why {one.intent_key}" for one in (opened, waits, refused, ended)),
    ):
        phone.ask(text)
    shoot(phone, window, f"book-{language}")
    phone = Phone(chat, TRADER)
    for text in (
        "/pnl", "/daily", "/weekly", "/monthly", "/performance", "/risk", "/caps", "/wallet", "/balance", "/logs", "/export",
    ):  # fmt: skip
        phone.ask(text)
    shoot(phone, window, f"results-{language}")
    phone = Phone(chat, TRADER)
    for text in (
        "/card", f"/card #{Position.objects.latest('id').pk}", "/card #999", "/card x", "/chart", "/chart pnl 7 LIVE",
        "/chart exposure 2", "/chart exposure DRY", "/chart sideways", "/notify filled loud",
    ):  # fmt: skip
        phone.ask(text)
    shoot(phone, window, f"pictures-{language}")
    phone = begun(chat, language, VIEWER)
    for text in ("/positions", "/orders", "/logs", "/card", "/wallet"):
        phone.ask(text)
    shoot(phone, window, f"viewer-book-{language}")


@LANGUAGES
def test_deciding(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    """Held orders, flattening, what differs, and a stop while something is under way."""
    rig.intent(Action.OPEN)
    rig.run()
    waits, opens = rig.intent(Action.CLOSE), rig.intent(Action.OPEN)
    for one in (waits, opens):
        move(one, IntentState.HELD, why="LIVE is degraded", by="test", reason=Reason.MODE_DEGRADED.value)
    phone = begun(chat, language, OPERATOR)
    phone.ask("/held")
    phone.ask(f"/approve {waits.intent_key} 123456 looked into it")
    ann = Enrolled(OPERATOR)
    for text in (
        "/approve", "/reject", "/approve sig:nobody:1 123456 x", f"/approve {opens.intent_key} 123456 x",
        f"/approve {waits.intent_key} 123456 looked into it", f"/reject {opens.intent_key} not wanted", "/reject sig:test:77 x",
    ):  # fmt: skip
        phone.ask(text)
    forget_codes(ann)
    phone.ask(f"/approve {waits.intent_key} {ann.code()} looked into it")
    Position.objects.update(leverage_x=3)
    phone.ask("/reconcile")
    Position.objects.update(leverage_x=2)
    phone.ask("/flatten")
    phone.ask("/flatten yes 000000 the market burns")
    shoot(phone, window, f"deciding-{language}")
    forget_codes(ann)
    phone = Phone(chat, OPERATOR)
    chat.telegram.writes(OPERATOR, f"/flatten yes {ann.code()} the market burns")
    chat.bot.wait_for(control.active)
    for _ in range(3):
        rig.run()
    chat.bot.wait_for(lambda: not Position.objects.filter(state="open").exists())
    phone.look()
    phone.ask("/mode")
    rig.intent(Action.CLOSE)
    control.lift(RestrictionKind.REDUCE_ONLY, Origin.TELEGRAM, by="ann", reason="over")
    rig.intent(Action.OPEN)
    rig.submit()
    phone.ask("/stop the price is wrong")
    phone.ask("/resume")
    phone.ask("/flatten yes 123456 again")
    StackMode.objects.update(mode="DRY", requested="LIVE")
    phone.ask("/status")
    phone.ask("/logs")
    shoot(phone, window, f"stopping-{language}")


@LANGUAGES
def test_replaced_and_failed(told: Chat, rig: Rig, window: Browser, language: str) -> None:
    """Cards of trades that do not go as they should, from the chain of the tests."""
    phone = begun(told, language)
    rig.intent()
    rig.submit()
    pass_a_minute()
    rig.track()
    told.bot.wait_for(lambda: any("\N{HORIZONTAL ELLIPSIS}" in one.text for one in told.said(TRADER)))
    phone.look()
    rig.finish()
    phone.look()
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    rig.intent()
    rig.submit()
    told.bot.wait_for(lambda: any("sig:test:2" in one.text for one in told.said(TRADER)))
    phone.look()
    shoot(phone, window, f"replaced-{language}")
