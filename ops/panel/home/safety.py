"""Whether every part answers, what waits for a person, and whether chain, venue and book agree."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.urls import reverse

from execution_app.book import quotes
from execution_app.gate import control
from execution_app.models import Chain
from execution_app.states import Mode, RestrictionKind, SendOutcome
from ops.bot.words import reason as in_words
from ops.panel import words
from ops.panel.home.box import BAD, GOOD, WARN, Line
from ops.watch import health, holds

SYMBOLS_SHOWN = 12
# Nobody knows whether these bytes have arrived; the machine offers them again by itself.
UNKNOWN = (SendOutcome.UNKNOWN, SendOutcome.RPC_FAULT)
_WAITS = """
SELECT s.outcome, count(*), NULL::float8 FROM tx_sends s JOIN tx_intents i ON i.id = s.intent_id
WHERE i.settled_at IS NULL AND s.outcome = ANY(%(unknown)s) GROUP BY s.outcome
UNION ALL
SELECT 'lost', count(*), NULL FROM tx_intents WHERE state = 'lost_nonce'
UNION ALL
SELECT 'undecided', count(*), extract(epoch FROM clock_timestamp() - min(received_at))::float8
FROM (SELECT received_at FROM signals WHERE decided_at IS NULL ORDER BY id LIMIT 10000) AS waiting
"""
_RESTS = """
SELECT count(*), sum(collateral_usdc * leverage_x) FROM tx_intents
WHERE state = 'ordered' AND action = 'open' AND order_type <> 'market'
"""
# What is looked for, in words, so that a zero says of what.
LOOKED_FOR = (
    "held",
    "sent without an answer",
    "nonces lost",
    "signals undecided",
    "drift",
    "wallets halted",
    "resting orders",
)
_DIFFER = """
SELECT (SELECT count(*) FROM positions WHERE mode = 'LIVE' AND state = 'open' AND drift <> ''),
    (SELECT count(*) FROM wallets WHERE chain_id = %s AND halted_reason <> '')
