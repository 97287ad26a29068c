"""Roads of margin: what goes into a position, once, and what comes out again through a reorg."""

from decimal import Decimal

from execution_app.engine import margin_changes
from execution_app.models import Position
from tests.crash.bench import Bench
from tests.crash.scenario import FILLED, Scenario, one_of

IN, OUT = "admin:margin:in", "admin:margin:out"


def _open(bench: Bench) -> None:
    bench.accept("one")
    bench.submit()
    bench.live_on()


def _ask(bench: Bench, change_usdc: str, key: str) -> None:
    bench.look()
    position = Position.objects.get()
    margin_changes.change(position.pk, Decimal(change_usdc), key=key, by="crash", reason="crash")


def _ask_in(bench: Bench) -> None:
    _ask(bench, "2.5", IN)


def _put_in(bench: Bench) -> None:
    _ask_in(bench)
    bench.submit()
    bench.live_on()


def _ask_out(bench: Bench) -> None:
    _ask(bench, "-1.5", OUT)


def _take_out_reorganised(bench: Bench) -> None:
    """The block in which it comes out leaves the chain."""
    _ask_out(bench)
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


ROADS = [
    Scenario(
        "margin goes in",
        _put_in,
        _ask_in,
        {"one": FILLED, IN: one_of("changed")},
        before=_open,
        left=1,
    ),
    Scenario(
        "margin comes out, reorg",
        _take_out_reorganised,
        _ask_out,
        {"one": FILLED, OUT: one_of("changed")},
        before=_open,
        left=1,
    ),
]
