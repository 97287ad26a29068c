"""Roads of margin: what goes into a position, once, and what comes out again through a reorg."""

from decimal import Decimal

from execution_app.engine import margin_changes
from execution_app.models import Position, TxIntent
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


def _order(bench: Bench) -> None:
    bench.accept("one")
    bench.submit()
    bench.rig.mine()
    bench.track()


def _ask_in_once(bench: Bench) -> None:
    """Of whatever row the trade is by then."""
    asked = TxIntent.objects.filter(intent_key=IN).exists()
    bench.look()
    if not asked and (position := Position.objects.filter(state="open").first()) is not None:
        margin_changes.change(position.pk, Decimal("2.5"), key=IN, by="crash", reason="crash")


def _put_in_before_its_trade(bench: Bench) -> None:
    """The blocks of the fill and of the margin leave the chain; margin is mined again before the trade is opened anew."""
    bench.rig.mine()
    bench.rig.keep()
    bench.track()
    _ask_in_once(bench)
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.reorganise(2)
    bench.track()
    bench.age()
    bench.track()
    bench.rig.mine()
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
    Scenario(
        "margin goes in, reorg of its opening",
        _put_in_before_its_trade,
        _ask_in_once,
        # The latter where it is opened anew within the second in which it was, and so is the row that it was.
        {"one": FILLED, IN: one_of("changed", "final_reverted:no_position", "final_reverted:venue_revert")},
        before=_order,
        left=1,
    ),
]
