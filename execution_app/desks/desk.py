"""What every desk does alike: orders become intents under the asker's key, and are asked for by that key."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from execution_app.book import full_cost, positions
from execution_app.book.full_cost import Quote
from execution_app.desks import views
from execution_app.desks.reports import report
from execution_app.engine import increases, margin_changes, resting
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.models import Position, Trader, TxIntent
from execution_app.states import Action as IntentAction
from execution_app.states import Mode, OrderType, Road
from execution_app.venues.interface import (
    CAPABILITIES,
    DEFAULT_MAX_LAG_S,
    Action,
    CancelRequest,
    ChangeRequest,
    CloseRequest,
    Holding,
    IncreaseRequest,
    LevelsRequest,
    MarginRequest,
    Market,
    OpenRequest,
    Price,
    Report,
    Submission,
    require,
)
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units

SLIPPAGE_PCT = Decimal("0.5")
_ASKED = (
    "action",
    "symbol",
    "is_long",
    "collateral_usdc",
    "leverage_x",
    "slippage_pct",
    "take_profit",
    "stop_loss",
    "order_type",
    "limit_price",
    "new_slippage_pct",
    "margin_usdc",
    "target",
)
BY = "desk"


class Desk(ABC):
    """One trader's. `name` is the adapter's in the table of capabilities; `mode` that of positions it deals with.

    `road` is None where nothing leaves our own book.
    """

    name: str
    mode: Mode
    road: Road | None = None

    def __init__(self, trader: Trader) -> None:
        self.trader = trader

    @property
    def capabilities(self) -> frozenset[Action]:
        return CAPABILITIES[self.name]

    def market(self, symbol: str) -> Market:
        return views.market(symbol)

    def price(self, symbol: str) -> Price:
        return views.price(symbol, self.trader)

    def holdings(self) -> Sequence[Holding]:
        return views.holdings(self.trader)

    def open(self, request: OpenRequest) -> Submission:
        asked = self._asked(request)
        expires_at = database_now() + timedelta(seconds=request.max_lag_s)
        return self._take_down(request.key, **asked, expires_at=expires_at)

    def quote(self, request: OpenRequest) -> Quote:
        """All that this open costs, and closing it again, as things are now; writes nothing down.

        Raises Refused as `open` does, and Retryable where there is no price fresh enough.
        """
        asked = self._asked(request)
        if request.action is not Action.OPEN_MARKET:
            raise Refused(
                f"nobody knows when the price of an {request.action.value} comes, so it has no quote"
            )
        found = views.look_to_open(request.symbol, self.trader)
        if unfit := found.problem(request.symbol, IntentAction.OPEN):
            raise (Refused if unfit.final else Retryable)(unfit.detail)
        return full_cost.quote(TxIntent(trader=self.trader, **asked), found, self.road)

    def _asked(self, request: OpenRequest) -> dict[str, Any]:
        require(self.name, request.action, "action")
        views.market(request.symbol)
        _require_exact(request)
        return {
            "action": IntentAction.OPEN.value,
            "symbol": request.symbol,
            "is_long": request.is_long,
            "collateral_usdc": request.collateral_usdc,
            "leverage_x": request.leverage_x,
            "slippage_pct": request.slippage_pct,
            "take_profit": request.take_profit,
            "stop_loss": request.stop_loss,
            **_resting(request),
        }

    def close(self, request: CloseRequest) -> Submission:
        whole = request.reduce_usdc is None
        require(self.name, Action.CLOSE if whole else Action.CLOSE_PART, "" if whole else "reduce_usdc")
        if request.reduce_usdc is not None:
            _require_units(request.reduce_usdc, USDC_DIGITS, "reduce_usdc")
        position = self._position(request.position)
        return self._take_down(
            request.key,
            action=IntentAction.CLOSE.value,
            symbol=position.symbol,
            slippage_pct=SLIPPAGE_PCT,
            position=position,
            # Of this one, whatever a reorg makes of its row: without a name it would be every one of its symbol.
            only_position=True,
            reduce_usdc=request.reduce_usdc,
        )

    def increase(self, request: IncreaseRequest) -> Submission:
        require(self.name, Action.INCREASE)
        _require_units(request.collateral_usdc, USDC_DIGITS, "collateral_usdc")
        _require_units(request.slippage_pct, VENUE_DIGITS, "slippage_pct")
        position = self._position(request.position)
        asked = increases.size(position, request.collateral_usdc)
        known = TxIntent.objects.filter(intent_key=request.key, position=position).first()
        if known is not None:
            asked |= {"leverage_x": known.leverage_x}  # as it was when it was asked for first
        return self._take_down(
            request.key,
            **{name: value for name, value in asked.items() if name != "road"},
            only_position=True,
            slippage_pct=request.slippage_pct,
            expires_at=database_now() + timedelta(seconds=request.max_lag_s),
        )

    def change_levels(self, request: LevelsRequest) -> Submission:
        require(self.name, Action.CHANGE_LEVELS)
        for name in ("take_profit", "stop_loss"):
            value = getattr(request, name)
            if value is not None:
                _require_units(value, VENUE_DIGITS, name)
        position = self._position(request.position)
        return self._take_down(
            request.key,
            action=IntentAction.LEVELS.value,
            symbol=position.symbol,
            slippage_pct=SLIPPAGE_PCT,
            position=position,
            take_profit=request.take_profit,
            stop_loss=request.stop_loss,
            expires_at=database_now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
        )

    def cancel(self, request: CancelRequest) -> Submission:
        require(self.name, Action.CANCEL_ORDER)
        return self._take_down(request.key, action=IntentAction.CANCEL_ORDER.value, **self._of_order(request))

    def change(self, request: ChangeRequest) -> Submission:
        require(self.name, Action.CHANGE_ORDER)
        asked = {
            "limit_price": request.limit_price,
            "new_slippage_pct": request.slippage_pct,
            "take_profit": request.take_profit,
            "stop_loss": request.stop_loss,
        }
        resting.check_terms({name: value for name, value in asked.items() if value is not None})
        return self._take_down(
            request.key,
            action=IntentAction.UPDATE_ORDER.value,
            **self._of_order(request),
            **asked,
            expires_at=database_now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
        )

    def change_margin(self, request: MarginRequest) -> Submission:
        require(self.name, Action.CHANGE_MARGIN)
        margin_changes.check_amount(request.change_usdc)
        position = self._position(request.position)
        return self._take_down(
            request.key,
            **margin_changes.size(position, request.change_usdc),
            only_position=True,
            expires_at=database_now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
        )

    def _of_order(self, request: CancelRequest | ChangeRequest) -> dict[str, Any]:
        """The columns of what is done to an order that rests. Raises Refused where it does not."""
        order = TxIntent.objects.filter(intent_key=request.order, trader=self.trader).first()
        known = TxIntent.objects.filter(intent_key=request.key).exists()
        if order is None or not (known or positions.resting().filter(pk=order.pk).exists()):
            raise Refused(f"{self.name} has no order {request.order} that rests at the venue")
        return {
            "symbol": order.symbol,
            "slippage_pct": order.slippage_pct,
            "road": Road.ONCHAIN.value,
            "target": order,
        }

    def poll(self, key: str) -> Report:
        return report(key)

    @abstractmethod
    def _take_down(self, key: str, **asked: Any) -> Submission:
        """Store the order under its key, once."""

    def _position(self, number: int) -> Position:
        found = Position.objects.filter(pk=number, trader=self.trader, mode=self.mode).first()
        if found is None:
            raise Refused(f"{self.name} has no position {number} of trader {self.trader.tg_user_id}")
        return found

    def _told(self, intent: TxIntent, asked: dict[str, Any], *, is_new: bool) -> Submission:
        """Raises Refused where the key is another order's."""
        same = intent.trader_id == self.trader.pk and all(
            getattr(intent, name) == asked[name] for name in _ASKED if name in asked
        )
        position = asked.get("position")
        if not same or (position is not None and intent.position_id not in {None, position.pk}):
            raise Refused(f"{intent.intent_key} is another order already")
        return Submission(intent.intent_key, is_new)


