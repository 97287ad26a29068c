"""Roads on which the chain goes its own way: reorgs, refunds, owners who close, keys that sign elsewhere."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from execution_app import tasks
from execution_app.engine import reserve, restored
from execution_app.models import RestorePoint, Wallet
from execution_app.node import signers
from execution_app.venues import onchain
from tests import real_parts
from tests.crash.bench import Bench
from tests.crash.roads_close import DONE, post_close
from tests.crash.roads_desks import ask_gateway
from tests.crash.roads_open import fill_one, open_one, post_one
from tests.crash.scenario import FEW, FILLED, Scenario, one_of
from tests.rig import rpc_call


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
    fill_one(bench)
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


def _liar(bench: Bench) -> None:
    """One node of three says that the nonce is used and each block final: what is under way is not lost, nor is it over."""
    bench.be_among("used")
    bench.steer("hold")
    bench.accept()
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.track()
    assert not Wallet.objects.exclude(halted_reason="").exists(), "halted: one node's word is no majority's"
    bench.steer("release", "all")
    bench.live_on()


def _liar_remembers(bench: Bench) -> None:
    """One node of three shows for ever what was mined in a block that has left."""
    bench.be_among("fork")
    _reorg_of_order(bench)
    bench.live_on()
    assert bench.is_done(), "stuck, I10: while one node remembers a fork"


def _liar_calls_reverted(bench: Bench) -> None:
    """One node of three calls a close reverted: it is not sent again."""
    bench.be_among("reverted")
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.rig.mine()
    bench.track()
    bench.age()
    bench.track()
    bench.submit()
    bench.live_on()


def _liar_calls_unused(bench: Bench) -> None:
    """One node of three says of a message that it is unused behind its deadline, and it was carried out: it has not lapsed.

    Nor is the position over that this node does not have.
    """
    open_one(bench)
    bench.be_among("unused")
    ask_gateway(bench)
    bench.submit()
    bench.live_on()
    rpc_call("evm_increaseTime", 120)
    for _ in range(2):
        bench.rig.mine(4)
        bench.track()
        tasks.compare_positions()


def _ask_and_post(bench: Bench) -> None:
    bench.post("one")
    ask_gateway(bench)


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


def _release_post(bench: Bench) -> None:
    bench.steer("release", "all")
    bench.post("one")


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
    for _ in range(2):
        tasks.compare_positions()  # the block at which it was missed first is not final yet
    bench.rig.mine(4)
    bench.age()
    bench.submit()
    tasks.compare_positions()
    bench.track()


def _post_and_compare(bench: Bench) -> None:
    bench.post("two", "CLOSE")
    tasks.compare_positions()
    bench.rig.mine(4)


def _foreign(bench: Bench) -> None:
    """The key signs elsewhere, in our slot: the nonce is lost, the wallet halts, nothing is queued again."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    _steal(bench)
    bench.track()
    bench.rig.mine(4)
    bench.accept("next")
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)  # signed, and not sent yet
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
    bench.post("next")
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


def _bind_to_another(bench: Bench) -> None:
    """The journal knows the wallet's first nonce as another order's: this database is an old copy."""
    wallet = bench.rig.wallet
    other = signers.Slot(
        wallet.chain_id, wallet.address, 0, wallet.address, 0, signers.CANCEL_GAS, b"", order=bytes([7]) * 32
    )
    assert signers.bind([other]) == [None]


def _forgotten(bench: Bench) -> None:
    """The nonce that an earlier copy of the database has given away is not given away again."""
    bench.accept()
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()


def _remember_more(bench: Bench) -> None:
    """What was seen of this database outside of it is more than it knows itself: it is an older copy."""
    wallet, seen = bench.rig.wallet, restored.look()
    restored._store(replace(seen, next_nonces={f"{wallet.chain_id}:{wallet.address}": 1}))
    then = datetime.now(UTC) - timedelta(minutes=30)
    told = {"backup_sha256": "0" * 64, "epoch": 1, "restored_by": "crash", "reason": "crash"}
    RestorePoint.objects.create(snapshot_at=then, restored_at=then, **told)


def _older_copy(bench: Bench) -> None:
    """Nothing of it is signed before a person has looked, and what may be of before the restore is refused."""
    bench.track()
    _post_around_restore(bench)
    bench.decide("one")
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()


def _post_around_restore(bench: Bench) -> None:
    restored_at = RestorePoint.objects.get().restored_at
    for signal_id, after in (("old", -1), ("one", 1)):
        bench.post(signal_id, ts=(restored_at + timedelta(minutes=after)).isoformat())


WAITS = one_of("held", "pending")


ROADS = [
    Scenario("reorg of the order", _reorg_of_order, post_one, DONE, left=1, faults=("lost", "5xx")),
    Scenario("reorg of the fill", _reorg_of_fill, post_one, DONE, left=1, faults=("reset",)),
    Scenario("reorg of both", _reorg_of_both, post_one, DONE, left=1, faults=("reset",)),
    Scenario(
        "reorg of a close",
        _reorg_of_close,
        post_close,
        DONE | {"two": FILLED},
        left=0,
        before=open_one,
    ),
    Scenario("a node that lies", _liar, _release_post, DONE, left=1, deaths=FEW),
    Scenario("a node that remembers a fork", _liar_remembers, post_one, DONE, left=1, deaths=FEW),
    Scenario(
        "a node that says reverted",
        _liar_calls_reverted,
        post_close,
        DONE | {"two": FILLED},
        left=0,
        before=open_one,
        deaths=FEW,
    ),
    Scenario(
        "a node that says unused",
        _liar_calls_unused,
        _ask_and_post,
        DONE | {"desk:one": FILLED},
        left=2,
        deaths=FEW,
    ),
    Scenario(
        "keeper refunds",
        _refund,
        _post_tight,
        {"one": one_of("venue_cancelled", "filled", "rejected")},
        faults=("lost", "reset"),
        alone={"one": one_of("venue_cancelled")},
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
    Scenario(
        "foreign transaction",
        _foreign,
        _post_stolen,
        # What was signed before the theft was noticed may have gone behind it; what no node is known to have of it
        # leaves when somebody lets the wallet go on, and until then a node has what came after it queued.
        {
            "one": WAITS | one_of("lost_nonce"),
            "next": WAITS | FILLED | one_of("lost_nonce", "signed", "sending"),
            "more": WAITS | FILLED | one_of("lost_nonce", "signed", "sending", "pending_inclusion"),
        },
        finished=False,
        alone={"one": one_of("lost_nonce"), "next": one_of("signed"), "more": WAITS},
        faults=("reset",),
    ),
    Scenario(
        "signed by an earlier copy",
        _forgotten,
        post_one,
        {"one": WAITS},
        before=_bind_to_another,
        finished=False,
        left=0,
    ),
    Scenario(
        "older copy of the database",
        _older_copy,
        _post_around_restore,
        {"old": one_of("rejected:older_than_restore"), "one": WAITS},
        before=_remember_more,
        finished=False,
        left=0,
        deaths=FEW,
    ),
    Scenario(
        "counted elsewhere",
        _counted_elsewhere,
        _post_counted,
        {"one": WAITS | one_of("lost_nonce")},
        finished=False,
        alone={"one": WAITS},
    ),
]
