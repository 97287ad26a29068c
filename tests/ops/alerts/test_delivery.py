"""Each alert of the rule file fires in the real Prometheus and arrives once, at the right chat, through the real Alertmanager."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import pytest

from tests.lost_time import meter
from tests.ops.alerts import ends, faults, rulebook
from tests.ops.alerts.test_dashboards import EXPRESSIONS, OF_OTHERS
from tests.ops.alerts.test_rules import FIRES_WHEN_ABSENT
from tests.ops.alerts.watchtower import RUNBOOK, Watchtower

pytestmark = pytest.mark.timeout(600)
ALERTS = rulebook.alerts()
ALONE = {
    "VantaWatchdog",
    "VantaAlertsUndelivered",
    "VantaMetricsSilent",
    "VantaMetricsIncomplete",
    "VantaDatabaseAway",
}
OTHERS = re.compile(rf"\b({'|'.join(sorted(OF_OTHERS))})\b")
# Further pings of the dead man's switch, each a whole round of everything that could have been sent.
ROUNDS = 8
TRIES = 6


@dataclass
class Scene:
    exporter: ends.Exporter
    receivers: ends.Receivers
    tower: Watchtower

    def anew(self) -> None:
        """All is well, and whatever was told before is forgotten."""
        self.exporter.answers, self.receivers.dead_man_status = True, 200
        self.exporter.now({})
        self.tower.end(*self.tower.made())
        self.tower.wait(lambda: self.tower.firing() == {"VantaWatchdog"}, "all is well again")
        self.tower.wait(lambda: not self.tower.held_back(), "and nothing is kept quiet")
        for _ in range(2):
            self.rounds()
        self.receivers.forget()

    def rounds(self) -> None:
        """Enough time for whatever is on its way to arrive, by what arrives all the time."""
        wanted = len(self.receivers.pings) + ROUNDS
        self.tower.wait(lambda: len(self.receivers.pings) >= wanted, "the dead man's switch goes on")


def undisturbed(test: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Half a second stands for a minute here: a machine that stands still for longer is what these alerts are for."""

    @wraps(test)
    def again(scene: Scene) -> None:
        for left in reversed(range(TRIES)):
            lost, begun_s = meter(), time.monotonic()
            try:
                return test(scene)
            except AssertionError:
                if not (left and lost.since(begun_s)):
                    raise
                scene.anew()
        return None

    return again


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("watchtower")
    with (
        ends.Exporter(faults.HEALTHY) as exporter,
        ends.Receivers() as receivers,
        Watchtower(folder, exporter.address, receivers) as tower,
    ):
        yield Scene(exporter, receivers, tower)


def chat_of(name: str, *, live: bool = True) -> int:
    by_mode = "page" if live else "ticket"
    return {"page": ends.PAGES, "ticket": ends.TICKETS}[ALERTS[name].labels.get("severity", by_mode)]


def test_there_is_a_fault_for_every_alert() -> None:
    assert set(faults.AT_ONCE) | ALONE == set(ALERTS)
    assert not set(faults.AT_ONCE) & ALONE
    for name, fault in faults.AT_ONCE.items():
        assert {rulebook.metrics(series).pop() for series in fault} <= rulebook.metrics(ALERTS[name].expr)
        assert set(fault) <= set(faults.HEALTHY), f"{name}: nothing shows that it was well before"


@undisturbed
def test_every_alert_arrives_once_and_is_taken_back_once(scene: Scene) -> None:
    exporter, receivers, tower = scene.exporter, scene.receivers, scene.tower
    scene.rounds()
    assert receivers.messages == [], "a healthy stack wakes somebody"
    assert tower.firing() == {"VantaWatchdog"}
    assert {alert["labels"]["alertname"] for ping in receivers.pings for alert in ping["alerts"]} == {
        "VantaWatchdog"
    }

    exporter.now({series: value for fault in faults.AT_ONCE.values() for series, value in fault.items()})
    everything = Counter(dict.fromkeys(faults.AT_ONCE, 1))
    tower.wait(lambda: set(ends.names(receivers.messages)) >= set(everything), "every alert arrives")
    scene.rounds()
    assert ends.names(receivers.messages) == everything
    for message in receivers.messages:
        (name,) = message.firing
        assert message.chat_id == chat_of(name), name
        assert message.silent is (message.chat_id == ends.TICKETS), name
        assert f"Read on: {RUNBOOK}#{name.lower()}\n" in message.text
        assert message.text.startswith("[test] ")

    exporter.now({})
    tower.wait(lambda: set(ends.ended(receivers.messages)) >= set(everything), "every alert is taken back")
    scene.rounds()
    assert ends.names(receivers.messages) == everything, "one came again while it was healing"
    assert ends.ended(receivers.messages) == everything
    assert receivers.refused == []


