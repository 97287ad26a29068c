"""What preflight asks of the venue's feed and catalogue."""

from django.conf import settings

from execution_app.book import feed
from execution_app.node import rpc
from execution_app.venues import onchain
from ops.rollout.findings import Finding, Status


def prices() -> Finding:
    """Whether a second source says much the same of every symbol; without one nobody notices a wrong price."""
    symbols = sorted(settings.ENVIRONMENT.symbols)
    if not feed.has_prices():
        return _unset(
            "feed", "VERANTA_FEED_URL", "one source only: nothing is compared with the chain's price"
        )
    aggregator = settings.ENVIRONMENT.venue_price_aggregator_address
    answers = rpc.read_views([(aggregator, onchain.call_price(onchain.PAIRS[name])) for name in symbols])
    seen = feed.look(symbols)
    problems = [
        f"no fresh price of {symbol}: {one.why_not_fresh()}" for symbol, one in seen.items() if not one.fresh
    ]
    by_chain = {name: onchain.read_price(raw)[0] for name, raw in zip(symbols, answers, strict=True)}
    problems += feed.deviating(by_chain, seen).values()
    if problems:
        return Finding("feed", "fail", "; ".join(problems), "check VERANTA_FEED_URL and that it answers")
    limit_pct = settings.ENVIRONMENT.max_price_deviation_pct
    return Finding("feed", "ok", f"a second source has every symbol, within {limit_pct:f} %")


def hours() -> Finding:
    if not feed.has_hours():
        return _unset("market hours", "VERANTA_DATA_API_URL", "market hours and close-only are not known")
    symbols = sorted(settings.ENVIRONMENT.symbols)
    seen = feed.look(symbols)
    problems = [f"it does not know {symbol}: {one.problem}" for symbol, one in seen.items() if not one.hours]
    problems += [
        f"{symbol} is {one.hours.pair_name} there"
        for symbol, one in seen.items()
        if one.hours and one.hours.pair_name != symbol
    ]
    if problems:
        return Finding("market hours", "fail", "; ".join(problems), "check VERANTA_DATA_API_URL")
    closed = sorted(feed.closed(seen))
    return Finding("market hours", "ok", f"closed now: {', '.join(closed)}" if closed else "all are open now")


def _unset(name: str, variable: str, why: str) -> Finding:
    """A rehearsal may do without; what trades real money may not."""
    status: Status = "fail" if settings.ENVIRONMENT.is_production else "ok"
    return Finding(name, status, f"{why}: {variable} is blank", f"set {variable}" if status == "fail" else "")
