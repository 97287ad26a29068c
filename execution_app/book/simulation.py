"""DRY: the order is filled in our own book, at the oracle's price and the venue's costs, and nowhere else.

Decided and filled are two things, as at the venue: what is decided is registered with the price that it wants, and
filled at the price of when the venue's keeper would come (DRY_KEEPER_DELAY_MS), if that is within its slippage.
Its levels are watched as those of a LIVE one are, and so is its liquidation (`book/liquidation.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import margins, positions, protections
from execution_app.book.prices import Market
from execution_app.errors import Stale
from execution_app.models import Fill, Position, TxIntent
from execution_app.moves import move
from execution_app.states import GROWING, Action, IntentState, Mode, PositionState
from execution_app.venues import costs, onchain

# Where the venue publishes no costs none are counted, and the intent's history says so.
NO_COSTS = costs.Costs(0, 0, 0)


@dataclass(frozen=True)
class Estimate:
    """What an order would come to at this price: prices in USD, `paid_usdc` of a close, `refusal` blank where it fills."""

    oracle_price: Decimal
    price: Decimal
    fee_usdc: Decimal
    close_usdc: Decimal | None = None
    paid_usdc: Decimal | None = None
    refusal: str = ""


def estimate(intent: TxIntent, market: Market, close_usdc: Decimal | None = None) -> Estimate:
    """The one estimator of simulated fills and of LIVE ones' shadows; changes nothing.

    The caller has asked for `market.problem`. A close takes `close_usdc`, or what its intent says.
    """
    oracle = market.prices[intent.symbol]
    known = market.costs or NO_COSTS
    if intent.action in GROWING:
        assert intent.collateral_usdc is not None
        assert intent.leverage_x is not None
        # Of an increase the levels are those that its position has.
        levels = intent if intent.position is None else intent.position
        price = costs.fill_price(oracle, known, buys=bool(intent.is_long))
        refusal = costs.would_cancel(
            price,
            intent.wanted_price or oracle,
            intent.slippage_pct,
            levels.take_profit,
            levels.stop_loss,
            is_long=bool(intent.is_long),
        )
        fee_usdc = costs.open_fee_usdc(intent.collateral_usdc, intent.leverage_x, known)
        return Estimate(oracle, price, fee_usdc, refusal=refusal)
    position = intent.position
    assert position is not None
    price = costs.fill_price(oracle, known, buys=not position.is_long)
    taken_usdc = close_usdc or min(intent.close_usdc or position.collateral_usdc, position.collateral_usdc)
    paid = costs.proceeds(
        taken_usdc, position.leverage_x, position.open_price, price, known, is_long=position.is_long
    )
    return Estimate(oracle, price, paid.fee_usdc, taken_usdc, paid.paid_usdc)


def register(intent: TxIntent, market: Market, due_at: datetime) -> None:
    """Leave the decided intent to the keeper of its simulation; one transaction, the caller's, who has asked for `market.problem`.

    It owns nothing at the venue and stays `pending`, so a stop, reduce-only and caps are asked again before it is
    filled; its mode is DRY for good. Raises Stale where somebody else has decided it.
    """
    price = market.prices[intent.symbol]
    fields = {"mode": Mode.DRY.value, "wanted_price": price, "keeper_due_at": due_at}
    undecided = TxIntent.objects.filter(pk=intent.pk, state=IntentState.PENDING, mode=None)
    detail = (
        f"decided at {price:f}; the venue's keeper would come at {due_at.isoformat(timespec='milliseconds')}"
    )
    if not undecided.update(**fields, reason="", reason_detail=detail, next_try_at=None, updated_at=Now()):
        raise Stale(f"intent {intent.pk} is decided already")
    for name, value in fields.items():
        setattr(intent, name, value)


def simulate(intent: TxIntent, market: Market, now: datetime, *, by: str) -> str:
    """Fill the intent and end it as `simulated`; one transaction, the caller's.

    The caller has asked for `market.problem`. Returns why the venue would refund
    the order instead, and then changes nothing; blank when it is done.
    """
    if intent.action == Action.MARGIN:
        return _margin(intent, market, by=by)
    found = estimate(intent, market)
    if found.refusal:
        return found.refusal
    if intent.action == Action.OPEN:
        position, fill = _open(intent, found, now)
        protections.begin(position, intent)
    elif intent.action == Action.INCREASE:
        assert intent.position is not None
        position = intent.position
        fill = _increase(intent, position, found)
    else:
        assert intent.position is not None
        position = intent.position
        fill = _close(intent, position, found)
    unsure = "" if market.costs else "; the venue publishes no costs, none are counted"
    decided = "" if intent.keeper_due_at is None else f", decided at {intent.wanted_price:f}"
    why = f"filled at {found.price:f}, oracle {found.oracle_price:f}{decided}{unsure}"
    move(intent, IntentState.SIMULATED, why=why, by=by, mode=Mode.DRY.value, reason="", reason_detail="")
    fill.settled_at = now
    fill.save()
    positions.fold(position)
    if intent.action == Action.INCREASE:
        protections.renew(position, reason=f"{intent.intent_key} increased it")
    side = "CLOSE" if intent.action == Action.CLOSE else ("LONG" if position.is_long else "SHORT")
    meters.TRADES.labels(intent.symbol, side, Mode.DRY.value).inc()
    return ""


def margined(intent: TxIntent, market: Market) -> costs.Margined:
    """What its simulated position would be with another margin."""
    position = intent.position
    assert position is not None
    assert intent.margin_usdc is not None
    price = costs.fill_price(
        market.prices[intent.symbol], market.costs or NO_COSTS, buys=not position.is_long
    )
    return costs.margin_terms(
        costs.Held(position.collateral_usdc, position.leverage_x, position.open_price),
        intent.margin_usdc,
        price,
        position.stop_loss,
        is_long=position.is_long,
    )


def _margin(intent: TxIntent, market: Market, *, by: str) -> str:
    after = margined(intent, market)
    if after.refusal:
        return after.refusal
    why = f"{intent.margin_usdc:f} USDC of margin: {after.collateral_usdc:f} at {after.leverage_x:f}x"
    move(intent, IntentState.SIMULATED, why=why, by=by, mode=Mode.DRY.value, reason="", reason_detail="")
    margins.simulate(intent, after.collateral_usdc, after.leverage_x)
    return ""


def _close(intent: TxIntent, position: Position, found: Estimate) -> Fill:
    TxIntent.objects.filter(pk=intent.pk, state=intent.state).update(close_usdc=found.close_usdc)
    return Fill(
        **_event(intent, found.price),
        position=position,
        collateral_usdc=found.close_usdc,
        leverage_x=position.leverage_x,
        fee_usdc=found.fee_usdc,
        sent_to_trader_usdc=found.paid_usdc,
    )


def _increase(intent: TxIntent, position: Position, found: Estimate) -> Fill:
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    added_usdc = intent.collateral_usdc - found.fee_usdc
    blend = costs.blended(
        costs.Held(position.collateral_usdc, position.leverage_x, position.open_price),
        costs.Held(added_usdc, intent.leverage_x, found.price),
    )
    return Fill(
        **_event(intent, found.price),
        position=position,
        collateral_usdc=added_usdc,
        leverage_x=intent.leverage_x,
        open_price_after=blend.open_price,
        leverage_after_x=blend.leverage_x,
        fee_usdc=found.fee_usdc,
    )


def _event(intent: TxIntent, price: Decimal) -> dict[str, object]:
    return {
        "intent": intent,
        "action": intent.action,
        "mode": Mode.DRY,
        "price": price,
        "tx_hash": f"dry:{intent.pk}",
        "log_index": 0,
    }


def _open(intent: TxIntent, found: Estimate, now: datetime) -> tuple[Position, Fill]:
    assert intent.trader is not None
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    pair_index = onchain.PAIRS[intent.symbol]
    position = Position.objects.create(
        trader=intent.trader,
        venue=settings.ENVIRONMENT.venue_trading_address,
        symbol=intent.symbol,
        pair_index=pair_index,
        trade_index=_free_index(intent, pair_index),
        opened_at=now,
        mode=Mode.DRY,
        is_long=bool(intent.is_long),
        collateral_usdc=intent.collateral_usdc - found.fee_usdc,
        leverage_x=intent.leverage_x,
        open_price=found.price,
        take_profit=intent.take_profit,
        stop_loss=intent.stop_loss,
    )
    fill = Fill(
        **_event(intent, found.price),
        position=position,
        collateral_usdc=position.collateral_usdc,
        leverage_x=position.leverage_x,
        fee_usdc=found.fee_usdc,
    )
    return position, fill


def _free_index(intent: TxIntent, pair_index: int) -> int:
    """The lowest slot that no simulated position has, as the venue would choose it."""
    taken = set(
        Position.objects.filter(
            trader=intent.trader,
            venue=settings.ENVIRONMENT.venue_trading_address,
            pair_index=pair_index,
            mode=Mode.DRY,
            state=PositionState.OPEN,
        ).values_list("trade_index", flat=True)
    )
    return next(index for index in range(len(taken) + 1) if index not in taken)
