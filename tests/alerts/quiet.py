"""A healthy stack under load, for minutes, under the rules exactly as they are: nothing may fire."""

import random
import time
from datetime import UTC, datetime
from typing import Any

from tests.alerts import neglected
from tests.alerts.ground import Ground
from tests.alerts.ledger import WATCHDOG
from tests.soak.traffic import Traffic

EVERY_S = 1.0  # between signals and repeats of signals
SAY_S = 30.0
TAKEN_S = 60.0


def run(ground: Ground, minutes: float, seed: int) -> dict[str, Any]:
    """Returns the facts; `wrong` is empty where nothing fired, and the load was real."""
    neglected.plain(ground)
    ledger = ground.ledger
    traffic = Traffic(ground.stack, random.Random(seed), EVERY_S)
    pending: set[str] = set()
    traffic.begin()
    began_s = time.monotonic()
    while (left_s := began_s + 60 * minutes - time.monotonic()) > 0:
        time.sleep(min(SAY_S, left_s))
        waiting = {one["metric"]["alertname"] for one in ground.tower.query('ALERTS{alertstate="pending"}')}
        pending |= waiting
        fired = sorted(line.alert for line in ledger.lines.values() if line.fired_s)
        ledger.say(
            f"{len(traffic.accepted)} signals taken, {traffic.repeats} repeats; fired: {', '.join(fired) or 'none'}"
            + f"; pending now: {', '.join(sorted(waiting))}" * bool(waiting)
        )
    traffic.end(TAKEN_S)
    filled = ground.stack.states().get("filled", 0)
    fired = sorted(line.alert for line in ledger.lines.values() if line.fired_s or line.told)
    pings = len(ground.receivers.pings)
    wrong = [f"{alert} fired" for alert in fired]
    wrong += [] if pings else [f"{WATCHDOG}: nobody was told"]
    wrong += [] if filled else ["no signal was executed, so there was no load"]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quiet_minutes": minutes,
        "seed": seed,
        "signals": len(traffic.accepted),
        "repeats": traffic.repeats,
        "filled": filled,
        "fired": fired,
        "pending_for_a_while": sorted(pending),
        "watchdog_pings": pings,
        "wrong": wrong,
    }


def words(found: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"{found['quiet_minutes']:g} minutes of {found['at']}, the rules and all durations as they are.",
            f"load: {found['signals']} signals, {found['repeats']} repeats, {found['filled']} filled.",
            f"fired: {', '.join(found['fired']) or 'none'}",
            f"pending at one look or another: {', '.join(found['pending_for_a_while']) or 'none'}",
            f"{WATCHDOG}: {found['watchdog_pings']} pings of the dead man's switch",
            *(f"WRONG: {why}" for why in found["wrong"]),
            "verdict: " + ("FAILED" if found["wrong"] else "passed"),
        ]
    )
