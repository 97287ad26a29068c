"""Roads of opens: straight, silent, refused, replaced, cancelled, expired."""

from execution_app.engine import reserve
from execution_app.models import TxSend
from tests.crash.bench import GWEI, Bench
from tests.crash.scenario import EVERY_FAULT, FEW, FILLED, Scenario, one_of
from tests.rig import ETH, rpc_call

CANCELLED = one_of("rejected", "final_cancelled")
SIDES = ("LONG", "SHORT")
CHEAP = "transaction underpriced: gas tip cap 1, minimum needed 2"


def post_one(bench: Bench) -> None:
    bench.post("one")


def fill_one(bench: Bench) -> None:
    """Up to its fill, in a block that may still leave the chain."""
    bench.rig.mine(2)
    bench.accept()
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.rig.keep()
    bench.track()


def open_one(bench: Bench) -> None:
    bench.accept()
    bench.submit()
    bench.live_on()


def _lost_bells(bench: Bench) -> None:
    """Only sweeps are heard."""
    bench.post("one")
    bench.age()
    bench.sweep()
    bench.track()
    bench.live_on()


def _lost(bench: Bench) -> None:
    """The node takes the bytes and nobody hears of it."""
    bench.accept()
    bench.steer("lose", 1)
    bench.submit()
    bench.live_on()


def _mined_unheard(bench: Bench) -> None:
    """Nobody hears that the node takes the bytes. They come again when they are mined: their nonce is used, by themselves."""
    bench.accept()
    bench.steer("lose", 1)
    bench.submit()
    bench.rig.mine()
    bench.age()
    bench.submit()
    bench.live_on()


def _lost_then_bumped(bench: Bench) -> None:
    bench.steer("hold")
    bench.accept()
    bench.steer("lose", 1)
    bench.submit()
    for _ in range(2):
        bench.age()
        bench.track()
    bench.steer("release", "first")
    bench.live_on()


def _make_dear(bench: Bench) -> None:
    """The base fee is most of what is paid: the market alone raises no replacement's cap."""
    rpc_call("anvil_setNextBlockBaseFeePerGas", hex(10 * GWEI))
    bench.rig.mine()


def _bump(bench: Bench) -> None:
    """The node keeps the first bytes to itself, a replacement is sent, and the first are mined after all."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    bench.track()  # it is not late yet
    bench.age()
    bench.track()
    bench.steer("release", "first")
    bench.live_on()


def _bump_twice(bench: Bench) -> None:
    """Of three sets of bytes in one slot the newest is mined."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    for _ in range(2):
        bench.age()
        bench.track()
    bench.steer("release", "all")
    bench.live_on()


def _release(bench: Bench) -> None:
    bench.steer("release", "first")
    bench.rig.mine()
    bench.post("one")


def _already_known(bench: Bench) -> None:
    """The node holds the bytes, and says so when they come again."""
    bench.steer("hold")
    bench.accept()
    bench.steer("lose", 1)
    bench.submit()
    bench.age()
    bench.submit()
    bench.steer("release", "all")
    bench.live_on()


def _short_of_funds(bench: Bench) -> None:
    """What the wallet cannot pay beside the first, and an exit, is not signed; then nodes say that it cannot pay."""
    bench.accept()
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)
    send = TxSend.objects.select_related("intent").get()
    cost_wei = send.intent.gas_limit * send.max_fee_wei + send.intent.value_wei
    rpc_call("anvil_setBalance", bench.rig.wallet.address, hex(int(2 * cost_wei)))
    bench.accept("more")
    reserve.reserve(bench.rig.wallet.pk)
    assert TxSend.objects.count() == 1, "signed, though the wallet cannot pay it"
    _pay_in(bench)
    bench.steer("refuse", 2, "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1")
    bench.submit()
    bench.age()
    bench.track()
    bench.live_on()
    bench.age()
    bench.track()
    bench.live_on()


def _pay_in(bench: Bench) -> None:
    rpc_call("anvil_setBalance", bench.rig.wallet.address, hex(1_000 * ETH))


def _pay_in_and_post(bench: Bench) -> None:
    _pay_in(bench)
    bench.post("one")
    bench.post("more")


def _too_cheap(bench: Bench) -> None:
    """All nodes refuse the fee, now and ever: only a replacement passes."""
    bench.accept()
    bench.steer("refuse_first", 0, CHEAP)
    bench.submit()
    for _ in range(2):
        bench.age()
        bench.track()
    bench.live_on()


def _too_cheap_and_late(bench: Bench) -> None:
    """The same, and its max lag passes meanwhile: no replacement may be the first to leave."""
    bench.accept()
    bench.steer("refuse_first", 0, CHEAP)
    bench.submit()
    bench.lag()
    for _ in range(2):
        bench.age()
        bench.track()
    bench.live_on()


def _never_valid(bench: Bench) -> None:
    """No node will ever take these bytes: their slot is cancelled."""
    bench.accept()
    bench.steer("refuse", 1, "exceeds block gas limit")
    bench.submit()
    for _ in range(2):
        bench.age()
        bench.track()
    bench.live_on()


