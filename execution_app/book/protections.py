"""What guards a position, as rows: begun with its fill, advanced by prices, changed by people, ended by a newer version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.book import levels, native_levels, quotes, reopened
from execution_app.book.levels import Levels
from execution_app.errors import Refused
from execution_app.gate import loosening
from execution_app.models import Position, Protection, TxIntent
from execution_app.states import OrderType, PositionState

log = structlog.get_logger(__name__)

LEVELS = ("take_profit", "stop_loss", "trailing_stop_pct", "trailing_stop_usd", "break_even_pct", "closes_at")
WITH_OPEN = ("take_profit", "stop_loss", "trailing_stop_pct", "break_even_pct")
DECIMALS = {
    "take_profit": 10, "stop_loss": 10, "trailing_stop_usd": 10, "trailing_stop_pct": 4, "break_even_pct": 4,
}  # fmt: skip
HIGHEST = {name: Decimal(100) if name.endswith("_pct") else Decimal(10**12) for name in DECIMALS}
MACHINE = "tpsl"

# One statement a symbol and look, whoever moves; what has fired stands still.
_ADVANCE = """
UPDATE protections AS guard SET watermark = %(price)s
FROM positions AS held
WHERE held.id = guard.position_id AND held.state = 'open' AND held.symbol = %(symbol)s AND guard.ended_at IS NULL
AND (guard.trailing_stop_pct IS NOT NULL OR guard.trailing_stop_usd IS NOT NULL OR guard.break_even_pct IS NOT NULL)
AND (guard.watermark IS NULL OR (guard.is_long AND guard.watermark < %(price)s)
     OR (NOT guard.is_long AND guard.watermark > %(price)s))
AND NOT EXISTS (SELECT FROM protection_triggers AS fired WHERE fired.protection_id = guard.id)
"""
# A stop refused the close that a version asked for, or the last one of several; or that found nothing to close, and
# the position turned out to be open (`book/corrections.py`).
# Each step is fenced from the next: without statistics the planner takes it for cheap to read all positions for each.
_CAME_TO_NOTHING = """
WITH fired AS MATERIALIZED (
    SELECT guard.id, guard.position_id, trigger.intent_id FROM protections AS guard
    JOIN protection_triggers AS trigger ON trigger.protection_id = guard.id WHERE guard.ended_at IS NULL
)
SELECT fired.id FROM fired
CROSS JOIN LATERAL (SELECT state FROM positions WHERE id = fired.position_id OFFSET 0) AS held
CROSS JOIN LATERAL (SELECT id, intent_key FROM tx_intents WHERE id = fired.intent_id OFFSET 0) AS asked
CROSS JOIN LATERAL (
    SELECT state, reason FROM tx_intents AS one WHERE one.position_id = fired.position_id
    AND (one.id = asked.id OR starts_with(one.intent_key, asked.intent_key || '#'))
    ORDER BY one.id DESC LIMIT 1
) AS last
WHERE held.state = 'open'
AND (last.state = 'rejected' AND last.reason = 'emergency_stop' OR last.state = 'no_op')
ORDER BY fired.id LIMIT 1000
"""


@dataclass(frozen=True)
class Change:
    """What a call did: the version that counted before, and the one that counts now."""

    changed: bool
    before: Protection | None
    now: Protection | None


def begin(position: Position, intent: TxIntent) -> None:
    """In the transaction of its fill: version 1 is what the open asked for, if anything. Of a trade that comes again, what was set last."""
    if _carried_on(position, intent):
        return
    asked = {name: getattr(intent, name) for name in WITH_OPEN}
    if intent.order_type != OrderType.MARKET:
        # It may have been given others while it rested, which are the trade's now.
        asked |= {"take_profit": position.take_profit, "stop_loss": position.stop_loss}
    wanted = Levels(bool(position.is_long), position.open_price, **asked)
    if not any(asked.values()) and intent.time_stop_s is None:
        return
    if problem := _contradiction(wanted):
        # The venue has filled it, so the book must have it, too: what limits the loss is kept.
        log.error("an open's levels contradict each other", intent=intent.pk, problem=problem)
        asked["take_profit"] = None
    after_s = intent.time_stop_s
    Protection.objects.create(
        position=position,
        version=1,
        is_long=position.is_long,
        **asked,
        closes_at=None if after_s is None else Now() + timedelta(seconds=after_s),
        watermark=position.open_price if wanted.follows else None,
        set_by=intent.intent_key[: reopened.KEPT],
        reason="with the open",
    )


def _carried_on(position: Position, intent: TxIntent) -> bool:
    """Whether what was set last of the trade, in whichever row it was until a reorg left that void, guards it again."""
    last = reopened.guard_of(position, intent)
    if last is None or last.position_id == position.pk:
        return last is not None
    mine = Protection.objects.filter(position=position, ended_at=None)
    version = mine.values_list("version", flat=True).first() or 0
    if last.set_by == intent.intent_key[: reopened.KEPT]:
        return version > 0
    mine.update(ended_at=Now())
    named = {name: getattr(last, name) for name in (*LEVELS, "watermark", "set_by", "reason", "is_long")}
    native_levels.follow(position, Protection.objects.create(position=position, version=version + 1, **named))
    log.warning("protection carried on", position=position.pk, before=last.position_id, by=last.set_by)
    return True


def guarded_symbols() -> list[str]:
    """Symbols of open positions that something guards."""
    return sorted(set(standing().values_list("position__symbol", flat=True)))


def standing() -> QuerySet[Protection]:
    """The versions that count and have not fired, of open positions."""
    return Protection.objects.filter(
        ended_at=None, position__state=PositionState.OPEN, trigger__isnull=True
    ).order_by("position_id")


def of(row: Protection) -> Levels:
    """The levels of a version, whose position is loaded."""
    named = {name: getattr(row, name) for name in LEVELS}
    return Levels(row.is_long, row.position.open_price, **named, watermark=row.watermark)


def advance(symbol: str, price: Decimal) -> int:
    """Let the watermarks of a symbol follow a better price; returns how many did. Safe to repeat."""
    with connection.cursor() as cursor:
        cursor.execute(_ADVANCE, {"symbol": symbol, "price": price})
        return int(cursor.rowcount)


def note_native(crossed: list[int], back: list[int]) -> None:
    """Since when a level of the venue's own is crossed, and which are so no more."""
    if crossed:
        fresh = Protection.objects.filter(pk__in=crossed, native_crossed_at=None, ended_at=None)
        fresh.update(native_crossed_at=Now())
    if back:
        Protection.objects.filter(pk__in=back, ended_at=None).update(native_crossed_at=None)


