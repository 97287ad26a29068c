"""An exit that cannot go now is kept, visibly, until it can."""

from decimal import Decimal

from execution_app.gate import control
from execution_app.models import Position, TxIntent
from execution_app.states import Action, Origin, RestrictionKind
from ops.rehearsal import venue
from tests import real_parts
from tests.redis_outages import await_mode
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


def opened(rig: Rig) -> Position:
    rig.intent()
    rig.run()
    return Position.objects.get(mode="LIVE", state="open")


def pause(*, paused: bool) -> None:
    rpc_call("evm_setAutomine", True)
    venue.set_paused(real_parts.anvil.url, real_parts.deployment, paused=paused)
    rpc_call("evm_setAutomine", False)


def test_a_close_waits_for_a_paused_venue_while_an_open_is_refused(rig: Rig) -> None:
    opened(rig)
    pause(paused=True)
    refused, close = rig.intent(symbol="ETH-USD"), rig.intent(Action.CLOSE)
    rig.submit()
    refused.refresh_from_db()
    close.refresh_from_db()
    assert (refused.state, refused.reason_detail) == ("rejected", "Pausable: paused")
    assert (close.state, close.reason, close.nonce) == ("pending", "venue_revert", None)
    pause(paused=False)
    pass_a_minute()
    rig.run()
    close.refresh_from_db()
    assert close.state == "filled"


def test_a_close_of_a_live_position_takes_no_simulated_one_when_the_mode_turns(rig: Rig) -> None:
    live = opened(rig)
    close = rig.intent(Action.CLOSE)
    TxIntent.objects.filter(pk=close.pk).update(position=live)
    control.impose(RestrictionKind.DRY, Origin.ADMIN, by="test", reason="turns")
    await_mode("DRY")
    simulated = rig.intent(collateral_usdc=Decimal(7))
    rig.submit()
    simulated.refresh_from_db()
    assert simulated.state == "simulated"
    close.refresh_from_db()
    assert (close.state, close.reason, close.position_id) == ("held", "live_position_in_dry", live.pk)
    control.lift(RestrictionKind.DRY, Origin.ADMIN, by="test")
    await_mode("LIVE")
    pass_a_minute()
    rig.run()
    close.refresh_from_db()
    assert close.state == "filled"
    assert Position.objects.get(mode="DRY").state == "open"
