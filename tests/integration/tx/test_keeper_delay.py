"""A simulated order is filled at the price of when the venue's keeper would come: once, within its slippage, or not at all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now

from execution_app.book import liquidation
from execution_app.desks.paper import PaperDesk
from execution_app.engine import rounds
from execution_app.engine.dues import ends_at
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import Fill, IntentTransition, Position, Reservation, Trader, TxIntent, TxSend
from execution_app.states import Action, Origin, Reason, RestrictionKind
from execution_app.venues.interface import CloseRequest, OpenRequest
from tests.execution.test_dry import set_price
from tests.guarded import move_price
from tests.guards import without_guards
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute as come

# With the spread of 0.01 %: bought at 100,200 and sold at 100,400.
BOUGHT, SOLD = Decimal("100210.02"), Decimal("100389.96")
ASK = OpenRequest(
    key="paper:one", symbol="BTC-USD", is_long=True, collateral_usdc=Decimal(5), leverage_x=Decimal(2)
)


@pytest.fixture
def slow(rig: Rig, settings: Any) -> Rig:
    """The venue's keeper takes a minute, which passes where `come` says so."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"dry_keeper_delay_ms": 60_000})
    return rig


@pytest.fixture
def dry(slow: Rig) -> Rig:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    return slow


def test_what_its_keeper_has_is_wanted_for_half_a_minute_behind_his_time() -> None:
    """Its own end counts where that is later; without an end it has none, and without a keeper his time says nothing."""
    ends = datetime(2026, 1, 1, tzinfo=UTC)
    just = ends - timedelta(seconds=30)
    later = timedelta(seconds=1)
    for keeper_due_at, wanted_until in (
        (None, ends),
        (just - later, ends),
        (just, ends),
        (just + later, ends + later),
        (ends, ends + timedelta(seconds=30)),
    ):
        assert ends_at(TxIntent(expires_at=ends, keeper_due_at=keeper_due_at)) == wanted_until
        assert ends_at(TxIntent(expires_at=None, keeper_due_at=keeper_due_at)) is None


def now(intent: TxIntent) -> tuple[str, str]:
    row = TxIntent.objects.get(pk=intent.pk)
    return row.state, row.reason


def stake(intent: TxIntent) -> str:
    return str(Reservation.objects.get(intent=intent).state)


def registered(rig: Rig, action: Action = Action.OPEN, **fields: Any) -> TxIntent:
    intent = rig.intent(action, **fields)
    rig.submit()
    assert now(intent) == ("pending", "")
    intent.refresh_from_db()
    assert intent.mode == "DRY"
    assert intent.keeper_due_at is not None
    return intent


def filled(rig: Rig, action: Action = Action.OPEN, **fields: Any) -> TxIntent:
    intent = registered(rig, action, **fields)
    come()
    rig.submit()
    assert now(intent) == ("simulated", "")
    return intent


def test_the_price_is_that_of_when_the_keeper_comes(dry: Rig) -> None:
    intent = registered(dry)
    assert (intent.wanted_price, stake(intent)) == (100_000, "open")
    move_price(100_200)
    TxIntent.objects.update(next_try_at=None)
    dry.submit()
    assert not Fill.objects.exists(), "nothing is filled before its time"
    assert rounds.wallets_with_work() == []
    come()
    assert rounds.wallets_with_work() == [dry.wallet.pk]
    dry.submit()
    fill = Fill.objects.get()
    assert (now(intent), fill.price, stake(intent)) == (("simulated", ""), BOUGHT, "exposed")
    why = IntentTransition.objects.get(intent=intent, to_state="simulated").why
    assert why.startswith(f"filled at {fill.price:f}, oracle 100200.0000000000, decided at 100000.0000000000")
    close = registered(dry, Action.CLOSE)
    move_price(100_400)
    come()
    for _ in range(2):
        dry.submit()
    assert now(close) == ("simulated", "")
    assert [one.price for one in Fill.objects.order_by("id")] == [BOUGHT, SOLD]
    assert Position.objects.get().state == "closed"
    assert not TxSend.objects.exists()


def test_a_price_that_has_run_away_is_refused_as_the_venue_would(dry: Rig) -> None:
    intent = registered(dry)
    move_price(101_000)
    come()
    dry.submit()
    assert now(intent) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    assert (stake(intent), Fill.objects.count()) == ("released", 0)


