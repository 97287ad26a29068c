"""Each command of the documents is one that this project has; what the documents ask the database is asked here."""

import re
import subprocess
import sys

import pytest
from django.db import connection

from tests.documents import commands, judges
from tests.documents.commands import ROOT, Command
from tests.documents.judges import Tag, judge

FOUND = commands.found()
QUESTION = re.compile(r"""psql "?\$DATABASE_URL"? (?:-At )?-c \\?(["'])(.+)\1$""")


def test_no_command_is_wrong_and_each_is_tagged() -> None:
    verdicts = {(command.document, command.text): judge(command) for command in FOUND}
    assert {place: one.by for place, one in verdicts.items() if one.is_wrong} == {}
    tags = [one.tag for one in verdicts.values()]
    assert len(FOUND) > 150
    for tag in Tag:
        assert tags.count(tag) > 10, tag


def test_the_documents_for_operators_have_commands() -> None:
    """A page whose commands are no longer found would be held against nothing."""
    silent = set(commands.DOCUMENTS) - {command.document for command in FOUND}
    assert silent <= {"docs/endpoints.md"}


def test_what_the_procedure_of_going_live_names_is_there() -> None:
    assert judges.missing(FOUND) == []


@pytest.mark.parametrize(
    "text",
    [
        "manage.py launch",
        "manage.py wallet destroy 123",
        "manage.py stop --harder",
        "docker compose logs nobody",
        "docker compose restart redis db webhok",
        "make coffee",
        "curl -fsS http://localhost:8090/helth",
        "promtool check rules ops/nothing.yml",
        "python -m tests.nothing",
        "curl 'http://localhost:8090/health",
    ],
)
def test_a_command_that_is_not_there_is_noticed(text: str) -> None:
    assert judge(Command("a document", text)).is_wrong


def test_a_verb_that_no_test_runs_is_validated_only() -> None:
    assert judge(Command("a document", "manage.py drill rpc-trouble")).tag is Tag.RUN
    assert judge(Command("a document", "manage.py collectstatic")).tag is Tag.VALIDATED
    assert judge(Command("a document", "docker compose pause redis")).tag is Tag.STAND_IN


def test_where_commands_are_found_in_a_page() -> None:
    page = "Say `manage.py stop\n  --reason x` and `EXEC_MODE`.\n\n```sh\nmake \\\n  run  # first\nA=1 curl x && psql y\n```\n"
    assert [command.text for command in commands.of(page, "a page")] == [
        "make run",
        "A=1 curl x",
        "psql y",
        "manage.py stop --reason x",
    ]


@pytest.mark.django_db
def test_every_question_to_the_database_is_answered() -> None:
    questions = [found[2] for command in FOUND if (found := QUESTION.search(command.text))]
    assert len(questions) >= 8
    with connection.cursor() as cursor:
        for asked in questions:
            question = re.sub(r"\bID\b", "1", asked)
            assert question.upper().startswith("SELECT"), question
            cursor.execute(question)


def test_the_reference_of_variables_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "configuration", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
