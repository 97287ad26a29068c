"""What the engine writes in English is said in the reader's language, and each of its sentences is known as it stands there."""

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from execution_app.gate import caps
from execution_app.gate.caps import Limit, Order
from execution_app.states import CapName, CapScope
from ops.bot import engine_words, words
from ops.bot.texts import LANGUAGES
from signals_app import decisions
from tests.real_parts import ROOT

# Whose refusals come to somebody who writes to the bot, with what of them cannot.
REFUSING = {
    "execution_app/engine/held.py": {"whoever approves has to be named"},
    "execution_app/gate/loosening.py": set(),
    "execution_app/gate/approval.py": set(),
    "execution_app/node/ownership.py": set(),
    "execution_app/desks/onchain.py": set(),
    "execution_app/desks/views.py": set(),
    "execution_app/engine/resting.py": {"7: 7"},  # put together of two
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


# Who writes down why an order waits or ended, with what of it is no sentence by itself, or in free words.
WRITING: dict[str, set[str]] = {
    "execution_app/gate/admission.py": set(),
    "execution_app/gate/caps.py": {"7 77 is above 7", "7 (77; 7, 7)", "7, above 7", "7, the cap is 7"},
    "execution_app/gate/restore_points.py": {
        "ts 7 is not later than that by 7 s: 7",
        "it was received at 7: 7",
        "it has no ts, and no person had accepted such signals: 7",
    },
    # Whole it is "max lag passed at …; waited for: …", which is known.
    "execution_app/engine/waiting.py": {"max lag passed at 7", "7; waited for: 7"},
    "execution_app/engine/placing.py": {"base fee 7 wei is too near to 7"},
    "execution_app/engine/plans.py": set(),
    "execution_app/engine/permissions.py": set(),
    "execution_app/engine/reserve.py": set(),
    "execution_app/engine/order_changes.py": set(),
    "execution_app/engine/margin_changes.py": {
        "it is 7",
        "a close of it is under way",
    },  # to an operator's wish
    "execution_app/engine/drafts.py": set(),
    "execution_app/engine/level_changes.py": set(),
    # What speaks against an operator's wish, and comes to their command.
    "execution_app/engine/lost_orders.py": {
        "the venue holds trade 7 on 7, which the book does not know",
        "the venue counts 7 trades on 7, more than 7 slots show",
    },
    "execution_app/engine/gateway/following.py": {"message 7 in block 7"},  # of a move, not of its reason
    "execution_app/engine/increases.py": set(),
    "execution_app/book/prices.py": {"it was not asked", "7: 7"},  # why nobody says it, in the engine's words
    "execution_app/book/deviation.py": set(),
    "execution_app/book/market_hours.py": {
        *("the market of 7 closed at 77", "the market of 7 is closed7"),
        *(" until 7", "; the venue does not say when it opens"),
    },
    "execution_app/book/positions.py": set(),
    "execution_app/book/margins.py": set(),
    "execution_app/venues/costs.py": {"not the bytes of costs: 7"},  # of the chain's answer
    "execution_app/venues/interface.py": set(),
    "execution_app/venues/scales.py": {"7 must be a finite Decimal, not 7"},  # a slip of ours
    "signals_app/of_positions.py": set(),
    "signals_app/decisions.py": {"7 come with an open; `manage.py protection set` changes a position's"},
}
AT = "2026-11-28T10:00:00+00:00"
GIVEN = Order(123, "drill", "BTC-USD", Decimal(20), Decimal(80))
# Those that are put together of several, as they come out.
PUT_TOGETHER = [
    *(f"max lag passed at {AT}; waited for: {what}" for what in ("its turn", "wallet_halted", "mode_degraded health streak 1")),
    *(f"{what}: the database was restored at {AT}" for what in (f"ts {AT} is not later than that by 5 s", f"it was received at {AT}",
      "it has no ts, and no person had accepted such signals")),
    *(f"the market of BTC-USD closed at 2026-11-27 21:00 UTC{until}" for until in (" until 2026-11-29 21:00 UTC", "; the venue does not say when it opens")),
    *(f"the market of BTC-USD is closed{until}" for until in (" until 2026-11-29 21:00 UTC", "; the venue does not say when it opens")),
    "base fee 7 wei is too near to MAX_FEE_PER_GAS_GWEI",
    "base fee 7 wei is too near to 9 wei, its own ceiling",
    f"{', '.join(decisions.LEVELS)} come with an open; `manage.py protection set` changes a position's",
    "a database that is gone may have executed it; ask for it again once that is known: looked into it",
    "; ".join(
        breach.detail
        for breach in caps.order_breaches(
            GIVEN,
            [
                Limit(CapName.NOTIONAL, Decimal(10)),
                Limit(CapName.LEVERAGE, Decimal(75), CapScope.SOURCE, "drill", "cap 3"),
                Limit(CapName.BANNED, Decimal(0), CapScope.SYMBOL, "BTC-USD", "cap 4"),
            ],
            frozenset({"ETH-USD", "SOL-USD"}),
        )
    ),
    *(breach.detail for breach in caps.order_breaches(GIVEN, [], frozenset())),
    *(
        breach.detail
        for name in caps.SUMMED
        for asked in (Decimal(0), Decimal(5))
        if (breach := caps.breach(Limit(name, Decimal(1)), Decimal(2), asked))
    ),
]  # fmt: skip


@pytest.mark.parametrize("detail", PUT_TOGETHER)
def test_what_is_put_together_is_known(detail: str) -> None:
    assert engine_words.knows(detail)
    for language in LANGUAGES:
        with words.speaking(language):
            said = engine_words.detail(detail)
            assert not re.search(r"[a-z]+_[a-z]+", said), said
    assert said != detail, "German is not the engine's language"


WRITES = {
    "hold",
    "note",
    "end_empty",
    "end_closed_elsewhere",
    "Plan",
    "Admission",
    "Objection",
    "Breach",
    "Problem",
    "ValueError",
}


def strings(node: ast.AST | None) -> Iterator[str]:
    """Each sentence that this may come to."""
    if isinstance(node, ast.IfExp):
        yield from (*strings(node.body), *strings(node.orelse))
    elif isinstance(node, ast.Tuple):
        yield from (one for inner in node.elts for one in strings(inner))
    elif node is not None and (text := spelt(node)) and " " in text.strip():
        yield text


def written(path: Path) -> Iterator[str]:
    """What goes into `reason_detail`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in WRITES or name == "__init__":
                for one in [*node.args, *(word.value for word in node.keywords if word.arg == "detail")]:
                    yield from strings(one)
        elif isinstance(node, ast.Return) or (
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {"detail", "why"}
        ):
            yield from strings(node.value)


@pytest.mark.parametrize(("module", "left_out"), WRITING.items())
def test_every_detail_of_an_order_is_known(module: str, left_out: set[str]) -> None:
    found = set(written(ROOT / module))
    assert found, "nothing is written there any more"
    assert {one for one in found if not engine_words.knows(one)} == left_out


@pytest.mark.parametrize(
    ("sentence", "english", "german"),
    [
        ("never seen", "never seen", "noch nie gesehen"),
        ("last seen working 1133 s ago", "last seen working 18 min ago", "zuletzt bei der Arbeit gesehen vor 18 min"),
        ("head is 42.5 s old", "its newest block is 42.5 s old", "sein neuester Block ist 42.5 s alt"),
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
