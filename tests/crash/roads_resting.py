"""Roads of opens that rest at the venue: placed and filled by their price, changed, taken back, taken back by a whole close."""

from decimal import Decimal
from typing import Any

from execution_app.engine import resting
from tests.crash.bench import Bench
from tests.crash.scenario import FILLED, Scenario, one_of

LIMIT: dict[str, Any] = {"order_type": "limit", "limit_price": 95_000}
TAKEN_BACK = one_of("venue_cancelled")
KEY = "admin:take-back:crash"
CHANGE_KEY = "admin:change:crash"


def _place(bench: Bench) -> None:
    bench.accept("one", **LIMIT)
    bench.submit()
    bench.live_on()


def _fall(bench: Bench) -> None:
    with bench.aside():
        bench.set_price(95_000)


def _place_and_fill(bench: Bench) -> None:
    _place(bench)
    _fall(bench)
    bench.live_on()


def _post_and_fall(bench: Bench) -> None:
    bench.post("one", **LIMIT)
    _fall(bench)


def _ask(bench: Bench) -> None:
    bench.look()
    resting.take_back("sig:crash:one", key=KEY, by="crash", reason="crash")


def _take_back(bench: Bench) -> None:
    _ask(bench)
    bench.submit()
    bench.live_on()


def _ask_to_change(bench: Bench) -> None:
    """Without the change the order does not fill at this price."""
    bench.look()
    resting.change(
        "sig:crash:one", {"limit_price": Decimal(98_000)}, key=CHANGE_KEY, by="crash", reason="crash"
    )
    with bench.aside():
        bench.set_price(97_900)


def _change_and_fill(bench: Bench) -> None:
    _ask_to_change(bench)
    bench.submit()
    bench.live_on()
    bench.live_on()


def _take_back_reorganised(bench: Bench) -> None:
    """The block in which it is taken back leaves the chain."""
    _ask(bench)
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _close(bench: Bench) -> None:
    bench.accept("two", "CLOSE")
    for _ in range(2):
        bench.submit()
        bench.live_on()
        bench.age()


def _post_close(bench: Bench) -> None:
    bench.post("two", "CLOSE")


ROADS = [
    Scenario(
        "an order rests and fills",
        _place_and_fill,
        _post_and_fall,
        {"one": FILLED},
        left=1,
        faults=("lost", "reset"),
    ),
    Scenario(
        "an order is taken back",
        _take_back,
        _ask,
        {"one": TAKEN_BACK, KEY: one_of("changed")},
        before=_place,
        left=0,
        faults=("lost", "reset"),
    ),
    Scenario(
        "an order is changed and fills",
        _change_and_fill,
        _ask_to_change,
        {"one": FILLED, CHANGE_KEY: one_of("changed")},
        before=_place,
        left=1,
    ),
    Scenario(
        "an order is taken back, reorg",
        _take_back_reorganised,
        _ask,
        {"one": TAKEN_BACK, KEY: one_of("changed")},
        before=_place,
        left=0,
    ),
    Scenario(
        "a whole close takes back what rests",
        _close,
        _post_close,
        {"one": TAKEN_BACK, "two": one_of("no_op"), "two@1": one_of("changed")},
        before=_place,
        left=0,
    ),
]
