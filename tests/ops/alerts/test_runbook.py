"""The page for 3 a.m.: a section for each alert, and nothing in it that this project does not have."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.db import connection

from ops.watch import health
from tests import promises
from tests.ops.alerts import rulebook
from tests.real_parts import ROOT

DOCS = ROOT / "docs"
PAGE = DOCS / "production-runbook.md"
TEMPLATE = ROOT / "config" / "env.prod.canary.template"
PARTS = ("**Meaning.**", "**Look**", "**Do**", "**Verify**")
# Of the shell that reads the page, not of the template.
OF_STACK_ENV = {"WEBHOOK_URL"}


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts}


SECTIONS = sections()


def test_every_alert_has_its_section_and_no_section_is_without_one() -> None:
    assert list(SECTIONS) == list(rulebook.alerts())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_all_four_things(name: str) -> None:
    at = [SECTIONS[name].find(part) for part in PARTS]
    assert -1 not in at
    assert at == sorted(at)


def commands() -> Iterator[tuple[str, list[str]]]:
    for line in re.findall(r"manage\.py ([^`]+)`", PAGE.read_text(encoding="utf-8")):
        words = line.split()
        yield words[0], words[1:]


def test_every_command_of_the_page_is_there() -> None:
    found = list(commands())
    assert len(found) > 40
    for name, words in found:
        assert name in get_commands(), name
        parser = load_command_class("ops.rollout" if name != "audit" else "ops.audit", name).create_parser(
            "manage.py", name
        )
        options = set(parser._option_string_actions)
        verbs: dict[str, object] = {}
        for action in parser._actions:
            if isinstance(action.choices, dict):
                verbs = dict(action.choices)
            elif action.choices and not action.option_strings:
                verbs = dict.fromkeys(str(choice) for choice in action.choices)
        if verbs and words and not words[0].startswith("-"):
            assert words[0] in verbs, f"{name} {words[0]}"
            options |= set(getattr(verbs[words[0]], "_option_string_actions", {}))
        assert {word for word in words if word.startswith("--")} <= options, (name, words)


@pytest.mark.django_db
def test_every_question_to_the_database_is_one() -> None:
    questions = re.findall(r'psql \$DATABASE_URL -c \\?["\'](.+?)\\?["\']`', PAGE.read_text(encoding="utf-8"))
    assert len(questions) >= 8
    with connection.cursor() as cursor:
        for question in questions:
            cursor.execute("EXPLAIN " + question.replace(" ID ", " 1 "))


def test_what_the_page_wants_of_health_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"`/health` shows `(\w+)` ok|`checks\.(\w+)`", text)
    assert len(named) > 4
    assert {one or two for one, two in named} <= set(health.CHECKS)


def test_metrics_variables_pages_and_places_of_the_page_are_known() -> None:
    text = PAGE.read_text(encoding="utf-8")
    known = set(promises.documented())
    named = set(re.findall(r"\bvanta_[a-z_]+", text))
    assert named - {"vanta_intents", *known} == set()
    variables = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)`|\$([A-Z][A-Z0-9_]+)", text))
    template = TEMPLATE.read_text(encoding="utf-8")
    for variable in {one or two for one, two in variables} - OF_STACK_ENV:
        assert re.search(rf"^#? ?{variable}=", template, re.MULTILINE), variable
    for page, place in re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", text):
        whole = (DOCS / page if page else PAGE).read_text(encoding="utf-8")
        titles = {
            re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
            for title in re.findall(r"^#+ (.+)$", whole, re.MULTILINE)
        }
        assert place in titles, f"{page}#{place}"
    for page in re.findall(r"\]\(([\w.-]+\.md)", text):
        assert (DOCS / page).exists(), page
    assert Path(ROOT / "ops" / "production-alerts.rules.yml").exists()
