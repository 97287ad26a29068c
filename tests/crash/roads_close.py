"""Roads of closes, of more than one at once, and of what the chain and its keeper do meanwhile."""

from decimal import Decimal

from execution_app import tasks
from execution_app.engine import exits
from execution_app.models import Position
from execution_app.states import PositionState
from execution_app.venues import onchain
from ops.rehearsal import venue
from tests import real_parts
from tests.crash.bench import Bench
from tests.crash.roads_open import open_one, post_one
from tests.crash.scenario import EVERY_FAULT, FILLED, Scenario, one_of
from tests.rig import rpc_call

DONE = {"one": FILLED}
HALF = {"reduce_pct": 50}


def _close(bench: Bench) -> None:
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()


def _post_close(bench: Bench) -> None:
    bench.post("two", "CLOSE")


def _part(bench: Bench) -> None:
    bench.accept("two", "CLOSE", **HALF)
    bench.submit()
    bench.live_on()


def _post_part(bench: Bench) -> None:
    bench.post("two", "CLOSE", **HALF)


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
    bench.accept("one")
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


def _reorg_of_order(bench: Bench) -> None:
    bench.rig.mine(2)
    bench.accept()
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _reorg_of_fill(bench: Bench) -> None:
    bench.rig.mine(2)
    bench.accept()
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.rig.keep()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.rig.keep()
    bench.track()
    bench.rig.mine(4)
    bench.track()


def _reorg_of_both(bench: Bench) -> None:
    """Order and fill leave together."""
    bench.rig.mine(2)
    bench.accept()
    bench.submit()
    bench.rig.mine()
    bench.rig.keep()
    bench.track()
    bench.reorganise(2)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _reorg_of_close(bench: Bench) -> None:
    bench.rig.mine(2)
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.rig.keep()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.live_on()


def _refund(bench: Bench) -> None:
    """The price has gone when the keeper looks: the venue gives the collateral back."""
    bench.accept("one", slippage_pct=TIGHT)
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.set_price(200_000)
    bench.rig.keep()
    bench.track()
    bench.rig.mine(4)
    bench.track()


TIGHT = 0.01


def _post_tight(bench: Bench) -> None:
    bench.post("one", slippage_pct=TIGHT)


def _owner_closes(bench: Bench) -> None:
    """The trader ends their trade with their own key; no intent of ours is about it."""
    open_one(bench)
    trading = real_parts.deployment.trading
    fee = rpc_call("eth_call", {"to": trading, "data": "0x" + onchain.call_execution_fee().hex()}, "latest")
    order = onchain.CloseOrder(bench.rig.trader.address, onchain.PAIRS["BTC-USD"], 0, Decimal(5), Decimal(1))
    call = {
        "from": bench.rig.trader.address,
        "to": trading,
        "data": "0x" + onchain.encode_close(order).hex(),
        "value": hex(int(fee, 16)),
        "gas": hex(2_000_000),
    }
    rpc_call("anvil_impersonateAccount", bench.rig.trader.address)
    rpc_call("evm_setAutomine", True)
    rpc_call("eth_sendTransaction", call)
    rpc_call("evm_setAutomine", False)
    bench.rig.keep()


def _closed_elsewhere(bench: Bench) -> None:
    bench.accept("two", "CLOSE")
    bench.submit()
    tasks.compare_positions()
    bench.rig.mine(4)
    bench.age()
    bench.submit()
    tasks.compare_positions()
    bench.track()


def _post_and_compare(bench: Bench) -> None:
    bench.post("two", "CLOSE")
    tasks.compare_positions()
    bench.rig.mine(4)


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


def _leave_all(bench: Bench) -> None:
    """A person leaves everything: one exit a position, whoever asks how often."""
    bench.reduce_only()
    _ask_exits(bench)
    bench.submit()
    bench.live_on()


