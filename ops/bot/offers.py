"""What an open would be now: price, size, fee, liquidation and room within the caps. Looks only; the gate decides at the tap."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution_app.book.prices import Market
from execution_app.book.simulation import NO_COSTS
from execution_app.desks import views
from execution_app.engine import permissions
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.gate import admission, control, limits, usage
from execution_app.gate.caps import PER_ORDER, SUMMED, Limit, plain
from execution_app.models import Position, StackMode, Trader, TxIntent, Wallet
from execution_app.node import rpc
from execution_app.states import Action, CapName, Mode, RestrictionKind
from execution_app.venues.costs import (
    Held,
    blended,
    fill_price,
    liquidation_price,
    open_fee_usdc,
    would_cancel,
)
from execution_app.venues.interface import OpenRequest
from ops.bot import words

HUNDRED = Decimal(100)
Asked = dict[str, Any]
SHOWN = (*PER_ORDER, CapName.EXPOSURE, CapName.OPEN_POSITIONS)


class Moved(Refused):
    """The price of the quote is not the price of now."""


@dataclass(frozen=True)
class Offer:
    """`price` in USD is the venue's at the look, for which the person decides."""

    text: str
    price: Decimal
    notional_usdc: Decimal


def make(asked: Asked, trader: Trader) -> Offer:
    """Raises Refused for what would be refused now, Retryable where price or node are away."""
    request = as_request(asked, "quote")
    draft = TxIntent(**_fields(request, trader))  # never stored: what the caps ask about
    mode = _mode(opens=True)
    _refuse_full(draft, mode)
    market = _look(request.symbol, trader)
    _refuse_unpermitted(trader, mode, request.collateral_usdc)
    price = market.prices[request.symbol]
    lines = [words.OFFER_SIZE.format(
        symbol=words.safe(request.symbol),
        side=words.side(is_long=request.is_long),
        usdc=words.usdc(request.collateral_usdc),
        times=words.times(request.leverage_x),
        mode=mode.value,
    )]  # fmt: skip
    notional_usdc = request.collateral_usdc * request.leverage_x
    lines.append(words.OFFER_NOTIONAL.format(usdc=words.usdc(notional_usdc)))
    lines.append(words.OFFER_PRICE.format(price=words.usd(price), slippage=plain(request.slippage_pct)))
    lines += _costs(request, market, price)
    lines += _untold(mode)
    lines += _levels(request)
    lines += _room(draft, mode)
    return Offer("\n".join(lines), price, notional_usdc)


def make_more(asked: Asked, position: Position, trader: Trader) -> Offer:
    """As `make`, of more of a position that its road increases: at the trade's own leverage, behind its own levels."""
    request = replace(
        as_request(asked, "quote"), take_profit=position.take_profit, stop_loss=position.stop_loss
    )
    stack, mode = _mode(opens=True), Mode(position.mode)
    if mode is Mode.LIVE and stack is not Mode.LIVE:
        raise Refused(words.INCREASE_NOT_IN_DRY)
    draft = TxIntent(**{**_fields(request, trader), "action": Action.INCREASE.value, "position": position})
    _refuse_full(draft, mode)
    market = _look(request.symbol, trader, Action.INCREASE)
    _refuse_unpermitted(trader, mode, request.collateral_usdc)
    price = market.prices[request.symbol]
    known = market.costs or NO_COSTS
    fill = fill_price(price, known, buys=request.is_long)
    fee = open_fee_usdc(request.collateral_usdc, request.leverage_x, known)
    _refuse_cancelled(request, fill, price)
    after = blended(
        Held(position.collateral_usdc, position.leverage_x, position.open_price),
        Held(request.collateral_usdc - fee, request.leverage_x, fill),
    )
    ends_at = liquidation_price(after.open_price, after.leverage_x, is_long=request.is_long)
    notional_usdc = request.collateral_usdc * request.leverage_x
    lines = [
        words.OFFER_MORE.format(
            number=position.pk,
            symbol=words.safe(request.symbol),
            side=words.side(is_long=request.is_long),
            usdc=words.usdc(request.collateral_usdc),
            times=words.times(request.leverage_x),
            mode=mode.value,
        ),
        words.OFFER_NOTIONAL.format(usdc=words.usdc(notional_usdc)),
        words.OFFER_PRICE.format(price=words.usd(price), slippage=plain(request.slippage_pct)),
        *([] if market.costs is None else [_filled(fill, fee)]),
        words.OFFER_AFTER.format(
            usdc=words.usdc(after.collateral_usdc), price=words.usd(words.cents(after.open_price))
        ),
        _liquidation(ends_at),
        *_untold(mode),
        *_room(draft, mode),
    ]
    return Offer("\n".join(lines), price, notional_usdc)


