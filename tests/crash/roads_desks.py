"""Roads of orders that are asked for at a desk, not by a signal: the asker asks again under the same key."""

from decimal import Decimal

from execution_app.desks.gateway import GatewayDesk
from execution_app.desks.onchain import OnChainDesk
from execution_app.desks.paper import PaperDesk
from execution_app.engine import reconcile, reserve
from execution_app.gate import cap_rows
from execution_app.models import Position
from execution_app.states import CapName, CapScope
from execution_app.venues.interface import CloseRequest, IncreaseRequest, LevelsRequest, OpenRequest
from tests.crash.bench import Bench
from tests.crash.scenario import FEW, FILLED, Scenario, one_of
from tests.rig import rpc_call

ASK = OpenRequest(
    key="desk:one", symbol="BTC-USD", is_long=True, collateral_usdc=Decimal(5), leverage_x=Decimal(2)
)


def _ask_onchain(bench: Bench) -> None:
    bench.look()
    OnChainDesk(bench.rig.trader).open(ASK)


def _ask_paper(bench: Bench) -> None:
    bench.look()
    PaperDesk(bench.rig.trader).open(ASK)


def _onchain(bench: Bench) -> None:
    _ask_onchain(bench)
    bench.submit()
    bench.live_on()


def ask_gateway(bench: Bench) -> None:
    bench.look()
    GatewayDesk(bench.rig.trader).open(ASK)


def _ask_in_peace(bench: Bench) -> None:
    """Nothing is wrong with the gateway any more."""
    bench.spoil(never=False, swallow_next=0)
    ask_gateway(bench)


def _gateway(bench: Bench) -> None:
    ask_gateway(bench)
    bench.submit()
    bench.live_on()


def _gateway_unheard(bench: Bench) -> None:
    """The gateway has accepted it and nobody hears of it; the bytes are posted again, and taken for another order."""
    bench.spoil(swallow_next=1, again=True, never=True)
    ask_gateway(bench)
    bench.submit()
    bench.age()
    bench.track()
    bench.spoil(never=False)
    bench.live_on()


def _gateway_lapses(bench: Bench) -> None:
    """Nobody executes it before its deadline, nor afterwards."""
    bench.spoil(never=True)
    ask_gateway(bench)
    bench.submit()
    bench.track()
    rpc_call("evm_increaseTime", 120)
    bench.rig.mine()
    bench.track()
    bench.track()  # the block that shows it unused is not final yet
    bench.rig.mine(4)
    bench.track()
    bench.spoil(never=False)
    bench.live_on()


def _gateway_reorganised(bench: Bench) -> None:
    """The block in which the operator submitted it leaves the chain."""
    ask_gateway(bench)
    bench.submit()
    bench.rig.mine()
    bench.operate()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _gateway_forgets(bench: Bench) -> None:
    """It has accepted it and knows nothing of it any more, so the same bytes are posted again."""
    bench.spoil(never=True)
    ask_gateway(bench)
    bench.submit()
    bench.make_gateway_forget()
    bench.spoil(never=False)
    for _ in range(2):
        bench.age()
        bench.track()
    bench.live_on()


def _ask_levels(bench: Bench) -> None:
    bench.look()
    position = Position.objects.get(state="open")
    wish = LevelsRequest("desk:levels", position.pk, Decimal(120_000), Decimal(90_000))
    GatewayDesk(bench.rig.trader).change_levels(wish)


def _levels(bench: Bench) -> None:
    _ask_levels(bench)
    bench.submit()
    bench.live_on()


def _levels_reorganised(bench: Bench) -> None:
    """The block in which the operator submitted them leaves the chain."""
    _ask_levels(bench)
    bench.submit()
    bench.rig.mine()
    bench.operate()
    bench.track()
    bench.reorganise(1)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _ask_increase(bench: Bench) -> None:
    bench.look()
    position = Position.objects.get(state="open")
    GatewayDesk(bench.rig.trader).increase(IncreaseRequest("desk:more", position.pk, Decimal(5)))


