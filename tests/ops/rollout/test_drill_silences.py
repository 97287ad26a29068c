"""A drill silences what it must cause, and nothing else, in the real Alertmanager; and its silences end."""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from ops.rollout.drills.report import CannotRun, Report
from ops.rollout.drills.silences import EXPECTED, LONGEST_S, NOTICED_WITHIN_S, Silences
from ops.rollout.management.commands.drill import Command
from tests.ops.alerts import ends, faults, rulebook
from tests.ops.alerts.test_rules import NEVER
from tests.ops.alerts.watchtower import Watchtower

ALERTS = rulebook.alerts()
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watchtower]:
    with (
        ends.Exporter(faults.HEALTHY) as exporter,
        ends.Receivers() as receivers,
        Watchtower(tmp_path_factory.mktemp("silences"), exporter.address, receivers) as running,
    ):
        yield running


def silences(tower: Watchtower, state: str = "active") -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{tower.alertmanager_url}/api/v2/silences", timeout=60) as answer:
        return [one for one in json.load(answer) if one["status"]["state"] == state]


def ends_in_s(silence: dict[str, Any]) -> float:
    return (datetime.fromisoformat(silence["endsAt"]) - datetime.now(UTC)).total_seconds()


def names(silence: dict[str, Any]) -> set[str]:
    (matcher,) = silence["matchers"]
    pattern = re.compile(matcher["value"])
    return {name for name in ALERTS if pattern.fullmatch(name)}


def test_every_drill_says_what_it_expects() -> None:
    parser = Command().create_parser("manage.py", "drill")
    (drills,) = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    assert set(EXPECTED) == set(drills)


def test_only_alerts_of_the_file_are_silenced_and_never_those_of_what_must_not_happen() -> None:
    for drill, expected in EXPECTED.items():
        assert set(expected) <= set(ALERTS) - NEVER - {"VantaWatchdog"}, drill
        for name, fires_on_s in expected.items():
            windows = re.findall(r"\[(\d+)m\]", ALERTS[name].expr)
            kept_s = rulebook.seconds(ALERTS[name].as_written.get("keep_firing_for", "0s"))
            assert fires_on_s == max((60 * int(minutes) for minutes in windows), default=0) + kept_s, name


def test_a_drill_silences_its_alerts_and_lets_them_speak_afterwards(tower: Watchtower) -> None:
    said: list[str] = []
    report = Report("crash", {}, said.append)
    drill = Silences(tower.alertmanager_url, report)
    drill.begin()
    tower.fire({"alertname": "VantaWorkerSilent", "severity": "page"}, {"alertname": "VantaNonceLost"})
    tower.wait(
        lambda: tower.held_back("silencedBy") == {"VantaWorkerSilent"}, "the drill's alert is silenced"
    )
    assert set().union(*map(names, silences(tower))) == set(EXPECTED["crash"])
    assert all(LONGEST_S - 60 < ends_in_s(one) <= LONGEST_S for one in silences(tower))

    drill.end()
    left = {name: ends_in_s(one) for one in silences(tower) for name in names(one)}
    assert set(left) == set(EXPECTED["crash"])
    for name, fires_on_s in EXPECTED["crash"].items():
        wanted_s = fires_on_s + NOTICED_WITHIN_S
        assert wanted_s - 60 < left[name] <= wanted_s, name
    assert report.failures == []
    assert any("VantaRestarting ends in 1920 s" in line for line in said)


def test_without_a_url_or_an_expected_alert_nobody_is_asked() -> None:
    for drill, url in (("crash", ""), ("duplicate-signal", NOBODY)):
        report = Report(drill, {}, lambda _: None)
        with ExitStack() as undo:
            one = Silences(url, report)
            undo.callback(one.end)
            one.begin()
        assert report.entries == []


def test_a_drill_that_would_wake_somebody_does_not_run() -> None:
    with pytest.raises(CannotRun, match="would wake somebody"):
        Silences(NOBODY, Report("crash", {}, lambda _: None)).begin()


def test_a_silence_that_cannot_be_ended_is_a_failure_of_the_drill(tower: Watchtower) -> None:
    report = Report("redis-outage", {}, lambda _: None)
    drill = Silences(tower.alertmanager_url, report)
    drill.begin()
    drill.url = NOBODY
    drill.end()
    assert report.failures
    assert "it ends by itself at" in report.failures[0].evidence
    drill.url = tower.alertmanager_url
