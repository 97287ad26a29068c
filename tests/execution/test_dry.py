"""DRY fills as the venue would: spread, fee, price age; and never mixed with LIVE."""

from decimal import Decimal

import pytest

from execution_app.gate import control
from execution_app.models import Fill, Position, TxIntent, TxSend
from execution_app.states import Action, Origin, Reason, RestrictionKind
from execution_app.venues.costs import Costs, fill_price, liquidation_price, proceeds, would_cancel
from ops.rehearsal import venue
from ops.rehearsal.rpc import Node
from tests import real_parts
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

SPREAD = Costs(open_fee_bps=10, close_fee_bps=20, spread_units=10**9)  # 0.1 %, 0.2 %, spread 0.1 %


def set_price(price: Decimal, published_at: int = 0) -> None:
    rpc_call("evm_setAutomine", True)
    venue.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", price, published_at)
    rpc_call("evm_setAutomine", False)


@pytest.fixture
def dry(rig: Rig) -> Rig:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    return rig


@pytest.fixture
def costly(rig: Rig) -> Rig:
    """A venue with a spread and a closing fee; the snapshot of the rig takes them back."""
    terms = venue.Terms(close_fee_bps=20, spread_pct=Decimal("0.1"))
    rpc_call("evm_setAutomine", True)
    venue.apply(Node(real_parts.anvil.url), real_parts.deployment, venue.completed(terms))
    rpc_call("evm_setAutomine", False)
    return rig


def settled(intent: TxIntent) -> TxIntent:
    return TxIntent.objects.get(pk=intent.pk)


