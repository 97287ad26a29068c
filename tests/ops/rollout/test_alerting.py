"""What `preflight` says of the ways by which alerts reach people."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.rollout import alerting
from ops.rollout.findings import Finding
from tests.ops.alerts import ends
from tests.test_environment import DRY, REHEARSAL
from vanta.environment import read

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def receivers() -> Iterator[ends.Receivers]:
    with ends.Receivers() as running:
        yield running


def full(receivers: ends.Receivers) -> dict[str, str]:
    return {
        **DRY,
        "TELEGRAM_BOT_TOKEN": ends.TOKEN,
        "TELEGRAM_API_BASE": f"http://{receivers.address}",
        "ALERT_CHAT_ID": str(ends.PAGES),
        "ALERT_TICKET_CHAT_ID": str(ends.TICKETS),
        "ALERT_DEAD_MAN_URL": f"http://{receivers.address}/dead-man",
        "RUNBOOK_URL": "https://panel.invalid/admin/runbook/",
    }


Found = Callable[[dict[str, str]], dict[str, Finding]]


@pytest.fixture
def found(settings: Any) -> Found:
    def ask(environ: dict[str, str]) -> dict[str, Finding]:
        settings.ENVIRONMENT = read(environ)
        return {finding.name: finding for finding in alerting.examine()}

    return ask


def test_every_way_is_there_and_telegram_knows_both_chats(receivers: ends.Receivers, found: Found) -> None:
    told = found(full(receivers))
    assert {name: finding.status for name, finding in told.items()} == {
        "alerts": "ok",
        "chat ALERT_CHAT_ID": "ok",
        "chat ALERT_TICKET_CHAT_ID": "ok",
        "runbook": "ok",
    }


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("TELEGRAM_BOT_TOKEN", "not delivered: pages and tickets"),
        ("ALERT_CHAT_ID", "not delivered: pages"),
        ("ALERT_TICKET_CHAT_ID", "not delivered: tickets"),
        ("ALERT_DEAD_MAN_URL", "not delivered: the dead man's switch"),
    ],
)
def test_what_is_blank_is_a_warning_and_says_what_to_set(
    name: str, what: str, receivers: ends.Receivers, found: Found
) -> None:
    told = found(full(receivers) | {name: ""})
    assert told["alerts"] == Finding("alerts", "warn", what, f"set {name} (docs/monitoring.md)")
    assert f"chat {name}" not in told


def test_a_rehearsal_wakes_nobody(receivers: ends.Receivers, found: Found) -> None:
    (finding,) = found(DRY | REHEARSAL).values()
    assert finding.status == "ok"
    assert "pages and tickets, the dead man's switch" in finding.detail


def test_a_chat_that_the_bot_is_not_in_and_a_telegram_that_is_away_are_told_without_the_token(
    receivers: ends.Receivers,
    found: Found,
) -> None:
    stranger = found(full(receivers) | {"ALERT_CHAT_ID": "-100777"})
    assert (stranger["chat ALERT_CHAT_ID"].status, stranger["chat ALERT_CHAT_ID"].detail) == (
        "warn",
        "Telegram answers 400",
    )
    assert stranger["chat ALERT_TICKET_CHAT_ID"].status == "ok"
    away = found(full(receivers) | {"TELEGRAM_API_BASE": NOBODY})
    assert away["chat ALERT_CHAT_ID"].status == "warn"
    assert ends.TOKEN not in repr([stranger, away])


def test_alertmanager_is_asked_where_drills_will_look_for_it(receivers: ends.Receivers, found: Found) -> None:
    assert found(full(receivers) | {"ALERTMANAGER_URL": NOBODY})["alertmanager"].status == "warn"
    other = f"http://{receivers.address}"
    assert found(full(receivers) | {"ALERTMANAGER_URL": other})["alertmanager"].detail == "answers 404"


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8090/admin/runbook/"])
def test_a_runbook_that_opens_on_the_host_alone_is_a_warning(
    url: str, receivers: ends.Receivers, found: Found
) -> None:
    told = found(full(receivers) | {"RUNBOOK_URL": url})["runbook"]
    assert told.status == "warn"
    assert "RUNBOOK_URL" in told.step
