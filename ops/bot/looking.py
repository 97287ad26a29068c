"""Looks at the stack: mode, health, version, caps, markets. Nothing here changes anything."""

from datetime import datetime

from django.conf import settings

from execution_app.book import quotes
from execution_app.engine.waiting import database_now
from execution_app.gate import limits, usage
from execution_app.gate.caps import ENVIRONMENT, SUMMED, VARIABLES, Limit
from execution_app.models import Cap, Position, TxIntent
from execution_app.states import IntentState, Mode, PositionState
from ops.bot import engine_words, people, words
from ops.bot.amounts import as_symbol
from ops.bot.models import Role, TelegramUser
from ops.bot.restrictions import holding, mode_line
from ops.watch import health


def status(person: TelegramUser, _arguments: list[str]) -> str:
    """The whole in a few lines."""
    open_now = Position.objects.filter(state=PositionState.OPEN)
    counts = {mode: open_now.filter(mode=mode).count() for mode in Mode}
    unsettled = TxIntent.objects.filter(settled_at=None)
    held = unsettled.filter(state=IntentState.HELD).count()
    checks = _checks()
    ill = [
        words.STATUS_PART.format(name=words.check(name), detail=engine_words.said(check.detail))
        for name, check in checks.items()
        if not check.ok
    ]
    return words.bullet_list(
        words.STATUS_TITLE,
        [
            mode_line(),
            words.STATUS_POSITIONS.format(live=counts[Mode.LIVE], dry=counts[Mode.DRY]),
            words.STATUS_ORDERS.format(under_way=unsettled.count() - held, held=held),
            *([words.STATUS_HELD] if held and people.at_least(person, Role.OPERATOR) else []),
            words.STATUS_ILL if ill else words.STATUS_WELL,
            *ill,
        ],
    )


def mode(_person: TelegramUser, _arguments: list[str]) -> str:
    return f"{mode_line()}\n{holding()}"


def show_health(_person: TelegramUser, _arguments: list[str]) -> str:
    lines = [
        f"{words.WELL if check.ok else words.ILL} {words.check(name)}"
        + (f": {engine_words.said(check.detail)}" if check.detail else "")
        for name, check in _checks().items()
    ]
    return words.bullet_list(words.HEALTH_TITLE, lines)


def _checks() -> dict[str, health.Check]:
    """As /health looks, without its cache and its process's own mode. Each look has its own limit."""
    found = dict(health.look_at_database())
    found |= {"redis": health.look_at_redis(), "node": health.look_at_node()}
    return {name: found[name] for name in health.CHECKS}


def version(_person: TelegramUser, _arguments: list[str]) -> str:
    environment = settings.ENVIRONMENT
    label = f", {words.safe(environment.deploy_version)}" if environment.deploy_version else ""
    return words.VERSION.format(
        version=settings.VERSION,
        env=words.safe(environment.deploy_env),
        label=label,
        chain=environment.chain_id,
    )


def caps(_person: TelegramUser, _arguments: list[str]) -> str:
    """Every cap with how much of it is used, DRY and LIVE apart."""
    now = database_now()
    found = [Limit(name, value) for name, value in limits.ceilings().items()]
    found += [limits.of_row(row) for row in Cap.objects.filter(lifted_at=None).order_by("name", "id")]
    lines = [_cap(limit, now) for limit in found]
    symbols = ", ".join(sorted(settings.ENVIRONMENT.symbols)) or words.CAPS_NONE
    lines.append(words.CAPS_SYMBOLS.format(symbols=symbols))
    return words.bullet_list(words.CAPS_TITLE, lines) if found else words.NO_CAPS


def _cap(limit: Limit, now: datetime) -> str:
    title = words.cap(limit.name.value)
    if limit.origin == ENVIRONMENT:
        title = f"{title} ({words.code(VARIABLES[limit.name])})"
    scope, used = "", ""
    if limit.scope_value:
        scope = words.CAP_SCOPE.format(
            scope=words.scope(limit.scope.value), name=words.safe(limit.scope_value)
        )
    if limit.name in SUMMED:
        live, dry = (
            words.limited(limit.name, usage.used(limit, mode, now)) for mode in (Mode.LIVE, Mode.DRY)
        )
        used = words.CAP_USED.format(live=live, dry=dry)
    return words.CAP.format(title=title, scope=scope, value=words.limited(limit.name, limit.value), used=used)


def markets(_person: TelegramUser, _arguments: list[str]) -> str:
    """Every symbol that may be traded, and its price with the price's age."""
    symbols = sorted(settings.ENVIRONMENT.symbols)
    newest = quotes.newest(symbols)
    return words.bullet_list(words.MARKETS_TITLE, [_market(symbol, newest) for symbol in symbols])


def price(_person: TelegramUser, arguments: list[str]) -> str:
    if len(arguments) != 1:
        return words.USAGE.format(usage="/price BTC-USD")
    symbol = as_symbol(arguments[0])
    if symbol not in settings.ENVIRONMENT.symbols:
        return words.NO_PRICE.format(symbol=words.safe(symbol))
    return _market(symbol, quotes.newest([symbol]))


def _market(symbol: str, newest: quotes.Newest) -> str:
    found = newest.fresh.get(symbol)
    if found is not None:
        return words.MARKET.format(symbol=symbol, price=words.usd(found))
    age_s = newest.ages_s.get(symbol, quotes.NEVER_SEEN_S)
    if age_s == quotes.NEVER_SEEN_S:
        return words.MARKET_NEVER.format(symbol=symbol)
    return words.MARKET_OLD.format(symbol=symbol, age=words.lasting(age_s))
