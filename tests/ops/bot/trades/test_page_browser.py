"""The page of /bind in a real browser: signed by the wallet that is in it, and by hand; nothing on it is refused by its policy."""

import re

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from execution_app.node import ownership
from ops.bot import binding, binding_pages
from ops.bot.models import TelegramPage
from tests.browser import DESKTOP, PHONE, Browser
from tests.ops.bot.trades.wallets import wallet_in

TOKEN = "A" * 32
PATH = f"/bind/{TOKEN}"


@pytest.fixture
def page(database: None) -> TelegramPage:
    row = TelegramPage.objects.create(
        token_sha256=binding_pages.hashed(TOKEN),
        tg_user_id=123,
        language="en",
        nonce="ab" * 16,
        domain="vanta.invalid",
        chain_id=31337,
        expires_at="2999-01-01T00:00:00Z",
    )
    row.refresh_from_db()
    return row


def is_proof(page: TelegramPage, address: str) -> bool:
    page.refresh_from_db()
    assert page.address == address
    ownership.require(address, binding.text_of(page), binding.read_signature(page.signature))
    return page.answered_at is not None


@pytest.mark.timeout(120)
def test_the_browsers_wallet_signs_the_text_letter_for_letter(page: TelegramPage, window: Browser) -> None:
    person = Account.create()
    with wallet_in(window):
        window.size(PHONE)
        window.open(PATH)
        assert window.judge() == []
        window.driver.execute_script(f"window.__accounts = ['{person.address.lower()}']")
        window.click("#connect")
        window.find("#sign")
        assert (window.judge(), window.overflow_px()) == ([], 0)
        window.click("#sign")
        window.wait_for_text("#problem", "shows another account")
        window.driver.execute_script(f"window.__accounts = ['{person.address.lower()}']")
        window.click("#sign")
        window.wait(lambda one: one.execute_script("return window.__asked"))
        window.driver.execute_script("window.__refuse({ message: 'denied <b>by</b> its person' })")
        window.wait_for_text("#problem", "denied <b>by</b> its person")
        window.driver.execute_script("window.__asked = null")
        window.click("#sign")
        asked = window.wait(lambda one: one.execute_script("return window.__asked"))
        assert (asked["method"], asked["params"][1]) == ("personal_sign", person.address)
        text = bytes.fromhex(asked["params"][0].removeprefix("0x"))
        assert text.decode() == binding.text_of(page, person.address)
        signature = bytes(person.sign_message(encode_defunct(text)).signature).hex()
        window.driver.execute_script(f"window.__answer('0x{signature}')")
        window.find("#done")
    assert is_proof(page, person.address)
    assert window.complaints() == []


@pytest.mark.timeout(120)
def test_without_a_wallet_the_text_is_signed_elsewhere(page: TelegramPage, window: Browser) -> None:
    person = Account.create()
    window.size(DESKTOP)
    window.open(PATH)
    assert not window.find("#connect").is_displayed()
    window.find("#address").send_keys(person.address)
    window.click("form button")
    text = window.find("#text").get_property("value")
    assert not window.find("#sign").is_displayed()
    signature = bytes(person.sign_message(encode_defunct(text=text)).signature).hex()
    window.find("#signature").send_keys(f"0x{signature}")
    window.click("#answer button")
    window.find("#done")
    assert is_proof(page, person.address)
    window.open(PATH)
    window.wait_for_text("#problem", "used already")
    assert all(re.search(r"\b410\b", one) for one in window.complaints()), "nothing but that the link is over"