def _cancel(bench: Bench) -> None:
    """Reduce-only comes between signature and first broadcast: the slot is filled by a cancel."""
    bench.accept()
    reserve.reserve(bench.rig.wallet.pk)
    bench.reduce_only()
    bench.submit()
    bench.live_on()


def _post_reduced(bench: Bench) -> None:
    bench.reduce_only()
    bench.post("one")


def _expire(bench: Bench) -> None:
    """Max lag passes between signature and first broadcast."""
    bench.accept()
    reserve.reserve(bench.rig.wallet.pk)
    bench.lag()
    bench.submit()
    bench.live_on()


def _post_expired(bench: Bench) -> None:
    bench.post("one")
    bench.age()
    bench.sweep_signals()
    bench.lag()


def _duplicates(bench: Bench) -> None:
    """The client sends again and again, while everything goes on."""
    bench.post("one")
    bench.post("one")
    bench.decide("one")
    bench.post("one")
    bench.submit()
    bench.post("one")
    bench.live_on()
    bench.post("one")


def _double_bells(bench: Bench) -> None:
    bench.post("one")
    for _ in range(2):
        bench.decide("one")
    for _ in range(2):
        bench.submit()
    bench.rig.mine()
    for _ in range(2):
        bench.track()
    bench.rig.keep()
    for _ in range(2):
        bench.track()
    bench.rig.mine(4)
    bench.track()


def _bare_receipt(bench: Bench) -> None:
    """A node that has not indexed the logs yet leaves them out of the receipt."""
    bench.accept()
    bench.submit()
    bench.steer("bare", 1)
    bench.rig.mine()
    bench.track()
    bench.live_on()


def _late_receipts(bench: Bench) -> None:
    """The node counts the slot as consumed and has no receipt yet: that proves nothing."""
    bench.accept()
    bench.submit()
    bench.steer("hide", True)
    bench.rig.mine()
    bench.track()
    bench.track()
    bench.steer("hide", False)
    bench.live_on()


def _burst(bench: Bench) -> None:
    """Five orders on a wallet that never traded, two of them short."""
    for number in range(5):
        bench.accept(f"b{number}", SIDES[number % 2])
    bench.submit()
    bench.live_on()


def _post_burst(bench: Bench) -> None:
    for number in range(5):
        bench.post(f"b{number}", SIDES[number % 2])


ROADS = [
    Scenario("open", open_one, post_one, {"one": FILLED}, left=1, faults=EVERY_FAULT),
    Scenario("lost bells", _lost_bells, post_one, {"one": FILLED}, left=1),
    Scenario("lost answer", _lost, post_one, {"one": FILLED}, left=1, faults=("slow", "5xx", "reset")),
    Scenario("mined unheard", _mined_unheard, post_one, {"one": FILLED}, left=1, deaths=FEW),
    Scenario(
        "lost answer, then bump",
        _lost_then_bumped,
        _release,
        {"one": FILLED},
        left=1,
        faults=("5xx", "reset"),
        replaced=("bump",),
    ),
    Scenario(
        "bump",
        _bump,
        _release,
        {"one": FILLED},
        left=1,
        faults=EVERY_FAULT,
        before=_make_dear,
        replaced=("bump",),
    ),
    Scenario(
        "bump twice",
        _bump_twice,
        _release,
        {"one": FILLED},
        left=1,
        faults=("lost", "refused", "reset"),
        replaced=("bump", "bump"),
    ),
    Scenario("already known", _already_known, _release, {"one": FILLED}, left=1),
    Scenario(
        "insufficient funds",
        _short_of_funds,
        _pay_in_and_post,
        {"one": FILLED, "more": FILLED},
        left=2,
        faults=("reset",),
        deaths=FEW,
    ),
    Scenario(
        "fee too low",
        _too_cheap,
        post_one,
        {"one": FILLED},
        left=1,
        faults=("lost", "5xx"),
        replaced=("bump", "bump"),
    ),
    Scenario(
        "fee too low, then expired",
        _too_cheap_and_late,
        _post_expired,
        {"one": one_of("expired", "final_cancelled")},
        left=0,
        replaced=("cancel", "cancel"),
    ),
    Scenario(
        "never valid",
        _never_valid,
        post_one,
        {"one": one_of("filled", "final_cancelled")},
        alone={"one": one_of("final_cancelled")},
        replaced=("cancel", "cancel"),
    ),
    Scenario(
        "cancel in slot",
        _cancel,
        _post_reduced,
        {"one": CANCELLED},
        left=0,
        faults=EVERY_FAULT,
        replaced=("cancel",),
    ),
    Scenario(
        "expire",
        _expire,
        _post_expired,
        {"one": one_of("expired", "final_cancelled")},
        left=0,
        faults=EVERY_FAULT,
        replaced=("cancel",),
    ),
    Scenario("duplicate signals", _duplicates, post_one, {"one": FILLED}, left=1, faults=("lost", "reset")),
    Scenario("duplicate bells", _double_bells, post_one, {"one": FILLED}, left=1, faults=EVERY_FAULT),
    Scenario(
        "burst of five", _burst, _post_burst, {f"b{n}": FILLED for n in range(5)}, left=5, faults=EVERY_FAULT
    ),
]
