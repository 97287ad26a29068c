"""How somebody stands: their wallet with the next step, what they have, what is at risk, what was written down."""

from collections import defaultdict
from decimal import Decimal

from django.db.models import Sum

from execution_app.engine.waiting import database_now
from execution_app.gate import usage
from execution_app.gate.caps import Limit
from execution_app.models import AuditEntry, IntentTransition, Position, Reservation, Trader, Wallet
from execution_app.node import rpc
from execution_app.people import unveiled
from execution_app.states import CapName, CapScope, Mode, PositionState, RestrictionKind
from execution_app.venues.scales import USDC_DIGITS, from_units
from ops.bot import binding, engine_words, people, traders, words
from ops.bot.holdings import own
from ops.bot.models import Role, TelegramUser
from ops.bot.restrictions import holding
from ops.rollout import wallet_check
from ops.rollout.findings import Finding
from ops.rollout.wallet_check import UNLIMITED_UNITS

MOST = 15
MOST_USERS = 50
NOTHING = Decimal(0)
SIGNS = {"ok": words.WELL, "warn": "\N{WARNING SIGN}", "fail": words.ILL}
Examined = tuple[Trader, Wallet, wallet_check.OnChain, list[Finding]]


def wallet(person: TelegramUser, _arguments: list[str]) -> str:
    """Delegation, allowance, USDC and gas as the chain has them, and the one step that comes next."""
    found = _examined(person)
    if isinstance(found, str):
        return found
    trader, delegate, _chain, findings = found
    failed = [one for one in findings if one.status == "fail"]
    step = next((one.step for one in [*failed, *findings] if one.step), "")
    return words.bullet_list(
        words.WALLET,
        [
            words.YOUR_ADDRESS.format(address=words.code(trader.address)),
            words.YOUR_DELEGATE.format(address=words.code(delegate.address)),
            _bound(trader),
            *(
                f"{SIGNS[one.status]} {words.finding(one.name)}: {engine_words.said(one.detail)}"
                for one in findings
            ),
            words.NEXT_STEP.format(step=engine_words.said(step)) if step else words.ALL_DONE,
        ],
    )


def _bound(trader: Trader) -> str:
    row = binding.current_of(trader.tg_user_id)
    if row is None or row.proved_at is None:
        return words.BINDING_BY_OPERATOR.format(sign=SIGNS["warn"], address=words.code(trader.address))
    return words.BINDING_PROVED.format(sign=SIGNS["ok"], at=words.moment(row.proved_at))


def balance(person: TelegramUser, _arguments: list[str]) -> str:
    found = _examined(person)
    if isinstance(found, str):
        return found
    trader, _delegate, chain, _findings = found
    unlimited = chain.allowance_units > UNLIMITED_UNITS
    allowed = words.UNLIMITED if unlimited else words.usdc(from_units(chain.allowance_units, USDC_DIGITS))
    text = words.BALANCE_LINES.format(
        usdc=words.usdc(chain.usdc),
        allowance=allowed,
        stake=words.usdc(traders.at_stake_usdc(trader)),
        gas=words.eth(from_units(chain.balance_wei, 18)),
    )
    return words.bullet_list(words.BALANCE, [text])


def _examined(person: TelegramUser) -> Examined | str:
    """Or what to say where there is nothing to look at."""
    trader = Trader.objects.filter(tg_user_id=person.tg_user_id).first()
    if trader is None:
        return f"{SIGNS['warn']} {words.begun(words.NO_TRADER.format(user_id=person.tg_user_id))}"
    delegate = Wallet.objects.filter(trader=trader).select_related("trader").first()
    if delegate is None:
        return f"{SIGNS['warn']} {words.begun(words.NO_WALLET.format(user_id=person.tg_user_id))}"
    try:
        chain, findings = wallet_check.examine_from_outside(trader, delegate)
    except (rpc.NodeError, rpc.RpcFault):
        return words.NODE_AWAY
    return trader, delegate, chain, findings


