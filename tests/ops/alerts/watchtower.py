"""The real Prometheus and Alertmanager on loopback, with our own files, and every duration in them made shorter.

The files are read, not copied: a rule, a route or an inhibition that changes is tried as it then is. Only hours between
repeats stay as they are, so that a repeat would be seen as the second message that it is.
"""

import json
import os
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from ops.rehearsal.parts import port
from ops.rehearsal.parts.process import Child, Command
from tests import machine_tools
from tests.e2e.stack import ROOT
from tests.ops.alerts import ends, rulebook

START = ROOT / "config" / "start-alertmanager"
ROUTES = ROOT / "ops" / "alertmanager.yml"
SCRAPES = ROOT / "ops" / "prometheus.yml"
SHORTER = 120
BY = "by a test"
RUNBOOK = "https://panel.invalid/admin/runbook/"
PATIENCE_S = 60.0
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LOOKING = 'max(up{job="vanta"}) == 1 and on () max(prometheus_notifications_alertmanagers_discovered) == 1'
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")


def shorter(duration: str, times: int = SHORTER) -> str:
    found = _DURATION.fullmatch(duration)
    assert found is not None, duration
    return f"{int(found[1]) * _UNITS_MS[found[2]] // times}ms"


def shorter_rules(times: int, *, windows: bool) -> dict[str, Any]:
    """The rule file with its `for` and `keep_firing_for`, and its windows and offsets where asked; thresholds are values and stay."""
    groups = rulebook.groups()
    for group in groups:
        for rule in group["rules"]:
            if windows:
                rule["expr"] = re.sub(r"\[(\w+)\]", lambda m: f"[{shorter(m[1], times)}]", rule["expr"])
                rule["expr"] = re.sub(
                    r"\boffset (\w+)", lambda m: f"offset {shorter(m[1], times)}", rule["expr"]
                )
            for name in ("for", "keep_firing_for"):
                if name in rule:
                    rule[name] = shorter(rule[name], times)
    return {"groups": groups}


def shorter_routes(route: dict[str, Any], times: int) -> None:
    for name in ("group_wait", "group_interval", "repeat_interval"):
        if name in route and (name != "repeat_interval" or route["receiver"] == "dead-man"):
            route[name] = shorter(route[name], times)
    for child in route.get("routes", []):
        shorter_routes(child, times)