def _increase(bench: Bench) -> None:
    _ask_increase(bench)
    bench.submit()
    bench.live_on()


def _increase_reorganised(bench: Bench) -> None:
    """The blocks in which it was registered and carried out leave the chain."""
    _ask_increase(bench)
    bench.submit()
    bench.rig.mine()
    bench.operate()
    bench.track()
    bench.rig.keep()
    bench.track()
    bench.reorganise(2)
    bench.track()
    bench.age()
    bench.track()
    bench.live_on()


def _increase_reduced(bench: Bench) -> None:
    """Reduce-only holds: nothing is made larger."""
    bench.reduce_only()
    _ask_increase(bench)
    bench.submit()
    bench.live_on()


def _ask_reduced(bench: Bench) -> None:
    bench.reduce_only()
    _ask_increase(bench)


def _ask_close(bench: Bench) -> None:
    bench.spoil(never=False)
    bench.look()
    position = Position.objects.get()
    GatewayDesk(bench.rig.trader).close(CloseRequest("desk:close", position.pk))


def _close_lapses(bench: Bench) -> None:
    """Nobody executes the close before its deadline: it is asked for again."""
    _ask_close(bench)
    bench.spoil(never=True)
    bench.submit()
    bench.track()
    rpc_call("evm_increaseTime", 120)
    bench.rig.mine()
    bench.track()
    bench.rig.mine(4)
    bench.track()
    bench.spoil(never=False)
    bench.submit()
    bench.live_on()


def _close_and_increase(bench: Bench) -> None:
    """A close is on its way when more of the same is asked for: nothing is added to what somebody leaves."""
    _ask_close_then_more(bench)
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()
    bench.live_on()


def _ask_close_then_more(bench: Bench) -> None:
    _ask_close(bench)
    position = Position.objects.get()
    more = IncreaseRequest("desk:more", position.pk, Decimal(5))
    GatewayDesk(bench.rig.trader).increase(more)


def _increase_and_close(bench: Bench) -> None:
    """More was asked for and is not signed yet when somebody leaves: the close goes first, and nothing is left to add to."""
    _ask_more_then_close(bench)
    bench.submit()
    bench.live_on()
    bench.age()
    bench.sweep()
    bench.live_on()


def _ask_more_then_close(bench: Bench) -> None:
    bench.look()
    position = Position.objects.get()
    GatewayDesk(bench.rig.trader).increase(IncreaseRequest("desk:more", position.pk, Decimal(5)))
    _ask_close(bench)


def _cap_exposure(_: Bench) -> None:
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", Decimal(15), by="crash", reason="crash")


def _increase_meets_cap(bench: Bench) -> None:
    """What is open already leaves no room for as much again."""
    _ask_capped(bench)
    bench.submit()
    bench.live_on()


def _ask_capped(bench: Bench) -> None:
    _cap_exposure(bench)
    _ask_increase(bench)


def _gateway_stopped(bench: Bench) -> None:
    """A stop between signature and first post that nobody lifts: the message stays here."""
    ask_gateway(bench)
    reserve.reserve(bench.rig.wallet.pk)
    bench.stop()
    bench.submit()
    bench.age()
    bench.sweep()
    bench.live_on()


def _gateway_halted(bench: Bench) -> None:
    """The wallet is halted between signature and first post: the message stays here."""
    ask_gateway(bench)
    reserve.reserve(bench.rig.wallet.pk)
    _halt(bench)
    bench.submit()
    bench.age()
    bench.sweep()
    bench.live_on()


def _halt(bench: Bench) -> None:
    reconcile.halt_wallet(bench.rig.wallet, "crash")


def _halt_and_ask(bench: Bench) -> None:
    _halt(bench)
    ask_gateway(bench)


def stop_and_ask(bench: Bench) -> None:
    bench.stop()
    ask_gateway(bench)