@undisturbed
def test_what_is_missing_from_metrics_is_named(scene: Scene) -> None:
    before = len(scene.receivers.messages)
    scene.exporter.now(faults.INCOMPLETE)
    scene.tower.wait(lambda: len(scene.receivers.messages) > before, "the family is missed")
    (message,) = scene.receivers.messages[before:]
    assert set(message.firing) == {"VantaMetricsIncomplete"}
    assert "vanta_wallets_halted" in message.text
    assert message.chat_id == ends.PAGES
    scene.exporter.now({})
    scene.tower.wait(lambda: len(scene.receivers.messages) > before + 1, "and is back")
    assert set(scene.receivers.messages[-1].resolved) == {"VantaMetricsIncomplete"}


@undisturbed
def test_a_part_that_is_away_is_one_message_and_a_ticket_in_dry(scene: Scene) -> None:
    """The database takes heartbeats and prices with it, and /metrics everything: what that hides stays quiet."""
    exporter, receivers, tower = scene.exporter, scene.receivers, scene.tower
    exporter.now(faults.DRY)
    tower.wait(lambda: tower.query('vanta:severity{severity="ticket"}') != [], "DRY is known")
    before = len(receivers.messages)

    exporter.now(faults.DRY | faults.DATABASE_AWAY)
    hidden = FIRES_WHEN_ABSENT - ALONE - {"VantaRedisAway", "VantaBotSilent", "VantaBackupOld"}
    tower.wait(lambda: tower.held_back() >= hidden, "heartbeats are hidden")
    tower.wait(lambda: len(receivers.messages) > before, "the database is the alert")
    scene.rounds()
    assert tower.firing() >= hidden, "nothing was there to be hidden"
    assert ends.names(receivers.messages[before:]) == Counter(VantaDatabaseAway=1)
    assert receivers.messages[-1].chat_id == chat_of("VantaDatabaseAway", live=False) == ends.TICKETS

    exporter.now(faults.DRY)
    tower.wait(lambda: "VantaDatabaseAway" in ends.ended(receivers.messages), "the database is back")
    before = len(receivers.messages)
    tower.wait(lambda: not tower.firing() & hidden, "heartbeats are read again")
    exporter.answers = False
    tower.wait(lambda: len(receivers.messages) > before, "silence is the alert")
    scene.rounds()
    assert ends.names(receivers.messages[before:]) == Counter(VantaMetricsSilent=1)
    assert not tower.firing() & hidden, "what nobody can read of is told to be silent"
    exporter.restart()
    exporter.answers = True
    tower.wait(lambda: "VantaMetricsSilent" in ends.ended(receivers.messages), "somebody answers again")
    scene.rounds()
    assert set(ends.names(receivers.messages[before:])) == {"VantaMetricsSilent"}