"""


def listed(model: str, query: str = "") -> str:
    """The address of a list, as app_model, narrowed by a query."""
    return reverse(f"admin:{model}_changelist") + (f"?{query}" if query else "")


def parts(_now: datetime) -> Sequence[Line]:
    """What /health knows: one line for all that is well, one for each part that is not."""
    checks = health.examine()
    failed = {name: check for name, check in checks.items() if not check.ok}
    well = len(checks) - len(failed)
    lines = [Line(name, "fails", check.detail, BAD) for name, check in failed.items()]
    names = ", ".join(name for name in checks if name not in failed)
    return [*lines, Line("working", f"{well} of {len(checks)}", names, GOOD if not failed else "")]


def attention(_now: datetime) -> Sequence[Line]:
    """What does not go on by itself, or of which nobody knows how it ended or will end; then what there is none of."""
    lines, none = [], list(LOOKED_FOR)
    differ, halted = _differing()
    lines += differ + halted
    for hold in holds.read():
        href = listed("execution_app_txintent", f"state__exact=held&reason__exact={hold.reason}")
        note = f"{in_words(hold.reason)}; the oldest for {words.age(hold.oldest_s)}. It goes on by itself; or approve a close, or reject it, on its own page"
        lines.append(Line(f"held: {hold.reason}", f"{hold.count:,}", note, WARN, href=href))
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, {"unknown": list(UNKNOWN)})
        found = {what: (count, oldest_s) for what, count, oldest_s in cursor.fetchall()}
    lost, (undecided, oldest_s) = found.pop("lost")[0], found.pop("undecided")
    for outcome, (count, _) in found.items():
        href = listed("execution_app_txsend", f"outcome__exact={outcome}&intent__settled_at__isempty=1")
        note = "the same bytes are offered again until a block says how it ended"
        lines.append(Line(f"sent, answer {outcome}", f"{count:,}", note, WARN, href=href))
    if lost:
        href = listed("execution_app_txintent", "state__exact=lost_nonce")
        note = "the key was used elsewhere, or the database is an old copy"
        lines.append(Line("nonces lost", f"{lost:,}", note, BAD, href=href))
    if undecided:
        href = listed("signals_app_signal", "decided_at__isempty=1")
        note = f"the oldest for {words.age(oldest_s)}"
        lines.append(Line("signals undecided", f"{undecided:,}", note, WARN, href=href))
    lines += _resting()
    begins = {"sent without an answer": "sent, answer", "resting orders": "orders that rest"}
    none = [what for what in none if not any(line.name.startswith(begins.get(what, what)) for line in lines)]
    return (
        [*lines, Line(", ".join(none), "0 of each" if len(none) > 1 else "0", tone=GOOD)] if none else lines
    )


def _resting() -> list[Line]:
    """Opens at the venue that wait for their price, which no stop reaches."""
    with connection.cursor() as cursor:
        cursor.execute(_RESTS)
        count, notional_usdc = cursor.fetchone()
    if not count:
        return []
    stopped = RestrictionKind.STOP in control.active_kinds()
    note = f"{words.grouped(notional_usdc, 'USDC')} notional; each may fill by its price alone, "
    note += "under this stop, too" if stopped else "also under a stop; taken back on its own page"
    href = listed("execution_app_txintent", "state__exact=ordered")
    tone = WARN if stopped else ""
    return [Line("orders that rest at the venue", f"{count:,}", note, tone, Mode.LIVE.value, href)]


def agreement(now: datetime) -> Sequence[Line]:
    """When chain and database last agreed, how far the final block is behind, and where venue and book differ."""
    lines = []
    chain = Chain.objects.filter(pk=settings.ENVIRONMENT.chain_id).first()
    if chain is not None:
        lines += _chain_lines(chain, now)
    differ, halted = _differing()
    none = Line("drift", "0", "book and venue agree about every open LIVE position", GOOD)
    return [*lines, *(differ or [none]), *halted]


def _differing() -> tuple[list[Line], list[Line]]:
    """Where venue and book differ, and what is halted; each without lines where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFER, [settings.ENVIRONMENT.chain_id])
        differ, halted = cursor.fetchone()
    found: tuple[list[Line], list[Line]] = ([], [])
    if differ:
        href = listed("execution_app_position", "state__exact=open&mode__exact=LIVE&drift__isempty=0")
        note = "open LIVE positions that the venue's storage has otherwise"
        found[0].append(Line("drift", f"{differ:,}", note, BAD, href=href))
    if halted:
        href = listed("execution_app_wallet", "halted_reason__gt=")
        note = "they sign nothing until manage.py wallet adopt"
        found[1].append(Line("wallets halted", f"{halted:,}", note, BAD, href=href))
    return found


def _chain_lines(chain: Chain, now: datetime) -> list[Line]:
    lines = []
    if chain.reconciled_at is None:
        lines.append(Line("reconciled", "never", "the gate stays closed until chain and rows agree", BAD))
    else:
        fresh = (now - chain.reconciled_at).total_seconds() <= health.RECONCILED_WITHIN_S
        value, note = words.ago(chain.reconciled_at, now), words.utc(chain.reconciled_at)
        lines.append(Line("reconciled", value, note, GOOD if fresh else BAD))
    if chain.halted_reason:
        lines.append(Line("chain halted", "yes", chain.halted_reason, BAD))
    behind = chain.head_number - chain.finalized_number
    note = f"final up to {chain.finalized_number:,}, {behind:,} behind"
    lines.append(Line("head", f"block {chain.head_number:,}", note))
    return lines


def prices(_now: datetime) -> Sequence[Line]:
    """The newest price of each allowed symbol, and how old it is by the clock that published it."""
    rows = quotes.rows_by_symbol()
    ages_s = quotes.ages_s(rows)
    lines = []
    # The oldest first, since that is the one that holds trades up.
    for symbol, age_s in sorted(ages_s.items(), key=lambda pair: -pair[1])[:SYMBOLS_SHOWN]:
        row, stale = rows.get(symbol), age_s > quotes.STALE_AFTER_S
        value = "no price yet" if row is None else f"{words.grouped(row.price)} USD"
        note = "never seen" if row is None else f"{words.age(int(age_s))} old"
        lines.append(Line(symbol, value, note, BAD if stale else GOOD))
    if len(ages_s) > SYMBOLS_SHOWN:
        more = f"{len(ages_s) - SYMBOLS_SHOWN:,}"
        lines.append(Line("further symbols", more, "younger than these", href=listed("execution_app_price")))
    return lines
