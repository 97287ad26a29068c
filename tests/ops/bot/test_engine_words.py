"""What the engine writes in English is said in the reader's language, and each of its sentences is known as it stands there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.bot import engine_words, words
from ops.bot.texts import LANGUAGES
from tests.real_parts import ROOT

# Whose refusals come to somebody who writes to the bot, with what of them cannot.
REFUSING = {
    "execution_app/engine/held.py": {"whoever approves has to be named"},
    "execution_app/gate/loosening.py": set(),
    "execution_app/gate/approval.py": set(),
    "execution_app/node/ownership.py": set(),
    "execution_app/desks/onchain.py": set(),
    "execution_app/desks/views.py": set(),
    "execution_app/book/protections.py": {
        "a protection needs a reason",
        "7 is no level",
        "a trailing stop is a percentage or a distance in USD, not both",
        "7 is crossed already7; send a CLOSE instead",  # put together of two
    },
}
# Whose looks /health and /wallet show.
LOOKING = {
    "ops/watch/health.py": {"the mode key is not believed"},
    "ops/watch/liveness.py": set(),
    "ops/watch/node.py": set(),
    "ops/rollout/wallet_check.py": set(),
    "execution_app/book/drift.py": set(),
    "execution_app/gate/look.py": set(),
    "execution_app/gate/modes.py": set(),
}
SAYING = frozenset({"Refused", "Retryable", "Check", "Finding"})
NAMES = {"trader", "key", "halt", "nonce", "gas", "usdc", "allowance", "delegation", "ok", "fail", "warn"}
# Of the key and the nonce, which only `manage.py wallet check` looks at.
INSIDE = {"_key", "_nonce"}


def spelt(node: ast.AST) -> str | None:
    """The sentence, with a number wherever it names something."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "7" for one in node.values)
    return None


def sentences(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    inside = {
        id(one)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in INSIDE
        for one in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SAYING:
            said = [*node.args, *(one.value for one in node.keywords if one.arg == "detail")]
        elif isinstance(node, ast.Return) and node.value is not None:
            said = [node.value]
        elif isinstance(node, ast.Assign):
            said = (
                [node.value]
                if getattr(node.targets[0], "id", "") in {"step", "detail", "reason", "approve", "delegate"}
                else []
            )
        else:
            continue
        for one in said:
            text = spelt(one)
            if text and " " in text and text not in NAMES:
                yield text


@pytest.mark.parametrize(("module", "left_out"), [*REFUSING.items(), *LOOKING.items()])
def test_every_sentence_of_the_engine_is_known(module: str, left_out: set[str]) -> None:
    found = set(sentences(ROOT / module))
    unknown = {one for one in found if not engine_words.is_known(one.rstrip())}
    assert unknown == left_out
    assert found - unknown or not found


@pytest.mark.parametrize(
    ("sentence", "english", "german"),
    [
        ("never seen", "never seen", "noch nie gesehen"),
        ("last seen working 222 s ago", "last seen working 222 s ago", "zuletzt bei der Arbeit gesehen vor 222 s"),
        ("BTC-USD never seen, SOL-USD 70 s old", "BTC-USD never seen, SOL-USD 70 s old", "BTC-USD noch nie gesehen, SOL-USD 70 s alt"),
        ("ETH-USD 70 s old and 3 more", "ETH-USD 70 s old, and 3 more", "ETH-USD 70 s alt, und 3 weitere"),
        ("2 mode_degraded for up to 20 s", "2: LIVE is not permitted right now, for up to 20 s", "2: LIVE ist gerade nicht erlaubt, seit bis zu 20 s"),
        ("endpoint 1: head is 40 s old", "endpoint 1: its newest block is 40 s old", "Endpunkt 1: sein neuester Block ist 40 s alt"),
        ("collateral_usdc is 5.000000, the venue has 1234.5; is_long is True, the venue has False",
         "collateral (USDC): 5 here, 1,234.5 at the venue; side: LONG here, SHORT at the venue",
         "Einsatz (USDC): hier 5, am Handelsplatz 1,234.5; Richtung: hier LONG, am Handelsplatz SHORT"),
        ("0.123456789 ETH, enough for about 7 orders", "0.123457 ETH, enough for about 7 orders", "0.123457 ETH, genug für etwa 7 Orders"),
        ("1000000.000000 USDC may be taken", "the venue may take 1,000,000.00 USDC", "der Handelsplatz darf 1,000,000.00 USDC nehmen"),
        ("sig:a:1 is not held: it is filled", "sig:a:1 is not held: filled", "sig:a:1 ist nicht angehalten: ausgeführt"),
        ("stop_loss is crossed already at 7; send a CLOSE instead",
         "the price is 7 and past this stop loss already. /close closes at once",
         "der Preis ist 7 und schon über diesen Stop-Loss hinaus. /close schließt sofort"),
        ("not halted", "ready", "bereit"),
        ("3 halted", "3 halted", "3 angehalten"),
        ("lasts 25510 days, longer than the 90 that are wise", "lasts 25,510 days; more than 90 are unwise", "gilt 25,510 Tage; mehr als 90 sind unklug"),
        ("redis: ConnectionError", "Redis: ConnectionError", "Redis: ConnectionError"),
        ("nobody <b>knows</b> this", "nobody &lt;b&gt;knows&lt;/b&gt; this", "nobody &lt;b&gt;knows&lt;/b&gt; this"),
    ],
)  # fmt: skip
def test_it_is_said_in_the_readers_language(sentence: str, english: str, german: str) -> None:
    for language, said in (("en", english), ("de", german)):
        with words.speaking(language):
            assert engine_words.said(sentence) == said


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_everything_it_names_is_said(language: str) -> None:
    """A text asks for nothing that its sentence does not tell, whatever stands there."""
    with words.speaking(language):
        for sentence in engine_words.SENTENCES:
            for value in ("7", "7.50"):
                filled = engine_words.NAME.sub(value, sentence.replace("{", r"\{").replace("}", r"\}"))
                assert engine_words.said(filled)
