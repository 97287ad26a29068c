"""One suite for every way to a venue: what the interface promises, each keeps."""

import itertools
from dataclasses import replace
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from execution_app.book import full_cost
from execution_app.desks.onchain import OnChainDesk
from execution_app.desks.reports import OUTCOMES
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import Fill, Position, Reservation, Trader, TxIntent, TxSend
from execution_app.states import IntentState, Origin, RestrictionKind
from execution_app.venues.interface import (
    CAPABILITIES,
    DEFAULT_MAX_LAG_S,
    Action,
    CancelRequest,
    ChangeRequest,
    CloseRequest,
    IncreaseRequest,
    LevelsRequest,
    MarginRequest,
    OpenRequest,
    Outcome,
    UnsupportedError,
)
from ops.rehearsal import venue as rehearsal
from tests import real_parts
from tests.execution.desks.harness import KINDS, World, served
from tests.rig import rpc_call

ASK = OpenRequest(
    key="test:1", symbol="BTC-USD", is_long=True, collateral_usdc=Decimal(5), leverage_x=Decimal(2)
)


@pytest.fixture(params=sorted(KINDS))
def world(request, rig):
    desk = KINDS[request.param](rig.trader)
    if request.param != "gateway":
        yield World(rig, desk)
        return
    with served(request.getfixturevalue("settings")) as gateway:
        yield World(rig, desk, gateway)


def opened(world, **changes):
    """The number of a position that is open."""
    key = changes.setdefault("key", f"test:open:{next(_numbers)}")
    world.venue.open(replace(ASK, **changes))
    world.go_on()
    told = world.venue.poll(key)
    assert told.outcome is Outcome.FILLED, told
    return told.position


_numbers = itertools.count(1)


def rows():
    return [model.objects.count() for model in (TxIntent, TxSend, Position, Fill, Reservation)]


def test_the_table_of_capabilities_is_the_desks(world):
    assert world.venue.capabilities == CAPABILITIES[world.venue.name]
    assert {Action.OPEN_MARKET, Action.CLOSE, Action.CLOSE_PART} <= world.venue.capabilities


def test_market_and_price(world):
    market = world.venue.market("BTC-USD")
    assert (market.symbol, market.pair_index, market.may_open) == ("BTC-USD", 1, True)
    assert not world.venue.market("XAU-USD").may_open
    price = world.venue.price("BTC-USD")
    assert (price.price, price.age_s) == (Decimal(100_000), 0)
    for ask in (world.venue.market, world.venue.price):
        with pytest.raises(Refused, match="no pair"):
            ask("NO-USD")


def test_a_submission_is_not_an_outcome(world):
    told = world.venue.open(ASK)
    assert (told.key, told.is_new) == ("test:1", True)
    assert not hasattr(told, "outcome")
    world.go_on()
    report = world.venue.poll("test:1")
    assert (report.outcome, report.final) == (Outcome.FILLED, True)
    assert report.filled_usdc == Decimal(5)
    assert report.fill_price == Decimal(100_010)  # the oracle's price and 0.01 % of spread
    position = Position.objects.get(pk=report.position)
    assert (position.symbol, position.is_long, position.state) == ("BTC-USD", True, "open")
    (holding,) = world.venue.holdings()
    assert (holding.symbol, holding.slot, holding.is_long) == ("BTC-USD", 0, True)
    assert (holding.collateral_usdc, holding.leverage_x) == (Decimal(5), Decimal(2))
    assert holding.open_price == report.fill_price


def test_levels_and_side_arrive_as_asked(world):
    opened(world, is_long=False, take_profit=Decimal("90000.5"), stop_loss=Decimal(110_000))
    (holding,) = world.venue.holdings()
    assert not holding.is_long
    assert (holding.take_profit, holding.stop_loss) == (Decimal("90000.5"), Decimal(110_000))


def test_an_open_that_waits_too_long_is_opened_no_more(world):
    world.venue.open(replace(ASK, max_lag_s=30))
    intent = TxIntent.objects.get()
    assert intent.expires_at is not None
    assert 0 < (intent.expires_at - intent.accepted_at).total_seconds() <= 30
    world.venue.open(replace(ASK, key="test:2"))
    usual = TxIntent.objects.get(intent_key="test:2")
    assert usual.expires_at is not None
    assert 0 < (usual.expires_at - usual.accepted_at).total_seconds() <= DEFAULT_MAX_LAG_S


