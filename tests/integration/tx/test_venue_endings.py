"""Trades that no close of ours ends: the venue's own level, a liquidation, their owner. What they paid is in the book."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F

from execution_app.engine import rounds
from execution_app.gate import control, usage
from execution_app.gate.caps import Limit
from execution_app.models import Fill, Position, Protection, Reservation, TxIntent
from execution_app.node import rpc
from execution_app.states import Action, CapName, CapScope, Mode, Origin, RestrictionKind
from ops.rehearsal import venue
from ops.rehearsal.rpc import Node
from tests import invariants, real_parts
from tests.guarded import closes, look, move_price
from tests.integration.tx.test_divergences import LEVELS, compared, opened, owner_closes
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call


@pytest.fixture(autouse=True)
def no_costs(rig: Rig) -> None:
    """Figures that can be read; the rig's snapshot takes it back."""
    terms = venue.Terms(open_fee_bps=0, close_fee_bps=0, spread_pct=Decimal(0))
    rpc_call("evm_setAutomine", True)
    venue.apply(Node(real_parts.anvil.url), real_parts.deployment, venue.completed(terms))
    rpc_call("evm_setAutomine", False)


@pytest.fixture
def three(rig: Rig, settings: Any) -> Iterator[list[Proxy]]:
    """Three endpoints before one chain, so that one may hide or lie."""
    with ExitStack() as stack:
        found = [stack.enter_context(Proxy(real_parts.anvil.url)) for _ in range(3)]
        urls = ",".join(proxy.url for proxy in found)
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": urls})
        rpc.endpoints.cache_clear()
        yield found
        rpc.endpoints.cache_clear()


def venue_ends(rig: Rig, price: int) -> None:
    """The price moves, and the keeper does what the venue does by itself."""
    move_price(price)
    rig.keeper.ends_trades = True
    rig.keep()


def lost_usdc() -> Decimal:
    day = Limit(CapName.DAILY_LOSS, Decimal(1_000), CapScope.GLOBAL, "", "test")
    return usage.used(day, Mode.LIVE, datetime.now(UTC))


@pytest.mark.parametrize(
    ("price", "how", "paid"),
    [(120_000, "take_profit", "7"), (80_000, "stop_loss", "3"), (57_000, "liquidation", "0")],
)
def test_what_the_venue_ended_is_known_with_its_price_and_what_it_paid(
    rig: Rig, price: int, how: str, paid: str
) -> None:
    rig.intent(**({} if how == "liquidation" else LEVELS))
    rig.run()
    position = Position.objects.get()
    venue_ends(rig, price)
    ended = compared()
    assert (ended.state, ended.ended_by) == ("closed", how)
    assert (ended.close_price, ended.paid_out_usdc) == (price, Decimal(paid))
    assert ended.closed_at is not None
    assert ended.settled_at is not None
    fill = Fill.objects.get(intent=None)
    assert (fill.position, fill.action, fill.ended_by) == (position, "close", how)
    assert lost_usdc() == max(0, 5 - Decimal(paid))
    assert Reservation.objects.get().released_at is not None
    assert closes() == [], "nothing of ours was asked for"
    invariants.check()


def test_what_was_ended_is_not_closed_again(rig: Rig) -> None:
    """The level counts as crossed here, too; after the venue's grace nothing is asked for a trade that is missed there."""
    opened(rig)
    venue_ends(rig, 80_000)
    assert look().fired == 0
    rounds.compare_positions()
    Protection.objects.update(native_crossed_at=F("native_crossed_at") - timedelta(seconds=60))
    assert look().fired == 0
    assert compared().ended_by == "stop_loss"
    rig.intent(Action.CLOSE)
    rig.run()
    assert TxIntent.objects.latest("id").state == "no_op"


def test_its_owner_closed_it_after_a_part_of_it(rig: Rig) -> None:
    opened(rig)
    owner_closes(rig, 2)
    owner_closes(rig, 3)
    ended = compared()
    assert (ended.state, ended.ended_by, ended.paid_out_usdc) == ("closed", "owner", 3)


def test_an_event_that_no_node_shows_in_time_is_learnt_later(rig: Rig, three: list[Proxy]) -> None:
    opened(rig)
    venue_ends(rig, 80_000)
    for proxy in three:
        proxy.faults.hide_logs = True
    assert (compared().ended_by, compared().paid_out_usdc) == ("closed_elsewhere", None)
    assert lost_usdc() == 5, "what is not known counts as lost"
    for proxy in three:
        proxy.faults.hide_logs = False
    assert (compared().ended_by, compared().paid_out_usdc) == ("stop_loss", 3)
    assert lost_usdc() == 2
    rounds.compare_positions()
    assert Fill.objects.filter(intent=None).count() == 1
    invariants.check()


def test_one_node_that_invents_a_payout_is_not_believed(rig: Rig, three: list[Proxy]) -> None:
    opened(rig)
    venue_ends(rig, 80_000)

    def invent(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        for entry in answer["result"] if request["method"] == "eth_getLogs" else ():
            entry["data"] = entry["data"][:-128] + f"{900 * 10**6:064x}" + entry["data"][-64:]
        return answer

    three[0].faults.tell = invent
    ended = compared()
    assert ended.paid_out_usdc in {None, 3}
    three[0].faults.tell = None
    assert compared().paid_out_usdc == 3


def test_a_simulated_position_is_liquidated_by_its_price_even_under_a_stop(rig: Rig) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    rig.intent()
    rig.submit()
    assert Position.objects.get().open_price == 100_000
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="drill")
    position = Position.objects.get()
    assert look(57_501).liquidated == 0
    tick = look(57_500)
    position.refresh_from_db()
    assert (tick.liquidated, position.state, position.ended_by) == (1, "closed", "liquidation")
    assert (position.close_price, position.paid_out_usdc) == (57_500, 0)
    assert look().liquidated == 0
    assert Reservation.objects.get().released_at is not None
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="test", reason="drill", epoch=control.epoch())
    rig.intent(Action.CLOSE)
    rig.submit()
    assert TxIntent.objects.latest("id").state == "no_op"