@undisturbed
def test_what_cannot_be_read_is_not_told_to_be_over_and_then_again(scene: Scene) -> None:
    exporter, receivers, tower = scene.exporter, scene.receivers, scene.tower
    before = len(receivers.messages)
    wrong = faults.AT_ONCE["VantaPriceStale"]
    exporter.now(wrong)
    tower.wait(lambda: len(receivers.messages) > before, "an old price is the alert")

    exporter.now(wrong | faults.DATABASE_AWAY)
    tower.wait(lambda: len(receivers.messages) > before + 1, "the database is the alert")
    exporter.now(wrong)
    tower.wait(lambda: "VantaDatabaseAway" in ends.ended(receivers.messages[before:]), "the database is back")
    scene.rounds()
    assert "VantaPriceStale" in tower.firing()
    assert ends.names(receivers.messages[before:]) == Counter(VantaPriceStale=1, VantaDatabaseAway=1)
    exporter.now({})
    tower.wait(lambda: "VantaPriceStale" in ends.ended(receivers.messages[before:]), "the price is fresh")
    assert ends.ended(receivers.messages[before:]) == Counter(VantaPriceStale=1, VantaDatabaseAway=1)


@undisturbed
def test_a_page_is_never_kept_quiet_by_a_ticket_and_what_needs_nothing_by_nothing(scene: Scene) -> None:
    kinds = [
        {"alertname": f"Made{severity}{needs}", "severity": severity, "needs": needs}
        for severity in ("page", "ticket")
        for needs in ("metrics", "database", "")
    ]
    expected = {
        ("VantaMetricsSilent", "ticket"): {"Madeticketmetrics", "Madeticketdatabase"},
        ("VantaDatabaseAway", "ticket"): {"Madeticketdatabase"},
        ("VantaDatabaseAway", "page"): {"Madeticketdatabase", "Madepagedatabase"},
        ("VantaMetricsSilent", "page"): {one["alertname"] for one in kinds if one["needs"]},
    }
    for (name, severity), hidden in expected.items():
        source = {"alertname": name, "severity": severity, "instance": "made"}
        scene.tower.fire(source, *kinds)
        scene.tower.wait(lambda: {*scene.tower.held_back()} == hidden, f"{name} as a {severity}")  # noqa: B023
        scene.tower.end(source)
        scene.tower.wait(lambda: not scene.tower.held_back(), "and no longer")
    scene.tower.end(*kinds)


@undisturbed
def test_who_cannot_be_told_is_an_alert_and_telegram_takes_the_dead_mans_switch_along(scene: Scene) -> None:
    receivers, tower = scene.receivers, scene.tower
    before = len(receivers.messages)
    receivers.dead_man_status = 404

    def told() -> list[ends.Message]:
        return [one for one in receivers.messages[before:] if "VantaAlertsUndelivered" in one.firing]

    tower.wait(lambda: bool(told()), "the URL refuses")
    (message,) = told()
    assert "cannot deliver by webhook" in message.text
    assert message.chat_id == ends.PAGES
    receivers.dead_man_status = 200
    scene.rounds()

    made = {"alertname": "VantaAlertsUndelivered", "severity": "page", "integration": "telegram"}
    tower.fire(made)
    tower.wait(lambda: tower.held_back() == {"VantaWatchdog"}, "the watchdog is kept quiet")
    tower.end(made)
    scene.rounds()


@undisturbed
def test_every_expression_of_the_dashboards_is_answered_and_names_metrics_that_are_there(
    scene: Scene,
) -> None:
    for where, expr in EXPRESSIONS.items():
        scene.tower.query(expr)
        for name in set(OTHERS.findall(expr)):
            assert scene.tower.query(name), f"{where}: {name} is nobody's metric"


@undisturbed
def test_a_message_of_many_alerts_is_one_that_telegram_takes(scene: Scene) -> None:
    many = [
        {"alertname": "MadeMany", "severity": "page", "wallet": f"0x{n:040x}", "long": "x" * 200}
        for n in range(60)
    ]
    scene.tower.fire(*many)
    scene.tower.wait(lambda: "MadeMany" in ends.names(scene.receivers.messages), "it arrives")
    assert scene.receivers.refused == []
    scene.tower.end(*many)


def test_prometheus_takes_an_edit_of_the_rules_by_post(scene: Scene) -> None:
    path = scene.tower.folder / rulebook.RULES.name
    path.write_text(path.read_text().replace("VantaWatchdog", "VantaWatchdogEdited", 1))
    scene.tower.reload()
    scene.tower.wait(lambda: "VantaWatchdogEdited" in scene.tower.firing(), "the edit is read")
