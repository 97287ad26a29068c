"""The bot's process: it waits, says why once and in its heartbeat, and ends when it is asked to."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from execution_app.models import Heartbeat
from ops.bot import idling, process
from ops.rehearsal.parts.process import Child, Command
from ops.rollout import heartbeat
from tests import real_parts

Begin = Callable[..., Child]


@pytest.fixture
def begin(database: None, tmp_path: Path) -> Iterator[Begin]:
    begun: list[Child] = []

    def start(**env: str) -> Child:
        command = Command(
            (sys.executable, "manage.py", "bot"), cwd=real_parts.ROOT, env={**os.environ, **env}
        )
        begun.append(Child(command, tmp_path / "bot.log"))
        return begun[-1]

    yield start
    for child in begun:
        child.stop(5)


def wait_for(what: Callable[[], bool], child: Child, log: Path) -> None:
    deadline_s = time.monotonic() + 60
    while not what():
        assert child.is_alive, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "waiting: TELEGRAM_BOT_TOKEN is blank"),
        ("no-token-of-a-bot", "waiting: TELEGRAM_BOT_TOKEN is no token of a bot"),
    ],
)
def test_it_waits_and_says_why(token: str, words: str, begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "bot.log"
    child = begin(TELEGRAM_BOT_TOKEN=token)
    beats = Heartbeat.objects.filter(component="bot")
    wait_for(beats.exists, child, log)
    first = beats.get()
    wait_for(lambda: beats.get().at > first.at, child, log)
    second = beats.get()
    assert words in second.note
    assert (second.pid, second.started_at) == (child.pid, first.started_at)
    assert heartbeat.problem(real_parts.postgres.url, "bot") == ""
    child.signal(signal.SIGTERM)
    assert child.wait(60)
    assert child.exit_code == 0
    assert log.read_text().count(words) == 1
    assert not token or token not in log.read_text()


def test_a_database_that_is_away_is_waited_for(begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "bot.log"
    child = begin(DATABASE_URL="postgresql://vanta:pw@127.0.0.1:1/vanta")
    wait_for(lambda: "the database is away" in log.read_text(), child, log)
    child.signal(signal.SIGINT)
    assert child.wait(60)
    assert child.exit_code == 0
    assert not Heartbeat.objects.exists()


def test_why_fits_into_a_heartbeat() -> None:
    longest = max(map(len, (idling.BLANK, idling.MALFORMED, process.STARTING, process.DATABASE_AWAY)))
    assert longest <= (Heartbeat._meta.get_field("note").max_length or 0)