def require_still(asked: Asked, trader: Trader) -> None:
    """The price has not gone further against the person since the quote than the slippage that they allow.

    The order's own slippage counts from the price at which it is placed, so nothing else would hold the two
    together. Raises Moved, and Retryable where there is no price now.
    """
    request = as_request(asked, "quote")
    quoted = Decimal(asked["price"])
    now = _look(request.symbol, trader).prices[request.symbol]
    worse = now - quoted if request.is_long else quoted - now
    if worse * HUNDRED > quoted * request.slippage_pct:
        raise Moved(words.PRICE_MOVED.format(was=words.usd(quoted), now=words.usd(now)))


def as_request(asked: Asked, key: str) -> OpenRequest:
    def level(name: str) -> Decimal | None:
        return Decimal(asked[name]) if asked.get(name) else None

    return OpenRequest(
        key=key,
        symbol=asked["symbol"],
        is_long=asked["is_long"],
        collateral_usdc=Decimal(asked["collateral_usdc"]),
        leverage_x=Decimal(asked["leverage_x"]),
        slippage_pct=Decimal(asked["slippage_pct"]),
        take_profit=level("take_profit"),
        stop_loss=level("stop_loss"),
    )


def _fields(request: OpenRequest, trader: Trader) -> dict[str, Any]:
    return {
        "tg_user_id": trader.tg_user_id,
        "trader": trader,
        "action": Action.OPEN.value,
        "symbol": request.symbol,
        "collateral_usdc": request.collateral_usdc,
        "leverage_x": request.leverage_x,
    }


def _refuse_full(draft: TxIntent, mode: Mode) -> None:
    """Raises Refused where a cap forbids the order, or leaves it no room."""
    if broken := admission.order_breaches(admission.order_of(draft)):
        raise Refused(_in_words(*(breach.reason for breach in broken), see=words.SEE_CAPS))
    if full := admission.room(draft, mode, database_now()):
        raise Refused(_in_words(full.reason, see=words.SEE_CAPS))


def _mode(*, opens: bool) -> Mode:
    """What the whole stack would do with it. Raises Refused under a stop, and for an open under reduce-only."""
    kinds = control.active_kinds()
    if RestrictionKind.STOP in kinds:
        raise Refused(words.STOP_HOLDS)
    if opens and RestrictionKind.REDUCE_ONLY in kinds:
        raise Refused(words.REDUCE_ONLY_HOLDS)
    return Mode(StackMode.objects.get(pk=1).mode)


def _look(symbol: str, trader: Trader, action: Action = Action.OPEN) -> Market:
    try:
        market = views.look_to_open(symbol, trader)
    except rpc.RpcFault as problem:
        raise Retryable(words.NODE_AWAY) from problem
    if unfit := market.problem(symbol, action):
        raise (Refused if unfit.final else Retryable)(words.reason(unfit.reason))
    return market


def _refuse_unpermitted(trader: Trader, mode: Mode, collateral_usdc: Decimal) -> None:
    wallet = Wallet.objects.filter(trader=trader).select_related("trader").first()
    if wallet is None:
        raise Refused(words.NO_WALLET.format(user_id=trader.tg_user_id))
    if mode is not Mode.LIVE:
        return
    try:
        lacking = permissions.look(wallet).missing(collateral_usdc)
    except (rpc.NodeError, rpc.RpcFault) as problem:
        raise Retryable(words.NODE_AWAY) from problem
    if lacking is not None:
        raise Refused(_in_words(lacking[0], see=words.SEE_WALLET))


def _in_words(*reasons: str, see: str) -> str:
    """Each once, in the language that is spoken, and where the numbers are."""
    return f"{'; '.join(dict.fromkeys(map(words.reason, reasons)))}. {see}"


