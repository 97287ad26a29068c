"""What each wallet can still pay for and may still do: gas, the venue's allowance, the delegation's end."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Case, F, QuerySet, Value, When

from execution_app.engine import permissions
from execution_app.models import Wallet
from execution_app.node import rpc
from ops.panel import words
from ops.panel.home.box import BAD, GOOD, WARN, Line
from ops.panel.home.safety import listed
from ops.watch.probe import Probe

log = structlog.get_logger(__name__)

SHOWN = 12
PATIENCE_S, FRESH_S = 0.3, 10.0
# As the alerts have it (ops/production-alerts.rules.yml).
LOW_WEI, EMPTY_WEI = 2 * 10**15, 5 * 10**14
ENDING, ENDS = timedelta(days=7), timedelta(days=1)
ENDLESS_USDC = Decimal(10**12)


def _first() -> "QuerySet[Wallet]":
    """Those of enabled traders: halted ones first, then the poorest."""
    own = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id, trader__enabled=True)
    halted = Case(When(halted_reason="", then=Value(1)), default=Value(0))
    return own.select_related("trader").order_by(halted, F("balance_wei").asc(nulls_first=True), "id")


def look_at_allowances() -> Mapping[str, Decimal]:
    """USDC that the venue may take of each trader whose wallet is shown, by wallet; who cannot be asked is left out."""
    try:
        several = list(_first()[:SHOWN])
    finally:
        connection.close()
    if not several or not settings.ENVIRONMENT.venue_storage_address:
        return {}
    try:
        answers = rpc.read_batch([call for wallet in several for call in permissions.calls(wallet)])
    except rpc.RpcFault as problem:
        log.warning("allowances were not read", problem=str(problem))
        return {}
    found = {}
    for place, wallet in enumerate(several):
        begin = place * permissions.CALLS
        try:
            may = permissions.read(wallet, answers[begin : begin + permissions.CALLS])
        except (rpc.NodeError, rpc.RpcFault) as problem:
            log.warning("an allowance was not read", wallet=wallet.address, problem=str(problem))
            continue
        found[wallet.address] = may.allowance_usdc
    return found


ALLOWANCES: Probe[Mapping[str, Decimal]] = Probe(
    "allowances", look_at_allowances, patience_s=PATIENCE_S, fresh_s=FRESH_S
)


def forget() -> None:
    ALLOWANCES.forget()


def wallets(now: datetime) -> Sequence[Line]:
    """One line a wallet; its tone is the worst of what is to be said."""
    ALLOWANCES.begin()
    several = list(_first()[: SHOWN + 1])
    allowances = ALLOWANCES.answer() or {}
    lines = [_line(wallet, allowances.get(wallet.address), now) for wallet in several[:SHOWN]]
    if len(several) > SHOWN:
        lines.append(
            Line("further wallets", "in the list", "richer than these", href=listed("execution_app_wallet"))
        )
    return lines  # fmt: skip


def _line(wallet: Wallet, allowance_usdc: Decimal | None, now: datetime) -> Line:
    ends, ending_tone = _ending(wallet.delegated_until, now)
    may, allowance_tone = _allowance(allowance_usdc)
    balance = "gas not known" if wallet.balance_wei is None else words.eth(wallet.balance_wei)
    notes = [f"HALTED: {wallet.halted_reason}"] if wallet.halted_reason else []
    tones = {ending_tone, allowance_tone, _gas_tone(wallet), BAD if wallet.halted_reason else GOOD}
    tone = next((tone for tone in (BAD, WARN) if tone in tones), GOOD)
    href = f"{listed('execution_app_wallet')}{wallet.pk}/change/"
    name = f"{wallet.trader} · {words.short(wallet.address)}"
    return Line(name, balance, "; ".join([*notes, may, ends]), tone, href=href)


def _gas_tone(wallet: Wallet) -> str:
    if wallet.balance_wei is None:
        return WARN
    return BAD if wallet.balance_wei < EMPTY_WEI else WARN if wallet.balance_wei < LOW_WEI else GOOD


def _allowance(allowance_usdc: Decimal | None) -> tuple[str, str]:
    if allowance_usdc is None:
        return "allowance not known: no node has answered yet", ""
    if allowance_usdc >= ENDLESS_USDC:
        return "allowance unlimited", WARN
    if not allowance_usdc:
        return "allowance 0 USDC, so nothing can be opened", BAD
    return f"allowance {words.grouped(allowance_usdc, 'USDC')}", GOOD


def _ending(until: datetime | None, now: datetime) -> tuple[str, str]:
    if until is None:
        return "delegation not read yet", ""
    if until <= now:
        return "delegation ended, or the trader's delegate is somebody else", BAD
    left = until - now
    return f"delegation ends {words.ago(until, now)}", BAD if left < ENDS else WARN if left < ENDING else GOOD
