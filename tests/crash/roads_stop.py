"""Roads on which somebody says no: stops, cancels that a person asks for, caps."""

import contextlib
from decimal import Decimal

from execution_app.engine import cancels, reserve, speedups
from execution_app.errors import Refused, Stale
from execution_app.gate import cap_rows, control
from execution_app.states import CapName, CapScope, Origin, RestrictionKind
from tests.crash.bench import SOURCE, Bench
from tests.crash.roads_open import CANCELLED, open_one
from tests.crash.scenario import EVERY_FAULT, FILLED, Scenario, one_of

BURST = {"b0": "BTC-USD", "b1": "BTC-USD", "b2": "BTC-USD", "e0": "ETH-USD", "e1": "ETH-USD"}


def _reserved(bench: Bench, signal_id: str = "one") -> None:
    bench.accept(signal_id)
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)


def _stop_then_resume(bench: Bench) -> None:
    """A stop between nonce and broadcast: the slot is parked, and leaves after the resume."""
    _reserved(bench)
    bench.stop()
    bench.submit()
    bench.age()
    bench.track()
    bench.resume()
    bench.submit()
    bench.live_on()


def _resume_post(bench: Bench) -> None:
    bench.resume()
    bench.look()
    bench.post("one")


def _stop_behind(bench: Bench) -> None:
    """A stop between broadcast and block: what has left is followed, nothing else leaves."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    bench.stop()
    bench.accept("two")
    bench.submit()
    bench.age()
    bench.track()
    bench.steer("release", "all")
    bench.live_on()
    bench.resume()


def _resume_both(bench: Bench) -> None:
    bench.steer("release", "all")
    bench.resume()
    bench.look()
    bench.post("one")
    bench.post("two")


def _stop_meets_broadcast(bench: Bench) -> None:
    """Another process stops while this one broadcasts: whatever leaves after that was named by the stop."""
    _reserved(bench)
    bench.beside(bench.stop)
    bench.submit()
    bench.await_helpers()
    bench.age()
    bench.track()
    bench.resume()
    bench.submit()
    bench.live_on()


def _stop_stays(bench: Bench) -> None:
    """A stop between nonce and broadcast that nobody lifts, though another one is: what is signed stays, visibly."""
    _reserved(bench)
    bench.stop()
    control.impose(RestrictionKind.STOP, Origin.ADMIN, by="crash", reason="crash")
    control.lift(RestrictionKind.STOP, Origin.ADMIN, by="crash", reason="crash")
    bench.submit()
    bench.age()
    bench.sweep()
    bench.rig.mine()
    bench.track()


def _stop_again(bench: Bench) -> None:
    bench.stop()
    bench.look()
    bench.post("one")


def _cancel_pending(bench: Bench) -> None:
    """A person stops and has the slots filled: whichever is mined decides."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    _cancel_all(bench)
    for _ in range(2):
        bench.track()  # the second finds its cancel on its way
    bench.age()
    bench.track()
    bench.steer("release", "all")
    bench.live_on()


def _cancel_all(bench: Bench) -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="crash", reason="crash")
    cancels.request(by="crash")


def _cancel_again(bench: Bench) -> None:
    _cancel_all(bench)
    bench.look()
    bench.steer("release", "all")
    bench.post("one")


def _cancel_unsent(bench: Bench) -> None:
    """Slots that were signed and never left get their cancel as the first that leaves."""
    _reserved(bench)
    _cancel_all(bench)
    bench.submit()
    bench.track()
    bench.live_on()


def _sped_up(bench: Bench) -> None:
    """A person wants the replacement before its time; whichever is mined decides."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    _speed_up()
    bench.track()
    bench.track()
    bench.steer("release", "all")
    bench.live_on()


def _speed_up() -> None:
    """Refused where the node's answer was lost, or it was asked for before."""
    with contextlib.suppress(Refused, Stale):
        speedups.request(f"sig:{SOURCE}:one", 0, by="crash", reason="crash test")


def _speed_again(bench: Bench) -> None:
    _speed_up()
    bench.steer("release", "all")
    bench.post("one")


def _cap(_: Bench) -> None:
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal(5), by="crash", reason="crash")


