"""What is at stake and what came of it: caps, positions, the day's result. DRY and LIVE are never in one sum."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from execution_app.gate import caps, limits, usage
from execution_app.gate.caps import Limit
from execution_app.models import Cap
from execution_app.states import CapName, CapScope, Mode
from execution_app.venues.costs import FUNDING
from ops.panel import words
from ops.panel.home.box import BAD, Line, share
from ops.panel.home.safety import listed

SCOPED_SHOWN = 12
MODES = (Mode.LIVE, Mode.DRY)
NOTHING = Decimal(0)
_FUNDING = {Mode.LIVE: "funding is within what closes paid", Mode.DRY: f"funding {FUNDING}"}
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
# Summed by symbol before a price is put to it, which for thousands of positions takes two thirds of the time.
_OPEN = """
SELECT p.mode, sum(p.count), sum(p.count) FILTER (WHERE q.price IS NOT NULL), sum(p.notional_usdc),
    round(sum((q.price * p.units - p.notional_usdc) * CASE WHEN p.is_long THEN 1 ELSE -1 END), 6)
FROM (
    SELECT mode, symbol, is_long, count(*), sum(notional_usdc) AS notional_usdc, sum(notional_usdc / open_price) AS units
    FROM (
        SELECT mode, symbol, is_long, open_price, collateral_usdc * leverage_x AS notional_usdc
        FROM positions WHERE state = 'open' OFFSET 0
    ) AS one GROUP BY mode, symbol, is_long
) AS p LEFT JOIN prices q USING (symbol) GROUP BY p.mode
"""
_UNDER_WAY = """
SELECT mode, count(*), sum(notional_usdc) FROM risk_reservations
WHERE state = 'open' AND released_at IS NULL GROUP BY mode
"""
_LARGEST = """
SELECT max(collateral_usdc * leverage_x), max(collateral_usdc), max(leverage_x)
FROM fills WHERE action = 'open' AND mode = 'LIVE' AND filled_at >= %(now)s - interval '1 hour'
"""
_TODAY = """
SELECT mode, count(*) FILTER (WHERE action = 'close'), count(*) FILTER (WHERE action = 'open'),
    count(*) FILTER (WHERE action = 'close' AND sent_to_trader_usdc IS NULL), coalesce(sum(fee_usdc), 0),
    coalesce(sum(sent_to_trader_usdc - collateral_usdc) FILTER (WHERE action = 'close'), 0)
FROM fills WHERE filled_at >= %(day)s GROUP BY mode
"""
_GAS = """
SELECT coalesce(sum(r.gas_used * r.effective_gas_price_wei + r.l1_fee_wei), 0), count(*), count(s.id)
FROM tx_receipts r LEFT JOIN tx_sends s ON s.id = r.send_id AND s.kind = 'cancel'
WHERE r.canonical AND r.seen_at >= %(day)s
"""


def _ask(question: str, **parameters: datetime) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(question, parameters)
        return list(cursor.fetchall())


def cap_use(now: datetime) -> Sequence[Line]:
    """Every cap that holds, how much of it is used, and what is used where nobody set one."""
    lines = []
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
    lines += _order_lines(house, now)
    used = usage.of_house(now)
    for name in caps.SUMMED:
        for mode in MODES if name is not CapName.GAS_PER_DAY else (Mode.LIVE,):
            lines.append(_bar(house.get(name) or Limit(name, NOTHING, origin=""), used[name, mode], mode))
    scoped = [row for row in rows if row.scope is not CapScope.GLOBAL]
    lines += [_scoped(limit, now) for limit in scoped[:SCOPED_SHOWN]]
    if len(scoped) > SCOPED_SHOWN:
        more = f"{len(scoped) - SCOPED_SHOWN:,}"
        lines.append(Line("further caps", more, "of traders, sources and symbols", href=_caps_list()))
    return lines


def _caps_list() -> str:
    return listed("execution_app_cap")


def _order_lines(house: dict[CapName, Limit], now: datetime) -> list[Line]:
    """Limits of one order beside the largest that was executed within the last hour."""
    ((notional_usdc, collateral_usdc, leverage_x),) = _ask(_LARGEST, now=now)
    most = {
        CapName.NOTIONAL: notional_usdc,
        CapName.COLLATERAL: collateral_usdc,
        CapName.LEVERAGE: leverage_x,
    }
    lines = []
    for name in caps.PER_ORDER:
        limit = house.get(name)
        if limit is not None or name in caps.NEEDED:
            lines.append(_bar(limit or Limit(name, NOTHING, origin=""), most[name] or NOTHING, Mode.LIVE))
    return [
        Line(line.name, line.value, f"the largest open of the last hour; {line.note}", "", line.mode,
             share_pct=line.share_pct)
        for line in lines
    ]  # fmt: skip


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
    line = _bar(limit, usage.used(limit, Mode.LIVE, now), Mode.LIVE)
    return Line(title, line.value, line.note, line.tone, line.mode, _caps_list(), line.share_pct)


def _amount(name: CapName, value: Decimal) -> str:
    return words.eth(value) if name is CapName.GAS_PER_DAY else words.capped(name, value)


def positions(_now: datetime) -> Sequence[Line]:
    """What is open in each mode, and about what it would bring at the newest prices before fees."""
    found = {row[0]: row[1:] for row in _ask(_OPEN)}
    lines = []
    for mode in MODES:
        if mode.value not in found:
            continue
        count, priced, notional_usdc, gain_usdc = found[mode.value]
        href = listed("execution_app_position", f"state__exact=open&mode__exact={mode.value}")
        note = f"{words.grouped(notional_usdc, 'USDC')} notional"
        lines.append(Line("open positions", f"{count:,}", note, mode=mode.value, href=href))
        note = "before fees and funding, at the newest prices"
        if (priced or 0) < count:
            note += f"; {count - (priced or 0):,} without a price are left out"
        lines.append(Line("if closed now", words.about(gain_usdc or NOTHING), note, mode=mode.value))
    for mode_name, count, usdc in _ask(_UNDER_WAY):
        note = f"{words.grouped(usdc, 'USDC')} notional reserved"
        lines.append(Line("opens under way or resting", f"{count:,}", note, mode=mode_name))
    return lines


def day_of(now: datetime) -> datetime:
    """The beginning of the UTC day."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def result(now: datetime) -> Sequence[Line]:
    """Realised since the UTC day began, by mode: what closes paid less the collateral they took out; fees apart."""
    day, lines = day_of(now), []
    by_mode = {row[0]: row[1:] for row in _ask(_TODAY, day=day)}
    for mode in MODES:
        if mode.value not in by_mode:
            continue
        closed, opened, unpaid, fees_usdc, gain_usdc = by_mode[mode.value]
        note = f"{closed:,} closed, {opened:,} opened since {words.utc(day)}"
        if unpaid:
            note += f"; {unpaid:,} whose payment is not known are left out"
        tone = BAD if gain_usdc < 0 else ""
        lines.append(Line("realised", words.signed(gain_usdc), note, tone, mode.value))
        lines.append(
            Line("fees of the venue", words.grouped(fees_usdc, "USDC"), _FUNDING[mode], mode=mode.value)
        )
    if lines:
        lines.append(_gas(day))
    return lines


def _gas(day: datetime) -> Line:
    ((gas_wei, count, cancels),) = _ask(_GAS, day=day)
    note = f"transactions mined: {count:,}, of them cancels: {cancels:,}; execution fees apart"
    return Line("gas", words.eth(gas_wei), note, mode=Mode.LIVE.value)
