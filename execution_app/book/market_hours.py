"""Whether a market takes opens, by what the venue's catalogue says of it. Pure.

An exit is never judged by this: what the venue makes of a close in closed hours it says itself, to the trial before it is signed.
"""

from datetime import UTC, datetime

from execution_app.models import MarketState
from execution_app.states import Reason
from execution_app.venues.feed import Listing


def state(symbol: str, listing: Listing, seen_at: datetime) -> MarketState:
    """The row of a listing; not stored."""
    return MarketState(
        symbol=symbol,
        pair_name=listing.name,
        is_listed=listing.is_listed,
        is_open=listing.is_open,
        closes_only=listing.closes_only,
        next_open_at=_moment(listing.next_open_s),
        next_close_at=_moment(listing.next_close_s),
        seen_at=seen_at,
    )


def refusal(symbol: str, hours: MarketState, at: datetime) -> tuple[Reason, str] | None:
    """Why nothing may be opened, with when that changes where the venue tells it; None where it may.

    The times of the venue's schedule count between two looks: its own SDK reads them so.
    """
    if not hours.is_listed:
        return Reason.MARKET_CLOSED, f"the venue lists {symbol} no more"
    if hours.closes_only:
        return Reason.MARKET_CLOSE_ONLY, f"the venue lets positions in {symbol} be closed only"
    opens, closes = hours.next_open_at, hours.next_close_at
    if closes is not None and at >= closes:
        return Reason.MARKET_CLOSED, f"the market of {symbol} closed at {_words(closes)}{_until(opens, at)}"
    if not hours.is_open and not (opens is not None and at >= opens):
        return Reason.MARKET_CLOSED, f"the market of {symbol} is closed{_until(opens, at)}"
    return None


def _until(opens: datetime | None, at: datetime) -> str:
    if opens is None or opens <= at:
        return "; the venue does not say when it opens"
    return f" until {_words(opens)}"


def _words(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _moment(second: int) -> datetime | None:
    return datetime.fromtimestamp(second, UTC) if second else None
