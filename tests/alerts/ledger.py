"""What became of each alert: when its fault began, when Prometheus fired, how often people were told, when it was over."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tests.ops.alerts import ends
from tests.ops.alerts.watchtower import Watchtower

LOOK_S = 0.5
WATCHDOG = "VantaWatchdog"


@dataclass
class Line:
    """Seconds are time.monotonic(); 0 where it has not happened.

    `told` is how often people were told of the same instance, and `over` how often the last one ended. A group is told
    anew when an instance joins it or leaves it, as when a second component restarts: that is news of that one alone.
    """

    alert: str
    fault: str = ""
    began_s: float = 0.0
    fired_s: float = 0.0
    told_s: float = 0.0
    over_s: float = 0.0
    told: int = 0
    over: int = 0
    open: set[str] = field(default_factory=set)
    times: Counter[str] = field(default_factory=Counter)

    def note_firing(self, instances: set[str], *, some_ended: bool) -> bool:
        """Returns whether it tells anything anew."""
        news = instances - self.open or (set() if some_ended else instances)
        self.times.update(news)
        self.told = max(self.times.values(), default=0)
        self.open |= instances
        return bool(news)

    def note_resolved(self, instances: set[str]) -> bool:
        """Returns whether none is left."""
        self.open -= instances
        self.over += not self.open
        return not self.open

    @property
    def wrong(self) -> str:
        if not self.began_s:
            return "fired without a fault of ours" if self.told else "not provoked"
        if not self.told:
            return "did not arrive" if self.fired_s else "did not fire"
        if self.told > 1:
            return f"arrived {self.told} times"
        return "" if self.over == 1 else f"taken back {self.over} times"


class Ledger:
    """Looks at Prometheus and at the receiver from a thread of its own; a context manager."""

    def __init__(self, receivers: ends.Receivers, say: Callable[[str], None]) -> None:
        self.lines: dict[str, Line] = {}
        self.receivers = receivers
        self.began_s = time.monotonic()
        self._say = say
        self._tower: Watchtower | None = None
        self._read = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()

    def watch(self, tower: Watchtower) -> None:
        self._tower = tower
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def injected(self, alert: str, fault: str) -> None:
        """The fault that `alert` is to tell of begins now."""
        line = self._line(alert)
        # What fired before and reached nobody, another alert having hidden it, is not of this fault.
        line.fault, line.began_s, line.fired_s = fault, time.monotonic(), 0.0
        self.say(f"fault for {alert}: {fault}")

    def say(self, words: str) -> None:
        self._say(f"{time.monotonic() - self.began_s:6.0f} s  {words}")

    def missing(self, alerts: Collection[str]) -> set[str]:
        """Those of which nobody was told yet."""
        return {alert for alert in alerts if not self._line(alert).told}

    def open(self) -> set[str]:
        """Those that somebody was told of, and that are not over."""
        return {line.alert for line in self.lines.values() if line.open}

    def _line(self, alert: str) -> Line:
        with self._lock:
            return self.lines.setdefault(alert, Line(alert))

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            assert self._tower is not None
            for alert in self._tower.firing() - {WATCHDOG}:
                line = self._line(alert)
                if not line.fired_s:
                    line.fired_s = time.monotonic()
                    self.say(f"{alert} fires")
            messages = self.receivers.messages
            for message in messages[self._read :]:
                self.note(message)
            self._read = len(messages)

    def note(self, message: ends.Message) -> None:
        now_s = time.monotonic()
        for alert, instances in sorted(message.firing.items()):
            line = self._line(alert)
            if line.note_firing(instances, some_ended=alert in message.resolved):
                line.told_s = line.told_s or now_s
                self.say(f"{alert} arrived" + f" AGAIN, {line.told} times now" * (line.told > 1))
        for alert, instances in sorted(message.resolved.items()):
            line = self._line(alert)
            if line.note_resolved(instances):
                line.over_s = now_s
                self.say(f"{alert} is over")


@dataclass
class Trouble:
    """What kept a scene from being played to its end."""

    scene: str
    why: str
    alerts: tuple[str, ...] = field(default=())
