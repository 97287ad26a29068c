"""What the venue's contracts say to whoever asks: prices, and the trades that it holds."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from django.conf import settings

from execution_app.book import prices
from execution_app.errors import Refused, Retryable
from execution_app.models import Trader
from execution_app.node import rpc
from execution_app.venues import onchain
from execution_app.venues.interface import Holding, Market, Price
from execution_app.venues.onchain import OpenTrade

SLOTS = 2_000  # trade slots of one pair that are looked at


def market(symbol: str) -> Market:
    """Raises Refused for a symbol that the venue does not list."""
    if symbol not in onchain.PAIRS:
        raise Refused(f"the venue has no pair {symbol}")
    return Market(symbol, onchain.PAIRS[symbol], symbol in settings.ENVIRONMENT.symbols)


def look(symbol: str, trader: Trader) -> prices.Market:
    """One look at the chain. Raises Refused for an unknown symbol, Retryable when the node is away."""
    market(symbol)
    try:
        return prices.look({symbol}, trader.address)
    except rpc.NodeError as error:
        raise Retryable(f"the node cannot say what the venue asks: {error}") from error


def look_to_open(symbol: str, trader: Trader) -> prices.Market:
    """The same, compared with what the venue's feed and catalogue say. Raises as `look` does."""
    return prices.compare(look(symbol, trader), {symbol})


def price(symbol: str, trader: Trader) -> Price:
    """Raises Retryable where the venue has none."""
    found = look(symbol, trader)
    if symbol not in found.prices:
        raise Retryable(f"the venue has no price for {symbol}")
    return Price(symbol, found.prices[symbol], max(0, found.at - found.published_at[symbol]))


def holdings(trader: Trader, symbols: Collection[str] | None = None) -> list[Holding]:
    """Every trade of theirs in the venue's storage, in these markets or in those of this stack. Raises Retryable."""
    wanted = settings.ENVIRONMENT.symbols if symbols is None else symbols
    symbols = sorted(symbol for symbol in wanted if symbol in onchain.PAIRS)
    counts = _read(
        [onchain.call_open_trades_count(trader.address, onchain.PAIRS[symbol]) for symbol in symbols]
    )
    found = []
    for symbol, raw in zip(symbols, counts, strict=True):
        found += _of(symbol, trader, onchain.read_uint(raw))
    return found


def _of(symbol: str, trader: Trader, count: int) -> list[Holding]:
    """The lowest slots first, until all are found: the venue gives the lowest free one away."""
    held: list[Holding] = []
    span = 32
    for start in range(0, SLOTS, span):
        if len(held) >= count:
            break
        slots = range(start, start + span)
        pair = onchain.PAIRS[symbol]
        answers = _read([onchain.call_open_trade(trader.address, pair, slot) for slot in slots])
        trades = (onchain.read_open_trade(raw) for raw in answers)
        held += [_holding(symbol, trade) for trade in trades if trade is not None]
    return held


def _holding(symbol: str, trade: OpenTrade) -> Holding:
    return Holding(
        symbol=symbol,
        slot=trade.trade_index,
        is_long=trade.is_long,
        collateral_usdc=trade.collateral_usdc,
        leverage_x=trade.leverage_x,
        open_price=trade.open_price,
        take_profit=trade.take_profit,
        stop_loss=trade.stop_loss,
        opened_at=datetime.fromtimestamp(trade.opened_at, UTC),
    )


def _read(calls: Sequence[bytes]) -> list[bytes]:
    storage = settings.ENVIRONMENT.venue_storage_address
    answers = rpc.read_batch([rpc.eth_call(storage, data) for data in calls]) if calls else []
    for answer in answers:
        if isinstance(answer, rpc.NodeError):
            raise Retryable(f"the node cannot say what the venue holds: {answer}") from answer
    return [bytes.fromhex(str(answer).removeprefix("0x")) for answer in answers]