def _ask_exits(_: Bench) -> None:
    for position in Position.objects.filter(state=PositionState.OPEN):
        exits.ask(position, key=f"admin:leave:{position.trade_index}", by="crash")


def _foreign(bench: Bench) -> None:
    """The key signs elsewhere, in our slot: the nonce is lost, the wallet halts, nothing is queued again."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    _steal(bench)
    bench.track()
    bench.rig.mine(4)
    bench.track()
    bench.accept("more")
    bench.submit()
    bench.age()
    bench.track()


def _steal(bench: Bench) -> None:
    """Unless something of ours, or the theft itself, is in the slot already."""
    count = int(rpc_call("eth_getTransactionCount", bench.rig.wallet.address, "latest"), 16)
    if count == 0:
        bench.spend_elsewhere(0)
        bench.rig.mine()


def _post_stolen(bench: Bench) -> None:
    _steal(bench)
    bench.steer("release", "none")
    bench.post("one")
    bench.post("more")


def _counted_elsewhere(bench: Bench) -> None:
    """The chain has more of this wallet than we signed."""
    _steal(bench)
    bench.track()
    bench.accept()
    bench.submit()
    bench.track()


def _post_counted(bench: Bench) -> None:
    _steal(bench)
    bench.post("one")


WAITS = one_of("held", "pending")
ROADS = [
    Scenario(
        "close", _close, _post_close, DONE | {"two": FILLED}, left=0, before=open_one, faults=EVERY_FAULT
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
        "open and close behind it",
        _open_and_close,
        _post_open_and_close,
        DONE | {"two": FILLED | one_of("no_op"), "two#2?": FILLED | one_of("no_op")},
        left=0,
        faults=("lost", "reset"),
    ),
    Scenario(
        "two opens, then a close",
        _two_opens_and_a_close,
        _post_three,
        DONE
        | {
            "more": FILLED,
            "two": FILLED | one_of("no_op"),
            "two#2?": FILLED | one_of("no_op"),
            "two#3?": one_of("no_op", "filled"),
        },
        left=0,
        faults=("lost", "refused", "reset"),
    ),
    Scenario(
        "two workers", _two_workers, _post_two, DONE | {"more": FILLED}, left=2, faults=("lost", "slow")
    ),
    Scenario("reorg of the order", _reorg_of_order, post_one, DONE, left=1, faults=("lost", "5xx")),
    Scenario("reorg of the fill", _reorg_of_fill, post_one, DONE, left=1, faults=("reset",)),
    Scenario("reorg of both", _reorg_of_both, post_one, DONE, left=1, faults=("reset",)),
    Scenario(
        "reorg of a close",
        _reorg_of_close,
        _post_close,
        DONE | {"two": FILLED},
        left=0,
        before=open_one,
    ),
    Scenario(
        "keeper refunds",
        _refund,
        _post_tight,
        {"one": one_of("venue_cancelled", "filled", "rejected")},
        faults=("lost", "reset"),
    ),
    Scenario(
        "closed elsewhere",
        _closed_elsewhere,
        _post_and_compare,
        DONE | {"two": one_of("no_op")},
        left=0,
        before=_owner_closes,
        faults=("5xx", "reset"),
    ),
    Scenario("compared", _compared, post_one, DONE, left=1),
    Scenario(
        "close reverts",
        _close_reverts,
        _unpause_post,
        DONE | {"two": one_of("final_reverted", "filled"), "two#2?": FILLED},
        left=0,
        before=open_one,
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
    Scenario(
        "foreign transaction",
        _foreign,
        _post_stolen,
        # What was signed before the theft was noticed may have gone behind it.
        {"one": WAITS | one_of("lost_nonce"), "more": WAITS | FILLED | one_of("lost_nonce")},
        finished=False,
        faults=("reset",),
    ),
    Scenario(
        "counted elsewhere",
        _counted_elsewhere,
        _post_counted,
        {"one": WAITS | one_of("lost_nonce")},
        finished=False,
    ),
]