def arm_refused() -> int:
    """A new version of each whose close came to nothing for no fault of its own; returns how many. Called when no stop holds."""
    with connection.cursor() as cursor:
        cursor.execute(_CAME_TO_NOTHING)
        refused = [pk for (pk,) in cursor.fetchall()]
    return sum(_arm_again(pk) for pk in refused)


def _arm_again(protection_id: int) -> bool:
    with transaction.atomic():
        row = Protection.objects.select_for_update().filter(pk=protection_id, ended_at=None).first()
        if row is None:
            return False  # somebody has set another one meanwhile
        named = {name: getattr(row, name) for name in LEVELS}
        _replace(row, named, row.position_id, set_by=MACHINE, reason="its close was refused or found nothing")
    log.warning("protection armed again", position=row.position_id, version=row.version + 1)
    return True


def change(
    position_id: int,
    amend: Mapping[str, Decimal | datetime | None],
    *,
    by: str,
    reason: str,
    code: str = "",
    origin: AuditOrigin = AuditOrigin.COMMAND,
    also: Callable[[], object] | None = None,
) -> Change:
    """Set the named levels of an open position and keep the others; None takes one away.

    `also` is done in the transaction of the change, before it, and what it raises undoes both; where nothing
    changes it is not done.

    Looser for a loss needs what `loosening.permit` asks. What would fire at once, by
    a price that is fresh, is refused: a CLOSE says that plainly. The venue's own
    levels follow by an intent where it takes new ones (`native_levels`), else they stay.
    Raises Refused.
    """
    _check(amend, reason)
    position, seen = _look(position_id)
    old = of(seen) if seen else Levels(position.is_long, position.open_price)
    named = {name: amend.get(name, getattr(old, name)) for name in LEVELS}
    best = old.watermark if old.follows else None
    new = Levels(position.is_long, position.open_price, **named, watermark=best)
    if problem := _contradiction(new) or _crossed_already(position, new):
        raise Refused(problem)
    if seen is not None and named == {name: getattr(old, name) for name in LEVELS} and not _has_fired(seen):
        return Change(False, seen, seen)
    if levels.loosens(old, new):
        loosening.permit(by=by, reason=reason, code=code)
    with transaction.atomic(durable=True):
        if also is not None:
            also()
        Position.objects.select_for_update(no_key=True).get(pk=position_id)
        position, before = _look(position_id)
        if (before and before.pk) != (seen and seen.pk):
            raise Refused(f"somebody has just changed position {position_id}; look again")
        now = _replace(before, named, position_id, set_by=by, reason=reason)
        told = None if before is None else spell(before)
        who = audit.by(by, origin)
        subject = f"position {position_id}"
        audit.record(
            AuditAction.PROTECTION_SET, subject, reason=reason, before=told, after=spell(now), who=who
        )
    log.warning("protection set", position=position_id, version=now.version, by=by, reason=reason)
    return Change(True, before, now)