def _resting(request: OpenRequest) -> dict[str, Any]:
    """The columns of an order that rests, which one road alone takes; none for a market order."""
    if request.action is Action.OPEN_MARKET:
        return {}
    order_type = OrderType.LIMIT if request.action is Action.OPEN_LIMIT else OrderType.STOP_LIMIT
    if request.limit_price is None:
        raise Refused(f"an {request.action.value} needs a limit_price")
    return {
        "order_type": order_type.value,
        "limit_price": request.limit_price,
        "road": Road.ONCHAIN.value,
    }


def _require_exact(request: OpenRequest) -> None:
    if request.limit_price is not None and request.action is Action.OPEN_MARKET:
        # Else somebody who named a price is filled at whatever it is.
        raise Refused("limit_price is for limit and stop-limit orders, an open_market has none")
    _require_units(request.collateral_usdc, USDC_DIGITS, "collateral_usdc")
    if request.max_lag_s < 1:
        raise Refused(f"max_lag_s must be at least 1, it is {request.max_lag_s}")
    for name in ("leverage_x", "slippage_pct", "take_profit", "stop_loss", "limit_price"):
        value = getattr(request, name)
        if value is not None:
            _require_units(value, VENUE_DIGITS, name)


def _require_units(value: Decimal, digits: int, name: str) -> None:
    """Raises Refused for what the venue cannot hold exactly, and for nothing."""
    try:
        units = to_units(value, digits, name)
    except ValueError as error:
        raise Refused(str(error)) from error
    if not units:
        raise Refused(f"{name} must be above zero")