def test_what_is_registered_counts_against_the_caps(dry: Rig, settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_open_positions": 1})
    first, second = registered(dry), dry.intent()
    dry.submit()
    assert now(second) == ("rejected", Reason.OPEN_POSITIONS_AT_CAP)
    come()
    dry.submit()
    assert now(first) == ("simulated", "")


def test_nothing_is_filled_under_a_stop_and_it_goes_on_afterwards(dry: Rig) -> None:
    """As slots that nobody has seen are parked: an exit comes later, and what is too old by then does not."""
    filled(dry)
    close, late = registered(dry, Action.CLOSE), registered(dry, symbol="ETH-USD")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="drill")
    come()
    dry.submit()
    assert now(close) == now(late) == ("pending", Reason.EMERGENCY_STOP)
    assert Fill.objects.count() == 1
    TxIntent.objects.filter(pk=late.pk).update(expires_at=Now() - timedelta(seconds=1))
    come()
    dry.submit()
    assert now(late) == ("expired", Reason.LAG_EXCEEDED)
    assert stake(late) == "released"
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="test")
    come()
    dry.submit()
    assert now(close) == ("simulated", "")


def test_reduce_only_refuses_an_open_and_lets_a_close_be_filled(dry: Rig) -> None:
    filled(dry)
    more, close = registered(dry, symbol="ETH-USD"), registered(dry, Action.CLOSE)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.HTTP, by="test", reason="drill")
    come()
    dry.submit()
    assert (now(more), now(close)) == (("rejected", Reason.REDUCE_ONLY), ("simulated", ""))
    assert stake(more) == "released"


def test_without_a_price_it_waits_and_then_expires(dry: Rig) -> None:
    """A short max lag does not end what the keeper alone is late with; half a minute behind its time does."""
    intent = registered(dry)
    head = int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    set_price(Decimal(100_000), published_at=head)
    rpc_call("evm_setNextBlockTimestamp", head + 60)
    dry.mine()
    TxIntent.objects.filter(pk=intent.pk).update(expires_at=Now() - timedelta(seconds=1))
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(keeper_due_at=Now())
    dry.submit()
    assert now(intent) == ("pending", Reason.PRICE_UNAVAILABLE)
    come()
    dry.submit()
    assert now(intent) == ("expired", Reason.LAG_EXCEEDED)
    assert (stake(intent), Fill.objects.count()) == ("released", 0)


def test_it_stays_a_simulation_when_the_mode_turns_live(dry: Rig) -> None:
    """And no LIVE exit waits for it."""
    intent = registered(dry)
    control.lift(RestrictionKind.DRY, Origin.HTTP, by="test")
    dry.open_gate()
    close = dry.intent(Action.CLOSE)
    dry.submit()
    assert now(close) == ("no_op", Reason.NO_POSITION)
    come()
    dry.submit()
    assert now(intent) == ("simulated", "")
    assert Position.objects.get().mode == "DRY"
    assert not TxSend.objects.exists()


def test_what_is_liquidated_first_is_not_closed(dry: Rig) -> None:
    filled(dry)
    close = registered(dry, Action.CLOSE)
    assert liquidation.carry_out({"BTC-USD": Decimal(50_000)}) == 1
    come()
    dry.submit()
    assert now(close) == ("no_op", Reason.NO_POSITION)
    assert Fill.objects.count() == 2


def test_paper_is_filled_by_the_rounds_of_its_wallet(slow: Rig) -> None:
    desk = PaperDesk(slow.trader)
    desk.open(ASK)
    assert (desk.poll(ASK.key).outcome, desk.open(ASK).is_new) == ("pending", False)
    close = slow.intent(Action.CLOSE)
    move_price(100_200)
    slow.submit()
    assert now(close) == ("no_op", Reason.NO_POSITION), "a LIVE exit waits for no paper"
    come()
    slow.submit()
    assert (desk.poll(ASK.key).outcome, desk.poll(ASK.key).fill_price) == ("filled", BOUGHT)
    desk.close(CloseRequest("paper:out", Position.objects.get().pk))
    come()
    slow.submit()
    assert desk.poll("paper:out").outcome == "filled"
    assert Position.objects.get().state == "closed"
    assert not TxSend.objects.exists()
    other = Trader.objects.create(tg_user_id=124, label="other", address=rpc_call("eth_accounts")[9])
    with pytest.raises(Refused, match="has no wallet"):
        PaperDesk(other).open(replace(ASK, key="paper:two"))
