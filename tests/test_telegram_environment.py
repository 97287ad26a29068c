"""What the bot's variables must say, alone and together."""

import pytest

from tests.test_environment import LIVE, refusal
from vanta.environment import read


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TELEGRAM_WEBHOOK_URL", "vanta.invalid", "http"),
        ("TELEGRAM_WEBHOOK_URL", "http://vanta.invalid/telegram", "posts to https only"),
        ("TELEGRAM_WEBHOOK_SECRET", "", "TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_SECRET"),
        ("TELEGRAM_WEBHOOK_SECRET", "a" * 31, "32 to 256 of"),
        ("TELEGRAM_WEBHOOK_SECRET", "a" * 31 + ".", "32 to 256 of"),
        ("TELEGRAM_WEBHOOK_PORT", "0", "greater than or equal to 1"),
        ("TELEGRAM_PAGES_URL", "vanta.invalid", "http"),
        ("TELEGRAM_PAGES_URL", "http://vanta.invalid", "pages by https"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, words: str) -> None:
    message = refusal(LIVE | {name: value})
    assert name in message
    assert words in message


def test_without_an_address_updates_are_polled_and_there_is_no_page() -> None:
    environment = read({name: value for name, value in LIVE.items() if not name.startswith("TELEGRAM")})
    assert (environment.telegram_webhook_url, environment.telegram_pages_url) == ("", "")
