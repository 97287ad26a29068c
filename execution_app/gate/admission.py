"""The one gate: whether an intent may take a nonce, and whether its slot may leave.

Both questions are asked inside a transaction that holds the control row
still, so no path (webhook, worker, bot, admin, shell) goes round them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum

from django.conf import settings

from execution_app.gate import approval, caps, control, limits, modes, usage, watch
from execution_app.gate.caps import Breach, Order
from execution_app.gate.look import look
from execution_app.gate.modes import Facts, Ruling
from execution_app.models import Reservation, TxIntent
from execution_app.states import GROWING, Action, CapName, Mode, OrderType, PositionState, Reason
from execution_app.venues.costs import leverage_after_x

# What opens nothing and is no exit either: not under reduce-only.
EXPOSING = (Action.UPDATE_ORDER, Action.MARGIN)
# What nobody wants any more once it is too old, although it opens nothing.
EXPIRING = (Action.LEVELS, *EXPOSING)


class Verdict(Enum):
    EXECUTE = "execute"
    SIMULATE = "simulate"
    HOLD = "hold"
    REFUSE = "refuse"


class Departure(Enum):
    LEAVE = "leave"
    PARK = "park"  # decided again when the mode returns
    CANCEL = "cancel"  # fill the slot so that what is behind it passes


@dataclass(frozen=True)
class Admission:
    verdict: Verdict
    reason: Reason = Reason.ACCEPTED
    detail: str = ""

    @property
    def mode(self) -> Mode:
        """What an intent becomes that is let in now."""
        return Mode.LIVE if self.verdict is Verdict.EXECUTE else Mode.DRY


def ruling_now() -> Ruling:
    """The mode that holds until the caller's transaction ends."""
    known = watch.process_facts()
    control.hold_line()
    seen = look()  # restrictions and chain at one moment
    facts = Facts(seen.kinds, known.snapshot, watch.chain_problem(seen))
    return modes.rule(watch.limits(), facts, time.monotonic())


def admit(intent: TxIntent, ruling: Ruling) -> Admission:
    """Whether an intent without a nonce may execute, must wait, is simulated or refused."""
    opens = intent.action in GROWING
    if ruling.emergency_stop:
        return Admission(Verdict.REFUSE, Reason.EMERGENCY_STOP, "emergency stop is set")
    if ruling.reduce_only and (opens or intent.action in EXPOSING):
        return Admission(Verdict.REFUSE, Reason.REDUCE_ONLY, "only orders that lower exposure pass")
    if raises(intent):
        broken = order_breaches(order_of(intent))
        if broken:
            return refusal(broken)
    if _is_simulation(intent):
        return Admission(Verdict.SIMULATE)
    if ruling.mode is Mode.LIVE or approval.counts(intent, ruling):
        return Admission(Verdict.EXECUTE)
    if ruling.degraded:
        return Admission(Verdict.HOLD, Reason.MODE_DEGRADED, ruling.reason)
    if intent.action == Action.UPDATE_ORDER or (opens and intent.order_type != OrderType.MARKET):
        detail = "a change of an order that rests is not simulated: in DRY it is refused"
        if opens:
            detail = f"a {intent.order_type} order is not simulated: in DRY it is refused"
        return Admission(Verdict.REFUSE, Reason.ORDER_TYPE_UNSUPPORTED, detail)
    return Admission(Verdict.SIMULATE)


def _is_simulation(intent: TxIntent) -> bool:
    """Whatever the mode is now: a simulation that has begun stays one, and what exists in our book alone ends there."""
    if intent.mode == Mode.DRY:
        return True
    return intent.only_position and intent.position is not None and intent.position.mode == Mode.DRY


def may_leave(intent: TxIntent, ruling: Ruling, now: datetime, *, expired: bool) -> Departure:
    """Whether a slot whose bytes no node has seen may be broadcast.

    Of a cap that was tightened meanwhile, what was reserved first stays within it
    and the rest is cancelled.
    """
    opens = intent.action in GROWING
    if ruling.emergency_stop or not (ruling.mode is Mode.LIVE or approval.counts(intent, ruling)):
        return Departure.PARK
    if intent.action in EXPIRING and expired:
        return Departure.CANCEL
    if ruling.reduce_only and (opens or intent.action in EXPOSING):
        return Departure.CANCEL
    if raises(intent) and (expired or _has_lost_its_place(intent, now)):
        return Departure.CANCEL
    if _is_unfit(intent):
        return Departure.CANCEL
    return Departure.LEAVE