def test_an_open_of_the_chain_expires_while_it_is_held(rig):
    desk = OnChainDesk(rig.trader)
    control.impose(RestrictionKind.DRY, Origin.REDIS, by="test", reason="degraded")
    desk.open(ASK)
    TxIntent.objects.update(expires_at=Now())
    control.lift(RestrictionKind.DRY, Origin.REDIS, by="test")
    rig.run()
    assert (TxIntent.objects.get().state, TxSend.objects.count()) == ("expired", 0)


def test_the_same_key_is_the_same_order(world):
    world.venue.open(ASK)
    assert not world.venue.open(ASK).is_new
    world.go_on()
    assert not world.venue.open(ASK).is_new
    world.go_on()
    assert len(world.venue.holdings()) == 1
    assert TxIntent.objects.count() == 1
    with pytest.raises(Refused, match="another order already"):
        world.venue.open(replace(ASK, leverage_x=Decimal(3)))


def test_a_part_and_then_all_of_it_is_closed(world):
    position = opened(world)
    world.venue.close(CloseRequest("test:part", position, Decimal(2)))
    world.go_on()
    part = world.venue.poll("test:part")
    assert (part.outcome, part.position, part.filled_usdc) == (Outcome.FILLED, position, Decimal(2))
    (holding,) = world.venue.holdings()
    assert holding.collateral_usdc == Decimal(3)
    world.venue.close(CloseRequest("test:rest", position))
    world.go_on()
    rest = world.venue.poll("test:rest")
    assert (rest.outcome, rest.filled_usdc, rest.final) == (Outcome.FILLED, Decimal(3), True)
    assert world.venue.holdings() == []
    assert Position.objects.get(pk=position).state == "closed"
    assert TxIntent.objects.filter(action="close", only_position=True).count() == 2


def test_a_close_of_what_is_closed_ends_without_effect(world):
    position = opened(world)
    for key in ("test:close:1", "test:close:2"):
        world.venue.close(CloseRequest(key, position))
        world.go_on()
    assert world.venue.poll("test:close:1").outcome is Outcome.FILLED
    assert world.venue.poll("test:close:2").outcome is Outcome.CANCELLED
    assert Fill.objects.count() == 2


def test_levels_are_changed_and_taken_away_where_that_is_supported(world):
    """Where it is not, the next test says what is answered."""
    if Action.CHANGE_LEVELS not in world.venue.capabilities:
        return
    position = opened(world, take_profit=Decimal(120_000))
    wish = LevelsRequest("test:levels", position, Decimal(130_000), Decimal("90000.5"))
    assert world.venue.change_levels(wish).is_new
    assert not world.venue.change_levels(wish).is_new
    assert world.venue.poll("test:levels").outcome is Outcome.PENDING
    world.go_on()
    assert not world.venue.change_levels(wish).is_new
    report = world.venue.poll("test:levels")
    assert (report.outcome, report.final, report.position) == (Outcome.FILLED, True, position)
    assert (report.fill_price, report.filled_usdc) == (None, None)
    (holding,) = world.venue.holdings()
    assert (holding.take_profit, holding.stop_loss) == (Decimal(130_000), Decimal("90000.5"))
    held = Position.objects.get(pk=position)
    assert (held.take_profit, held.stop_loss, held.collateral_usdc) == (
        Decimal(130_000),
        Decimal("90000.5"),
        Decimal(5),
    )
    with pytest.raises(Refused, match="another order already"):
        world.venue.change_levels(replace(wish, stop_loss=None))
    for wrong, words in (
        (replace(wish, key="test:x", stop_loss=Decimal("1E-11")), "stop_loss has more than 10 decimals"),
        (replace(wish, key="test:x", take_profit=Decimal(-1)), "take_profit must not be negative"),
        (replace(wish, key="test:x", position=position + 1), "has no position"),
    ):
        with pytest.raises(Refused, match=words):
            world.venue.change_levels(wrong)
    world.venue.change_levels(LevelsRequest("test:none", position, None, None))
    world.go_on()
    (holding,) = world.venue.holdings()
    assert (holding.take_profit, holding.stop_loss) == (None, None)
    assert Fill.objects.count() == 1