def test_a_simulated_trade_equals_the_live_one(costly: Rig) -> None:
    """Same order, same price: the book's arithmetic is the venue's, to the last unit."""
    costly.intent()
    costly.run()
    set_price(Decimal("100123.4567"))
    costly.intent(Action.CLOSE, reduce_pct=Decimal("33.3333"))
    costly.run()
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    set_price(venue.SEED_PRICES["BTC-USD"])
    costly.intent()
    costly.submit()
    set_price(Decimal("100123.4567"))
    costly.intent(Action.CLOSE, reduce_pct=Decimal("33.3333"))
    costly.submit()
    live, dry = (Fill.objects.filter(mode=mode).order_by("id") for mode in ("LIVE", "DRY"))
    assert [(f.action, f.price, f.collateral_usdc, f.sent_to_trader_usdc) for f in dry] == [
        (f.action, f.price, f.collateral_usdc, f.sent_to_trader_usdc) for f in live
    ]
    assert len(dry) == 2
    ours, theirs = Position.objects.get(mode="DRY"), Position.objects.get(mode="LIVE")
    for name in ("collateral_usdc", "open_price", "paid_out_usdc", "state"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_part_of_a_simulated_position_is_closed_and_then_all(dry: Rig) -> None:
    dry.intent()
    dry.submit()
    part = dry.intent(Action.CLOSE, reduce_usdc=Decimal(2))
    dry.submit()
    position = Position.objects.get()
    assert (settled(part).state, settled(part).close_usdc) == ("simulated", Decimal(2))
    assert (position.state, position.collateral_usdc, position.mode) == ("open", Decimal(3), "DRY")
    dry.intent(Action.CLOSE)
    dry.submit()
    position.refresh_from_db()
    assert (position.state, position.ended_by) == ("closed", "close")
    last = dry.intent(Action.CLOSE)
    dry.submit()
    assert (settled(last).state, settled(last).reason) == ("no_op", "no_position")
    assert not TxSend.objects.exists()


def test_levels_of_a_simulated_position_are_watched(dry: Rig) -> None:
    intent = dry.intent(take_profit=Decimal(200_000), stop_loss=Decimal(70_000))
    dry.submit()
    assert (settled(intent).state, settled(intent).reason) == ("simulated", "")
    position = Position.objects.get()
    assert (position.take_profit, position.stop_loss) == (Decimal(200_000), Decimal(70_000))
    guarded = position.protections.get()
    assert (guarded.version, guarded.take_profit, guarded.stop_loss) == (1, Decimal(200_000), Decimal(70_000))


def test_a_fill_beyond_the_slippage_is_refused_as_the_venue_would(costly: Rig) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    intent = costly.intent(slippage_pct=Decimal("0.05"))
    costly.submit()
    assert (settled(intent).state, settled(intent).reason) == ("rejected", Reason.VENUE_WOULD_CANCEL)
    assert not Position.objects.exists()


@pytest.mark.parametrize("mode", ["LIVE", "DRY"])
@pytest.mark.parametrize(
    ("action", "age_s", "goes"),
    [(Action.OPEN, 4, True), (Action.OPEN, 8, False), (Action.CLOSE, 25, True), (Action.CLOSE, 34, False)],
)
def test_an_old_price_is_not_traded_on(rig: Rig, mode: str, action: Action, age_s: int, goes: bool) -> None:
    if mode == "DRY":
        control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    if action is Action.CLOSE:
        rig.intent()
        rig.run()
    # Ahead of the world's clock, so that no block but the one that is asked for is of another second than `at`.
    at = int(rpc_call("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 600
    rpc_call("evm_setNextBlockTimestamp", at)
    set_price(Decimal(100_000), published_at=at)
    rpc_call("evm_setNextBlockTimestamp", at + age_s)
    rig.mine()
    intent = rig.intent(action)
    rig.submit()
    intent = settled(intent)
    if goes:
        assert intent.state == ("simulated" if mode == "DRY" else "pending_inclusion")
        return
    assert (intent.state, intent.reason, intent.nonce) == ("pending", "price_unavailable", None)
    assert f"{age_s} s old" in intent.reason_detail
    set_price(Decimal(100_000))
    pass_a_minute()
    rig.submit()
    assert settled(intent).state == ("simulated" if mode == "DRY" else "pending_inclusion")


def test_a_live_close_does_not_touch_a_simulated_position(dry: Rig) -> None:
    dry.intent()
    dry.submit()
    control.lift(RestrictionKind.DRY, Origin.HTTP, by="test")
    dry.open_gate()
    close = dry.intent(Action.CLOSE)
    dry.submit()
    assert (settled(close).state, settled(close).reason) == ("no_op", "no_position")
    assert Position.objects.get().state == "open"


def test_spread_is_against_whoever_trades() -> None:
    assert fill_price(Decimal(100), SPREAD, buys=True) == Decimal("100.1")
    assert fill_price(Decimal(100), SPREAD, buys=False) == Decimal("99.9")


@pytest.mark.parametrize(
    ("price", "is_long", "paid", "fee"),
    [
        ("100", True, "4.98", "0.02"),
        ("110", True, "5.98", "0.02"),
        ("110", False, "3.98", "0.02"),
        ("57.6", True, "0.74", "0.02"),
        ("57.5", True, "0", "0"),  # 85 % of the collateral is lost: liquidated
        ("100000", True, "129.98", "0.02"),  # the largest gain is 2500 %
    ],
)
def test_what_a_close_pays(price: str, is_long: bool, paid: str, fee: str) -> None:
    got = proceeds(Decimal(5), Decimal(2), Decimal(100), Decimal(price), SPREAD, is_long=is_long)
    assert (got.paid_usdc, got.fee_usdc) == (Decimal(paid), Decimal(fee))


@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize("leverage", ["0.9", "1", "2", "3", "7.7777", "75"])
@pytest.mark.parametrize("opened", ["100", "0.0000123456", "98765.4321098765"])
def test_the_liquidation_price_is_the_first_at_which_nothing_is_paid(
    opened: str, leverage: str, is_long: bool
) -> None:
    free = Costs(0, 0, 0)

    def paid(price: Decimal) -> Decimal:
        return proceeds(
            Decimal(5), Decimal(leverage), Decimal(opened), price, free, is_long=is_long
        ).paid_usdc

    ends_at = liquidation_price(Decimal(opened), Decimal(leverage), is_long=is_long)
    assert ends_at is not None
    least = Decimal("0.0000000001") * (1 if is_long else -1)
    assert paid(ends_at) == 0
    assert paid(ends_at + least) > 0


def test_a_long_of_little_leverage_is_never_liquidated() -> None:
    assert liquidation_price(Decimal(100), Decimal("0.85"), is_long=True) is None
    assert liquidation_price(Decimal(100), Decimal("0.5"), is_long=False) == 270


def test_a_level_that_is_crossed_already() -> None:
    def said(price: str, *, is_long: bool = True, **levels: int) -> str:
        wanted = Decimal(100)
        tp, sl = (Decimal(levels[name]) if name in levels else None for name in ("tp", "sl"))
        return would_cancel(Decimal(price), wanted, Decimal(1), tp, sl, is_long=is_long)

    assert said("101") == said("99") == ""
    assert "beyond" in said("101.1")
    assert "beyond" in said("98.9", is_long=False)
    assert "take_profit" in said("100", tp=100)
    assert "stop_loss" in said("100", sl=100)
    assert "take_profit" in said("100", is_long=False, tp=100)
    assert "stop_loss" in said("100", is_long=False, sl=100)