def _has_lost_its_place(intent: TxIntent, now: datetime) -> bool:
    if order_breaches(order_of(intent)):
        return True
    if not counts_rows(intent):
        return False
    held = Reservation.objects.filter(intent=intent).values_list("pk", flat=True).first()
    return bool(_breaches(intent, Mode.LIVE, now, counted_as=held))


def _is_unfit(intent: TxIntent) -> bool:
    """Whether a change of margin has no position by now, or takes so much out that a cap on leverage would be broken.

    Of the position as the book has it: the chain was asked when it was signed, and no transaction waits for a node.
    """
    position = intent.position if intent.action == Action.MARGIN else None
    if position is None:
        return False
    left_usdc = position.collateral_usdc + (intent.margin_usdc or Decimal(0))
    if position.state != PositionState.OPEN or left_usdc <= 0:
        return True
    return bool(
        leverage_breaches(intent, leverage_after_x(position.collateral_usdc, position.leverage_x, left_usdc))
    )


def raises(intent: TxIntent) -> bool:
    """Whether more is at stake after it, so that caps bind it: an open, an increase, and USDC that goes into a margin."""
    return intent.action in GROWING or (intent.action == Action.MARGIN and (intent.margin_usdc or 0) > 0)


def put_in_usdc(intent: TxIntent) -> Decimal | None:
    """USDC that it takes from the trader; None where it takes none."""
    return order_of(intent).collateral_usdc if raises(intent) else None


def order_of(intent: TxIntent) -> Order:
    """What caps ask of it; USDC that goes into a position is at stake as it is, without leverage."""
    who = intent.tg_user_id, intent.source, intent.symbol
    if intent.action == Action.MARGIN:
        return Order(*who, intent.margin_usdc or Decimal(0), Decimal(1))
    return Order(*who, intent.collateral_usdc or Decimal(0), intent.leverage_x or Decimal(0))


def leverage_breaches(intent: TxIntent, leverage_x: Decimal) -> list[Breach]:
    """The caps on leverage that its position would break with this one, where it takes margin out; less leverage breaks none."""
    if intent.action != Action.MARGIN or raises(intent):
        return []
    order = replace(order_of(intent), collateral_usdc=Decimal(0), leverage_x=leverage_x)
    return [found for found in order_breaches(order) if found.reason is Reason.LEVERAGE_ABOVE_CAP]


def order_breaches(order: Order) -> list[Breach]:
    """The caps that an opening order breaks whatever else is open."""
    return caps.order_breaches(order, limits.active(order), settings.ENVIRONMENT.symbols)


def room(intent: TxIntent, mode: Mode, now: datetime, cost_wei: int = 0) -> Admission | None:
    """The refusal of an open for which there is no room now, or None.

    Counts under `reservations.lock`; without it the answer is only good for
    refusing. What is full is refused, never held: nobody wants a signal to trade
    minutes later because room came free. `cost_wei` is the most that its
    transaction may cost, once that is known.
    """
    broken = _breaches(intent, mode, now, cost_wei)
    return refusal(broken) if broken else None


def counts_rows(intent: TxIntent) -> bool:
    """Whether `room` counts what other orders have reserved, so that these must be stored before it is asked."""
    return any(limit.name in caps.SUMMED for limit in limits.active(order_of(intent)))


def _breaches(
    intent: TxIntent, mode: Mode, now: datetime, cost_wei: int = 0, counted_as: int | None = None
) -> list[Breach]:
    order = order_of(intent)
    asked = {
        CapName.OPEN_POSITIONS: Decimal(1),
        CapName.EXPOSURE: order.notional_usdc,
        CapName.ORDERS_PER_MINUTE: Decimal(1),
        CapName.GAS_PER_DAY: Decimal(cost_wei),
    }
    found = []
    for limit in limits.active(order):
        if limit.name is CapName.OPEN_POSITIONS and intent.action != Action.OPEN:
            continue  # it is one position before and after
        # An order that was counted in its minute is not late because others came after it.
        if limit.name not in caps.SUMMED or (counted_as and limit.name is CapName.ORDERS_PER_MINUTE):
            continue
        used = usage.used(limit, mode, now, counted_as)
        counted = counted_as is not None
        wanted = asked.get(limit.name, Decimal(0))
        if counted and limit.name is CapName.GAS_PER_DAY:
            wanted = Decimal(1)  # some of what is used, at any rate
        broken = caps.breach(limit, used, wanted, counted=counted)
        if broken is not None:
            found.append(broken)
    return found


def refusal(broken: Sequence[Breach]) -> Admission:
    return Admission(Verdict.REFUSE, broken[0].reason, "; ".join(b.detail for b in broken))