def _cap_tightened(bench: Bench) -> None:
    """A cap falls between nonce and broadcast: what no longer fits is cancelled in its slot."""
    _reserved(bench)
    _cap(bench)
    bench.submit()
    bench.live_on()


def _post_capped(bench: Bench) -> None:
    _cap(bench)
    bench.post("one")


def _caps_lifted(bench: Bench) -> None:
    """A cap refuses, is lifted, and the next one passes."""
    _cap(bench)
    bench.accept()
    bench.submit()
    cap_rows.lift_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", by="crash", reason="crash test")
    bench.accept("two")
    bench.submit()
    bench.live_on()


def _two_caps(_: Bench) -> None:
    """Two opens of BTC fit, and one of ETH."""
    for name, symbol, value in ((CapName.EXPOSURE, "BTC-USD", 20), (CapName.OPEN_POSITIONS, "ETH-USD", 1)):
        cap_rows.set_cap(name, CapScope.SYMBOL, symbol, Decimal(value), by="crash", reason="crash")


def _burst_meets_caps(bench: Bench) -> None:
    for signal_id, symbol in BURST.items():
        bench.accept(signal_id, symbol=symbol)
    bench.submit()
    bench.live_on()


def _post_burst(bench: Bench) -> None:
    for signal_id, symbol in BURST.items():
        bench.post(signal_id, symbol=symbol)


def _cancel_beside_exit(bench: Bench) -> None:
    """Who has all pending opens cancelled keeps the exits."""
    bench.steer("hold")
    bench.accept("two", "CLOSE")
    bench.submit()
    cancels.request(by="crash")
    bench.track()
    bench.age()
    bench.track()
    bench.steer("release", "all")
    bench.live_on()


def _cancel_and_post_exit(bench: Bench) -> None:
    cancels.request(by="crash")
    bench.steer("release", "all")
    bench.post("two", "CLOSE")


def _post_both(bench: Bench) -> None:
    cap_rows.lift_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", by="crash", reason="crash test")
    bench.post("one")
    bench.post("two")


ROADS = [
    Scenario(
        "stop, then resume", _stop_then_resume, _resume_post, {"one": FILLED}, left=1, faults=EVERY_FAULT
    ),
    Scenario(
        "stop meets broadcast", _stop_meets_broadcast, _resume_post, {"one": FILLED}, left=1, faults=("slow",)
    ),
    Scenario(
        "stop after broadcast",
        _stop_behind,
        _resume_both,
        {"one": FILLED, "two": one_of("filled", "rejected")},
        faults=("lost", "reset", "5xx"),
    ),
    Scenario(
        "stop stays",
        _stop_stays,
        _stop_again,
        {"one": one_of("rejected", "signed", "pending", "held")},
        finished=False,
    ),
    Scenario(
        "cancel pending",
        _cancel_pending,
        _cancel_again,
        {"one": CANCELLED | FILLED},
        faults=EVERY_FAULT,
        alone={"one": one_of("final_cancelled")},
        replaced=("cancel", "cancel"),
    ),
    Scenario(
        "cancel unsent",
        _cancel_unsent,
        _cancel_again,
        {"one": CANCELLED},
        left=0,
        faults=("lost", "refused", "reset"),
        replaced=("cancel",),
    ),
    Scenario(
        "cancel pending, not an exit",
        _cancel_beside_exit,
        _cancel_and_post_exit,
        {"one": FILLED, "two": FILLED},
        before=open_one,
        left=0,
    ),
    Scenario(
        "sped up",
        _sped_up,
        _speed_again,
        {"one": FILLED},
        left=1,
        faults=EVERY_FAULT,
        replaced=("bump",),
    ),
    Scenario(
        "cap tightened", _cap_tightened, _post_capped, {"one": CANCELLED}, left=0, faults=("lost", "5xx")
    ),
    Scenario(
        "burst meets caps",
        _burst_meets_caps,
        _post_burst,
        {
            **dict.fromkeys(("b0", "b1", "e0"), FILLED),
            "b2": one_of("rejected:exposure_above_cap"),
            "e1": one_of("rejected:open_positions_at_cap"),
        },
        before=_two_caps,
        left=3,
    ),
    Scenario(
        "cap set and lifted",
        _caps_lifted,
        _post_both,
        {"one": one_of("rejected", "filled"), "two": FILLED},
        before=_cap,
    ),
]
