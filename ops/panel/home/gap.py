"""How far LIVE was from what a simulation made of the same orders: whether DRY tells the truth."""

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from django.conf import settings
from django.db import connection

from ops.panel import words
from ops.panel.home.box import BAD, GOOD, WARN, Line
from ops.rollout.shadow_check import Limits

NEWEST = 2_000  # fills looked at, the newest first
PLACES = Decimal("0.0001")
# The same sums as `manage.py shadow`; those of before shadows were cast are not among them.
_GAPS = """
SELECT count(*), avg(price_gap_pct), max(price_gap_pct), sum(fee_gap_usdc), sum(fee_usdc), avg(delay_ms) / 1000,
    count(*) FILTER (WHERE refusal <> ''), max(estimated_at)
FROM (SELECT price_gap_pct, fee_gap_usdc, fee_usdc, delay_ms, refusal, estimated_at FROM shadow_fills
    WHERE delay_ms IS NOT NULL AND estimated_at > %(now)s - make_interval(days => %(days)s)
    ORDER BY estimated_at DESC LIMIT %(newest)s) AS gaps
"""


def gap(now: datetime) -> Sequence[Line]:
    """What LIVE was worse by in price, fee and delay, against the limits of the rollout; no lines without a fill."""
    limits = Limits()
    with connection.cursor() as cursor:
        cursor.execute(_GAPS, {"now": now, "days": limits.days, "newest": NEWEST})
        count, price_pct, worst_pct, fee_usdc, fees_usdc, delay_s, refused, newest = cursor.fetchone()
    if not count:
        return ()
    fee_pct = fee_usdc * 100 / fees_usdc if fees_usdc else None
    dear = fee_usdc > 0 if fee_pct is None else fee_pct > limits.fee_gap_pct
    wide = price_pct > limits.price_gap_pct or worst_pct > limits.worst_price_gap_pct
    few = count < limits.fills
    of = f"the newest {count:,}" if count == NEWEST else f"{count:,}"
    lines = [
        Line("fills compared", of, f"of {limits.days} days; the newest {words.ago(newest, now)}",
             WARN if few else GOOD),
        Line("price", _worse(price_pct), f"on average; at most {_rounded(worst_pct)} %", BAD if wide else GOOD),
        Line("fees", words.signed(fee_usdc), _of_fees(fee_pct, fees_usdc), BAD if dear else GOOD),
        Line("delay", words.age(float(delay_s)), _waits(),
             BAD if delay_s > limits.delay_s else GOOD),
    ]  # fmt: skip
    if refused:
        lines.append(Line("refused by DRY", f"{refused:,}", "LIVE filled them all the same", BAD))
    return lines


def _worse(pct: Decimal) -> str:
    return f"{_rounded(abs(pct))} % {'worse' if pct >= 0 else 'better'}"


def _waits() -> str:
    dry_s = settings.ENVIRONMENT.dry_keeper_delay_ms / 1000
    return f"from the estimate to the fill, on average; DRY waits {words.age(dry_s)}"


def _rounded(pct: Decimal) -> str:
    return words.grouped(pct.quantize(PLACES, rounding=ROUND_HALF_EVEN))


def _of_fees(fee_pct: Decimal | None, fees_usdc: Decimal) -> str:
    if fee_pct is None:
        return "more than estimated, which was nothing"
    return f"more than the {words.grouped(fees_usdc, 'USDC')} estimated, {_rounded(fee_pct)} %"