def test_a_position_is_increased_where_that_is_supported(world):
    """Once a key, at the leverage that it has; blended, and closed as a whole."""
    if Action.INCREASE not in world.venue.capabilities:
        return
    position = opened(world, take_profit=Decimal(150_000))
    rpc_call("evm_setAutomine", True)
    rehearsal.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(110_000))
    rpc_call("evm_setAutomine", False)
    wish = IncreaseRequest("test:more", position, Decimal(5))
    assert world.venue.increase(wish).is_new
    assert not world.venue.increase(wish).is_new
    world.go_on()
    assert not world.venue.increase(wish).is_new
    report = world.venue.poll("test:more")
    assert (report.outcome, report.final, report.position) == (Outcome.FILLED, True, position)
    assert (report.fill_price, report.filled_usdc) == (Decimal(110_011), Decimal(5))
    (holding,) = world.venue.holdings()
    assert (holding.collateral_usdc, holding.leverage_x, holding.take_profit) == (10, 2, 150_000)
    assert holding.open_price == Position.objects.get(pk=position).open_price
    assert Decimal(104_000) < holding.open_price < Decimal(105_011)
    assert Reservation.objects.filter(released_at=None).count() == 2
    for wrong, words in (
        (replace(wish, collateral_usdc=Decimal(6)), "another order already"),
        (replace(wish, key="test:y", collateral_usdc=Decimal("5.0000001")), "more than 6 decimals"),
        (replace(wish, key="test:y", position=position + 1), "has no position"),
    ):
        with pytest.raises(Refused, match=words):
            world.venue.increase(wrong)
    world.venue.close(CloseRequest("test:all", position))
    world.go_on()
    assert world.venue.holdings() == []
    assert not Reservation.objects.filter(released_at=None).exists()
    world.venue.increase(replace(wish, key="test:late"))
    world.go_on()
    assert world.venue.poll("test:late").outcome is Outcome.FAILED


def test_what_is_not_supported_is_refused_before_anything_is_written_or_sent(world):
    position = opened(world)
    before, sent = rows(), world.sent()
    asked = {
        Action.OPEN_LIMIT: lambda: world.venue.open(replace(ASK, key="test:x", action=Action.OPEN_LIMIT)),
        Action.OPEN_STOP_LIMIT: lambda: world.venue.open(
            replace(ASK, key="test:x", action=Action.OPEN_STOP_LIMIT)
        ),
        Action.CHANGE_LEVELS: lambda: world.venue.change_levels(
            LevelsRequest("test:x", position, Decimal(120_000), None)
        ),
        Action.CANCEL_ORDER: lambda: world.venue.cancel(CancelRequest("test:x", "test:1")),
        Action.INCREASE: lambda: world.venue.increase(IncreaseRequest("test:x", position, Decimal(5))),
        Action.CHANGE_MARGIN: lambda: world.venue.change_margin(
            MarginRequest("test:x", position, Decimal(1))
        ),
        Action.CHANGE_ORDER: lambda: world.venue.change(
            ChangeRequest("test:x", "test:1", limit_price=Decimal(99_000))
        ),
    }
    lacking = asked.keys() - world.venue.capabilities
    assert lacking
    for action in lacking:
        with pytest.raises(
            UnsupportedError, match=f"{world.venue.name} does not support {action}"
        ) as refused:
            asked[action]()
        assert refused.value.field == ("action" if action.startswith("open") else "")
    assert (rows(), world.sent()) == (before, sent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbol": "NO-USD"}, "no pair"),
        ({"collateral_usdc": Decimal("5.0000001")}, "more than 6 decimals"),
        ({"collateral_usdc": Decimal(0)}, "above zero"),
        ({"leverage_x": Decimal(-2)}, "negative"),
        ({"slippage_pct": Decimal("NaN")}, "finite"),
        ({"take_profit": Decimal("1E-11")}, "more than 10 decimals"),
        ({"limit_price": Decimal(99_000)}, "limit_price is for limit"),
    ],
)
def test_what_can_never_be_an_order_is_refused(world, change, words):
    before = rows()
    with pytest.raises(Refused, match=words):
        world.venue.open(replace(ASK, **change))
    assert rows() == before


