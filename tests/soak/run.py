"""One run: start, traffic with faults, traffic without, drain, account."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos import outages
from tests.detours import DetouredStack
from tests.soak import account, report
from tests.soak.faults import Faults
from tests.soak.traffic import Traffic
from tests.soak.witness import Witness

SAY_S = 10.0
LIVE_WITHIN_S = 60.0
CALM_S = 8.0  # of traffic after the last fault, which needs a next execution, too
STILL_S = 120.0  # without anything ending; then the account says what has not
TAKEN_S = 120.0


@dataclass
class Soak:
    folder: Path
    minutes: float
    seed: int
    every_s: float
    fault_every_s: float
    say: Callable[[str], None]

    def run(self) -> dict[str, Any]:
        """Returns the report's facts; `verdict` is empty where all is well."""
        stack = DetouredStack(self.folder, REHEARSAL_MAX_TRADES_PER_PAIR="5000")
        try:
            stack.start()
            outages.await_mode(stack, "LIVE", LIVE_WITHIN_S)
            return self._soak(stack)
        finally:
            stack.stop()

    def _soak(self, stack: DetouredStack) -> dict[str, Any]:
        traffic = Traffic(stack, random.Random(self.seed), self.every_s)
        faults = Faults(stack, random.Random(self.seed + 1), self.fault_every_s)
        witness = Witness(stack)
        began_s = time.monotonic()
        witness.begin()
        traffic.begin()
        faults.begin()
        while (left_s := began_s + 60 * self.minutes - time.monotonic()) > 0:
            time.sleep(min(SAY_S, left_s))
            self._progress(began_s, traffic, witness, faults)
        faults.end()
        self.say("no more faults")
        time.sleep(CALM_S)
        traffic.end(TAKEN_S)
        self._drain(stack, traffic)
        witness.end()
        drawn = account.draw(stack, traffic, witness, faults)
        asked = {"minutes": self.minutes, "seed": self.seed, "rate": 1 / self.every_s}
        found = report.facts(drawn, traffic, faults.happened, asked, time.monotonic() - began_s)
        if found["verdict"]:
            (self.folder.parent / "why.txt").write_text(stack.why(), encoding="utf-8")
        return found

    def _progress(self, began_s: float, traffic: Traffic, witness: Witness, faults: Faults) -> None:
        last = faults.happened[-1] if faults.happened else None
        self.say(
            f"{time.monotonic() - began_s:5.0f} s: {len(traffic.signals)} signals, {len(traffic.accepted)} taken,"
            f" {traffic.repeats} repeats, {len(witness.seen_s)} executed, {len(faults.happened)} faults"
            + (f", the last: {last.kind} {last.what}" if last else "")
        )

    def _drain(self, stack: DetouredStack, traffic: Traffic) -> None:
        """Until everything has ended or is visibly held, or nothing moves any more."""
        began_s = moved_s = time.monotonic()
        left = least = -1
        while left != 0 and time.monotonic() - moved_s < STILL_S:
            time.sleep(1)
            try:
                left = self._left(stack, traffic)
            except psycopg.OperationalError:  # the last fault took the server, which is being started
                continue
            if least < 0 or left < least:
                least, moved_s = left, time.monotonic()
        self.say(f"drained after {time.monotonic() - began_s:.0f} s, {left} are left")

    def _left(self, stack: DetouredStack, traffic: Traffic) -> int:
        """What is held for a mode or for gas goes on by itself soon, so its time is given to it, too."""
        held = stack.sql("SELECT count(*) FROM tx_intents WHERE settled_at IS NULL AND state = 'held'")
        return account.undone(stack, traffic.accepted) + int(held[0][0])
