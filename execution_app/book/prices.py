"""What the venue asks and pays right now, read in one batch from one node."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from django.conf import settings

from execution_app.book import feed, market_hours
from execution_app.book.deviation import widest
from execution_app.book.feed import Seen
from execution_app.node import fees, gas, rpc
from execution_app.states import GROWING, Action, PriceSource, Reason
from execution_app.venues import onchain
from execution_app.venues.costs import Costs, call_costs, read_costs

# An older price is not traded on, in LIVE and DRY alike; an exit may use an older one than an open.
MAX_AGE_S = {Action.OPEN: 5, Action.INCREASE: 5, Action.CLOSE: 30, Action.LEVELS: 30, Action.MARGIN: 30}
# The views of a batch may be of a later block than the head that came with them, by no more than some blocks.
FUTURE_S = 15


@dataclass(frozen=True)
class Problem:
    """Why a price is not traded on just now; `final` where waiting a little would not help."""

    reason: Reason
    detail: str
    final: bool = False


@dataclass(frozen=True)
class Market:
    """One look at the chain before intents are placed. Prices in USD, times in unix seconds.

    `at` is the chain's clock, the latest block's timestamp. `costs` is None where
    the venue has no view for them. `compared` has what the venue's feed and catalogue
    say of a symbol; nothing is opened in one that it lacks, where there is one of them.
    """

    prices: dict[str, Decimal]
    published_at: dict[str, int]
    execution_fee_wei: int
    gas: fees.Market
    balance_wei: int
    at: int
    costs: Costs | None
    block_number: int = 0
    compared: Mapping[str, Seen] | None = None

    def problem(self, symbol: str, action: Action) -> Problem | None:
        """Why this may not be done at the price that is known; None where it may.

        Only an open asks for market hours and for a second source. An exit is bounded by its slippage, and to keep
        somebody in a position because two sources disagree about its price would be the worse mistake.
        """
        opens = action in GROWING
        closed = self._closed(symbol) if opens else None
        if closed is not None:
            return closed
        if stale := self._stale(symbol, action):
            return Problem(Reason.PRICE_UNAVAILABLE, stale)
        return self._unlike(symbol) if opens else None

    def _stale(self, symbol: str, action: Action) -> str:
        if symbol not in self.prices:
            return f"the venue has no price for {symbol}"
        age_s, limit_s = self.at - self.published_at[symbol], MAX_AGE_S[action]
        if age_s > limit_s:
            return f"the price of {symbol} is {age_s} s old, {action.value} takes at most {limit_s} s"
        if age_s < -FUTURE_S:
            return f"the price of {symbol} is from {-age_s} s in the future"
        return ""

    def _closed(self, symbol: str) -> Problem | None:
        if not feed.has_hours():
            return None
        seen = (self.compared or {}).get(symbol)
        if seen is None or seen.hours is None:
            why = seen.problem if seen else "it was not asked"
            detail = f"the catalogue does not say whether the market of {symbol} is open"
            return Problem(Reason.PRICE_UNAVAILABLE, f"{detail}: {why}" if why else detail)
        if seen.hours.pair_name != symbol:
            detail = f"pair {onchain.PAIRS[symbol]} is {seen.hours.pair_name} at the venue, not {symbol}"
            return Problem(Reason.PRICE_UNAVAILABLE, detail)
        refusal = market_hours.refusal(symbol, seen.hours, seen.at)
        return None if refusal is None else Problem(*refusal, final=True)

    def _unlike(self, symbol: str) -> Problem | None:
        """Two sources have to agree; which of them is right nobody knows, so three may not disagree either."""
        if not feed.has_prices():
            return None
        seen = (self.compared or {}).get(symbol)
        if seen is None or not seen.fresh:
            why = seen.why_not_fresh() if seen else "it was not asked"
            return Problem(Reason.PRICE_UNAVAILABLE, f"no second source has a fresh price of {symbol}: {why}")
        limit_pct = settings.ENVIRONMENT.max_price_deviation_pct
        gap = widest({PriceSource.CHAIN: self.prices[symbol], **seen.fresh})
        if gap is not None and gap.exceeds(limit_pct):
            return Problem(Reason.PRICE_DEVIATES, gap.words(symbol, limit_pct))
        return None


def compare(market: Market, symbols: Collection[str]) -> Market:
    """The same look with what the feed and the catalogue say of these symbols. Bounded in time; raises nothing of theirs."""
    if not (feed.has_prices() or feed.has_hours()):
        return market
    return replace(market, compared={**(market.compared or {}), **feed.look(symbols)})


def look(symbols: Iterable[str], wallet_address: str) -> Market:
    """Prices of these symbols, the venue's execution fee, gas and the wallet's balance.

    A symbol without a price is left out. Raises RpcFault or NodeError when the
    node cannot answer.
    """
    environment = settings.ENVIRONMENT
    known, price_views = price_calls(symbols)
    of_gas = gas.calls()
    calls: list[rpc.Call] = [
        ("eth_getBalance", (wallet_address, "latest")),
        rpc.eth_call(environment.venue_trading_address, onchain.call_execution_fee()),
        rpc.eth_call(environment.venue_trading_address, call_costs()),
        *of_gas,
        *price_views,
    ]
    answers = rpc.read_batch(calls)
    for answer in answers[:2]:
        if isinstance(answer, rpc.NodeError):
            raise answer
        if answer is None:
            raise rpc.RpcFault("the node knows no balance or execution fee")
    balance, execution_fee, costs = answers[:3]
    gas_answers, price_answers = answers[3 : 3 + len(of_gas)], answers[3 + len(of_gas) :]
    gas_market = gas.read(gas_answers)
    found = read_prices(known, price_answers)
    return Market(
        prices={symbol: price for symbol, (price, _) in found.items()},
        published_at={symbol: published_at for symbol, (_, published_at) in found.items()},
        execution_fee_wei=onchain.read_uint(_bytes(execution_fee)),
        gas=gas_market,
        balance_wei=int(balance, 16),
        at=int(gas_answers[0]["timestamp"], 16),
        costs=_costs(costs),
        block_number=int(gas_answers[0]["number"], 16),
    )


def price_calls(symbols: Iterable[str]) -> tuple[list[str], list[rpc.Call]]:
    """The symbols among these that the venue has a pair for, in order, and the question for each."""
    aggregator = settings.ENVIRONMENT.venue_price_aggregator_address
    known = sorted(symbol for symbol in set(symbols) if symbol in onchain.PAIRS)
    return known, [rpc.eth_call(aggregator, onchain.call_price(onchain.PAIRS[symbol])) for symbol in known]


def read_prices(symbols: Sequence[str], answers: Sequence[object]) -> dict[str, tuple[Decimal, int]]:
    """Price in USD and unix second of its publication by symbol; one without a price is left out."""
    found = {}
    for symbol, answer in zip(symbols, answers, strict=True):
        if isinstance(answer, rpc.NodeError):
            continue
        with suppress(ValueError):
            found[symbol] = onchain.read_price(_bytes(answer))
    return found


def _costs(answer: object) -> Costs | None:
    if isinstance(answer, rpc.NodeError):
        return None
    try:
        return read_costs(_bytes(answer))
    except ValueError:
        return None


def _bytes(answer: object) -> bytes:
    return bytes.fromhex(str(answer).removeprefix("0x"))
