"""What trading came to: by day, week and month, altogether, and as a file. A trader sees their own."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Avg, Count, DecimalField, ExpressionWrapper, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncMonth, TruncWeek

from execution_app.models import Fill
from execution_app.states import Action, Mode
from ops.bot import words
from ops.bot.holdings import own
from ops.bot.models import TelegramUser
from ops.bot.replies import Document, Reply

NOTHING = Decimal(0)
MOST_PERIODS = 14
MOST_FILLS = 10_000
GAIN = ExpressionWrapper(
    F("sent_to_trader_usdc") - F("collateral_usdc"),
    output_field=DecimalField(max_digits=30, decimal_places=6),
)
COLUMNS = (
    "filled_at", "mode", "symbol", "side", "action", "price_usd", "collateral_usdc", "leverage_x", "fee_usdc",
    "sent_to_trader_usdc", "position", "trader", "intent_key", "tx_hash", "settled_at",
)  # fmt: skip


def daily(person: TelegramUser, _arguments: list[str]) -> str:
    return _by(person, words.DAILY, TruncDay("filled_at", tzinfo=UTC), "%Y-%m-%d")


def weekly(person: TelegramUser, _arguments: list[str]) -> str:
    """Weeks begin on Monday."""
    return _by(person, words.WEEKLY, TruncWeek("filled_at", tzinfo=UTC), "%G-W%V")


def monthly(person: TelegramUser, _arguments: list[str]) -> str:
    return _by(person, words.MONTHLY, TruncMonth("filled_at", tzinfo=UTC), "%Y-%m")


def performance(person: TelegramUser, _arguments: list[str]) -> str:
    """All closes whose proceeds are known, DRY and LIVE apart."""
    lines = [_performed(_closes(person).filter(mode=mode), mode) for mode in (Mode.LIVE, Mode.DRY)]
    return words.bullet_list(words.PERFORMANCE, lines)


def export(person: TelegramUser, _arguments: list[str]) -> Reply:
    """Every fill as CSV, the newest MOST_FILLS."""
    fills = Fill.objects.filter(**own(person, "position__trader__tg_user_id")).order_by("-id")
    rows = list(fills.select_related("position__trader", "intent")[:MOST_FILLS])
    if not rows:
        return Reply(words.NOTHING_TO_EXPORT)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([_cells(row) for row in rows])
    name = f"vanta-fills-{rows[0].filled_at:%Y%m%d}.csv"
    text = words.EXPORTED.format(count=len(rows), most=words.grouped(Decimal(MOST_FILLS)))
    return Reply(text, document=Document(name, out.getvalue().encode()))


def _cells(row: Fill) -> list[str]:
    position = row.position
    cells = [
        row.filled_at.isoformat(), row.mode, position.symbol, words.side(is_long=position.is_long), row.action,
        _plain(row.price), _plain(row.collateral_usdc), _plain(row.leverage_x), _plain(row.fee_usdc),
        _plain(row.sent_to_trader_usdc), str(position.pk), str(position.trader.tg_user_id),
        row.intent.intent_key if row.intent else row.ended_by, row.tx_hash, row.settled_at.isoformat() if row.settled_at else "",
    ]  # fmt: skip
    # A spreadsheet takes what begins so for a formula; no number here is negative.
    return [f"'{cell}" if cell[:1] in "=+-@\t\r" and cell else cell for cell in cells]


def _plain(value: Decimal | None) -> str:
    return "" if value is None else f"{value:f}"


def _closes(person: TelegramUser) -> QuerySet[Fill]:
    return Fill.objects.filter(action=Action.CLOSE, **own(person, "position__trader__tg_user_id"))


def _by(person: TelegramUser, title: str, begins: Any, spelled: str) -> str:
    found = (
        _closes(person)
        .annotate(begins=begins)
        .values("begins", "mode")
        .annotate(
            count=Count("id"),
            sum=Sum(GAIN),
            won=Count("id", filter=Q(sent_to_trader_usdc__gt=F("collateral_usdc"))),
            unknown=Count("id", filter=Q(sent_to_trader_usdc=None)),
        )
        .order_by("-begins", "-mode")[: MOST_PERIODS * 2]
    )
    lines = [_period(row, row["begins"], spelled) for row in found]
    return words.bullet_list(title, lines or [words.NOTHING_REALISED])


def _period(row: Mapping[str, Any], begins: datetime, spelled: str) -> str:
    unknown = words.PNL_UNKNOWN.format(count=row["unknown"]) if row["unknown"] else ""
    return words.PERIOD.format(
        name=f"{begins:{spelled}} {row['mode']}",
        usdc=words.usdc(row["sum"] or NOTHING, signed=True),
        count=row["count"],
        won=row["won"],
        unknown=unknown,
    )


def _performed(closes: QuerySet[Fill], mode: Mode) -> str:
    told = closes.filter(sent_to_trader_usdc__isnull=False).aggregate(
        count=Count("id"),
        won=Count("id", filter=Q(sent_to_trader_usdc__gt=F("collateral_usdc"))),
        sum=Sum(GAIN),
        mean=Avg(GAIN),
        best=Max(GAIN),
        worst=Min(GAIN),
        fees=Sum("fee_usdc"),
    )
    unknown = closes.filter(sent_to_trader_usdc=None).count()
    if not told["count"]:
        none = words.PERFORMED_UNKNOWN if unknown else words.NOT_PERFORMED
        return none.format(mode=mode.value, count=unknown)
    return words.PERFORMED.format(
        mode=mode.value,
        usdc=words.usdc(told["sum"], signed=True),
        count=told["count"],
        won=told["won"],
        rate=round(100 * told["won"] / told["count"]),
        mean=words.usdc(told["mean"], signed=True),
        best=words.usdc(told["best"], signed=True),
        worst=words.usdc(told["worst"], signed=True),
        fees=words.usdc(told["fees"] or NOTHING),
        unknown=words.PNL_UNKNOWN.format(count=unknown) if unknown else "",
    )
