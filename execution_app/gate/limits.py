"""The caps that hold for one opening order now: the environment's, and the rows that are stricter."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal

from django.conf import settings
from django.db.models import Q

from execution_app.gate.caps import Limit, Order, effective
from execution_app.models import Cap
from execution_app.states import CapName, CapScope


@dataclass(frozen=True)
class _Read:
    """Rows of caps, and what they come to for orders of one trader, source and symbol: many of a batch are alike in these."""

    rows: list[Cap]
    found: dict[tuple[int, str, str], list[Limit]] = field(default_factory=dict)


_known: ContextVar[_Read | None] = ContextVar("vanta_caps_read_once", default=None)


def ceilings() -> dict[CapName, Decimal]:
    """What this process's environment sets; names that it does not are left out."""
    environment = settings.ENVIRONMENT
    values: dict[CapName, Decimal | int | None] = {
        CapName.NOTIONAL: environment.max_notional_usdc,
        CapName.COLLATERAL: environment.max_collateral_usdc,
        CapName.LEVERAGE: environment.max_leverage,
        CapName.OPEN_POSITIONS: environment.max_open_positions,
        CapName.EXPOSURE: environment.max_exposure_usdc,
        CapName.ORDERS_PER_MINUTE: environment.max_orders_per_minute,
        CapName.DAILY_LOSS: environment.max_daily_loss_usdc,
        CapName.GAS_PER_DAY: environment.max_gas_per_day_wei,
    }
    return {name: Decimal(value) for name, value in values.items() if value is not None}


@contextmanager
def read_once() -> Iterator[None]:
    """Read the rows of caps once, for all orders that are asked about meanwhile in this thread.

    For one short transaction: one that holds `reservations.lock`, under which no
    cap changes, or one that only refuses. In the latter a cap that is set meanwhile
    does not count yet: what it had not refused by then goes on.
    """
    token = _known.set(_Read(list(Cap.objects.filter(lifted_at=None).order_by("id"))))
    try:
        yield
    finally:
        _known.reset(token)


def active(order: Order) -> list[Limit]:
    """Every cap that holds for an order, read now or by `read_once`."""
    known = _known.get()
    if known is None:
        of_order = Q()
        for scope in CapScope:
            of_order |= Q(scope=scope.value, scope_value=order.named(scope))
        return _effective(list(Cap.objects.filter(of_order, lifted_at=None).order_by("id")))
    names = (order.tg_user_id, order.source, order.symbol)
    if names not in known.found:
        rows = [row for row in known.rows if row.scope_value == order.named(CapScope(row.scope))]
        known.found[names] = _effective(rows)
    return known.found[names]


def _effective(rows: list[Cap]) -> list[Limit]:
    return effective([of_row(row) for row in rows], ceilings())


def of_row(row: Cap) -> Limit:
    return Limit(CapName(row.name), row.value, CapScope(row.scope), row.scope_value, f"cap {row.pk}")
