"""What is at stake and what came of it: caps, positions, the day's result. DRY and LIVE are never in one sum."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, DecimalField, F, Max, Q, Sum
from django.db.models.functions import Now

from execution_app.engine.waiting import database_now
from execution_app.gate import caps, limits, usage
from execution_app.gate.caps import Limit
from execution_app.models import Cap, Fill, Reservation, TxReceipt
from execution_app.states import Action, CapName, CapScope, Mode, SendKind
from ops.panel import words
from ops.panel.home.box import BAD, Line, share
from ops.panel.home.safety import listed

SCOPED_SHOWN = 12
MODES = (Mode.LIVE, Mode.DRY)
HOUR = timedelta(hours=1)
NOTHING = Decimal(0)
TITLES = {
    CapName.NOTIONAL: "one order's notional",
    CapName.COLLATERAL: "one order's collateral",
    CapName.LEVERAGE: "one order's leverage",
    CapName.OPEN_POSITIONS: "open positions",
    CapName.EXPOSURE: "exposure",
    CapName.ORDERS_PER_MINUTE: "orders a minute",
    CapName.DAILY_LOSS: "loss today",
    CapName.GAS_PER_DAY: "gas today",
    CapName.BANNED: "opens",
}
# What open positions would bring at the newest prices, by mode; a symbol without a price is counted apart.
_OPEN = """
SELECT p.mode, count(*), count(q.symbol), sum(p.collateral_usdc * p.leverage_x),
    sum(p.collateral_usdc * p.leverage_x * (q.price / p.open_price - 1) * CASE WHEN p.is_long THEN 1 ELSE -1 END)
FROM positions p LEFT JOIN prices q USING (symbol) WHERE p.state = 'open' GROUP BY p.mode
"""


def cap_use() -> Sequence[Line]:
    """Every cap that holds, how much of it is used, and what is used where nobody set one."""
    now, lines = database_now(), []
    rows = [limits.of_row(row) for row in Cap.objects.filter(lifted_at=None).order_by("id")[:500]]
    # A row of the house that is above its ceiling says nothing, nor does a ceiling above its row.
    house: dict[CapName, Limit] = {}
    for limit in caps.effective(rows, limits.ceilings()):
        if limit.scope is CapScope.GLOBAL and (
            limit.name not in house or limit.value < house[limit.name].value
        ):
            house[limit.name] = limit
    if CapName.BANNED in house:
        lines.append(Line("opens", "banned", house[CapName.BANNED].origin, BAD, href=_caps_list()))
    lines += _order_lines(house)
    for name in caps.SUMMED:
        for mode in MODES if name is not CapName.GAS_PER_DAY else (Mode.LIVE,):
            lines.append(_used(house.get(name) or Limit(name, NOTHING, origin=""), mode, now))
    scoped = [row for row in rows if row.scope is not CapScope.GLOBAL]
    lines += [_scoped(limit, now) for limit in scoped[:SCOPED_SHOWN]]
    if len(scoped) > SCOPED_SHOWN:
        more = f"{len(scoped) - SCOPED_SHOWN:,}"
        lines.append(Line("further caps", more, "of traders, sources and symbols", href=_caps_list()))
    return lines


def _caps_list() -> str:
    return listed("execution_app_cap")


def _order_lines(house: dict[CapName, Limit]) -> list[Line]:
    """Limits of one order beside the largest that was executed within the last hour."""
    opens = Fill.objects.filter(action=Action.OPEN, mode=Mode.LIVE, filled_at__gte=Now() - HOUR)
    notional = F("collateral_usdc") * F("leverage_x")
    most = opens.aggregate(
        notional_usdc=Max(notional, output_field=DecimalField()),
        collateral_usdc=Max("collateral_usdc"),
        leverage_x=Max("leverage_x"),
    )
    lines = []
    for name in caps.PER_ORDER:
        limit = house.get(name)
        if limit is not None or name in caps.NEEDED:
            lines.append(
                _bar(limit or Limit(name, NOTHING, origin=""), most[name.value] or NOTHING, Mode.LIVE)
            )
    return [
        Line(line.name, line.value, f"the largest open of the last hour; {line.note}", "", line.mode,
             share_pct=line.share_pct)
        for line in lines
    ]  # fmt: skip


def _used(limit: Limit, mode: Mode, now: datetime) -> Line:
    return _bar(limit, usage.used(limit, mode, now), mode)


def _bar(limit: Limit, used: Decimal, mode: Mode) -> Line:
    title = TITLES[limit.name]
    if not limit.origin:
        note = f"no cap: set {caps.VARIABLES[limit.name]}"
        return Line(title, _amount(limit.name, used), note, mode=mode.value)
    pct, tone = share(float(used), float(limit.value))
    value = f"{_amount(limit.name, used)} of {_amount(limit.name, limit.value)}"
    origin = caps.VARIABLES[limit.name] if limit.origin == caps.ENVIRONMENT else limit.origin
    return Line(title, value, f"{pct:,} % of {origin}", tone, mode.value, share_pct=pct)


def _scoped(limit: Limit, now: datetime) -> Line:
    title = f"{TITLES[limit.name]} of {limit.scope.value} {limit.scope_value}"
    if limit.name is CapName.BANNED:
        return Line(title, "banned", limit.origin, BAD, href=_caps_list())
    if limit.name in caps.PER_ORDER:
        return Line(title, f"at most {_amount(limit.name, limit.value)}", limit.origin, href=_caps_list())
    line = _used(limit, Mode.LIVE, now)
    return Line(title, line.value, line.note, line.tone, line.mode, _caps_list(), line.share_pct)


def _amount(name: CapName, value: Decimal) -> str:
    if name is CapName.GAS_PER_DAY:
        return words.eth(value)
    if name is CapName.LEVERAGE:
        return f"{words.grouped(value)}x"
    return words.grouped(value, caps.UNITS.get(name, "").strip())


def positions() -> Sequence[Line]:
    """What is open in each mode, and about what it would bring at the newest prices before fees."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN)
        found = {row[0]: row[1:] for row in cursor.fetchall()}
    lines = []
    for mode in MODES:
        if mode.value not in found:
            continue
        count, priced, notional_usdc, gain_usdc = found[mode.value]
        href = listed("execution_app_position", f"state__exact=open&mode__exact={mode.value}")
        note = f"{words.grouped(notional_usdc, 'USDC')} notional"
        lines.append(Line("open positions", f"{count:,}", note, mode=mode.value, href=href))
        note = "before fees, at the newest prices"
        if priced < count:
            note += f"; {count - priced:,} without a price are left out"
        lines.append(Line("if closed now", words.about(gain_usdc or NOTHING), note, mode=mode.value))
    under_way = Reservation.objects.filter(state="open", released_at=None).order_by().values_list("mode")
    for mode_name, count, usdc in under_way.annotate(Count("id"), Sum("notional_usdc")):
        note = f"{words.grouped(usdc, 'USDC')} notional reserved"
        lines.append(Line("opens under way", f"{count:,}", note, mode=mode_name))
    return lines


