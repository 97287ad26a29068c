"""What may be at stake, what is at stake, and every change of that."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of
from execution_app.models.intents import TxIntent
from execution_app.models.kinds import BEYOND
from execution_app.models.traders import Trader
from execution_app.states import CapName, CapScope, Mode, ReservationState

# No cap needs to be greater; NaN, which PostgreSQL holds for greater than every number, is.
HIGHEST_CAP = 10**30
_SCOPED = (
    Q(scope=CapScope.GLOBAL.value, scope_value="")
    | Q(scope=CapScope.TRADER.value, scope_value__regex=r"^[1-9][0-9]{0,18}$")
    | Q(scope=CapScope.SOURCE.value, scope_value__regex=r"^[A-Za-z0-9._-]{1,64}$")
    | Q(scope=CapScope.SYMBOL.value, scope_value__regex=r"^[A-Z0-9.]{1,16}-[A-Z0-9.]{1,15}$")
)


def notional(**options: object) -> "models.DecimalField[Any, Any]":
    """Collateral times leverage in USDC, exact: 6 and 4 decimals make 10."""
    return models.DecimalField(max_digits=36, decimal_places=10, **options)  # type: ignore[arg-type]


class Cap(models.Model):
    """A limit that an operator set. It can only be stricter than the environment, which the gate sees to.

    Never changed: another value is another row, and `lifted_at` closes the old
    one, once. Only `execution_app.gate.cap_rows` writes here.
    """

    scope = one_of(CapScope)
    scope_value = models.CharField(max_length=64, blank=True, default="")
    name = one_of(CapName)
    value = models.DecimalField(max_digits=40, decimal_places=6)
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=400)
    set_at = models.DateTimeField(db_default=Now())
    lifted_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    lifted_reason = models.CharField(max_length=400, blank=True, default="", db_default="")
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "caps"
        constraints = [
            models.UniqueConstraint(
                fields=["scope", "scope_value", "name"],
                condition=Q(lifted_at__isnull=True),
                name="uq_caps_active",
            ),
            listed("caps", "scope", CapScope),
            listed("caps", "name", CapName),
            models.CheckConstraint(condition=_SCOPED, name="ck_caps_scope_value"),
            # 0 permits nothing.
            models.CheckConstraint(condition=Q(value__gte=0, value__lt=HIGHEST_CAP), name="ck_caps_value"),
            models.CheckConstraint(
                condition=~Q(name=CapName.BANNED.value) | Q(value=0), name="ck_caps_ban_is_zero"
            ),
            models.CheckConstraint(condition=~Q(reason="") & ~Q(set_by=""), name="ck_caps_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.scope} {self.scope_value}".strip()


class Reservation(models.Model):
    """What one opening order has at stake, from its nonce (or its simulation) to the end of its position.

    `asked_usdc` is the order's notional for life, `notional_usdc` what of it is
    still at stake: what a close took out stays in until that close is final,
    since a reorg would put it back. Only `execution_app.reservations` writes here.
    """

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="reservation")
    trader = models.ForeignKey(Trader, models.PROTECT, related_name="reservations")
    source = models.CharField(max_length=64, blank=True, default="")
    symbol = models.CharField(max_length=32)
    mode = one_of(Mode)
    state = one_of(ReservationState, default=ReservationState.OPEN.value)
    asked_usdc = notional()
    notional_usdc = notional()
    reserved_at = models.DateTimeField(db_default=Now())
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "risk_reservations"
        constraints = [
            listed("risk_reservations", "mode", Mode),
            listed("risk_reservations", "state", ReservationState),
            models.CheckConstraint(
                condition=Q(asked_usdc__gt=0, asked_usdc__lt=BEYOND), name="ck_risk_reservations_asked"
            ),
            # Nothing is at stake exactly where it was released.
            models.CheckConstraint(
                condition=Q(state=ReservationState.RELEASED.value, notional_usdc=0, released_at__isnull=False)
                | Q(
                    ~Q(state=ReservationState.RELEASED.value),
                    notional_usdc__gt=0,
                    notional_usdc__lt=BEYOND,
                    released_at__isnull=True,
                ),
                name="ck_risk_reservations_stake",
            ),
        ]
        indexes = [
            # What is at stake is summed for every order, however long the history.
            models.Index(
                fields=["mode", "trader", "symbol"],
                condition=Q(released_at__isnull=True),
                name="ix_risk_reservations_at_stake",
            ),
            models.Index(fields=["reserved_at"], name="ix_risk_reservations_at"),
            models.Index(fields=["released_at"], name="ix_risk_reservations_released"),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.symbol} {self.notional_usdc}"


class RiskLog(models.Model):
    """One change of one reservation, written by a trigger and by nothing else; append-only.

    `total_usdc` is what the writing transaction saw at stake in that mode. It is
    exact wherever the stake grew, since only one transaction at a time may do that.
    """

    reservation = models.ForeignKey(Reservation, models.PROTECT, related_name="log")
    at = models.DateTimeField(db_default=Now())
    mode = one_of(Mode)
    state = one_of(ReservationState)
    change_usdc = notional()
    notional_usdc = notional()
    total_usdc = notional()

    class Meta:
        db_table = "risk_log"
        indexes = [models.Index(fields=["reservation", "id"], name="ix_risk_log")]

    def __str__(self) -> str:
        return f"{self.change_usdc} → {self.total_usdc}"
