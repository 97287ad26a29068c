"""Taking back what rests at the venue: a button in /orders, a tap that confirms, one's own, once, and refused by name."""

import pytest

from execution_app.gate import control
from execution_app.models import AuditEntry, StackMode, Trader, TxIntent
from execution_app.people import pseudonym_of
from execution_app.states import Action, Origin, RestrictionKind
from ops.bot.models import Role, TelegramConfirmation, TelegramUser
from tests.guards import without_guards
from tests.integration.tx.test_resting import place, price, state
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.telegram import Message
from tests.ops.bot.trades.steps import button, last, quote, tap
from tests.rig import Rig

LABEL = "Take back BTC-USD LONG, 5 USDC at 95,000"


@pytest.fixture
def order(chat: Chat, rig: Rig) -> TxIntent:
    return place(rig)


def offered(chat: Chat, said: Message, data: str = "back:", user: int = TRADER) -> Message:
    """What the button of the list is answered with, once its own buttons count."""
    tap(chat, said, data, user)
    return chat.settle(user)[-1]


def cancels() -> int:
    return TxIntent.objects.filter(action=Action.CANCEL_ORDER).count()


def test_a_tap_and_its_confirmation_take_it_back_once(chat: Chat, rig: Rig, order: TxIntent) -> None:
    said = quote(chat, "/orders")
    assert (
        f"BTC-USD LONG 5.00 USDC at 2\N{MULTIPLICATION SIGN}: rests at the venue, limit 95,000 USD\n   {order.intent_key}"
        in said.text
    )
    assert list(said.buttons)[:2] == [LABEL, "Status"], "its own button stands above the menu"
    asked = offered(chat, said)
    assert asked.text.startswith("Take this order back?")
    assert order.intent_key in asked.text
    assert cancels() == 0, "shown is not done"
    ok = button(asked, "ok:")
    for _ in range(2):
        chat.telegram.presses(TRADER, asked, ok)
    chat.telegram.hands_out_again(chat.telegram.last_update())
    chat.settle(TRADER)
    cancel = TxIntent.objects.get(action=Action.CANCEL_ORDER)
    token = TelegramConfirmation.objects.get().token
    assert (cancel.intent_key, cancel.target_id) == (f"tg:{token}", order.pk)
    told = AuditEntry.objects.get(action="pending_cancelled")
    who = f"telegram {pseudonym_of(TRADER)}"
    assert (told.subject, told.actor, told.origin, told.address) == (order.intent_key, who, "telegram", who)
    under_way = chat.ask(TRADER, "/orders")
    assert "BTC-USD take back" in under_way.text
    assert LABEL not in under_way.buttons, "it is being taken back already"
    rig.finish(2)
    assert (state(order), state(cancel)) == ("venue_cancelled", "changed")
    assert cancels() == 1
    assert "Nothing is under way." in chat.ask(TRADER, "/orders").text
    assert "BTC-USD take back: order taken back" in chat.ask(TRADER, "/history").text


def test_it_is_dropped_by_a_tap_and_its_time_ends(chat: Chat, order: TxIntent) -> None:
    said = quote(chat, "/orders")
    asked = offered(chat, said)
    tap(chat, asked, "no:")
    assert "Dropped." in asked.text
    chat.ask(TRADER, "/language de")
    said = quote(chat, "/orders")
    assert "liegt beim Handelsplatz, Limit 95,000 USD" in said.text
    assert "BTC-USD LONG zurück, 5 USDC zu 95,000" in said.buttons
    late = offered(chat, said)
    assert "Diese Order zurücknehmen?" in late.text
    TelegramConfirmation.objects.update(created_at="2026-01-01T00:00:00Z", expires_at="2026-01-01T00:01:00Z")
    ok = button(late, "ok:")
    tap(chat, late)
    assert "älter als 60 s" in late.text
    chat.press(TRADER, late, ok.replace("ok:", "again:"))
    chat.settle(TRADER)
    assert cancels() == 0


def test_only_whose_it_is_and_operators_do_it_under_the_message_that_asked(
    chat: Chat, rig: Rig, order: TxIntent
) -> None:
    other = 777
    TelegramUser.objects.create(tg_user_id=other, role=Role.TRADER.value, allowed_by="test")
    Trader.objects.create(tg_user_id=other, address="0x" + "12" * 20)
    data = f"back:{order.pk}"
    for user, words in ((VIEWER, "Only a trader may do that"), (other, "no such order of yours")):
        listed = chat.ask(user, "/orders")
        assert LABEL not in listed.buttons
        chat.press(user, listed, data)
        chat.settle(user)
        assert words in last(chat, user)
    for nonsense in ("back:", "back:x", "back:" + "9" * 40, "back:-1"):
        chat.press(TRADER, chat.ask(TRADER, "/version"), nonsense)
    assert all("no such order" in one.text for one in chat.settle(TRADER)[-4:])
    asked = offered(chat, quote(chat, "/orders"))
    elsewhere = chat.ask(other, "/orders")
    elsewhere.message_id = asked.message_id
    chat.press(other, elsewhere, button(asked, "ok:"))
    chat.settle(other)
    assert "no such quote" in last(chat, other)
    chat.press(TRADER, quote(chat, "/orders"), button(asked, "ok:"))
    chat.settle(TRADER)
    assert "no such quote" in last(chat)
    assert cancels() == 0
    # An operator sees everybody's orders, has no trader, and may take back any of them.
    listed = quote(chat, "/orders", OPERATOR)
    of_operator = offered(chat, listed, user=OPERATOR)
    assert str(rig.trader) in of_operator.text, "whose it is"
    tap(chat, of_operator, user=OPERATOR)
    assert "Accepted as tg:" in of_operator.text
    assert cancels() == 1


def test_what_is_in_the_way_is_named_and_nothing_is_asked_for(chat: Chat, rig: Rig, order: TxIntent) -> None:
    market = rig.intent(symbol="ETH-USD")
    listed = quote(chat, "/orders")

    def refused(pk: int, words: str) -> None:
        chat.press(TRADER, listed, f"back:{pk}")
        chat.settle(TRADER)
        assert words in last(chat), last(chat)

    refused(market.pk, "no order that rests at the venue")
    for fields, words in (
        ({"mode": "DRY"}, "simulated (DRY)"),
        ({"mode": "LIVE", "road": "gateway"}, "gateway"),
    ):
        with without_guards():
            TxIntent.objects.filter(pk=market.pk).update(**fields)
        refused(market.pk, words)
    asked = offered(chat, listed)
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="drill")
    refused(order.pk, "a stop holds")
    tap(chat, asked)
    assert "a stop holds" in last(chat), "set between the question and its answer"
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="ann", reason="over")
    StackMode.objects.update(mode="DRY")
    refused(order.pk, "the stack is DRY")
    StackMode.objects.update(mode="LIVE")
    # What fills before the tap is not taken back; the tap says what it is.
    price(94_900)
    rig.run()
    tap(chat, asked)
    assert "it does not rest at the venue: filled" in last(chat)
    price(100_000)
    assert cancels() == 0
    assert TelegramConfirmation.objects.filter(used_at__isnull=False).count() == 0
