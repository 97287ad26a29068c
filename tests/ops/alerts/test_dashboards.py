"""Grafana's dashboards: what they ask for is there, and Prometheus understands how they ask."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import machine_tools, promises
from tests.ops.alerts import rulebook
from tests.real_parts import ROOT

GRAFANA = ROOT / "ops" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
# What Prometheus and Alertmanager say of themselves, held against both by test_delivery.py.
OF_OTHERS = {
    *("ALERTS", "up", "scrape_duration_seconds"),
    *("alertmanager_notifications_total", "alertmanager_notifications_failed_total"),
}
_NAME = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(?=\{|\[| |\)|$)")
_SELECTOR = re.compile(r"\b(vanta_\w+)\{([^}]*)\}")
_BY = re.compile(r"\b(?:by|without) \(([\w, ]+)\) \((?:\w+\()*(vanta_\w+)")


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def expressions() -> dict[str, str]:
    """Every query of every panel and annotation, by where it stands; Grafana's own interval filled in."""
    found = {}
    for path in FILES:
        told = dashboard(path)
        for note in told["annotations"]["list"]:
            found[f"{path.stem}/{note['name']}"] = note["expr"]
        for panel in told["panels"]:
            for target in panel.get("targets", []):
                where = f"{path.stem}/{panel['title']}/{target['refId']}"
                found[where] = target["expr"].replace("$__rate_interval", "2m")
    return found


EXPRESSIONS = expressions()


def test_there_are_the_three_dashboards() -> None:
    assert [path.stem for path in FILES] == ["engine", "infrastructure", "operator"]
    assert len({dashboard(path)["uid"] for path in FILES}) == len(FILES)
    assert len(EXPRESSIONS) > 70


def test_every_metric_of_the_dashboards_is_documented_and_so_exported() -> None:
    """docs/metrics.md is held against scrapes both ways by tests/promises.py, of a running stack in tests/e2e."""
    known = promises.documented()
    for where, expr in EXPRESSIONS.items():
        ours = rulebook.metrics(expr)
        assert ours <= set(known), (where, ours - set(known))
        assert ours or set(_NAME.findall(expr)) & OF_OTHERS, f"{where} asks for nothing"


def test_every_label_that_a_dashboard_names_is_one_of_its_metric() -> None:
    known = promises.documented()
    seen = 0
    for where, expr in EXPRESSIONS.items():
        pairs = [
            (metric, re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
            for metric, inside in _SELECTOR.findall(expr)
        ]
        pairs += [(metric, re.split(r",\s*", labels)) for labels, metric in _BY.findall(expr)]
        for metric, labels in pairs:
            kind, named = known[metric.removesuffix("_bucket")]
            allowed = {*named, *(("le",) if kind == "histogram" else ())}
            assert set(labels) <= allowed, (where, metric, labels)
            seen += 1
    assert seen > 40


def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"one:{n}", "expr": expr} for n, expr in enumerate(EXPRESSIONS.values())]
    file = tmp_path / "as.rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run(
        [machine_tools.need("prometheus", "promtool"), "check", "rules", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(rules)} rules found" in done.stdout


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for panel in dashboard(path)["panels"]:
            yield f"{path.stem}/{panel['title']}", panel


def test_every_panel_has_a_place_of_its_own_and_asks_the_provisioned_source() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    taken: set[tuple[str, int, int]] = set()
    for where, panel in panels():
        place = panel["gridPos"]
        cells = {
            (where.partition("/")[0], x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{where} lies over another"
        assert place["x"] + place["w"] <= 24, where
        taken |= cells
        for asked in [panel, *panel.get("targets", [])] if panel["type"] != "row" else []:
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}, where


def test_grafana_finds_the_dashboards_where_compose_puts_them() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/vanta.yml").read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    source, target, _ = grafana["volumes"][0].split(":")
    assert (ROOT / source).resolve() == GRAFANA
    assert provider["options"]["path"] == f"{target}/dashboards"
    assert grafana["environment"]["GF_PATHS_PROVISIONING"] == f"{target}/provisioning"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_edited_in_the_browser_and_lost(path: Path) -> None:
    assert dashboard(path)["editable"] is False
