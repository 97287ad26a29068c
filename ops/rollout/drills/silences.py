"""What a drill brings about on purpose wakes nobody: silences in Alertmanager, for exactly the alerts it must cause.

Whatever else fires meanwhile is a finding and goes out as ever, the alerts of what must never happen above all.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import urllib3

from ops.rollout.drills.report import CannotRun, Report

TIMEOUT_S = 5.0
# A scrape and an evaluation, 30 s each, until Prometheus knows that all is well again, and as much to spare.
NOTICED_WITHIN_S = 120
# Nobody ends the silence of a drill that was killed, so each ends by itself.
LONGEST_S = 3 * 3600

# As the rules' keep_firing_for: of most alerts, and of those that keep others quiet.
_KEPT_S, _PART_KEPT_S = 180, 360
_MODE = {
    "VantaStuckInDry": _KEPT_S,
    "VantaModeFlapping": 600,
    "VantaHeldTooLong": _KEPT_S,
    "VantaHeldExpired": 900,
}
_SILENT = {
    "VantaWebhookSilent": _KEPT_S,
    "VantaWorkerSilent": _KEPT_S,
    "VantaBeatSilent": _KEPT_S,
    "VantaMetricsSilent": _PART_KEPT_S,
    "VantaRestarting": 1800,
}
# By drill, its alerts, each with the seconds that it looks back and is kept: so long it fires on when all is well again.
EXPECTED: Mapping[str, Mapping[str, int]] = {
    "redis-outage": {**_MODE, "VantaRedisAway": _KEPT_S},
    "emergency-stop": {**_MODE, "VantaRedisAway": _KEPT_S},
    "duplicate-signal": {},
    "crash": {**_MODE, **_SILENT},
    "restore": {**_MODE, **_SILENT},
    "rpc-trouble": {
        **_MODE,
        "VantaNodeFailing": 300,
        "VantaRbfExcess": 900,
        "VantaIntentStuck": _KEPT_S,
        "VantaPriceStale": _KEPT_S,
        "VantaPriceAlone": _KEPT_S,
        "VantaTpslFailing": 300,
    },
    "reorg": {},
    "database": {
        **_MODE,
        **_SILENT,
        "VantaDatabaseAway": _PART_KEPT_S,
        "VantaMetricsIncomplete": _KEPT_S,
        "VantaHttpErrors": 300,
    },
}


@dataclass
class Silences:
    """Of one drill; `url` is Alertmanager's. Nothing is asked where there is no URL or nothing is expected."""

    url: str
    report: Report
    _set: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    def begin(self) -> None:
        """Raises CannotRun where Alertmanager does not take them: the drill would wake somebody."""
        expected = EXPECTED[self.report.drill]
        if not self.url or not expected:
            return
        by_length: dict[int, list[str]] = defaultdict(list)
        for name, fires_on_s in expected.items():
            by_length[fires_on_s].append(name)
        for fires_on_s, names in by_length.items():
            body = self._body(sorted(names), LONGEST_S)
            try:
                made = self._ask("POST", "/api/v2/silences", body)
                self._set[str(made["silenceID"])] = (fires_on_s, body)
            except (OSError, ValueError, KeyError, urllib3.exceptions.HTTPError) as error:
                self.end()
                raise CannotRun(
                    f"Alertmanager takes no silence ({error}): the drill would wake somebody"
                ) from error
        self.report.step(f"silenced in Alertmanager: {', '.join(sorted(expected))}")

    def end(self) -> None:
        """Let each end when what it silences must be over. A silence that stays is a failure of the drill."""
        for silence_id, (fires_on_s, body) in list(self._set.items()):
            lasts_s = fires_on_s + NOTICED_WITHIN_S
            shorter = body | {"id": silence_id, "endsAt": _in(lasts_s)}
            names = body["matchers"][0]["value"].removeprefix("^(").removesuffix(")$").replace("|", ", ")
            try:
                self._ask("POST", "/api/v2/silences", shorter)
            except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
                self.report.check(
                    f"the silence of {names} was ended",
                    False,
                    f"{error}; it ends by itself at {body['endsAt']}",
                )
            else:
                self.report.step(f"the silence of {names} ends in {lasts_s} s")
            del self._set[silence_id]

    def _body(self, names: list[str], lasts_s: int) -> dict[str, Any]:
        matcher = {"name": "alertname", "value": f"^({'|'.join(names)})$", "isRegex": True, "isEqual": True}
        return {
            "matchers": [matcher],
            "startsAt": _in(0),
            "endsAt": _in(lasts_s),
            "createdBy": "manage.py drill",
            "comment": f"expected of the drill {self.report.drill}",
        }

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = urllib3.request(
            method,
            f"{self.url.rstrip('/')}{path}",
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            timeout=TIMEOUT_S,
            retries=False,
        )
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"{answer.status} {answer.data.decode(errors='replace')[:200].strip()}")
        told: dict[str, Any] = answer.json()
        return told


def _in(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
