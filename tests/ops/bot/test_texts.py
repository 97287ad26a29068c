"""Every text is in one place, in each language; nothing that people read is written elsewhere in the bot."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.states import (
    ENDED_BY_VENUE,
    Action,
    CapName,
    CapScope,
    IntentState,
    OrderType,
    Origin,
    PositionState,
    Reason,
    RestrictionKind,
    TriggerKind,
)
from ops.bot import counter, engine_words, opening, telling, words
from ops.bot.models import Event, Level, Role
from ops.bot.outbox import Job
from ops.bot.texts import ENGLISH, LANGUAGES
from ops.bot.trade_news import EVENTS
from ops.watch import health
from tests import real_parts
from tests.ops.bot.telegram_rules import check_text

BOT = real_parts.ROOT / "ops" / "bot"
OTHERS = sorted(set(LANGUAGES) - {ENGLISH})
# Names that are put together while the bot runs.
MADE_UP = re.compile(
    r"(EVENT|LEVEL|STEP|KIND|MODE|DELEGATE|REASON|RESTRICTION|LIFTED|ABOUT|PAGE|SIDE|QUESTION|LIMIT|DOES|TYPE|ENDED)_[A-Z_]+"
    r"|(STATE|ORIGIN|ROLE|SCOPE|CHECK|FINDING|FIELD|AUDIT|ENGINE)_[A-Z_]+|[A-Z_]+_IMPOSED"
)
SENTENCE = re.compile(r"<(b|i|a|code)\b|[A-Za-z]{2,}[,.:;!?]? [A-Za-z]{2,}")
# Logs, errors for whoever reads the code's own words, and what the heartbeat says to operators.
SPOKEN_ELSEWHERE = frozenset({"warning", "info", "error", "exception", "_say_once", "Closed", "debug"})
# And what the engine writes, which is translated there.
NOTES = {"idling.py", "refusals.py", "engine_words.py", "engine_details.py"}


NAMED: dict[str, set[str]] = {
    "LIMIT": {one.value for one in CapName},
    "STATE": {*IntentState, *PositionState, "accepted", "rejected"},
    "ORIGIN": {*Origin, *AuditOrigin},
    "ROLE": set(Role),
    "SCOPE": set(CapScope),
    "DOES": set(Action),
    "TYPE": {one.value for one in OrderType if one is not OrderType.MARKET},
    "RESTRICTION": set(RestrictionKind),
    "CHECK": set(health.CHECKS),
    "AUDIT": set(AuditAction),
    "ENGINE": set(engine_words.SENTENCES.values()),
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def modules() -> list[Path]:
    return [path for path in sorted(BOT.glob("*.py")) if path.name not in NOTES]


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_has_every_text(language: str) -> None:
    assert set(LANGUAGES[language]) == set(LANGUAGES[ENGLISH])
    differing = [
        name
        for name, text in LANGUAGES[ENGLISH].items()
        if placeholders(text) != placeholders(LANGUAGES[language][name])
    ]
    assert differing == []
    same = [name for name, text in LANGUAGES[language].items() if text == LANGUAGES[ENGLISH][name]]
    assert len(same) < len(LANGUAGES[ENGLISH]) / 5, "it is a translation"


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_text_is_html_as_telegram_takes_it(language: str) -> None:
    for text in LANGUAGES[language].values():
        check_text(f"{text.format_map(Sevens())}.", "HTML")


class Sevens(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "7"


def test_every_text_that_is_named_exists_and_is_used() -> None:
    source = "\n".join(path.read_text() for path in sorted(BOT.glob("**/*.py")) if "texts" not in path.parts)
    named = set(re.findall(r"\bwords\.([A-Z][A-Z_]+)\b", source)) - {
        "WELL",
        "ILL",
        "ENGLISH",
        "LANGUAGES",
        "MOST_WORD",
        "NAME",
    }
    assert named - set(LANGUAGES[ENGLISH]) == set()
    named |= set(re.findall(r"\btext\(\"([A-Z_]+)\"\)", (BOT / "words.py").read_text()))
    unused = {name for name in LANGUAGES[ENGLISH] if name not in named and not MADE_UP.fullmatch(name)}
    assert unused == set()


def test_names_that_are_put_together_exist() -> None:
    texts = LANGUAGES[ENGLISH]
    assert {f"EVENT_{event.name}" for event in Event} <= set(texts)
    assert {f"LEVEL_{level.name}" for level in Level} <= set(texts)
    assert {f"STEP_{state.name}" for state in EVENTS} <= set(texts)
    assert {f"REASON_{reason.name}" for reason in Reason} == {
        name for name in texts if name.startswith("REASON_")
    }
    assert {f"KIND_{kind.name}" for kind in TriggerKind} <= set(texts)
    assert {f"ENDED_{end.name}" for end in ENDED_BY_VENUE} <= set(texts)
    assert {f"ABOUT_{name.upper()}" for name in counter.COMMANDS} == {
        name for name in texts if name.startswith("ABOUT_")
    }
    assert {f"QUESTION_{step.name}" for step in opening.IN_ORDER} == {
        name for name in texts if name.startswith("QUESTION_")
    }
    for prefix, named in NAMED.items():
        assert {f"{prefix}_{name.upper()}" for name in named} == {
            name for name in texts if name.startswith(f"{prefix}_")
        }
    assert set(EVENTS) < set(IntentState)


def test_what_is_signed_is_the_same_in_every_language() -> None:
    """It is made anew when the signature comes, and its person may have chosen another language since."""
    assert len({texts["CHALLENGE"] for texts in LANGUAGES.values()}) == 1


def test_a_name_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(AttributeError, match="NO_SUCH_TEXT"):
        words.NO_SUCH_TEXT  # noqa: B018


@pytest.mark.parametrize(("language", "spoken"), [("de-AT", "de"), ("DE", "de"), ("fr", "en"), ("", "en")])
def test_the_language_of_a_telegram(language: str, spoken: str) -> None:
    with words.speaking(language):
        assert words.language() == spoken
        assert LANGUAGES[spoken]["NO_POSITIONS"] == words.NO_POSITIONS
    assert words.language() == ENGLISH


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module but docstrings, SQL, and what is said to logs and errors."""
    tree = ast.parse(path.read_text())
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                left_out.add(id(first.value))
        says = (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPOKEN_ELSEWHERE
        )
        # Telegram's own words are compared with, and what is raised is for whoever reads the log.
        if says or isinstance(node, ast.Raise | ast.Compare):
            left_out |= {id(inner) for inner in ast.walk(node)}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "execute":
            left_out |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.lineno, node.value


