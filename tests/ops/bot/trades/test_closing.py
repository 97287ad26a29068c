"""Closing, reducing and guarding positions from Telegram: one tap each, of one's own, once."""

from decimal import Decimal

import pytest

from execution_app.book import protections
from execution_app.models import AuditEntry, Position, Protection, Trader, TxIntent
from execution_app.people import pseudonym_of
from execution_app.states import Action
from ops.bot.models import TelegramConfirmation
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.trades.steps import button, last, quote, tap
from tests.rig import Rig


@pytest.fixture
def position(chat: Chat, rig: Rig) -> Position:
    """Of BTC-USD; another one of ETH-USD stays as it is."""
    rig.intent(Action.OPEN)
    rig.intent(Action.OPEN, symbol="ETH-USD")
    rig.run()
    return Position.objects.get(symbol="BTC-USD")


def test_a_close_is_one_tap_and_closes_that_position(chat: Chat, rig: Rig, position: Position) -> None:
    said = quote(chat, "/close btc")
    (label,) = said.buttons
    assert label == f"Close #{position.pk} BTC-USD LONG: 5 USDC"
    tap(chat, said)
    close = TxIntent.objects.get(action="close")
    assert (close.position_id, close.only_position, close.intent_key[:3]) == (position.pk, True, "tg:")
    rig.run()
    position.refresh_from_db()
    assert position.state == "closed"
    assert Position.objects.get(symbol="ETH-USD").state == "open"
    assert len(quote(chat, "/close").buttons) == 1
    assert f"no open position #{position.pk}" in chat.ask(TRADER, f"/close #{position.pk}").text


def test_a_part_is_taken_out_once_however_often_it_is_tapped(
    chat: Chat, rig: Rig, position: Position
) -> None:
    said = quote(chat, f"/reduce #{position.pk} 30%")
    assert list(said.buttons) == [f"#{position.pk} BTC-USD: take out 1.5 USDC"]
    data = button(said, "ok:")
    for _ in range(2):
        chat.telegram.presses(TRADER, said, data)
    chat.telegram.hands_out_again(chat.telegram.last_update())
    chat.settle(TRADER)
    rig.run()
    close = TxIntent.objects.get(action="close")
    assert (close.state, close.close_usdc) == ("filled", position.collateral_usdc * 3 / 10)
    left = position.collateral_usdc - close.close_usdc
    position.refresh_from_db()
    assert (position.state, position.collateral_usdc) == ("open", left)


def test_a_position_that_has_closed_meanwhile_is_not_closed_again(
    chat: Chat, rig: Rig, position: Position
) -> None:
    first, second = quote(chat, "/close btc"), quote(chat, "/reduce btc 50")
    tap(chat, first)
    rig.run()
    tap(chat, second)
    assert "no open position" in last(chat)
    assert TxIntent.objects.filter(action="close").count() == 1


def test_what_is_somebody_elses_is_neither_shown_nor_closed(chat: Chat, rig: Rig, position: Position) -> None:
    Trader.objects.create(tg_user_id=OPERATOR, address="0x" + "12" * 20)
    mine = quote(chat, "/close btc")
    assert "No open positions." in chat.ask(OPERATOR, "/close").text
    forged = chat.ask(OPERATOR, "/version")
    forged.message_id = mine.message_id
    chat.press(OPERATOR, forged, button(mine, "ok:"))
    chat.settle(OPERATOR)
    assert "no such quote" in last(chat, OPERATOR)
    assert "No open positions." in chat.ask(OPERATOR, f"/sl #{position.pk} 1000").text
    assert TxIntent.objects.filter(action="close").count() == 0
    assert TelegramConfirmation.objects.filter(used_at=None).count() == 1


WRONG = [
    ("/reduce", "Usage: /reduce BTC-USD 50"),
    ("/reduce btc", "Usage: /reduce BTC-USD 50"),
    ("/reduce btc 0", "above 0"),
    ("/reduce btc 101%", "at most 100"),
    ("/reduce btc half", "The percentage must be a plain number"),
    ("/close doge", "No open positions."),
    ("/close #99999999999999999999", "No open positions."),
    ("/tp btc", "Usage: /tp BTC-USD 120000"),
    ("/sl btc up", "The price must be a plain number"),
    ("/sl btc 1", "No open positions."),
]


def test_what_is_no_exit_gets_no_button(chat: Chat, rig: Rig) -> None:
    for text, words in WRONG:
        said = chat.ask(TRADER, text)
        assert words in said.text, text
        assert said.buttons == {}, text


def test_a_level_is_shown_and_then_set_by_one_tap(chat: Chat, rig: Rig, position: Position) -> None:
    said = quote(chat, "/sl btc 20000")
    assert f"Stop loss of #{position.pk} BTC-USD LONG: from none to 20,000 USD" in said.text
    assert not Protection.objects.exists(), "shown is not set"
    data = button(said, "ok:")
    for _ in range(2):
        chat.telegram.presses(TRADER, said, data)
    chat.settle(TRADER)
    row = Protection.objects.get()
    assert (row.position_id, row.stop_loss, row.version) == (position.pk, 20_000, 1)
    told = AuditEntry.objects.get(action="protection_set")
    assert (told.actor, told.origin) == (f"telegram {pseudonym_of(TRADER)}", "telegram")
    tap(chat, quote(chat, "/tp btc 900000"))
    row = Protection.objects.get(ended_at=None)
    assert (row.stop_loss, row.take_profit, row.version) == (20_000, 900_000, 2)
    tap(chat, quote(chat, "/tp btc off"))
    assert Protection.objects.get(ended_at=None).take_profit is None


def test_an_old_tap_does_not_bring_an_old_level_back(chat: Chat, rig: Rig, position: Position) -> None:
    said = quote(chat, "/sl btc 20000")
    tap(chat, said, "ok:")
    protections.change(position.pk, {"stop_loss": Decimal(21_000)}, by="ann", reason="nearer")
    chat.press(TRADER, said, f"ok:{TelegramConfirmation.objects.get().token}")
    chat.settle(TRADER)
    assert "was decided already" in said.text
    assert Protection.objects.get(ended_at=None).stop_loss == 21_000


def test_less_protection_needs_a_code(chat: Chat, rig: Rig, position: Position) -> None:
    ann = Enrolled(TRADER)
    tap(chat, quote(chat, "/sl btc 20000"))
    said = quote(chat, "/sl btc off")
    assert "less protection than before" in said.text
    chat.press(TRADER, said, button(said, "no:").replace("no:", "ok:"))
    chat.settle(TRADER)
    assert "needs a one-time code" in last(chat), "a forged button knows none"
    assert Protection.objects.get().stop_loss == 20_000
    assert "Set." in chat.ask(TRADER, ann.code()).text
    assert Protection.objects.get(ended_at=None).stop_loss is None
    assert AuditEntry.objects.filter(action="protection_set", actor="ann").count() == 2


def test_several_of_one_symbol_are_named_by_number(chat: Chat, rig: Rig, position: Position) -> None:
    rig.intent(Action.OPEN)
    rig.run()
    said = chat.ask(TRADER, "/sl btc 20000")
    assert "name one by its number" in said.text
    assert len(quote(chat, "/close btc").buttons) == 2
    tap(chat, quote(chat, f"/sl #{position.pk} 20000"))
    assert Protection.objects.get().position_id == position.pk
