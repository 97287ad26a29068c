"""Every alert fires, stays quiet, and does what it should where its metric is gone; promtool is the judge."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import machine_tools, promises
from tests.ops.alerts import rulebook

ALERTS = rulebook.alerts()
CASES = rulebook.cases()
FIRING = 'count without (alertname, alertstate, needs) (ALERTS{alertname="%s", alertstate="firing"})'
KINDS = ("fires", "quiet", "absent")
# Never kept quiet by anything, and never a mere ticket.
NEVER = {
    *("VantaDuplicateIntent", "VantaIllegalTransition", "VantaInvariantViolated", "VantaNonceLost"),
    *("VantaNotStopped", "VantaSignatureRefused", "VantaNotionalBreach", "VantaLeverageBreach"),
    "VantaSymbolBreach",
}
# Alertmanager keeps others quiet while these fire (ops/alertmanager.yml).
PARTS = {"VantaMetricsSilent", "VantaDatabaseAway"}
WINDOWED = re.compile(r"\w+(\{[^}]*\})?\[\w+\]")
EVERY_S = 30  # between scrapes, and between evaluations
# Their silence is the danger, so they fire when their metric is gone.
FIRES_WHEN_ABSENT = {
    *("VantaWatchdog", "VantaMetricsSilent", "VantaMetricsIncomplete", "VantaDatabaseAway", "VantaRedisAway"),
    *("VantaWebhookSilent", "VantaWorkerSilent", "VantaTpslSilent", "VantaBeatSilent", "VantaBotSilent"),
    "VantaBackupOld",
}


def promtool(*words: str, cwd: Path = rulebook.TESTS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine_tools.need("prometheus", "promtool"), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_promtool_reads_the_rules() -> None:
    done = promtool("check", "rules", str(rulebook.RULES))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(ALERTS) + len(rulebook.records())} rules found" in done.stdout


@pytest.mark.parametrize("name", [*ALERTS, rulebook.SEVERITY])
def test_an_alert_does_as_its_cases_say(name: str, tmp_path: Path) -> None:
    """Only its own rule is loaded, and the severity: `promtool test rules` over whole files takes minutes."""
    rules = [*rulebook.records(), *([ALERTS[name].as_written] if name in ALERTS else [])]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": rules}]}))
    files = set()
    for every in {case["evaluation_interval"] for case in CASES[name]}:
        cases = [dict(case) for case in CASES[name] if case["evaluation_interval"] == every]
        for case in cases:
            del case["evaluation_interval"], case["file"]
        body = {"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": cases}
        files.add(f"{every}.yml")
        (tmp_path / f"{every}.yml").write_text(yaml.safe_dump(body))
    done = promtool("test", "rules", *sorted(files), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_every_alert_has_cases_that_can_fail() -> None:
    assert set(CASES) == {*ALERTS, rulebook.SEVERITY}
    for name in ALERTS:
        kinds = {str(case["name"]).rpartition(": ")[2] for case in CASES[name]}
        wanted = set(KINDS) - ({"quiet"} if name == "VantaWatchdog" else set())
        assert wanted <= kinds, name
        for case in CASES[name]:
            _hold(name, str(case["name"]).rpartition(": ")[2], case["promql_expr_test"])


def _hold(name: str, kind: str, checks: list[dict[str, Any]]) -> None:
    """Of these checks, some find it firing, or none does, as their kind says; and at no other alert do they look."""
    assert {check["expr"] for check in checks} == {FIRING % name}, name
    fires = [bool(check["exp_samples"]) for check in checks]
    if kind == "quiet" or (kind == "absent" and name not in FIRES_WHEN_ABSENT):
        assert not any(fires), (name, kind)
    else:
        assert any(fires), (name, kind)
    if kind == "fires" and name != "VantaWatchdog":
        assert not fires[0], f"{name}: nothing shows that it was quiet before"


def test_an_alert_that_follows_the_mode_is_tried_in_both() -> None:
    for name, rule in ALERTS.items():
        words = {
            word
            for case in CASES[name]
            for check in case["promql_expr_test"]
            for sample in check["exp_samples"]
            for word in re.findall(r'severity="(\w+)"', sample["labels"])
        }
        expected = {"page", "ticket"} if rule.follows_the_mode else {rule.labels["severity"]}
        assert words == expected, name


def test_severities_and_needs_are_known_words() -> None:
    for name, rule in ALERTS.items():
        assert set(rule.labels) <= {"severity", "needs"}, name
        assert rule.follows_the_mode != ("severity" in rule.labels), f"{name} has one severity, not two"
        assert rule.labels.get("severity", "page") in rulebook.SEVERITIES
        assert rule.labels.get("needs", "metrics") in {"metrics", "database"}
    assert {name for name, rule in ALERTS.items() if rule.labels.get("severity") == "none"} == {
        "VantaWatchdog"
    }


def test_what_must_never_happen_always_pages_and_needs_nothing() -> None:
    assert set(ALERTS) >= NEVER
    for name in NEVER:
        assert ALERTS[name].labels == {"severity": "page"}, name
        assert "for" not in ALERTS[name].as_written, f"{name} waits for nothing"


def test_no_alert_is_over_because_it_cannot_be_read() -> None:
    """What `needs` a part stays until that part has become an alert, and that one until what it hid is over."""
    kept_s = {
        name: rulebook.seconds(rule.as_written.get("keep_firing_for", "0s")) for name, rule in ALERTS.items()
    }
    waits_s = max(rulebook.seconds(ALERTS[name].as_written["for"]) for name in PARTS)
    for name in PARTS:
        assert kept_s[name] > max(kept_s[other] for other in set(ALERTS) - PARTS), name
        assert kept_s[name] > rulebook.seconds("5m"), f"{name}: an alert looks back 5 minutes at it"
    for name in set(ALERTS) - PARTS - {"VantaWatchdog"}:
        at_once = WINDOWED.sub("", ALERTS[name].expr)
        if rulebook.metrics(at_once):
            assert kept_s[name] >= waits_s + 2 * EVERY_S, name
        else:
            assert not kept_s[name], f"{name}: a hole in a window ends nothing"


def test_absence_is_the_same_alert_as_silence_and_says_nothing_while_nobody_answers() -> None:
    """Other labels would be a second message; and VantaMetricsSilent comes later than these."""
    found = {
        name: rule.expr for name, rule in ALERTS.items() if "vanta_heartbeat_timestamp_seconds" in rule.expr
    }
    assert len(found) == 5
    for name, expr in found.items():
        assert re.search(r'or \(max\(absent\(.*\)\) and on \(\) max\(up\{job="vanta"\}\) == 1\)', expr), name


def test_every_alert_says_what_it_is_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert set(rule.annotations) == {"summary", "description", "runbook_url"}, name
        assert len(rule.annotations["summary"]) <= 90, name
        assert rule.annotations["description"].endswith("."), name


def test_every_metric_of_the_rules_is_documented_and_so_exported() -> None:
    """docs/metrics.md is held against scrapes both ways by tests/promises.py."""
    known = set(promises.documented())
    for rule in [*(rule.as_written for rule in ALERTS.values()), *rulebook.records()]:
        assert rulebook.metrics(rule["expr"]) <= known, rule
    series = {
        series["series"] for cases in CASES.values() for case in cases for series in case["input_series"]
    }
    assert {name for one in series for name in rulebook.metrics(one)} <= known


def test_whatever_an_alert_is_blind_without_is_missed() -> None:
    """A family that vanishes takes its alerts with it, unless one says so."""
    watched = rulebook.metrics(
        "".join(ALERTS[name].expr for name in ("VantaMetricsIncomplete", *sorted(FIRES_WHEN_ABSENT)))
    )
    # May have no sample for good reasons: nobody asked for one yet, no wallet, no remote signer, no ceiling in DRY.
    may_be_none = {
        *("vanta_rpc_requests_total", "vanta_wallet_balance_eth", "vanta_delegate_expiry_timestamp_seconds"),
        *("vanta_signer_requests_total", "vanta_cap_limit", "vanta_http_requests_total"),
    }
    tickets = {
        metric
        for name in (
            "VantaHeldExpired",
            "VantaRbfExcess",
            "VantaBroadcastsFailing",
            "VantaTpslFailing",
            "VantaRestarting",
            "VantaRetentionOld",
        )
        for metric in rulebook.metrics(ALERTS[name].expr)
    }
    used = {metric for rule in ALERTS.values() for metric in rulebook.metrics(rule.expr)}
    assert used - watched - may_be_none - tickets == set()
