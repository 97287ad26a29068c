"""The one gate: whether an intent may take a nonce, and whether its slot may leave.

Both questions are asked inside a transaction that holds the control row
still, so no path (webhook, worker, bot, admin, shell) goes round them.
"""

import time
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from django.conf import settings

from execution_app.gate import caps, control, modes, watch
from execution_app.gate.caps import Breach, Caps
from execution_app.gate.modes import Facts, Ruling
from execution_app.models import TxIntent
from execution_app.states import Action, Mode, Reason


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


def ruling_now() -> Ruling:
    """The mode that holds until the caller's transaction ends."""
    known = watch.process_facts()
    active = control.hold_still()
    problem = watch.chain_problem()
    facts = Facts(active, known.snapshot, problem)
    return modes.rule(watch.limits(), facts, time.monotonic())


def admit(intent: TxIntent, ruling: Ruling) -> Admission:
    """Whether an intent without a nonce may execute, must wait, is simulated or refused."""
    opens = intent.action == Action.OPEN
    if ruling.emergency_stop:
        return Admission(Verdict.REFUSE, Reason.EMERGENCY_STOP, "emergency stop is set")
    if ruling.reduce_only and opens:
        return Admission(Verdict.REFUSE, Reason.REDUCE_ONLY, "only orders that lower exposure pass")
    if opens:
        broken = order_breaches(intent.symbol, intent.collateral_usdc, intent.leverage_x)
        if broken:
            return Admission(Verdict.REFUSE, broken[0].reason, "; ".join(b.detail for b in broken))
    if ruling.degraded:
        return Admission(Verdict.HOLD, Reason.MODE_DEGRADED, ruling.reason)
    return Admission(Verdict.EXECUTE if ruling.mode is Mode.LIVE else Verdict.SIMULATE)


def may_leave(intent: TxIntent, ruling: Ruling, *, expired: bool) -> Departure:
    """Whether a slot whose bytes no node has seen may be broadcast."""
    opens = intent.action == Action.OPEN
    if ruling.emergency_stop or ruling.mode is not Mode.LIVE:
        return Departure.PARK
    if opens and (
        ruling.reduce_only
        or expired
        or order_breaches(intent.symbol, intent.collateral_usdc, intent.leverage_x)
    ):
        return Departure.CANCEL
    return Departure.LEAVE


def order_breaches(symbol: str, collateral_usdc: Decimal | None, leverage_x: Decimal | None) -> list[Breach]:
    """The caps that an opening order breaks under this process's environment."""
    environment = settings.ENVIRONMENT
    limits = Caps(environment.max_notional_usdc, environment.max_leverage, environment.symbols)
    return caps.breaches(symbol, collateral_usdc or Decimal(0), leverage_x or Decimal(0), limits)
