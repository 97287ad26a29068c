"""Set and lift caps: rows under the lock under which opens ask them.

Once one of these has returned, no open takes a nonce by the caps of before. What
was signed asks again when it begins to leave; what had begun by then goes on, as
long as its lease lets it. First broadcasts stay off this lock: a stop is what
waits for them.
"""

from dataclasses import dataclass
from decimal import Context, Decimal

import structlog
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from execution_app import audit, reservations
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.errors import Refused
from execution_app.gate import loosening
from execution_app.models import Cap
from execution_app.models.risk import HIGHEST_CAP
from execution_app.states import CapName, CapScope

log = structlog.get_logger(__name__)

COUNTED = (CapName.OPEN_POSITIONS, CapName.ORDERS_PER_MINUTE, CapName.GAS_PER_DAY)
DIGITS = 6
_EXACT = Context(prec=60)  # the usual 28 digits are fewer than the highest cap has


@dataclass(frozen=True)
class Change:
    """What a call did: the row that was active before, and the one that is now."""

    changed: bool
    before: Cap | None
    now: Cap | None


def set_cap(
    name: CapName,
    scope: CapScope,
    scope_value: str,
    value: Decimal,
    *,
    by: str,
    reason: str,
    code: str = "",
    origin: AuditOrigin = AuditOrigin.COMMAND,
) -> Change:
    """Set a cap in the unit of its name, closing the row that it replaces; the same value changes nothing.

    A first or a lower value is stricter and needs a reason; a higher one is
    looser and needs what `loosening.permit` asks. Raises Refused.
    """
    _check(name, value, reason)
    seen = _active(name, scope, scope_value)
    if seen is not None and seen.value < value:
        # Outside the transaction: what is refused stays counted, and nobody waits for a code under the lock.
        loosening.permit(by=by, reason=reason, code=code)
    with transaction.atomic(durable=True):
        reservations.lock()
        before = _unchanged(seen, name, scope, scope_value)
        if before is not None and before.value == value:
            return Change(False, before, before)
        if before is not None:
            _close(before, by, reason)
        try:
            with transaction.atomic():
                now = Cap.objects.create(
                    scope=scope.value,
                    scope_value=scope_value,
                    name=name.value,
                    value=value,
                    set_by=by[:150],
                    reason=reason.strip()[:400],
                )
        except IntegrityError:
            raise Refused(f"no {scope.value} can be named {scope_value!r}") from None
        _tell(now, audit.by(by, origin), reason, before=None if before is None else before.value, after=value)
    log.warning("cap set", cap=str(now), value=value, before=before and before.value, by=by, reason=reason)
    return Change(True, before, now)


def lift_cap(
    name: CapName,
    scope: CapScope,
    scope_value: str,
    *,
    by: str,
    reason: str,
    code: str = "",
    origin: AuditOrigin = AuditOrigin.COMMAND,
) -> Change:
    """Lift a cap, which is always looser; none there changes nothing. Raises Refused as `set_cap` does."""
    seen = _active(name, scope, scope_value)
    if seen is None:
        return Change(False, None, None)
    loosening.permit(by=by, reason=reason, code=code)
    with transaction.atomic(durable=True):
        reservations.lock()
        before = _unchanged(seen, name, scope, scope_value)
        assert before is not None
        _close(before, by, reason)
        _tell(before, audit.by(by, origin), reason, before=before.value, after=None)
    log.warning("cap lifted", cap=str(before), before=before.value, by=by, reason=reason)
    return Change(True, before, None)


def _tell(cap: Cap, who: audit.Who, reason: str, *, before: Decimal | None, after: Decimal | None) -> None:
    action = AuditAction.CAP_REMOVED if after is None else AuditAction.CAP_SET
    values = {"before": before, "after": after}
    told = {key: None if value is None else {"value": f"{value:f}"} for key, value in values.items()}
    audit.record(action, f"cap {cap}", reason=reason, before=told["before"], after=told["after"], who=who)


def _active(name: CapName, scope: CapScope, scope_value: str) -> Cap | None:
    return Cap.objects.filter(
        name=name.value, scope=scope.value, scope_value=scope_value, lifted_at=None
    ).first()


def _unchanged(seen: Cap | None, name: CapName, scope: CapScope, scope_value: str) -> Cap | None:
    """The active row, under the lock. Raises Refused where it is no longer the one that was seen before."""
    now = _active(name, scope, scope_value)
    if (now and now.pk) != (seen and seen.pk):
        raise Refused(f"somebody has just changed {name.value}; look again")
    return now


def _close(row: Cap, by: str, reason: str) -> None:
    Cap.objects.filter(pk=row.pk, lifted_at=None).update(
        lifted_at=Now(), lifted_by=by[:150], lifted_reason=reason.strip()[:400]
    )


def _check(name: CapName, value: Decimal, reason: str) -> None:
    if not reason.strip():
        raise Refused(f"the cap {name.value} needs a reason")
    if not value.is_finite() or not 0 <= value < HIGHEST_CAP:
        raise Refused(f"{name.value} must be zero or more and below {HIGHEST_CAP:.0e}, not {value}")
    digits = 0 if name in COUNTED else DIGITS
    if value != value.quantize(Decimal(1).scaleb(-digits), context=_EXACT):
        raise Refused(f"{name.value} has at most {digits} decimals")
    if name is CapName.BANNED and value:
        raise Refused(f"{name.value} has no value but 0, not {value}")
