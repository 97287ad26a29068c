"""Roads of closes, and of more than one order at once."""

from execution_app import tasks
from execution_app.engine import exits
from execution_app.models import Position
from execution_app.states import PositionState
from ops.rehearsal import venue
from tests import real_parts
from tests.crash.bench import Bench
from tests.crash.roads_open import open_one, post_one
from tests.crash.scenario import EVERY_FAULT, FEW, FILLED, Scenario, one_of
from tests.rig import rpc_call

DONE = {"one": FILLED}
# A machine so slow that the mode falls between two looks holds the open, and the close behind it ends what is held.
FILLED_OR_ENDED = FILLED | one_of("rejected:superseded_by_close")
HALF = {"reduce_pct": 50}
NEXT = {"two": "CLOSE", "next": "LONG", "last": "CLOSE"}
AMOUNT = {"reduce_usdc": 7}


def _close(bench: Bench) -> None:
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()


def _slot_used_again(bench: Bench) -> None:
    """The venue gives the next trade the number of the one that was closed; a close takes the one that stands."""
    for signal_id, side in NEXT.items():
        bench.accept(signal_id, side)
        bench.submit()
        bench.live_on()


def _post_next(bench: Bench) -> None:
    for signal_id, side in NEXT.items():
        bench.post(signal_id, side)


def post_close(bench: Bench) -> None:
    bench.post("two", "CLOSE")


def _part(bench: Bench) -> None:
    bench.accept("two", "CLOSE", **HALF)
    bench.submit()
    bench.live_on()


def _post_part(bench: Bench) -> None:
    bench.post("two", "CLOSE", **HALF)


def _open_two(bench: Bench) -> None:
    bench.accept("one")
    bench.accept("more")
    bench.submit()
    bench.live_on()


def _amount_and_part(bench: Bench) -> None:
    """An amount that is more than one position, and half of what it leaves: neither takes what is the other's."""
    bench.accept("two", "CLOSE", **AMOUNT)
    bench.accept("three", "CLOSE", **HALF)
    for _ in range(3):
        bench.submit()
        bench.live_on()
        bench.age()
        bench.sweep()


def _post_amount_and_part(bench: Bench) -> None:
    bench.post("two", "CLOSE", **AMOUNT)
    bench.post("three", "CLOSE", **HALF)


def _open_and_close(bench: Bench) -> None:
    """The close comes while the open is under way, and waits for it."""
    bench.accept()
    bench.submit()
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()
    bench.track()
    bench.live_on()


def _post_open_and_close(bench: Bench) -> None:
    bench.post("one")
    bench.post("two", "CLOSE")


def _two_opens_and_a_close(bench: Bench) -> None:
    """The first one's bell is lost: whoever decides a later signal decides it before."""
    bench.post("one")
    bench.accept("more")
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()
    bench.track()
    bench.live_on()


def _post_three(bench: Bench) -> None:
    bench.post("one")
    bench.post("more")
    bench.post("two", "CLOSE")


def _two_workers(bench: Bench) -> None:
    """Another process works on the same wallet at the same time, and outlives this one."""
    bench.accept("one")
    bench.accept("more")
    bench.beside(bench.submit, bench.track)
    bench.submit()
    bench.track()
    bench.await_helpers()
    bench.live_on()


def _post_two(bench: Bench) -> None:
    bench.post("one")
    bench.post("more")


def _compared(bench: Bench) -> None:
    """Positions are held against the venue's while one is opened."""
    bench.accept()
    bench.submit()
    bench.live_on()
    tasks.compare_positions()
    bench.rig.mine()
    tasks.compare_positions()


def pause(*, paused: bool) -> None:
    rpc_call("evm_setAutomine", True)
    venue.set_paused(real_parts.anvil.url, real_parts.deployment, paused=paused)
    rpc_call("evm_setAutomine", False)


def _close_reverts(bench: Bench) -> None:
    """The venue is paused between broadcast and block; the exit is asked for again."""
    bench.steer("hold")
    bench.accept("two", "CLOSE")
    bench.submit()
    pause(paused=True)
    bench.steer("release", "all")
    bench.rig.mine(4)
    bench.track()
    pause(paused=False)
    bench.age()
    bench.sweep()
    bench.track()
    bench.live_on()


