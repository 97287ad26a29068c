"""Opening from Telegram: a quote, one tap, one intent; whatever else is tapped or comes twice opens nothing."""

import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.desks import views
from execution_app.desks.onchain import OnChainDesk
from execution_app.gate import control
from execution_app.models import Position, Trader, TxIntent, TxSend
from execution_app.node import rpc
from execution_app.states import Origin, RestrictionKind
from ops.bot import confirmations, deciding, offers, opening
from ops.bot.models import Role, TelegramConfirmation, TelegramFlow, TelegramUpdate, TelegramUser
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.telegram import Message
from tests.ops.bot.trades.steps import OPEN, button, last, quote, tap
from tests.rig import Rig


def test_a_quote_and_a_tap_open_one_position(chat: Chat, rig: Rig) -> None:
    said = quote(chat, "/open btc long 5 2x tp=900000 sl=60000")
    assert "BTC-USD LONG 5.00 USDC at 2\N{MULTIPLICATION SIGN}" in said.text
    for words in (
        "Notional: 10.00 USDC",
        "Price: ",
        "Fee to open: ",
        "Liquidation: about ",
        "Left under the cap on notional",
    ):
        assert words in said.text
    assert "Take profit: 900,000 USD\nStop loss: 60,000 USD" in said.text
    assert TxIntent.objects.count() == 0, "a quote is no order"
    tap(chat, said)
    intent = TxIntent.objects.get()
    token = TelegramConfirmation.objects.get().token
    assert intent.intent_key == f"tg:{token}"
    assert said.text.startswith(f"Accepted as tg:{token}")
    assert list(said.buttons.values()) == [f"why:tg:{token}"]
    assert (intent.tg_user_id, intent.collateral_usdc, intent.leverage_x, intent.is_long) == (
        TRADER,
        5,
        2,
        True,
    )
    assert (intent.take_profit, intent.stop_loss) == (900_000, 60_000)
    rig.run()
    intent.refresh_from_db()
    assert (intent.state, intent.mode) == ("filled", "LIVE")
    assert Position.objects.get().symbol == "BTC-USD"
    tap(chat, said, "why:")
    assert "filled" in said.text, "in place of what was said"


