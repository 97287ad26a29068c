"""Signals as many senders make them: one after another, some again, each repeated until it is taken.

Each open asks for an amount of its own, so the chain's logs alone tell which signal they execute.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal

from tests.chaos.outages import HAVE_IT, Client
from tests.e2e.stack import RunningStack
from tests.soak.watched import Watched

FIRST_UNITS = 5_000_000  # USDC units, 10**-6
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
DUPLICATES = 0.3
BEYOND_CAP, HASTY = 0.04, 0.04  # shares of new signals: refused for their leverage; too old after 2 s
RETRY_S = 0.3
SENDERS = 48


@dataclass
class Signal:
    """`accepted_s` is time.monotonic() of the first 200 or 202; 0 before."""

    number: int
    fields: dict[str, object]
    accepted_s: float = 0.0

    @property
    def signal_id(self) -> str:
        return f"soak-{self.number}"

    @property
    def amount_usdc(self) -> Decimal:
        return Decimal(FIRST_UNITS + self.number) / 10**6


@dataclass
class Traffic:
    """`every_s` between requests for new signals and repeats together."""

    stack: RunningStack
    dice: random.Random
    every_s: float
    signals: list[Signal] = field(default_factory=list)
    repeats: int = 0
    taken_twice: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    _ended: threading.Event = field(default_factory=threading.Event)
    _given_up: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        self._client = Client(self.stack, "soak")
        self._pool = ThreadPoolExecutor(SENDERS)
        self._thread = Watched("traffic", self._run)

    @property
    def died_of(self) -> str:
        return self._thread.died_of

    def end(self, patience_s: float) -> None:
        """No new signals; those under way are repeated until taken, at most so long."""
        self._ended.set()
        self._thread.join()
        timer = threading.Timer(patience_s, self._given_up.set)
        timer.start()
        self._pool.shutdown(wait=True)
        timer.cancel()
        self.answers = self._client.answers

    @property
    def accepted(self) -> list[Signal]:
        return [signal for signal in self.signals if signal.accepted_s]

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._ended.is_set():
            if self.signals and self.dice.random() < DUPLICATES:
                self.repeats += 1
                self._pool.submit(self._repeat, self.dice.choice(self.signals))
            else:
                signal = Signal(len(self.signals), self._fields(len(self.signals)))
                self.signals.append(signal)
                self._pool.submit(self._deliver, signal)
            due_s += self.every_s
            self._ended.wait(max(0.0, due_s - time.monotonic()))

    def _fields(self, number: int) -> dict[str, object]:
        draw = self.dice.random()
        return {
            "symbol": self.dice.choice(SYMBOLS),
            "collateral_usdc": (FIRST_UNITS + number) / 10**6,
            "leverage_x": 100 if draw < BEYOND_CAP else 2,
            "max_lag_s": 2 if BEYOND_CAP <= draw < BEYOND_CAP + HASTY else 600,
        }

    def _deliver(self, signal: Signal) -> None:
        while self._client.offer(signal.signal_id, **signal.fields) not in HAVE_IT:
            if self._given_up.wait(RETRY_S):
                return
        signal.accepted_s = signal.accepted_s or time.monotonic()

    def _repeat(self, signal: Signal) -> None:
        was_taken = signal.accepted_s > 0
        status = self._client.offer(signal.signal_id, **signal.fields)
        if status in HAVE_IT:
            signal.accepted_s = signal.accepted_s or time.monotonic()
        if status == 202 and was_taken:
            self.taken_twice.append(signal.signal_id)
