"""Every text that the bot says, by language: the same names everywhere, with the same placeholders (a test compares)."""

from collections.abc import Mapping
from types import ModuleType

from ops.bot.texts import (
    english,
    english_details,
    english_engine,
    english_notices,
    english_trading,
    german,
    german_details,
    german_engine,
    german_notices,
    german_trading,
)

ENGLISH = "en"


def _texts(*modules: ModuleType) -> Mapping[str, str]:
    return {name: text for module in modules for name, text in vars(module).items() if name.isupper()}


LANGUAGES: Mapping[str, Mapping[str, str]] = {
    ENGLISH: _texts(english, english_trading, english_notices, english_engine, english_details),
    "de": _texts(german, german_trading, german_notices, german_engine, german_details),
}