def risk(person: TelegramUser, _arguments: list[str]) -> str:
    """What is at stake by mode and symbol, what the day realised, and what restricts."""
    lines: list[str] = []
    for mode in (Mode.LIVE, Mode.DRY):
        held = Position.objects.filter(
            state=PositionState.OPEN, mode=mode, **own(person, "trader__tg_user_id")
        )
        stakes = Reservation.objects.filter(released_at=None, mode=mode, **own(person, "trader__tg_user_id"))
        lines.append(
            words.RISK_EXPOSURE.format(
                mode=mode.value,
                positions=held.count(),
                stake=words.usdc(stakes.aggregate(sum=Sum("notional_usdc"))["sum"] or NOTHING),
                collateral=words.usdc(held.aggregate(sum=Sum("collateral_usdc"))["sum"] or NOTHING),
            )
        )
        sides: dict[str, dict[bool, Decimal]] = defaultdict(lambda: {True: NOTHING, False: NOTHING})
        for row in held:
            sides[row.symbol][row.is_long] += row.collateral_usdc * row.leverage_x
        lines += [
            words.RISK_SYMBOL.format(
                mode=mode.value,
                symbol=words.safe(symbol),
                long=words.usdc(both[True]),
                short=words.usdc(both[False]),
            )
            for symbol, both in sorted(sides.items())
        ]
    lines.append(words.RISK_LOSS.format(usdc=words.usdc(_loss_today(person))))
    return words.bullet_list(words.RISK, [*lines, holding()])


def _loss_today(person: TelegramUser) -> Decimal:
    """As the caps count it, LIVE."""
    scope = (CapScope.TRADER, str(person.tg_user_id)) if own(person) else (CapScope.GLOBAL, "")
    return usage.used(Limit(CapName.DAILY_LOSS, NOTHING, *scope), Mode.LIVE, database_now())


def logs(person: TelegramUser, _arguments: list[str]) -> str:
    """Operators see the audit log's newest entries, others the newest moves of orders."""
    if people.at_least(person, Role.OPERATOR):
        lines = [
            words.LOG_ENTRY.format(
                at=words.moment(one.at),
                actor=words.safe(unveiled(one.actor)),
                origin=words.origin(one.origin),
                action=words.audit(one.action),
                subject=_subject(unveiled(one.subject)),
                reason=words.LOG_REASON.format(reason=words.safe(one.reason)) if one.reason else "",
            )
            for one in AuditEntry.objects.order_by("-seq")[:MOST]
        ]
    else:
        moves = IntentTransition.objects.filter(**own(person, "intent__tg_user_id")).order_by("-id")
        lines = [
            words.LOG_MOVE.format(
                at=words.moment(one.at),
                symbol=words.safe(one.intent.symbol),
                state=words.state(one.to_state),
            )
            for one in moves.select_related("intent")[:MOST]
        ]
    return words.bullet_list(words.LOGS, lines) if lines else words.NO_LOGS


def _subject(subject: str) -> str:
    """Whom or what an entry is about; a restriction is named as everywhere else."""
    kind, _, origin = subject.partition(" of ")
    if kind in set(RestrictionKind):
        return f"{words.restriction(kind)} ({words.origin(origin)})"
    return words.safe(subject)


def users(_person: TelegramUser, _arguments: list[str]) -> str:
    lines = [
        words.USER_LINE.format(
            user_id=one.tg_user_id,
            role=one.role,
            label=f" {words.safe(one.label)}" if one.label else "",
            account=words.AS_ACCOUNT.format(account=words.safe(one.account)) if one.account else "",
            by=words.safe(one.allowed_by),
            at=words.moment(one.allowed_at),
        )
        for one in TelegramUser.objects.order_by("tg_user_id")[:MOST_USERS]
    ]
    more = TelegramUser.objects.count() - len(lines)
    rest = [words.AND_MORE.format(count=more)] if more > 0 else []
    return words.bullet_list(words.USERS, [*lines, *rest])