def _unpause_post(bench: Bench) -> None:
    bench.steer("release", "all")
    pause(paused=False)
    bench.post("two", "CLOSE")


def _close_reverts_for_ever(bench: Bench) -> None:
    """The venue stays paused: what costs gas each time is not asked for ever."""
    bench.accept("two", "CLOSE")
    for _ in range(4):
        bench.steer("hold")
        bench.submit()
        pause(paused=True)
        bench.steer("release", "all")
        bench.rig.mine(4)
        bench.track()
        pause(paused=False)
        bench.age()


def _leave_all(bench: Bench) -> None:
    """A person leaves everything: one exit a position, whoever asks how often."""
    bench.reduce_only()
    _ask_exits(bench)
    bench.submit()
    bench.live_on()


def _ask_exits(_: Bench) -> None:
    for position in Position.objects.filter(state=PositionState.OPEN):
        exits.ask(position, key=f"admin:leave:{position.trade_index}", by="crash")


ROADS = [
    Scenario(
        "close", _close, post_close, DONE | {"two": FILLED}, left=0, before=open_one, faults=EVERY_FAULT
    ),
    Scenario(
        "partial close",
        _part,
        _post_part,
        DONE | {"two": FILLED},
        left=1,
        before=open_one,
        faults=EVERY_FAULT,
    ),
    Scenario(
        "an amount and a part",
        _amount_and_part,
        _post_amount_and_part,
        DONE
        | {
            "more": FILLED,
            "two": FILLED,
            "two#2": FILLED,
            "three": FILLED | one_of("no_op"),
            "three#2?": FILLED | one_of("no_op"),
        },
        left=1,
        before=_open_two,
    ),
    Scenario(
        "open and close behind it",
        _open_and_close,
        _post_open_and_close,
        {
            "one": FILLED_OR_ENDED,
            "two": FILLED | one_of("no_op"),
            "two#2?": FILLED | one_of("no_op"),
        },
        left=0,
        faults=("lost", "reset"),
    ),
    Scenario(
        "two opens, then a close",
        _two_opens_and_a_close,
        _post_three,
        {
            "one": FILLED_OR_ENDED,
            "more": FILLED_OR_ENDED,
            "two": FILLED | one_of("no_op"),
            "two#2?": FILLED | one_of("no_op"),
            "two#3?": one_of("no_op", "filled"),
        },
        left=0,
        faults=("lost", "refused", "reset"),
    ),
    Scenario(
        "two workers",
        _two_workers,
        _post_two,
        DONE | {"more": FILLED},
        left=2,
        faults=("lost", "slow"),
        deaths=20,  # it waits for the other one, four times as long as others take
    ),
    Scenario("compared", _compared, post_one, DONE, left=1),
    Scenario(
        "close reverts",
        _close_reverts,
        _unpause_post,
        DONE | {"two": one_of("final_reverted", "filled"), "two#2?": FILLED},
        left=0,
        before=open_one,
        alone={"two": one_of("final_reverted"), "two#2": FILLED},
    ),
    Scenario(
        "slot used again",
        _slot_used_again,
        _post_next,
        # Who comes late finds both open: one is what the other close has taken.
        DONE
        | {"two": FILLED, "next": FILLED_OR_ENDED}
        | dict.fromkeys(("last", "last#2?"), FILLED | one_of("no_op")),
        before=open_one,
        alone={"next": FILLED, "last": FILLED},
        deaths=FEW,
    ),
    Scenario(
        "close reverts, again and again",
        _close_reverts_for_ever,
        _unpause_post,
        DONE | {f"two{number}": FILLED | one_of("final_reverted") for number in ("", "#2?", "#3?")},
        before=open_one,
        alone={f"two{number}": one_of("final_reverted") for number in ("", "#2", "#3")},
        deaths=FEW,
    ),
    Scenario(
        "leave everything",
        _leave_all,
        _ask_exits,
        DONE | {"admin:leave:0": FILLED},
        left=0,
        before=open_one,
        faults=("lost", "5xx"),
    ),
]