def _refuse_cancelled(request: OpenRequest, fill: Decimal, price: Decimal) -> None:
    """Raises Refused where the venue would give this open back, for whichever of the three reasons."""
    tried: list[tuple[str, Decimal | None, Decimal | None]] = [
        (words.FILL_BEYOND.format(price=words.usd(fill), slippage=plain(request.slippage_pct)), None, None)
    ]
    if request.take_profit is not None:
        level = words.LEVEL_CROSSED.format(
            kind=words.TAKE_PROFIT, level=words.usd(request.take_profit), price=words.usd(fill)
        )
        tried.append((level, request.take_profit, None))
    if request.stop_loss is not None:
        level = words.LEVEL_CROSSED.format(
            kind=words.STOP_LOSS, level=words.usd(request.stop_loss), price=words.usd(fill)
        )
        tried.append((level, None, request.stop_loss))
    for why, take_profit, stop_loss in tried:
        if would_cancel(fill, price, request.slippage_pct, take_profit, stop_loss, is_long=request.is_long):
            raise Refused(why)


def _costs(request: OpenRequest, market: Market, price: Decimal) -> list[str]:
    fill, fee = price, None
    if market.costs is not None:
        fill = fill_price(price, market.costs, buys=request.is_long)
        fee = open_fee_usdc(request.collateral_usdc, request.leverage_x, market.costs)
    _refuse_cancelled(request, fill, price)
    ends_at = liquidation_price(fill, request.leverage_x, is_long=request.is_long)
    lines = []
    if fee is not None:
        lines.append(_filled(fill, fee))
    lines.append(_liquidation(ends_at))
    stop = request.stop_loss
    if ends_at is not None and stop is not None and (stop <= ends_at if request.is_long else stop >= ends_at):
        raise Refused(words.STOP_BEHIND_LIQUIDATION.format(price=words.usd(words.cents(ends_at))))
    return lines


def _filled(fill: Decimal, fee_usdc: Decimal) -> str:
    return words.OFFER_FILL.format(price=words.usd(fill), fee=words.usdc(fee_usdc))


def _liquidation(ends_at: Decimal | None) -> str:
    if ends_at is None:
        return words.NO_LIQUIDATION
    return words.OFFER_LIQUIDATION.format(price=words.usd(words.cents(ends_at)))


def _untold(mode: Mode) -> list[str]:
    """What no figure above holds: funding, and in DRY how far the price goes until the keeper would come."""
    delay_s = Decimal(settings.ENVIRONMENT.dry_keeper_delay_ms) / 1000
    waits = mode is Mode.DRY and delay_s > 0
    return [words.OFFER_FUNDING, *([words.OFFER_DRY_DELAY.format(seconds=plain(delay_s))] if waits else [])]


def _levels(request: OpenRequest) -> list[str]:
    named = ((words.TAKE_PROFIT, request.take_profit), (words.STOP_LOSS, request.stop_loss))
    return [f"{name}: {words.usd(value)}" for name, value in named if value is not None]


def _room(draft: TxIntent, mode: Mode) -> list[str]:
    """Of each cap the tightest, with how much is left above this order."""
    order, now = admission.order_of(draft), database_now()
    asks = {
        CapName.NOTIONAL: order.notional_usdc,
        CapName.COLLATERAL: order.collateral_usdc,
        CapName.LEVERAGE: order.leverage_x,
        CapName.EXPOSURE: order.notional_usdc,
        CapName.OPEN_POSITIONS: Decimal(draft.action == Action.OPEN),
    }
    found: dict[CapName, tuple[Decimal, Limit]] = {}
    for limit in limits.active(order):
        if limit.name not in SHOWN:
            continue
        used = usage.used(limit, mode, now) if limit.name in SUMMED else Decimal(0)
        left = limit.value - used - asks[limit.name]
        if limit.name not in found or left < found[limit.name][0]:
            found[limit.name] = (left, limit)
    return [
        words.OFFER_CAP.format(
            name=words.cap(name.value), left=words.limited(name, left), of=words.limited(name, limit.value)
        )
        for name, (left, limit) in found.items()
    ]