def rendered(out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """What config/start-alertmanager makes of the template with this environment."""
    return subprocess.run(
        [START, ROUTES, out, "--", "true"],
        env={"PATH": os.defpath, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _made(labels: dict[str, str], lasts_s: float) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {
            "summary": "made " * 12,
            "description": BY,
            "runbook_url": "http://localhost:8090/nowhere",
        },
        "startsAt": (now - timedelta(seconds=60)).isoformat(),
        "endsAt": (now + timedelta(seconds=lasts_s)).isoformat(),
    }


class Watchtower:
    """Both servers; `target` is what they scrape as job `vanta`, and `receivers` whom they tell.

    Every wait is `times` shorter; the windows within expressions only with `windows`.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        receivers: ends.Receivers,
        times: int = SHORTER,
        *,
        windows: bool = True,
    ) -> None:
        self.folder = folder
        self._rules = folder / rulebook.RULES.name
        self._made_rules = shorter_rules(times, windows=windows)
        programs = {
            "prometheus": machine_tools.need("prometheus", "prometheus"),
            "alertmanager": machine_tools.need(
                "prometheus-alertmanager", "prometheus-alertmanager", "alertmanager"
            ),
        }
        self.ports = {name: port.any_free() for name in programs}
        self._write(target, receivers, times)
        at = {name: f"--web.listen-address=127.0.0.1:{number}" for name, number in self.ports.items()}
        self._commands = {
            "alertmanager": (
                *(programs["alertmanager"], at["alertmanager"], "--cluster.listen-address="),
                *(f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'silences'}"),
            ),
            "prometheus": (
                *(programs["prometheus"], at["prometheus"], "--web.enable-lifecycle"),
                # What is told to nobody in the first moments is told again after this, else after a minute.
                "--rules.alert.resend-delay=2s",
                *(f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'series'}"),
            ),
        }
        self._children: dict[str, Child] = {}

    def _write(self, target: str, receivers: ends.Receivers, times: int) -> None:
        made = rendered(
            self.folder / "rendered.yml",
            DEPLOY_ENV="test",
            TELEGRAM_BOT_TOKEN=ends.TOKEN,
            TELEGRAM_API_BASE=f"http://{receivers.address}",
            RUNBOOK_URL=RUNBOOK,
            ALERT_CHAT_ID=str(ends.PAGES),
            ALERT_TICKET_CHAT_ID=str(ends.TICKETS),
            ALERT_DEAD_MAN_URL=f"http://{receivers.address}/dead-man",
        )
        assert (made.returncode, made.stderr) == (0, "")
        routes = yaml.safe_load((self.folder / "rendered.yml").read_text())
        shorter_routes(routes["route"], times)
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(routes))
        self._rules.write_text(yaml.safe_dump({"groups": []}))
        scrapes = yaml.safe_load(SCRAPES.read_text())
        often = scrapes["global"]
        often["evaluation_interval"] = shorter(often["evaluation_interval"], times)
        # Half as often as that: one that a busy machine lets come late must not look like a silent target.
        often["scrape_interval"] = often["scrape_timeout"] = shorter(
            often["scrape_interval"], max(1, times // 2)
        )
        alertmanager, prometheus = (
            f"127.0.0.1:{self.ports[name]}" for name in ("alertmanager", "prometheus")
        )
        here = {"webhook:8090": target, "alertmanager:9093": alertmanager, "localhost:9090": prometheus}
        for server in (*scrapes["alerting"]["alertmanagers"], *scrapes["scrape_configs"]):
            for static in server["static_configs"]:
                static["targets"] = [here[name] for name in static["targets"]]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(scrapes))

    def __enter__(self) -> Self:
        try:
            for name, words in self._commands.items():
                self._children[name] = Child(Command(words, cwd=self.folder), self.folder / f"{name}.log")
            for name in self._children:
                self.wait(partial(self._is_ready, name), f"{name} is ready")
            # Prometheus takes 5 s until it looks at anything, which is 10 minutes of the shorter rules.
            self.wait(lambda: bool(self.query(LOOKING)), "Prometheus scrapes and has found Alertmanager")
            self._rules.write_text(yaml.safe_dump(self._made_rules))
            self.reload()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.stop(10)

    def _is_ready(self, name: str) -> bool:
        child = self._children[name]
        assert child.is_alive, (self.folder / f"{name}.log").read_text()[-2000:]
        try:
            self._ask(name, "/-/ready")
        except OSError:
            return False
        return True

    def _ask(self, name: str, path: str, body: object = None) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[name]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: bytes = answer.read()
        return told

    @property
    def alertmanager_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['alertmanager']}"

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Prometheus's own answer now."""
        asked = urllib.parse.urlencode({"query": expr})
        found: list[dict[str, Any]] = json.loads(self._ask("prometheus", f"/api/v1/query?{asked}"))["data"][
            "result"
        ]
        return found

    def reload(self) -> None:
        """As CHECKLIST does: by POST."""
        self._ask("prometheus", "/-/reload", body={})

    def fire(self, *labels: dict[str, str]) -> None:
        """Alerts that no rule made, straight to Alertmanager."""
        self._ask("alertmanager", "/api/v2/alerts", [_made(one, 3600) for one in labels])

    def end(self, *labels: dict[str, str]) -> None:
        self._ask("alertmanager", "/api/v2/alerts", [_made(one, -1) for one in labels])

    def made(self) -> list[dict[str, str]]:
        """Labels of what `fire` made and nobody ended."""
        told = json.loads(self._ask("alertmanager", "/api/v2/alerts"))
        return [alert["labels"] for alert in told if alert["annotations"].get("description") == BY]

    def firing(self) -> set[str]:
        """Names of what Prometheus holds for firing."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def held_back(self, by: str = "inhibitedBy") -> set[str]:
        """Names of alerts that Alertmanager has and keeps quiet: because of others, or `silencedBy` somebody."""
        told = json.loads(self._ask("alertmanager", "/api/v2/alerts"))
        return {alert["labels"]["alertname"] for alert in told if alert["status"][by]}

    def wait(self, met: Callable[[], bool], why: str, within_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + within_s
        while not met():
            assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {why}"
            time.sleep(0.05)