def day_of(now: datetime) -> datetime:
    """The beginning of the UTC day."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def result() -> Sequence[Line]:
    """Realised since the UTC day began, by mode: what closes paid less the collateral they took out; fees apart."""
    day = day_of(database_now())
    paid = F("sent_to_trader_usdc") - F("collateral_usdc")
    closes = Q(action=Action.CLOSE)
    today = Fill.objects.filter(filled_at__gte=day).order_by().values("mode")
    sums = today.annotate(
        gain_usdc=Sum(paid, filter=closes, default=NOTHING),
        closed=Count("id", filter=closes),
        unpaid=Count("id", filter=closes & Q(sent_to_trader_usdc=None)),
        fees_usdc=Sum("fee_usdc", default=NOTHING),
        opened=Count("id", filter=~closes),
    )
    by_mode = {row["mode"]: row for row in sums}
    lines = []
    for mode in MODES:
        if mode.value not in by_mode:
            continue
        row = by_mode[mode.value]
        gain_usdc = row["gain_usdc"]
        note = f"{row['closed']:,} closed, {row['opened']:,} opened since {words.utc(day)}"
        if row["unpaid"]:
            note += f"; {row['unpaid']:,} whose payment is not known are left out"
        tone = BAD if gain_usdc < 0 else ""
        lines.append(Line("realised", words.signed(gain_usdc), note, tone, mode.value))
        lines.append(Line("fees of the venue", words.grouped(row["fees_usdc"], "USDC"), mode=mode.value))
    if lines:
        lines.append(_gas(day))
    return lines


def _gas(day: datetime) -> Line:
    mined = TxReceipt.objects.filter(canonical=True, seen_at__gte=day)
    whole: DecimalField[Any, Any] = DecimalField(max_digits=60, decimal_places=0)
    spent = mined.aggregate(
        gas_wei=Sum(F("gas_used") * F("effective_gas_price_wei") + F("l1_fee_wei"), output_field=whole),
        count=Count("id"),
        cancels=Count("id", filter=Q(send__kind=SendKind.CANCEL)),
    )
    note = (
        f"transactions mined: {spent['count']:,}, of them cancels: {spent['cancels']:,}; execution fees apart"
    )
    return Line("gas", words.eth(spent["gas_wei"] or NOTHING), note, mode=Mode.LIVE.value)
