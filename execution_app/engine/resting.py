"""Opens that rest at the venue until their price comes: asked to be taken back or changed, once for each who asks."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.book import positions
from execution_app.errors import Refused
from execution_app.models import TxIntent
from execution_app.moves import open_intent
from execution_app.states import Action, IntentState, OrderType, Road
from execution_app.venues.interface import DEFAULT_MAX_LAG_S

log = structlog.get_logger(__name__)
BY = "engine"
# Each costs gas; what failed this often needs a person.
MAX_FAILURES = 3
NONE = Decimal(0)  # a level that is to go, as the venue writes it
# What may be changed of it, and how many decimals that has; a level may also be NONE.
CHANGEABLE = {"limit_price": 10, "new_slippage_pct": 4, "take_profit": 10, "stop_loss": 10}
HIGHEST = {"new_slippage_pct": Decimal(80)}  # the venue's own limit


def ask_to_take_back(order: TxIntent, *, key: str, by: str) -> TxIntent:
    """The one intent of this key that takes an open back which rests at the venue; whichever is first there, it or the fill, decides."""
    cancel, is_new = open_intent(
        key=key,
        by=by,
        trader=order.trader,
        wallet=order.wallet,
        tg_user_id=order.tg_user_id,
        source=order.source,
        action=Action.CANCEL_ORDER.value,
        symbol=order.symbol,
        slippage_pct=order.slippage_pct,
        road=Road.ONCHAIN.value,
        target=order,
    )
    if is_new:
        log.info("an order is to be taken back", intent=cancel.pk, key=key, order=order.intent_key, by=by)
    return cancel


def take_back_before(close: TxIntent) -> None:
    """Who asks to be out of a symbol does not want to be in again when a price comes: what rests from before is taken back.

    Runs in the transaction that binds the close, which then waits until each of them has ended, or filled.
    """
    resting = positions.resting().filter(trader=close.trader, symbol=close.symbol)
    for order in resting.filter(id__lt=positions.asked_at(close)).order_by("id"):
        asked = TxIntent.objects.filter(target=order, action=Action.CANCEL_ORDER)
        if asked.filter(settled_at=None).exists():
            continue
        failed = Q(state__in=[IntentState.FINAL_REVERTED, IntentState.FINAL_CANCELLED])
        if asked.filter(failed).count() >= MAX_FAILURES:
            continue  # said where each failed; a person takes it back, or lets it rest
        number = asked.count() + 1
        ask_to_take_back(order, key=f"{close.intent_key}@{order.pk}.{number}", by=BY)


def all_live() -> list[TxIntent]:
    """Everything that rests now, oldest first: each may fill by its price alone, also under a stop."""
    return list(positions.resting().select_related("trader", "wallet").order_by("id"))


def keys_under_stop() -> list[str] | None:
    """Of everything that rests, for the answer of a stop that was just set; None where the database does not say.

    The stop holds whatever this comes to, so nothing is raised: an answer of failure would deny it.
    """
    try:
        return [order.intent_key for order in all_live()]
    except DatabaseError as problem:
        log.warning("a stop holds, and nobody says what rests", problem=type(problem).__name__)
        return None


def obstacle(order: TxIntent) -> str:
    """Why this cannot be taken back; blank where it can."""
    if order.action != Action.OPEN or order.order_type == OrderType.MARKET:
        return "it is no order that rests at the venue"
    if order.state != IntentState.ORDERED:
        return f"it does not rest at the venue: it is {order.state}"
    under_way = TxIntent.objects.filter(target=order, action=Action.CANCEL_ORDER, settled_at=None)
    asked = under_way.order_by("id").values_list("intent_key", flat=True).first()
    return f"{asked} is taking it back already" if asked else ""


def take_back(
    order_key: str,
    *,
    key: str,
    by: str,
    reason: str,
    origin: AuditOrigin = AuditOrigin.COMMAND,
    also: Callable[[], object] | None = None,
) -> TxIntent:
    """A person's wish, told in the audit log; the same key again is the same wish. Raises Refused.

    Nothing is signed here: whoever places it asks the gate. `also` is done in the transaction of the wish, before it,
    and what it raises undoes both; a wish that is known already does not come to it.
    """
    with transaction.atomic(durable=True):
        order = TxIntent.objects.select_related("trader", "wallet").filter(intent_key=order_key).first()
        if order is None:
            raise Refused(f"no intent is called {order_key}")
        known = TxIntent.objects.filter(intent_key=key, target=order).first()
        if known is not None:
            return known
        if problem := obstacle(order):
            raise Refused(f"{order_key}: {problem}")
        if also is not None:
            also()
        cancel = ask_to_take_back(order, key=key, by=by)
        told = {"taken_back_by": key}
        audit.record(
            AuditAction.PENDING_CANCELLED, order_key, reason=reason, after=told, who=audit.by(by, origin)
        )
    return cancel


def ask_to_change(order: TxIntent, terms: Mapping[str, Decimal | None], *, key: str, by: str) -> TxIntent:
    """The one intent of this key that changes an open which rests; what `terms` does not name stays as the venue has it.

    Nobody wants it any more once it is older than an open may be; filled or taken back first, it ends without effect.
    """
    asked: dict[str, Any] = {name: terms.get(name) for name in CHANGEABLE}
    change, is_new = open_intent(
        key=key,
        by=by,
        trader=order.trader,
        wallet=order.wallet,
        tg_user_id=order.tg_user_id,
        source=order.source,
        action=Action.UPDATE_ORDER.value,
        symbol=order.symbol,
        slippage_pct=order.slippage_pct,
        road=Road.ONCHAIN.value,
        target=order,
        expires_at=Now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
        **asked,
    )
    if is_new:
        log.info("an order is to be changed", intent=change.pk, key=key, order=order.intent_key, by=by)
    return change


def change(
    order_key: str,
    terms: Mapping[str, Decimal | None],
    *,
    key: str,
    by: str,
    reason: str,
    origin: AuditOrigin = AuditOrigin.COMMAND,
) -> TxIntent:
    """As `take_back`, for other terms: `limit_price`, `new_slippage_pct`, `take_profit`, `stop_loss`. Raises Refused."""
    given = {name: value for name, value in terms.items() if value is not None}
    check_terms(given)
    with transaction.atomic(durable=True):
        order = TxIntent.objects.select_related("trader", "wallet").filter(intent_key=order_key).first()
        if order is None:
            raise Refused(f"no intent is called {order_key}")
        known = TxIntent.objects.filter(intent_key=key, target=order).first()
        if known is not None:
            return known
        if problem := obstacle(order):
            raise Refused(f"{order_key}: {problem}")
        asked = ask_to_change(order, given, key=key, by=by)
        told = {"changed_by": key} | {name: f"{value:f}" for name, value in given.items()}
        audit.record(
            AuditAction.ORDER_CHANGED, order_key, reason=reason, after=told, who=audit.by(by, origin)
        )
    return asked


def check_terms(given: Mapping[str, Decimal]) -> None:
    """Raises Refused for terms that no order can have, and for none at all."""
    if not given:
        raise Refused("a change names a price, a slippage or a level")
    for name, value in given.items():
        goes = name in {"take_profit", "stop_loss"} and value == NONE
        highest = HIGHEST.get(name, Decimal(10**12))
        if not value.is_finite() or not (goes or 0 < value <= highest):
            raise Refused(f"{name} must be above 0 and at most {highest:f}")
        if value != round(value, CHANGEABLE[name]):
            raise Refused(f"{name} has at most {CHANGEABLE[name]} decimals")