def test_a_stranger_is_told_nothing(world):
    position = opened(world)
    other = Trader.objects.create(tg_user_id=9, address="0x" + "11" * 20)
    Position.objects.filter(pk=position).update(drift="")
    world.desk.trader = other
    with pytest.raises(Refused, match=f"no position {position}"):
        world.venue.close(CloseRequest("test:x", position))
    with pytest.raises(Refused, match="no order is called"):
        world.venue.poll("test:nothing")
    with pytest.raises(Refused, match="another order already"):
        world.venue.open(replace(ASK, key=TxIntent.objects.get().intent_key))


def test_nothing_is_opened_under_a_stop(world):
    sent = world.sent()
    control.impose(RestrictionKind.STOP, Origin.COMMAND, reason="test", by="test")
    world.venue.open(ASK)
    world.go_on()
    assert world.venue.poll("test:1").outcome is Outcome.FAILED
    assert world.venue.holdings() == []
    assert world.sent() == sent
    assert rows() == [1, 0, 0, 0, 0]


def test_a_cap_holds(world):
    world.venue.open(replace(ASK, collateral_usdc=Decimal(501)))
    world.go_on()
    report = world.venue.poll("test:1")
    assert (report.outcome, report.final) == (Outcome.FAILED, True)
    assert "notional_above_cap" in report.detail
    assert world.venue.holdings() == []


def test_what_the_venue_refuses_ends_without_a_position(world):
    world.venue.open(replace(ASK, take_profit=Decimal(99_000)))
    world.go_on()
    assert world.venue.poll("test:1").outcome is Outcome.FAILED
    assert world.venue.holdings() == []


def test_a_price_that_moves_is_the_price_it_is_filled_at(world):
    rpc_call("evm_setAutomine", True)
    rehearsal.set_price(real_parts.anvil.url, real_parts.deployment, "BTC-USD", Decimal(90_000))
    rpc_call("evm_setAutomine", False)
    opened(world)
    (holding,) = world.venue.holdings()
    assert holding.open_price == Decimal(90_009)


def test_every_state_has_an_outcome():
    assert set(OUTCOMES) == set(IntentState)
    assert OUTCOMES[IntentState.SENDING] is OUTCOMES[IntentState.LOST_NONCE] is Outcome.UNKNOWN


def test_what_a_quote_says_before_is_what_the_book_says_after(world):
    """The oracle's price stands still, so all that is lost is cost."""
    before, sent = rows(), world.sent()
    quote = world.desk.quote(replace(ASK, key="test:quote"))
    assert (rows(), world.sent()) == (before, sent), "nothing is written down or sent"
    assert quote.lost_usdc == quote.open_fee_usdc + quote.close_fee_usdc + quote.spread_usdc > 0
    assert (quote.costs_known, quote.refusal) == (True, "")
    position = opened(world)
    assert Position.objects.get().open_price == quote.price
    world.venue.close(CloseRequest("test:close", position))
    world.go_on()
    days = full_cost.by_day(Position.objects.all())
    assert sum(day.net_usdc for day in days) == -quote.lost_usdc
    assert sum(day.kept_usdc for day in days) == quote.open_fee_usdc + quote.close_fee_usdc
    assert sum(day.execution_fee_wei for day in days) == quote.execution_fee_wei
    onchain = world.venue.name == "onchain"
    assert (sum(day.gas_wei for day in days) > 0) == onchain
    assert quote.gas_wei == (None if onchain else 0)
    again = world.desk.quote(replace(ASK, key="test:quote"))
    assert (again.gas_wei > 0) == onchain
    out = StringIO()
    call_command("pnl", position=position, stdout=out)
    assert f"net {-quote.lost_usdc:+f} USDC" in out.getvalue() or len(days) > 1
    assert quote.funding == "not modelled: the venue publishes no rule"
    assert f"funding of DRY: {quote.funding}; of LIVE it is within" in out.getvalue()


def test_a_quote_is_refused_as_its_order_would_be(world):
    with pytest.raises(Refused, match="no pair"):
        world.desk.quote(replace(ASK, symbol="NO-USD"))