def renew(position: Position, *, reason: str) -> None:
    """A new version of the levels as they are, for a position that has become larger; nothing where it has none.

    In the transaction that made it so. What has fired for the version before has closed, or is closing, what there
    was then.
    """
    row = Protection.objects.select_for_update().filter(position=position, ended_at=None).first()
    if row is not None:
        row.position = position
        named = {name: getattr(row, name) for name in LEVELS}
        _replace(row, named, row.position_id, set_by=MACHINE, reason=reason)


def _replace(
    row: Protection | None, named: Mapping[str, Any], position_id: int, *, set_by: str, reason: str
) -> Protection:
    """End a version, which the caller holds, and begin the next one where its watermark is; the venue's own levels follow."""
    best = None
    if row is not None:
        Protection.objects.filter(pk=row.pk, ended_at=None).update(ended_at=Now())
        row.refresh_from_db()
        # Of a version that followed nothing none is kept: what follows from now on begins now.
        best = row.watermark if of(row).follows else None
    position = Position.objects.get(pk=position_id)
    now = Protection.objects.create(
        position=position,
        version=1 if row is None else row.version + 1,
        is_long=position.is_long,
        **named,
        watermark=best,
        set_by=set_by[:150],
        reason=reason.strip()[:400],
    )
    native_levels.follow(position, now)
    return now


def _look(position_id: int) -> tuple[Position, Protection | None]:
    position = Position.objects.filter(pk=position_id).first()
    if position is None:
        raise Refused(f"there is no position {position_id}")
    if position.state != PositionState.OPEN:
        raise Refused(f"position {position_id} is {position.state}")
    current = Protection.objects.filter(position=position, ended_at=None).select_related("position").first()
    return position, current


def _has_fired(row: Protection) -> bool:
    return Protection.objects.filter(pk=row.pk, trigger__isnull=False).exists()


def _check(amend: Mapping[str, Decimal | datetime | None], reason: str) -> None:
    if not reason.strip():
        raise Refused("a protection needs a reason")
    for name, value in amend.items():
        if name not in LEVELS:
            raise Refused(f"{name} is no level")
        if name == "closes_at" or value is None:
            continue
        assert isinstance(value, Decimal)
        if not value.is_finite() or not 0 < value <= HIGHEST[name]:
            raise Refused(f"{name} must be above 0 and at most {HIGHEST[name]:f}")
        if value != round(value, DECIMALS[name]):
            raise Refused(f"{name} has at most {DECIMALS[name]} decimals")


def _contradiction(wanted: Levels) -> str:
    if wanted.trailing_stop_pct is not None and wanted.trailing_stop_usd is not None:
        return "a trailing stop is a percentage or a distance in USD, not both"
    if wanted.take_profit is None or wanted.stop_loss is None:
        return ""
    low, high = (
        (wanted.stop_loss, wanted.take_profit) if wanted.is_long else (wanted.take_profit, wanted.stop_loss)
    )
    side = "above" if wanted.is_long else "below"
    return "" if low < high else f"the take_profit of this position lies {side} its stop_loss"


def _crossed_already(position: Position, wanted: Levels) -> str:
    known = quotes.newest([position.symbol])
    price = known.fresh.get(position.symbol)
    hit = levels.decide(wanted, price, known.at)
    if hit is None:
        return ""
    at = "" if price is None else f" at {price:f}"
    return f"{hit.kind.value} is crossed already{at}; send a CLOSE instead"


def spell(row: Protection) -> dict[str, str | int | None]:
    """A version as words: exact decimals as strings, times in ISO 8601."""
    found: dict[str, str | int | None] = {"version": row.version}
    for name in LEVELS:
        value = getattr(row, name)
        if isinstance(value, datetime):
            found[name] = value.isoformat()
        else:
            found[name] = None if value is None else f"{value.normalize():f}"
    return found
