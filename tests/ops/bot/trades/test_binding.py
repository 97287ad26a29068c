"""Binding an address by a signature, and the wallet's way to trading: what is shown, refused, used up and ended."""

from datetime import UTC, datetime

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from execution_app.models import AuditEntry, Trader, Wallet
from execution_app.moves import move, open_intent
from execution_app.states import IntentState
from ops.bot.models import TelegramBinding
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.trades.steps import OPEN, quote
from tests.rig import Rig


@pytest.fixture
def person() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def challenge(chat: Chat, address: str, user: int = TRADER) -> str:
    """The text that is to be signed, as a person would copy it."""
    said = chat.ask(user, f"/bind {address}").text
    begin = said.index("localhost asks you") if "localhost asks" in said else said.index("testserver")
    return said[begin : said.index("\nThen send")]


def sign(person: LocalAccount, text: str) -> str:
    return "0x" + bytes(person.sign_message(encode_defunct(text=text)).signature).hex()


def test_a_signature_binds_the_address_and_makes_the_trader(chat: Chat, person: LocalAccount) -> None:
    assert "No address is bound" in chat.ask(TRADER, "/bind").text
    assert "no trader" in chat.ask(TRADER, "/wallet").text
    text = challenge(chat, person.address.lower())
    for part in (
        f"Address: {person.address}",
        f"Telegram id: {TRADER}",
        "Chain id: 31337",
        "Nonce: ",
        "Expires: 20",
    ):
        assert part in text
    said = chat.ask(TRADER, f"/bind {person.address} {sign(person, text)}").text
    assert f"Bound: {person.address} is yours" in said
    trader = Trader.objects.get()
    assert (trader.tg_user_id, trader.address, trader.enabled) == (TRADER, person.address, True)
    assert [one.action for one in AuditEntry.objects.order_by("seq")] == ["trader_added", "telegram_bound"]
    assert f"manage.py wallet create {TRADER}" in chat.ask(TRADER, "/wallet").text
    assert "is yours" in chat.ask(TRADER, f"/bind {person.address} {sign(person, text)}").text
    assert TelegramBinding.objects.count() == 1


def test_what_is_no_proof_binds_nothing(chat: Chat, person: LocalAccount) -> None:
    other: LocalAccount = Account.create()
    address = person.address
    assert "no challenge" in chat.ask(TRADER, f"/bind {address} {sign(person, 'x')}").text
    text = challenge(chat, address)
    forged = text.replace(f"id: {TRADER}", f"id: {OPERATOR}")
    for signature in (sign(other, text), sign(person, text + " "), sign(person, forged), "0x" + "00" * 65):
        assert "not of" in chat.ask(TRADER, f"/bind {address} {signature}").text
    for word in ("0x", "0xzz", "signature", sign(person, text)[2:]):
        assert "A signature is" in chat.ask(TRADER, f"/bind {address} {word}").text
    assert "no challenge" in chat.ask(OPERATOR, f"/bind {address} {sign(person, text)}").text, (
        "another person"
    )
    assert "no challenge" in chat.ask(TRADER, f"/bind {other.address} {sign(other, text)}").text
    assert "Only a trader may do that" in chat.ask(VIEWER, f"/bind {address}").text
    mistyped = "0x" + "".join(one.swapcase() for one in address[2:])
    assert "wrong checksum" in chat.ask(TRADER, f"/bind {mistyped}").text
    assert "40 hex digits" in chat.ask(TRADER, "/bind 0x1234").text
    newer = challenge(chat, address)
    assert "not of" in chat.ask(TRADER, f"/bind {address} {sign(person, text)}").text, "an older text"
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    TelegramBinding.objects.update(expires_at=moment)
    assert "its time is over" in chat.ask(TRADER, f"/bind {address} {sign(person, newer)}").text
    assert not Trader.objects.exists()
    assert not TelegramBinding.objects.filter(proved_at__isnull=False).exists()


def test_an_address_is_one_persons_and_a_person_has_one(chat: Chat, rig: Rig, person: LocalAccount) -> None:
    """A trader whom an operator added keeps their address; what they hold is bound to it."""
    assert "that does not change" in chat.ask(TRADER, f"/bind {person.address}").text
    assert "another person" in chat.ask(OPERATOR, f"/bind {rig.trader.address}").text
    text = challenge(chat, person.address, OPERATOR)
    Trader.objects.create(tg_user_id=9, address=person.address)  # meanwhile
    assert "another person" in chat.ask(OPERATOR, f"/bind {person.address} {sign(person, text)}").text
    assert not TelegramBinding.objects.filter(proved_at__isnull=False).exists()
    assert Trader.objects.count() == 2


def test_unbound_is_disabled_until_an_operator_says_otherwise(chat: Chat, person: LocalAccount) -> None:
    assert "No address is bound" in chat.ask(TRADER, "/unbind").text
    bind(chat, person)
    trader = Trader.objects.get()
    waiting, _ = open_intent(
        key="sig:test:1", by="test", trader=trader, tg_user_id=TRADER, action="close", symbol="BTC-USD", slippage_pct=1
    )  # fmt: skip
    assert "1 order(s) under way" in chat.ask(TRADER, "/unbind").text
    move(waiting, IntentState.REJECTED, why="test", by="test")
    assert "Unbound" in chat.ask(TRADER, "/unbind").text
    assert not Trader.objects.get().enabled
    assert "your trader is disabled" in chat.ask(TRADER, OPEN).text
    said = bind(chat, person)
    assert "manage.py trader enable" in said
    assert not Trader.objects.get().enabled, "nobody lets themselves trade again"
    assert AuditEntry.objects.filter(action="telegram_unbound").count() == 1


def bind(chat: Chat, person: LocalAccount) -> str:
    text = challenge(chat, person.address)
    said = chat.ask(TRADER, f"/bind {person.address} {sign(person, text)}").text
    assert "Bound: " in said
    return said


def test_the_wallet_tells_the_next_step(chat: Chat, rig: Rig) -> None:
    told = chat.ask(TRADER, "/wallet").text
    assert rig.trader.address in told
    assert rig.wallet.address in told
    for part in ("allowance: ", "delegation: ", "gas: ", "USDC: ", "not proved by you"):
        assert part in told
    money = chat.ask(TRADER, "/balance").text
    assert "USDC at your address: 1,000,000.00 USDC" in money
    assert "At stake, notional: 0.00 USDC" in money
    theirs = Trader.objects.create(tg_user_id=OPERATOR, address="0x" + "12" * 20)
    Wallet.objects.create(trader=theirs, chain_id=31337, address="0x" + "ab" * 20)
    told = chat.ask(OPERATOR, "/wallet").text
    assert "your delegate at the venue is 0x0000" in told
    assert "Next: send " in told, "the earliest step first"
    said = quote(chat, OPEN, OPERATOR)
    assert "our wallet may not trade for you. /wallet" in said.text
    assert said.buttons == {}
