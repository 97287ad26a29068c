"""More of a position from Telegram: quoted, tapped once, an increase of that position and of no other."""

from decimal import Decimal

import pytest

from execution_app.gate import control
from execution_app.models import Position, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from ops.bot.models import TelegramConfirmation
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import TRADER
from tests.ops.bot.trades.steps import button, last, quote, tap
from tests.rig import Rig


@pytest.fixture
def simulated(chat: Chat, rig: Rig) -> Position:
    """One of BTC-USD, which our own book holds."""
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    rig.intent()
    rig.submit()
    return Position.objects.get()


def test_it_is_quoted_and_taken_once_however_often_it_is_tapped(
    chat: Chat, rig: Rig, simulated: Position
) -> None:
    said = quote(chat, "/increase btc 5 0.4%")
    for words in (
        "Increase this?",
        f"#{simulated.pk} BTC-USD LONG: 5.00 USDC more at 2\N{MULTIPLICATION SIGN}, DRY",
        "Notional: 10.00 USDC",
        "slippage up to 0.4 %",
        "Together then: ",
        "Liquidation: about ",
        "Funding: not modelled, the venue publishes no rule",
        "Left under the cap on notional",
    ):
        assert words in said.text
    assert not TxIntent.objects.filter(action=Action.INCREASE).exists(), "a quote is no order"
    data = button(said, "ok:")
    for _ in range(2):
        chat.telegram.presses(TRADER, said, data)
    chat.telegram.hands_out_again(chat.telegram.last_update())
    chat.settle(TRADER)
    assert "Accepted once" in said.text
    intent = TxIntent.objects.get(action=Action.INCREASE)
    assert intent.intent_key == f"tg:{TelegramConfirmation.objects.get().token}"
    assert (intent.position_id, intent.only_position, intent.collateral_usdc) == (simulated.pk, True, 5)
    assert (intent.slippage_pct, intent.expires_at is not None) == (Decimal("0.4"), True)
    before_usdc = simulated.collateral_usdc
    rig.submit()
    intent.refresh_from_db()
    simulated.refresh_from_db()
    assert (intent.state, simulated.collateral_usdc) == ("simulated", 2 * before_usdc)


def test_what_cannot_be_increased_is_said(chat: Chat, rig: Rig, simulated: Position) -> None:
    assert "/increase BTC-USD 5" in chat.ask(TRADER, "/increase btc").text
    assert "must be a plain number" in chat.ask(TRADER, "/increase btc five").text
    assert "no open position" in chat.ask(TRADER, "/increase #9999999 5").text
    assert "larger than an order may be" in chat.ask(TRADER, "/increase btc 600").text
    rig.intent(is_long=False)
    rig.submit()
    assert "there are several" in chat.ask(TRADER, "/increase btc 5").text
    said = quote(chat, f"/increase #{simulated.pk} 5")
    rig.intent(Action.CLOSE, position=simulated, only_position=True)
    rig.submit()
    tap(chat, said)
    assert "no open position" in last(chat)
    assert not TxIntent.objects.filter(action=Action.INCREASE).exists()


def test_on_chain_no_call_increases_a_live_position(chat: Chat, rig: Rig) -> None:
    rig.intent()
    rig.run()
    assert "no call increases a position" in chat.ask(TRADER, "/increase btc 5").text
