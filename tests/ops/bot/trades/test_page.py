"""Binding by the page: whatever wallet signs, the answer is taken down once and judged by the bot, which says what comes next."""

import re
from html import unescape

import pytest
from django.test import Client
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from execution_app.models import Trader
from ops.bot.models import TelegramBinding, TelegramPage, TelegramUser
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import TRADER, VIEWER

LINK = re.compile(r"https://vanta\.invalid(/bind/[A-Za-z0-9_-]{32})(?![A-Za-z0-9_-])")


@pytest.fixture
def person() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


@pytest.fixture
def browser() -> Client:
    """Cookies count for nothing, so a browser without any is the same."""
    return Client(enforce_csrf_checks=True)


def link(chat: Chat, user: int = TRADER) -> str:
    found = LINK.search(chat.ask(user, "/bind").text)
    assert found is not None
    return found[1]


def text_on(browser: Client, path: str, address: str) -> str:
    """What the page shows for signing."""
    said = browser.get(path, {"address": address})
    assert said.status_code == 200
    shown = re.search(r'<textarea id="text"[^>]*>\n(.*?)</textarea>', said.content.decode(), re.DOTALL)
    assert shown is not None
    return unescape(shown[1])


def sign(person: LocalAccount, text: str) -> str:
    return "0x" + bytes(person.sign_message(encode_defunct(text=text)).signature).hex()


def hand_in(browser: Client, path: str, address: str, signature: str) -> tuple[int, str]:
    said = browser.post(path, {"address": address, "signature": signature})
    return said.status_code, unescape(said.content.decode())


def test_what_was_signed_there_comes_back_to_the_chat_with_the_next_step(
    told: Chat, person: LocalAccount, browser: Client
) -> None:
    path = link(told)
    said = browser.get(path)
    policy = said.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (said.headers["Cache-Control"], said.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    page = said.content.decode()
    assert re.findall(r"<script(?![^>]* src=)|<style| on[a-z]+=|https?://", page) == []
    text = text_on(browser, path, person.address.lower())
    for part in (f"Address: {person.address}", f"Telegram id: {TRADER}", "Chain id: 31337", "Nonce: "):
        assert part in text
    status, answer = hand_in(browser, path, person.address.lower(), sign(person, text))
    assert (status, "Telegram chat" in answer) == (200, True)
    told.bot.wait_for(lambda: any("is yours" in one.text for one in told.said(TRADER)))
    (news,) = [one.text for one in told.said(TRADER) if "is yours" in one.text]
    assert f"Bound: {person.address} is yours" in news
    assert f"manage.py wallet create {TRADER}" in news, "the next step"
    assert Trader.objects.get().address == person.address
    assert hand_in(browser, path, person.address, sign(person, text))[0] == 410, "good once"
    assert browser.get(path).status_code == 410
    assert "bound to you already" in told.ask(TRADER, "/bind").text
    assert not any("is yours" in one.text for one in told.said(VIEWER))


def test_what_is_no_proof_binds_nothing_and_says_so(
    told: Chat, person: LocalAccount, browser: Client
) -> None:
    path = link(told)
    other: LocalAccount = Account.create()
    text = text_on(browser, path, person.address)
    for address, signature in (("0x12", "0x00"), (person.address, "0xzz"), (person.address, "")):
        assert hand_in(browser, path, address, signature)[0] == 422
    assert hand_in(browser, path, person.address, sign(other, text))[0] == 200
    told.bot.wait_for(lambda: any("not of" in one.text for one in told.said(TRADER)))
    assert not Trader.objects.exists()
    assert not TelegramBinding.objects.filter(proved_at__isnull=False).exists()
    assert TelegramPage.objects.get().settled_at is not None


def test_a_link_is_for_one_person_and_for_minutes(told: Chat, person: LocalAccount, browser: Client) -> None:
    old = link(told)
    new = link(told)
    assert browser.get(old).status_code == 410, "a newer one takes its place"
    text = text_on(browser, new, person.address)
    TelegramPage.objects.update(expires_at="2026-01-01T00:00:00Z")
    assert browser.get(new).status_code == 410
    assert hand_in(browser, new, person.address, sign(person, text))[0] == 410
    for path in ("/bind/" + "A" * 32, "/bind/x", new + "A"):
        assert browser.get(path).status_code == 410
    assert browser.put(new).status_code == 405
    assert not Trader.objects.exists()


def test_whoever_may_no_more_is_bound_no_more(told: Chat, person: LocalAccount, browser: Client) -> None:
    path = link(told)
    text = text_on(browser, path, person.address)
    TelegramUser.objects.filter(tg_user_id=TRADER).update(role="viewer")
    assert hand_in(browser, path, person.address, sign(person, text))[0] == 200
    told.bot.wait_for(lambda: TelegramPage.objects.filter(settled_at__isnull=False).exists())
    assert not Trader.objects.exists()


def test_it_speaks_its_readers_language(told: Chat, browser: Client) -> None:
    told.ask(TRADER, "/language de")
    said = browser.get(link(told)).content.decode()
    assert '<html lang="de">' in said
    assert "Wallet dieses Browsers nehmen" in unescape(said)
    over = link(told)
    TelegramPage.objects.update(expires_at="2026-01-01T00:00:00Z")
    assert "Schreib dem Bot /bind" in unescape(browser.get(over).content.decode()), (
        "when its time is over, too"
    )