# Kept in rows for operators, written in the machine's English; syntax; SQL.
KNOWN = re.compile(
    r"\s*(SELECT|INSERT|WITH)\b|/[a-z]+ |told [a-z_ ]+|waiting: |said in Telegram|retry after |offset points|axes fraction|upper left|not made: |(confirmation of|conversation with) |\[?(EVENT|off|CODE|KEY|SYMBOL)[ |]"
)


def test_nothing_that_people_read_is_written_elsewhere() -> None:
    found = [
        f"{path.name}:{line}: {text}"
        for path in modules()
        for line, text in literals(path)
        if SENTENCE.search(text) and not KNOWN.match(text)
    ]
    # `words` makes the marks of values: a link, code, a title.
    assert [one for one in found if not one.startswith("words.py")] == []


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", "03:04:05 the venue gave it back\n"),
        ("order_lost", "03:04:05 the venue gave it back: "),
    ],
)
def test_a_step_says_why_only_where_there_is_a_reason(reason: str, said: str) -> None:
    step = {
        "event": "reverted",
        "at": "2026-01-02T03:04:05+00:00",
        "state": "venue_cancelled",
        "reason": reason,
    }
    about = {"symbol": "BTC-USD", "is_long": True, "intent_key": "sig:a:1"}
    job = Job(1, 1, False, "trade 1", about, [step], False, False, 0, ENGLISH)
    assert said in telling.text(job)
