"""Collateral that goes into an open position or out of it: asked for once for each who asks, and when it may go.

It names a slot, as a close does, and while a close is under way it waits: what there is to close must not change under
it. A close waits in its turn for one that has left, until that is mined (`positions.is_taken`). With an increase it is
the same, either way round.
"""

from datetime import timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.book import growth, margins
from execution_app.engine.increases import is_being_closed, is_to_be_closed
from execution_app.engine.waiting import hold, note, refuse
from execution_app.errors import Refused
from execution_app.gate import limits
from execution_app.gate.admission import Admission, Verdict, leverage_breaches, order_of
from execution_app.gate.caps import plain
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import WAITING, Action, CapName, Mode, PositionState, Reason, Road
from execution_app.venues.costs import leverage_after_x
from execution_app.venues.interface import DEFAULT_MAX_LAG_S, DEFAULT_SLIPPAGE_PCT, UnsupportedError, require
from execution_app.venues.interface import Action as Asked

log = structlog.get_logger(__name__)
USDC_DIGITS = 6


def size(position: Position, change_usdc: Decimal) -> dict[str, Any]:
    """The columns of a change of margin: of this position, above zero where USDC goes in. A simulated one has no road."""
    return {
        "action": Action.MARGIN.value,
        "symbol": position.symbol,
        "position": position,
        "margin_usdc": change_usdc,
        "slippage_pct": DEFAULT_SLIPPAGE_PCT,
        "road": Road.ONCHAIN.value if position.mode == Mode.LIVE else "",
    }


def unsupported(position: Position, venue: str, field: str = "") -> str:
    """Why margin is not changed where orders take this road; blank where it is. By message there is no request for it."""
    try:
        require(venue if position.mode == Mode.LIVE else "paper", Asked.CHANGE_MARGIN, field)
    except UnsupportedError as refusal:
        return str(refusal)
    return ""


def may_go(intent: TxIntent, verdict: Verdict) -> bool:
    """Whether this may be signed, or simulated, now; what keeps it is written on the row, or ends it."""
    position = intent.position
    assert position is not None
    if position.state != PositionState.OPEN:
        # Not an exit: nobody wants it any more, even where a reorg opens the position again.
        detail = f"position {position.pk} is {position.state}"
        refuse(intent, Admission(Verdict.REFUSE, Reason.NO_POSITION, detail))
    elif position.mode == Mode.DRY:
        if verdict is Verdict.SIMULATE:
            return True
        # A sender meant what there is in LIVE; who named the position meant it, and the gate simulates that.
        detail = f"position {position.pk} is simulated, and this would go LIVE"
        refuse(intent, Admission(Verdict.REFUSE, Reason.NO_POSITION, detail))
    elif verdict is not Verdict.EXECUTE:
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "margin of a live position is not changed by a simulation")
    elif is_to_be_closed(position):
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, "a close of this position is not finished")
    elif _earlier(intent, position):
        note(
            intent,
            Reason.WAITS_FOR_EARLIER_ORDER,
            "an earlier change of this position's margin or size is under way",
        )
    else:
        return True
    return False


def _earlier(intent: TxIntent, position: Position) -> bool:
    """What the venue has not answered yet, or an older one that waits: they go in the order in which they were asked for."""
    older = TxIntent.objects.filter(
        position=position,
        action__in=[Action.MARGIN, Action.INCREASE],
        state__in=sorted(WAITING),
        pk__lt=intent.pk,
    )
    on_its_way = margins.under_way(position).exclude(pk=intent.pk)
    return on_its_way.exists() or older.exists() or growth.is_under_way(position)


def obstacle(position: Position) -> str:
    """Why its margin cannot be changed; blank where it can."""
    if position.state != PositionState.OPEN:
        return f"it is {position.state}"
    if problem := unsupported(position, settings.ENVIRONMENT.venue):
        return problem
    return "a close of it is under way" if is_being_closed(position) else ""


