"""What a signal asks of the one position that it means: more of it, or another margin."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution_app.engine import increases, margin_changes
from execution_app.gate.admission import order_breaches
from execution_app.gate.caps import Order
from execution_app.models import Position, Trader
from execution_app.states import Action, Mode, PositionState, Reason
from execution_app.venues.interface import DEFAULT_SLIPPAGE_PCT
from execution_app.venues.onchain import PAIRS
from signals_app.models import Signal
from signals_app.sides import INCREASE, MARGIN


@dataclass(frozen=True)
class Objection:
    """One reason against a signal, with what was asked and what is allowed."""

    reason: Reason
    detail: str


def objections(signal: Signal, trader: Trader | None) -> list[Objection]:
    """Every reason against an INCREASE or a MARGIN."""
    if signal.symbol not in PAIRS:
        return [Objection(Reason.SYMBOL_UNKNOWN, f"the venue has no pair {signal.symbol}")]
    held = _held(signal, trader)
    if len(held) != 1:
        count, symbol = len(held), signal.symbol
        detail = (
            f"{count} positions on {symbol} are open, an {INCREASE} needs the one that it means"
            if signal.side == INCREASE
            else f"{count} positions on {symbol} are open, a {MARGIN} needs the one that it means"
        )
        return [Objection(Reason.NO_POSITION, detail)]
    why = increases.unsupported if signal.side == INCREASE else margin_changes.unsupported
    if unsupported := why(held[0], settings.ENVIRONMENT.venue, "side"):
        return [Objection(Reason.ORDER_TYPE_UNSUPPORTED, unsupported)]
    order = order_of(signal)
    if signal.side == INCREASE:
        order = replace(order, leverage_x=held[0].leverage_x)
    elif signal.deposit_usdc is not None:
        order = replace(order, collateral_usdc=signal.deposit_usdc, leverage_x=Decimal(1))
    else:
        return []  # what it would come to is known from the trade alone
    return [Objection(breach.reason, breach.detail) for breach in order_breaches(order)]


def asked(signal: Signal, trader: Trader | None) -> dict[str, Any]:
    """The columns of its intent. Refused, it may have found no position, and is kept all the same."""
    held = _held(signal, trader)
    named: dict[str, Any] = {
        "symbol": signal.symbol,
        "slippage_pct": signal.slippage_pct or DEFAULT_SLIPPAGE_PCT,
    }
    one = held[0] if len(held) == 1 else None
    if signal.side == INCREASE:
        usdc = signal.collateral_usdc
        named |= {"action": Action.INCREASE.value, "collateral_usdc": usdc}
        return named if one is None or usdc is None else named | increases.size(one, usdc)
    change_usdc = signal.deposit_usdc if signal.withdraw_usdc is None else -signal.withdraw_usdc
    named |= {"action": Action.MARGIN.value, "margin_usdc": change_usdc}
    return named if one is None or change_usdc is None else named | margin_changes.size(one, change_usdc)


def order_of(signal: Signal) -> Order:
    nothing = Decimal(0)
    return Order(
        signal.tg_user_id,
        signal.source,
        signal.symbol,
        signal.collateral_usdc or nothing,
        signal.leverage_x or nothing,
    )


def _held(signal: Signal, trader: Trader | None) -> list[Position]:
    """Open positions that it may mean: LIVE ones, or simulated ones where there is no other."""
    held = Position.objects.filter(trader=trader, symbol=signal.symbol, state=PositionState.OPEN)
    live = list(held.filter(mode=Mode.LIVE).order_by("id"))
    return live or list(held.order_by("id"))