def test_a_node_that_is_away_is_told_in_the_persons_words(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise rpc.RpcFault("endpoint 0: ReadTimeoutError")

    monkeypatch.setattr(views, "look_to_open", away)
    person = TelegramUser(tg_user_id=TRADER, role=Role.TRADER.value)
    said = opening.begin(person, ["btc", "long", "5", "2x"])
    assert said.text == "Refused: No node says that now. Try again in a minute."


def test_a_double_tap_is_one_order(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    data = button(said, "ok:")
    for _ in range(3):
        chat.telegram.presses(TRADER, said, data)
    update = chat.telegram.last_update()
    chat.telegram.hands_out_again(update)
    chat.settle(TRADER)
    rig.run()
    assert TxIntent.objects.count() == 1
    assert TxSend.objects.count() == 1
    assert "Accepted once" in said.text


def test_a_tap_while_another_process_takes_the_same_one_waits_and_finds_it(chat: Chat, rig: Rig) -> None:
    """Two bots by accident: the row is held between its use and its commit, and the second tap stands before it."""
    said = quote(chat)
    row = TelegramConfirmation.objects.get()
    with transaction.atomic():
        confirmations.spend(row.token, TRADER, said.message_id)
        OnChainDesk(rig.trader).open(offers.as_request(row.asked, confirmations.key(row.token)))
        chat.telegram.presses(TRADER, said, button(said, "ok:"))
        chat.bot.wait_for(_somebody_waits)
    chat.settle(TRADER)
    rig.run()
    assert TxIntent.objects.count() == TxSend.objects.count() == 1
    assert "Accepted once" in said.text


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # or a transaction sees what its first look saw
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%telegram_confirmations%'"
        )
        return bool(cursor.fetchone()[0])


def test_many_threads_with_one_token_make_one_order(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    token = TelegramConfirmation.objects.get().token
    person = TelegramUser(tg_user_id=TRADER, role=Role.TRADER.value)
    told: list[str] = []
    start = threading.Barrier(6)

    def one_tap() -> None:
        start.wait()
        told.append(deciding.confirm(person, token, said.message_id).text)
        connection.close()

    threads = [threading.Thread(target=one_tap) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 6
    assert sum(text.startswith("Accepted as") for text in told) == 1
    assert sum("Accepted once" in text for text in told) == 5
    rig.run()
    assert TxIntent.objects.count() == TxSend.objects.count() == 1


def test_a_death_between_commit_and_answer_opens_nothing_more(chat: Chat, rig: Rig) -> None:
    """The tap's order is committed, its update is not marked, and nobody was told: the next process looks at it again."""
    said = quote(chat)
    data = button(said, "ok:")
    number, _ = chat.telegram.presses(TRADER, said, data)
    chat.settle(TRADER)
    chat.bot.kill()
    body = {
        "update_id": number,
        "user_id": TRADER,
        "message_id": said.message_id,
        "text": data,
        "query_id": "7",
    }
    TelegramUpdate.objects.filter(pk=number).update(handled_at=None, body=body, received_at=Now())
    chat.bot.begin()
    chat.bot.wait_for(lambda: "Accepted once" in said.text)
    chat.settle(TRADER)
    rig.run()
    assert TxIntent.objects.count() == TxSend.objects.count() == 1


def test_a_lost_answer_of_the_database_is_not_called_nothing(chat: Chat, rig: Rig) -> None:
    """What the person is told must not lead to a second order, and the same button then tells what is."""
    said = quote(chat)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE telegram_confirmations IN ACCESS EXCLUSIVE MODE")
        chat.telegram.presses(TRADER, said, button(said, "ok:"))
        chat.bot.wait_for(_somebody_waits)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query LIKE '%telegram_confirmations%' AND pid <> pg_backend_pid()"
            )
    chat.settle(TRADER)
    assert "not certain" in last(chat)
    tap(chat, said)
    assert TxIntent.objects.count() == 1


def test_forged_strange_and_stale_taps_open_nothing(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    data = button(said, "ok:")
    elsewhere = chat.ask(TRADER, "/version")
    chat.press(TRADER, elsewhere, data)
    chat.settle(TRADER)
    assert "no such quote" in last(chat), "another message"
    for forged in ("ok:" + "A" * 22, "ok:", "no:x", "again:x", "q:side:long", "q:", "ok:\0"):
        chat.press(TRADER, said, forged)
    chat.settle(TRADER)
    theirs = chat.ask(OPERATOR, "/version")
    theirs.message_id = said.message_id  # as a forged request would have it
    for forged in (data, data.replace("ok:", "no:"), data.replace("ok:", "again:")):
        chat.press(OPERATOR, theirs, forged)
    chat.settle(OPERATOR)
    chat.press(VIEWER, chat.ask(VIEWER, "/version"), data)
    chat.settle(VIEWER)
    assert "Only a trader may do that" in last(chat, VIEWER)
    assert TelegramConfirmation.objects.get().used_at is None
    TelegramConfirmation.objects.update(created_at="2026-01-01T00:00:00Z", expires_at=Now())
    tap(chat, said)
    assert "older than 60 s" in said.text
    assert TxIntent.objects.count() == 0
    tap(chat, said, "again:")
    assert TelegramConfirmation.objects.count() == 2, "the same order at the price of now"
    tap(chat, said)
    assert TxIntent.objects.count() == 1


def test_what_was_left_is_not_opened_after_all(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    ok = button(said, "ok:")
    tap(chat, said, "no:")
    assert said.text == "Dropped. Nothing was done."
    chat.press(TRADER, said, ok)
    chat.settle(TRADER)
    assert "was decided already" in said.text
    assert TxIntent.objects.count() == 0


WRONG = [
    ("/open btc up 5 2x", "long or short"),
    ("/open btc long five 2x", "USDC must be a plain number"),
    ("/open btc long 1e3 2x", "USDC must be a plain number"),
    ("/open btc long 0 2x", "above 0"),
    ("/open btc long -5 2x", "USDC must be a plain number"),
    ("/open btc long 5.0000001 2x", "at most 6 decimals"),
    ("/open btc long \N{ARABIC-INDIC DIGIT FIVE} 2x", "USDC must be a plain number"),
    ("/open btc long 5 NaN", "The leverage must be a plain number"),
    ("/open btc long 5 2x 90%", "at most 80"),
    ("/open btc long 5 2x 1% 7", "more words"),
    ("/open btc long 5 2x tp=1 tp=2", "said twice"),
    ("/open btc long 5 2x to=1", "tp=, sl= and slip="),
    ("/open doge long 5 2x", "DOGE-USD is not traded here"),
    ("/open <b> long 5 2x", "A symbol looks like"),
    ("/open btc long 600 2x", "larger than an order may be. /caps shows"),
    ("/open btc long 5 76x", "more leverage than is allowed. /caps shows"),
    ("/open btc long 5 2x sl=900000", "Stop loss 900,000 USD is crossed already"),
    ("/open btc long 5 2x tp=1", "Take profit 1 USD is crossed already"),
    ("/open btc long 5 2x sl=1", "behind the liquidation"),
]


def test_what_is_no_order_gets_no_button(chat: Chat, rig: Rig) -> None:
    for text, words in WRONG:
        said = chat.ask(TRADER, text)
        assert words in said.text, text
        assert said.buttons == {}, text
    assert TelegramConfirmation.objects.count() == 0


def test_only_an_enabled_trader_trades(chat: Chat, rig: Rig) -> None:
    assert "no trader of your Telegram id" in chat.ask(OPERATOR, OPEN).text
    assert "Only a trader may do that" in chat.ask(VIEWER, OPEN).text
    said = quote(chat)
    Trader.objects.update(enabled=False)
    tap(chat, said)
    assert "your trader is disabled" in last(chat)
    assert "your trader is disabled" in chat.ask(TRADER, "/close").text
    Trader.objects.update(enabled=True)
    TelegramUser.objects.filter(tg_user_id=TRADER).update(role=Role.VIEWER.value)
    tap(chat, said)
    assert "Only a trader may do that" in last(chat)
    assert TxIntent.objects.count() == 0


def test_a_stop_between_quote_and_tap_lets_nothing_leave(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="test")
    tap(chat, said)
    rig.run()
    intent = TxIntent.objects.get()
    assert (intent.state, intent.reason) == ("rejected", "emergency_stop")
    assert not TxSend.objects.exists()
    assert "emergency stop holds" in chat.ask(TRADER, OPEN).text


def test_a_price_that_ran_away_is_quoted_anew(chat: Chat, rig: Rig) -> None:
    said = quote(chat)
    row = TelegramConfirmation.objects.get()
    asked = {**row.asked, "price": str(Decimal(row.asked["price"]) * Decimal("0.99"))}
    TelegramConfirmation.objects.update(asked=asked)
    tap(chat, said)
    assert "further than the slippage that you allow" in said.text
    assert TxIntent.objects.count() == 0
    tap(chat, said, "again:")
    tap(chat, said)
    assert TxIntent.objects.count() == 1


def test_above_a_size_a_code_is_the_tap(chat: Chat, rig: Rig) -> None:
    ann = Enrolled(TRADER)
    small = quote(chat, "/open btc long 20 2x")
    large = quote(chat, "/open btc long 30 3x")
    assert "ok:" not in "".join(quote(chat, "/open btc long 30 4x").buttons.values())
    tap(chat, small)
    assert TxIntent.objects.count() == 1
    tap(chat, large)
    assert "since more is at stake" in last(chat), "40 and 90 USDC are more than 100 together"
    said = quote(chat, "/open btc long 30 3x")
    assert "6 digits" in said.text
    assert [data[:3] for data in said.buttons.values()] == ["no:"]
    chat.press(TRADER, said, button(said, "no:").replace("no:", "ok:"))
    chat.settle(TRADER)
    assert "since more is at stake" in last(chat), "a forged button knows no code"
    assert "6 digits" in chat.ask(TRADER, "please").text
    assert "the code is wrong" in chat.ask(TRADER, "000000").text
    ann.device.refresh_from_db()
    ann.device.throttle_reset()
    code = ann.code()
    assert "Accepted as" in chat.ask(TRADER, code).text
    TelegramFlow.objects.create(
        tg_user_id=TRADER, step="code", answers=_waits_for(said), message_id=said.message_id
    )
    assert "Accepted once" in chat.ask(TRADER, code).text, (
        "as after a death before the conversation was ended"
    )
    assert "do not know" in chat.ask(TRADER, code).text, "nothing asks for a code any more"
    assert TxIntent.objects.count() == 2
    assert not TelegramUpdate.objects.filter(body__text=code).exists()


def _waits_for(said: Message) -> dict[str, str]:
    return {"token": button(said, "no:").removeprefix("no:")}


def test_a_code_that_nobody_can_know_is_not_waited_for(rig: Rig, settings: Settings) -> None:
    """Off the rehearsal chain everybody is asked; who has no account is told what to do."""
    settings.REHEARSAL = False
    person = TelegramUser(tg_user_id=TRADER, role=Role.TRADER.value)
    said = opening.begin(person, ["btc", "long", "60", "2x"])
    assert f"manage.py telegram allow {TRADER} trader --account NAME" in said.text
    assert said.buttons == ()
    assert opening.begin(person, ["btc", "long", "5", "2x"]).buttons, "small enough without one"


def test_the_conversation_asks_one_thing_after_the_other(chat: Chat, rig: Rig) -> None:
    said = quote(chat, "/open")
    tap(chat, said, "q:symbol:BTC-USD")
    assert "Long or short" in said.text
    tap(chat, said, "q:back")
    assert "Which market" in said.text
    tap(chat, said, "q:symbol:ETH-USD")
    tap(chat, said, "q:side:short")
    said = quote(chat, "five")
    assert "USDC must be a plain number" in said.text
    tap(chat, said, "q:collateral:5")
    said = quote(chat, "2x")
    tap(chat, said, "q:slippage:1")
    assert "ETH-USD, SHORT, 5.00 USDC, 2\N{MULTIPLICATION SIGN}, slippage 1 %" in said.text
    said = quote(chat, "1")
    tap(chat, said, "q:stop_loss:none")
    assert "ETH-USD SHORT 5.00 USDC" in said.text
    assert not TelegramFlow.objects.exists()
    tap(chat, said)
    intent = TxIntent.objects.get()
    assert (intent.symbol, intent.is_long, intent.slippage_pct, intent.take_profit, intent.stop_loss) == (
        "ETH-USD", False, 1, 1, None,
    )  # fmt: skip


def test_a_button_of_a_question_that_is_answered_answers_no_other(chat: Chat, rig: Rig) -> None:
    """A double tap, and buttons of an older message."""
    old = quote(chat, "/open")
    said = quote(chat, "/open btc")
    assert "Long or short" in said.text
    long = button(said, "q:side:long")
    for _ in range(2):
        chat.telegram.presses(TRADER, said, long)
    chat.settle(TRADER)
    assert "How much USDC" in said.text
    chat.press(TRADER, old, "q:symbol:ETH-USD")
    chat.settle(TRADER)
    assert "That question is over" in last(chat)
    flow = TelegramFlow.objects.get()
    assert (flow.step, flow.answers) == ("collateral", {"symbol": "BTC-USD", "is_long": True})
    tap(chat, said, "q:away")
    assert said.text == "Dropped. Nothing was done."
    assert "do not know" in chat.ask(TRADER, "5").text


def test_two_people_at_once_keep_their_own_and_a_restart_keeps_both(chat: Chat, rig: Rig) -> None:
    Trader.objects.create(tg_user_id=OPERATOR, address="0x" + "12" * 20)
    mine = quote(chat, "/open btc")
    quote(chat, "/open eth long", OPERATOR)
    tap(chat, mine, "q:side:long")
    chat.bot.kill()
    chat.bot.begin()
    theirs_next = quote(chat, "7", OPERATOR)
    tap(chat, mine, "q:collateral:5")
    tap(chat, mine, "q:leverage:2")
    assert "ETH-USD, LONG, 7.00 USDC" in theirs_next.text
    assert "BTC-USD, LONG, 5.00 USDC, 2" in mine.text
    tap(chat, mine, "q:slippage:0.5")
    tap(chat, mine, "q:take_profit:none")
    tap(chat, mine, "q:stop_loss:none")
    chat.press(OPERATOR, theirs_next, button(mine, "ok:"))
    chat.settle(OPERATOR)
    assert TxIntent.objects.count() == 0
    tap(chat, mine)
    assert TxIntent.objects.get().tg_user_id == TRADER