INCREASED = {"desk:one": FILLED, "desk:more": FILLED}
LEVELS_TAKEN = {"desk:one": FILLED, "desk:levels": one_of("changed")}
ROADS = [
    Scenario("desk", _onchain, _ask_onchain, {"desk:one": FILLED}, left=1, faults=("lost", "reset")),
    Scenario("gateway desk", _gateway, ask_gateway, {"desk:one": FILLED}, left=1, faults=("lost", "reset")),
    Scenario("gateway unheard", _gateway_unheard, _ask_in_peace, {"desk:one": FILLED}, left=1),
    Scenario(
        "gateway lapses",
        _gateway_lapses,
        _ask_in_peace,
        {"desk:one": one_of("lapsed", "filled")},
        alone={"desk:one": one_of("lapsed")},
    ),
    Scenario("gateway forgets", _gateway_forgets, _ask_in_peace, {"desk:one": FILLED}, left=1),
    Scenario("gateway reorg", _gateway_reorganised, ask_gateway, {"desk:one": FILLED}, left=1),
    Scenario(
        "gateway levels",
        _levels,
        _ask_levels,
        LEVELS_TAKEN,
        before=_onchain,
        left=1,
        faults=("lost", "reset"),
    ),
    Scenario(
        "gateway levels, reorg",
        _levels_reorganised,
        _ask_levels,
        LEVELS_TAKEN,
        before=_onchain,
        left=1,
    ),
    Scenario(
        "gateway increase",
        _increase,
        _ask_increase,
        INCREASED,
        before=_onchain,
        left=1,
        faults=("lost", "reset"),
    ),
    Scenario(
        "gateway increase, reorg",
        _increase_reorganised,
        _ask_increase,
        INCREASED,
        before=_onchain,
        left=1,
    ),
    Scenario(
        "gateway increase under reduce-only",
        _increase_reduced,
        _ask_reduced,
        {"desk:one": FILLED, "desk:more": one_of("rejected:reduce_only")},
        before=_onchain,
        left=1,
    ),
    Scenario(
        "gateway increase meets a cap",
        _increase_meets_cap,
        _ask_capped,
        {"desk:one": FILLED, "desk:more": one_of("rejected:exposure_above_cap")},
        before=_onchain,
        left=1,
    ),
    Scenario(
        "gateway close, then an increase",
        _close_and_increase,
        _ask_close_then_more,
        {"desk:one": FILLED, "desk:close": FILLED, "desk:more": one_of("rejected:no_position", "expired")},
        before=_onchain,
        left=0,
        deaths=FEW,
    ),
    Scenario(
        "gateway increase, then a close",
        _increase_and_close,
        _ask_more_then_close,
        {
            "desk:one": FILLED,
            "desk:more": FILLED | one_of("rejected:no_position", "expired"),
            "desk:close": FILLED,
        },
        before=_onchain,
        left=0,
        alone={"desk:more": one_of("rejected:no_position", "expired")},
        deaths=FEW,
    ),
    Scenario(
        "gateway close lapses",
        _close_lapses,
        _ask_close,
        {"desk:one": FILLED, "desk:close": one_of("lapsed", "filled"), "desk:close#2?": FILLED},
        before=_onchain,
        left=0,
        alone={"desk:close": one_of("lapsed"), "desk:close#2": FILLED},
    ),
    Scenario(
        "gateway stop stays",
        _gateway_stopped,
        stop_and_ask,
        {"desk:one": one_of("rejected", "signed", "pending", "held", "lapsed")},
        finished=False,
    ),
    Scenario(
        "gateway, halted wallet",
        _gateway_halted,
        _halt_and_ask,
        {"desk:one": one_of("signed", "pending", "held", "lapsed")},
        finished=False,
        left=0,
        deaths=FEW,
    ),
    Scenario("paper desk", _ask_paper, _ask_paper, {"desk:one": one_of("simulated")}, left=0),
]
