"""Roads of closes that a level demands."""

from decimal import Decimal

from execution_app import tasks
from execution_app.book import protections
from execution_app.models import Position
from execution_app.states import PositionState
from tests.crash.bench import Bench
from tests.crash.roads_open import fill_one
from tests.crash.scenario import FEW, FILLED, Scenario, one_of
from tests.rig import rpc_call

DONE = {"one": FILLED}
STOP_USD = Decimal(90_000)


def _open_trailing(bench: Bench) -> None:
    bench.accept("one", trailing_stop_pct=5)
    bench.submit()
    bench.live_on()


def _post_trailing(bench: Bench) -> None:
    bench.post("one", trailing_stop_pct=5)


def _open_with_stop_loss(bench: Bench) -> None:
    bench.accept("one", stop_loss=95_000)
    bench.submit()
    bench.live_on()


def _level_fires(bench: Bench) -> None:
    """The best price is followed, then the price falls."""
    bench.set_price(110_000)
    tasks.watch_levels()
    _fall(bench)
    bench.submit()
    bench.live_on()


def _fall(bench: Bench) -> None:
    with bench.aside():
        bench.set_price(90_000)
    tasks.watch_levels()


def _native_level_is_missed(bench: Bench) -> None:
    """The price comes back and falls again; the venue had its time, and did not close."""
    _fall(bench)
    with bench.aside():
        bench.set_price(99_000)
    tasks.watch_levels()
    _fall(bench)
    bench.age()
    tasks.watch_levels()
    bench.submit()
    bench.live_on()


def _fall_and_wait(bench: Bench) -> None:
    _fall(bench)
    bench.age()
    tasks.watch_levels()


def _stop_refuses(bench: Bench) -> None:
    """The close that was asked for meets a stop; the level is judged anew when it is lifted."""
    _fall(bench)
    bench.stop()
    bench.submit()
    bench.resume()
    bench.open_gate()
    tasks.watch_levels()
    bench.submit()
    bench.live_on()


def _resume_and_fall(bench: Bench) -> None:
    bench.resume()
    bench.open_gate()
    _fall(bench)


def _reorg_of_guarded(bench: Bench) -> None:
    """A person guards a trade whose opening leaves the chain, and comes again later."""
    fill_one(bench)
    _guard(bench)
    bench.reorganise(1)
    bench.track()
    rpc_call("evm_increaseTime", 5)
    bench.rig.keep()
    bench.track()
    assert protections.standing().get().stop_loss == STOP_USD
    bench.rig.mine(4)
    bench.track()


def _guard(bench: Bench) -> None:
    """Where there is something to guard, and nothing that does."""
    bare = Position.objects.filter(state=PositionState.OPEN, protections=None).first()
    if bare is not None:
        protections.change(bare.pk, {"stop_loss": STOP_USD}, by="crash", reason="crash")


def _post_and_guard(bench: Bench) -> None:
    bench.post("one")
    _guard(bench)


ROADS = [
    Scenario(
        "guarded, then a reorg of the fill", _reorg_of_guarded, _post_and_guard, DONE, left=1, deaths=FEW
    ),
    Scenario("an open with levels", _open_trailing, _post_trailing, DONE, left=1),
    Scenario(
        "a level fires",
        _level_fires,
        _fall,
        DONE | {"tpsl:1:trailing_stop": FILLED},
        left=0,
        before=_open_trailing,
        faults=("lost", "refused", "5xx"),
    ),
    Scenario(
        "a level that the venue missed",
        _native_level_is_missed,
        _fall_and_wait,
        DONE | {"tpsl:1:stop_loss": FILLED},
        left=0,
        before=_open_with_stop_loss,
        faults=("lost",),
    ),
    Scenario(
        "a level fires, then a stop",
        _stop_refuses,
        _resume_and_fall,
        DONE
        | {
            "tpsl:1:trailing_stop": FILLED | one_of("rejected:emergency_stop", "final_cancelled"),
            "tpsl:2:trailing_stop?": FILLED | one_of("no_op"),
        },
        left=0,
        before=_open_trailing,
        mode="",
    ),
]
