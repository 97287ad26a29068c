"""Whether simulations tell the truth: LIVE fills of the last days against the estimates made before they left."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Avg, Count, Max, Q, Sum
from django.db.models.functions import Now

from execution_app.models import Fill, Shadow
from execution_app.states import Mode
from ops.rollout.findings import Finding

HUNDREDTH = Decimal("0.0001")
_DELAYS = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY delay_ms), percentile_disc(0.9) WITHIN GROUP (ORDER BY delay_ms)
FROM shadow_fills WHERE delay_ms IS NOT NULL AND estimated_at >= clock_timestamp() - make_interval(days => %s)
"""


@dataclass(frozen=True)
class Limits:
    """What is still honest. Gaps are those by which LIVE was worse, on average over the fills of `days`.

    `worst_price_gap_pct` is for each single fill, `fee_gap_pct` in percent of the estimated fees. `beyond_dry_s` is by
    how much half of the fills may take longer than DRY waits (DRY_KEEPER_DELAY_MS).
    """

    days: int = 7
    fills: int = 20
    price_gap_pct: Decimal = Decimal("0.05")
    worst_price_gap_pct: Decimal = Decimal("0.5")
    fee_gap_pct: Decimal = Decimal(5)
    delay_s: Decimal = Decimal(30)
    beyond_dry_s: Decimal = Decimal(2)  # a block of Base


@dataclass(frozen=True)
class Measured:
    """Fills with an estimate, fills without one, and what the former came to."""

    fills: int
    unestimated: int
    refused: int  # which a simulation would not have filled
    price_gap_pct: Decimal
    worst_price_gap_pct: Decimal
    fee_gap_usdc: Decimal
    fees_usdc: Decimal
    delay_s: Decimal
    median_s: Decimal
    p90_s: Decimal


def measure(days: int) -> Measured:
    since = Now() - timedelta(days=days)
    told = Shadow.objects.filter(delay_ms__isnull=False, estimated_at__gte=since).aggregate(
        fills=Count("pk"),
        refused=Count("pk", filter=~Q(refusal="")),
        average_pct=Avg("price_gap_pct"),
        worst_pct=Max("price_gap_pct"),
        gap_usdc=Sum("fee_gap_usdc"),
        fees_usdc=Sum("fee_usdc"),
        average_ms=Avg("delay_ms"),
    ) | _delays_s(days)
    # What the venue ended by itself was no order, so nothing was estimated.
    ours = Fill.objects.filter(mode=Mode.LIVE, filled_at__gte=since, intent__isnull=False)
    live = ours.filter(intent__shadow__isnull=True)
    nothing = Decimal(0)
    return Measured(
        fills=told["fills"],
        unestimated=live.count(),
        refused=told["refused"],
        price_gap_pct=told["average_pct"] or nothing,
        worst_price_gap_pct=told["worst_pct"] or nothing,
        fee_gap_usdc=told["gap_usdc"] or nothing,
        fees_usdc=told["fees_usdc"] or nothing,
        delay_s=Decimal(told["average_ms"] or 0) / 1000,
        median_s=told["median_s"] or nothing,
        p90_s=told["p90_s"] or nothing,
    )


def _delays_s(days: int) -> dict[str, Decimal]:
    """Within how many seconds half of these fills came, and nine of ten."""
    with connection.cursor() as cursor:
        cursor.execute(_DELAYS, [days])
        median_ms, p90_ms = cursor.fetchone()
    return {"median_s": Decimal(median_ms or 0) / 1000, "p90_s": Decimal(p90_ms or 0) / 1000}


def examine(limits: Limits) -> list[Finding]:
    """One finding a question; each has failed where LIVE was worse than its limit, or where too little is known."""
    found = measure(limits.days)
    enough = found.fills >= limits.fills
    count = f"{found.fills} LIVE fills of the last {limits.days} days have an estimate"
    if found.unestimated:
        count += f", {found.unestimated} have none"
    findings = [
        Finding(
            "shadow fills",
            "ok" if enough else "fail",
            f"{count}, at least {limits.fills} are needed",
            "" if enough else "trade on with the caps as they are until there are enough",
        )
    ]
    if not found.fills:
        return findings
    fee_gap_pct = found.fee_gap_usdc * 100 / found.fees_usdc if found.fees_usdc else Decimal(0)
    unpriced = not found.fees_usdc and found.fee_gap_usdc > 0
    step = "find out why before anything is raised: docs/operating.md, Shadow"
    judged = (
        ("shadow price", found.price_gap_pct, limits.price_gap_pct, "% worse than estimated on average"),
        (
            "shadow worst price",
            found.worst_price_gap_pct,
            limits.worst_price_gap_pct,
            "% worse at the worst fill",
        ),
        ("shadow fees", fee_gap_pct, limits.fee_gap_pct, "% more than estimated"),
        ("shadow delay", found.delay_s, limits.delay_s, "s from the estimate to the fill on average"),
        (
            "shadow refusals",
            Decimal(found.refused),
            Decimal(0),
            "fills that a simulation would not have made",
        ),
    )
    for name, value, limit, words in judged:
        broken = value > limit or (name == "shadow fees" and unpriced)
        detail = f"{value.quantize(HUNDREDTH).normalize():f} {words}, the limit is {limit:f}"
        if name == "shadow fees" and unpriced:
            detail = f"{found.fee_gap_usdc:f} USDC of fees, and the estimates know none"
        findings.append(Finding(name, "fail" if broken else "ok", detail, step if broken else ""))
    findings.append(_of_dry(found, limits))
    return findings


def _of_dry(found: Measured, limits: Limits) -> Finding:
    """Whether a simulation waits as long as half of the LIVE fills took."""
    dry_s = Decimal(settings.ENVIRONMENT.dry_keeper_delay_ms) / 1000
    slow = found.median_s - dry_s > limits.beyond_dry_s
    median_s, p90_s = (value.quantize(HUNDREDTH).normalize() for value in (found.median_s, found.p90_s))
    detail = (
        f"half of the fills came within {median_s:f} s, nine of ten within {p90_s:f} s; DRY waits {dry_s:f} s"
    )
    step = f"set DRY_KEEPER_DELAY_MS={round(found.median_s * 1000)}: simulated fills come sooner than LIVE ones do"
    return Finding("shadow keeper", "fail" if slow else "ok", detail, step if slow else "")