def ask(position: Position, change_usdc: Decimal, *, key: str, by: str) -> TxIntent:
    """The one intent of this key that puts USDC into a position, above zero, or takes it out. Raises Refused without a wallet."""
    wallet = Wallet.objects.filter(trader=position.trader).first()
    if wallet is None:
        raise Refused(f"{position.trader} has no wallet")
    intent, is_new = open_intent(
        key=key,
        by=by,
        trader=position.trader,
        wallet=wallet,
        tg_user_id=position.trader.tg_user_id,
        only_position=True,
        **size(position, change_usdc),
        expires_at=Now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
    )
    if is_new:
        log.info("margin is to be changed", intent=intent.pk, key=key, position=position.pk, by=by)
    return intent


def change(
    position_id: int,
    change_usdc: Decimal,
    *,
    key: str,
    by: str,
    reason: str,
    origin: AuditOrigin = AuditOrigin.COMMAND,
) -> TxIntent:
    """A person's wish, told in the audit log; the same key again is the same wish. Raises Refused.

    Nothing is signed here: whoever places it asks the gate.
    """
    check_amount(change_usdc)
    with transaction.atomic(durable=True):
        position = Position.objects.select_related("trader").filter(pk=position_id).first()
        if position is None:
            raise Refused(f"there is no position {position_id}")
        known = TxIntent.objects.filter(intent_key=key, position=position).first()
        if known is not None:
            return known
        if problem := obstacle(position):
            raise Refused(f"position {position_id}: {problem}")
        _check_room(position, change_usdc)
        intent = ask(position, change_usdc, key=key, by=by)
        told = {"asked_by": key, "change_usdc": f"{change_usdc:f}"}
        subject = f"position {position_id}"
        audit.record(AuditAction.MARGIN_ASKED, subject, reason=reason, after=told, who=audit.by(by, origin))
    return intent


def check_amount(change_usdc: Decimal) -> None:
    """Raises Refused for what the venue cannot hold exactly, and for nothing."""
    if not change_usdc.is_finite() or not change_usdc or abs(change_usdc) >= Decimal(10**12):
        raise Refused("an amount of USDC is not zero")
    if change_usdc != round(change_usdc, USDC_DIGITS):
        raise Refused(f"USDC has at most {USDC_DIGITS} decimals")


def _check_room(position: Position, change_usdc: Decimal) -> None:
    """Raises Refused, with the most that may, where so much may not come out of the trade as the book has it.

    It would not leave either (`admission.may_leave`): at best it would cost its wallet a slot. What the price, the stop
    loss or the venue has against it is found when it is drawn; what its owner put in by hand counts once the book has it.
    """
    held_usdc: Decimal = position.collateral_usdc
    left_usdc = held_usdc + change_usdc
    has = f"position {position.pk} has {plain(held_usdc)} USDC of collateral at {plain(position.leverage_x)}x"
    if left_usdc <= 0:
        raise Refused(f"usdc: {plain(-change_usdc)} is not less than that: {has}")
    wish = TxIntent(tg_user_id=position.trader.tg_user_id, **size(position, change_usdc))
    after_x = leverage_after_x(held_usdc, position.leverage_x, left_usdc)
    if broken := leverage_breaches(wish, after_x):
        most_usdc = _most_out(position, wish)
        raise Refused(f"usdc: at most {plain(most_usdc)} may come out: {has}, and {broken[0].detail}")


def _most_out(position: Position, wish: TxIntent) -> Decimal:
    """USDC that every cap on leverage lets come out of the trade, in what the venue counts; 0 where none does."""
    caps = [limit.value for limit in limits.active(order_of(wish)) if limit.name is CapName.LEVERAGE]
    if not caps or min(caps) <= 0:
        return Decimal(0)
    held_usdc: Decimal = position.collateral_usdc
    leverage_x: Decimal = position.leverage_x
    unit = Decimal(1).scaleb(-USDC_DIGITS)
    # The venue rounds the notional down.
    notional_usdc = (held_usdc * leverage_x).quantize(unit, ROUND_DOWN)
    least_usdc = (notional_usdc / min(caps)).quantize(unit, ROUND_UP)
    return max(held_usdc - least_usdc, Decimal(0))
