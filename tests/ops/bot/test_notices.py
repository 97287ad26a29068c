"""What the bot tells unasked, and to whom: the real process beside a real trade on the chain of the tests."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from execution_app.gate import control
from execution_app.models import Fill, ModeChange, Position, ProtectionTrigger, Trader, TxIntent, Wallet
from execution_app.states import Action, Origin, RestrictionKind
from ops.bot import daily
from ops.bot.models import Event, Level, Notice, NoticeLevel, Tally
from tests.ops.bot.chat import VERSION, Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.telegram import Message
from tests.rig import Rig


def unasked(chat: Chat, user: int) -> list[Message]:
    return [one for one in chat.said(user) if VERSION not in one.text]


def wait_for(chat: Chat, user: int, words: str) -> Message:
    """The message that says it, as soon as one does."""
    chat.bot.wait_for(lambda: any(words in one.text for one in unasked(chat, user)), words)
    return next(one for one in unasked(chat, user) if words in one.text)


def test_a_trade_is_one_message_that_advances(told: Chat, rig: Rig) -> None:
    intent = rig.intent()
    first = wait_for(told, TRADER, "accepted")
    assert (first.silent, first.edits) == (False, 0)
    assert "BTC-USD LONG 5.00 USDC at 2\N{MULTIPLICATION SIGN}" in first.text
    rig.submit()
    wait_for(told, TRADER, "sent 0x")
    rig.mine()
    rig.track()
    wait_for(told, TRADER, "mined 0x")
    rig.keep()
    rig.track()
    filled = wait_for(told, TRADER, "filled LIVE at")
    (only,) = [one for one in unasked(told, TRADER) if intent.intent_key in one.text]
    assert only.message_id == first.message_id == filled.message_id
    assert only.text.startswith("\N{WHITE HEAVY CHECK MARK}")
    others = [one for user in (VIEWER, OPERATOR) for one in unasked(told, user)]
    assert not any("sig:" in one.text for one in others), "others' trades are for who asks for them"


def test_replaced_refused_and_everybodys_trades(told: Chat, rig: Rig) -> None:
    NoticeLevel.objects.create(tg_user_id=VIEWER, event=Event.REFUSED.value, level=Level.SILENT.value)
    rig.intent()
    rig.submit()
    rig.finish()
    wait_for(told, TRADER, "filled LIVE at")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    rig.intent()
    rig.submit()
    refused = wait_for(told, TRADER, "refused: everything is stopped")
    assert refused.text.startswith("\N{CROSS MARK}")
    seen = wait_for(told, VIEWER, "refused: everything is stopped")
    assert (seen.silent, " of test" in seen.text) == (True, True)
    assert not any("accepted" in one.text for one in unasked(told, VIEWER))


def test_a_replacement_is_told(told: Chat, rig: Rig) -> None:
    rig.intent()
    rig.submit()
    from tests.timers import pass_a_minute

    pass_a_minute()
    rig.track()
    wait_for(told, TRADER, "sent anew with a higher fee 0x")


def test_stop_and_mode_reach_everybody_but_who_did_it(told: Chat) -> None:
    told.ask(OPERATOR, "/stop the price is wrong")
    for user in (TRADER, VIEWER):
        said = wait_for(told, user, "Emergency stop")
        assert f"by telegram {OPERATOR} (Telegram): the price is wrong" in said.text
    control.lift(RestrictionKind.STOP, Origin.TELEGRAM, by="ann", reason="looked into it")
    ModeChange.objects.create(kind="effective", mode="LIVE", reason="", streak=3, epoch=1, said_by="worker")
    for user in (TRADER, VIEWER, OPERATOR):
        wait_for(told, user, "Emergency stop (Telegram) lifted by ann: looked into it")
        wait_for(told, user, "The stack is LIVE.")
    assert not any("Emergency stop by" in one.text for one in unasked(told, OPERATOR)), "they were answered"


def test_what_lasts_is_told_when_it_begins_and_ends(told: Chat) -> None:
    """Drift, gas and delegation of a trader: to the trader and to those who watch."""
    trader = Trader.objects.create(tg_user_id=TRADER, label="ann", address="0x" + "a1" * 20)
    wallet = Wallet.objects.create(
        trader=trader,
        chain_id=31337,
        address="0x" + "b2" * 20,
        balance_wei=10**15,
        delegated_until=datetime.now(UTC) + timedelta(hours=3),
    )
    position = open_position(trader, drift="the venue has no such trade")
    for user in (TRADER, VIEWER, OPERATOR):
        wait_for(told, user, "Gas money runs out")
        wait_for(told, user, "ends within a day")
        wait_for(told, user, "Drift: BTC-USD LONG")
    Position.objects.filter(pk=position.pk).update(drift="")
    Wallet.objects.filter(pk=wallet.pk).update(balance_wei=10**18)
    over = wait_for(told, TRADER, "Drift over")
    assert over.edits == 1, "the alarm itself says that it is over"
    assert "0.001 ETH" not in wait_for(told, TRADER, "Gas money is back").text
    Position.objects.filter(pk=position.pk).update(drift="leverage_x is 2, the venue has 3")
    again = wait_for(told, TRADER, "leverage: 2 here, 3 at the venue")
    assert again.message_id != over.message_id, "another time is another message"


def test_gone_at_the_venue_and_levels_that_were_hit(told: Chat) -> None:
    trader = Trader.objects.create(tg_user_id=TRADER, label="ann", address="0x" + "a1" * 20)
    position = open_position(trader)
    Position.objects.filter(pk=position.pk).update(
        state="closed", ended_by="closed_elsewhere", updated_at=datetime.now(UTC)
    )
    gone = wait_for(told, TRADER, "Gone at the venue")
    assert "BTC-USD LONG 5.00 USDC at 2\N{MULTIPLICATION SIGN}" in gone.text
    assert " of ann" in wait_for(told, OPERATOR, "Gone at the venue").text
    fired = open_position(trader, trade_index=2)
    Fill.objects.create(
        position=fired, action="close", mode="LIVE", ended_by="stop_loss", price=Decimal(80_000),
        collateral_usdc=5, leverage_x=2, sent_to_trader_usdc=3, tx_hash="0xend", log_index=0, block_number=7,
    )  # fmt: skip
    Position.objects.filter(pk=fired.pk).update(
        state="closed", ended_by="stop_loss", updated_at=datetime.now(UTC)
    )
    ended = wait_for(told, TRADER, "Stop-loss of the venue").text
    assert "result -2.00 USDC" in ended
    assert "80,000" in ended
    held = open_position(trader, trade_index=1)
    protection = held.protections.create(version=1, is_long=True, take_profit=Decimal(65_000), set_by="test")
    close = TxIntent.objects.create(
        intent_key="tpsl:1", trader=trader, tg_user_id=TRADER, action=Action.CLOSE.value, symbol="BTC-USD",
        slippage_pct=Decimal(1), position=held, only_position=True,
    )  # fmt: skip
    ProtectionTrigger.objects.create(
        protection=protection, intent=close, kind="take_profit", level=Decimal(65_000), price=Decimal(65_001)
    )
    hit = wait_for(told, TRADER, "Take-profit hit")
    assert "Price 65,001 USD, level 65,000 USD" in hit.text


def open_position(trader: Trader, **fields: object) -> Position:
    return Position.objects.create(
        **{
            "trader": trader,
            "venue": "0x" + "cc" * 20,
            "symbol": "BTC-USD",
            "pair_index": 0,
            "trade_index": 0,
            "opened_at": datetime.now(UTC),
            "mode": "LIVE",
            "is_long": True,
            "collateral_usdc": Decimal(5),
            "leverage_x": Decimal(2),
            "open_price": Decimal(60_000),
            **fields,
        }
    )


def test_a_day_is_summed_up_once_with_a_picture(told: Chat) -> None:
    Tally.objects.update_or_create(
        name=daily.TOLD, defaults={"number": datetime.now(UTC).date().toordinal() - 1}
    )
    assert daily.look() == 3
    assert daily.look() == 0
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    said = wait_for(told, TRADER, f"{yesterday} (UTC)")
    assert (said.kind, said.silent) == ("photo", True)
    assert said.picture.startswith(b"\x89PNG")
    assert "LIVE: 0.00 USDC realised in 0 close(s)" in said.text
    assert Notice.objects.filter(thread=f"daily {yesterday}").count() == 3


def test_everybody_chooses_what_they_are_told(told: Chat) -> None:
    shown = told.ask(TRADER, "/notify")
    (data,) = [data for text, data in shown.buttons.items() if text == "Stop and mode: on"]
    assert data == "notify:mode:silent"
    told.press(TRADER, shown, data)
    told.bot.wait_for(lambda: "Stop and mode: silent" in shown.buttons)
    assert told.ask(VIEWER, "/notify mode off").buttons["Stop and mode: off"] == "notify:mode:on"
    assert "Usage" in told.ask(VIEWER, "/notify everything off").text
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="ann", reason="drill")
    assert wait_for(told, TRADER, "Reduce-only by ann (API): drill").silent
    assert not wait_for(told, OPERATOR, "Reduce-only by ann").silent
    told.settle(VIEWER)
    assert not any("Reduce-only" in one.text for one in told.said(VIEWER))


def test_the_language_is_theirs(told: Chat) -> None:
    told.telegram.languages[VIEWER] = "de-AT"
    try:
        told.settle(VIEWER)
        asked = told.ask(OPERATOR, "/language")
        told.press(OPERATOR, asked, asked.buttons["Deutsch"])
        told.bot.wait_for(lambda: "Ab jetzt spreche ich Deutsch" in asked.text)
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="ann", reason="drill")
        for user in (VIEWER, OPERATOR):
            wait_for(told, user, "Nur Abbau durch ann (API): drill")
        wait_for(told, TRADER, "Reduce-only by ann (API): drill")
    finally:
        del told.telegram.languages[VIEWER]


@pytest.mark.parametrize(
    ("text", "kind"), [("/chart", "photo"), ("/chart exposure 7 DRY", "photo"), ("/chart x", "text")]
)
def test_charts_come_as_pictures(told: Chat, text: str, kind: str) -> None:
    said = told.ask(VIEWER, text)
    assert (said.kind, said.picture[1:4]) == (kind, b"PNG" if kind == "photo" else b"")


def test_a_card_is_of_a_position_that_is_theirs(told: Chat) -> None:
    trader = Trader.objects.create(tg_user_id=OPERATOR, label="bob", address="0x" + "a1" * 20)
    position = open_position(trader)
    assert f"Position #{position.pk}, LIVE of bob" in told.ask(VIEWER, f"/card {position.pk}").text
    assert told.ask(VIEWER, "/card").kind == "photo"
    assert told.ask(TRADER, f"/card {position.pk}").text == "No open positions."
    assert "Usage" in told.ask(VIEWER, "/card 1 2").text
