"""Trading in another language: the same taps, and the same text to sign."""

from collections.abc import Iterator

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from execution_app.models import Trader, TxIntent
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER
from tests.ops.bot.trades.steps import quote, tap
from tests.rig import Rig


@pytest.fixture
def german(chat: Chat) -> Iterator[Chat]:
    """The trader's Telegram is set to German."""
    chat.telegram.languages[TRADER] = "de"
    yield chat
    chat.telegram.languages.pop(TRADER, None)


def test_a_conversation_and_a_tap(german: Chat, rig: Rig) -> None:
    asked = german.ask(TRADER, "/open btc long 5")
    assert "Welcher Hebel?" in asked.text
    german.settle(TRADER)
    assert "eine einfache Zahl" in german.ask(TRADER, "viel").text
    for answer in ("2", "0.5", "keiner"):
        german.ask(TRADER, answer)
    said = german.ask(TRADER, "keiner")
    german.settle(TRADER)
    assert said.text.startswith("Das eröffnen?")
    assert "Nominalwert: 10.00 USDC" in said.text
    assert "Übrig unter der Grenze für Nominalwert je Order" in said.text
    assert [*said.buttons][:2] == ["Eröffnen", "Verwerfen"]
    tap(german, said)
    intent = TxIntent.objects.get()
    assert (intent.collateral_usdc, intent.leverage_x, intent.take_profit, intent.stop_loss) == (
        5,
        2,
        None,
        None,
    )
    assert said.text.startswith(f"Angenommen als {intent.intent_key}")
    assert "there is no trader" in german.ask(OPERATOR, "/open btc long 5").text, "others have theirs"
    assert "Ich kenne nur tp=" in quote(german, "/open btc long 5 2x at=7").text


def test_a_text_that_was_made_in_one_language_is_signed_in_another(german: Chat) -> None:
    person: LocalAccount = Account.create()
    said = german.ask(TRADER, f"/bind {person.address}").text
    text = said[said.index("\n") + 1 : said.index("\nDann schick")]
    assert f"Address: {person.address}" in text
    german.telegram.languages[TRADER] = "en"
    signature = "0x" + bytes(person.sign_message(encode_defunct(text=text)).signature).hex()
    assert "is yours" in german.ask(TRADER, f"/bind {person.address} {signature}").text
    assert Trader.objects.get().address == person.address
