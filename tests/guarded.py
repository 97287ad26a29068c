"""Positions with levels, prices that move, and the watch over both."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F

from execution_app.engine import level_watch, rounds
from execution_app.models import Position, Price, Protection, Trader, TxIntent
from ops.rehearsal import venue
from tests import real_parts
from tests.rig import Rig, rpc_call

OPENED_AT = Decimal(100_000)


def move_price(price: int | str | Decimal, symbol: str = "BTC-USD") -> None:
    rpc_call("evm_setAutomine", True)
    venue.set_price(real_parts.anvil.url, real_parts.deployment, symbol, Decimal(price))
    rpc_call("evm_setAutomine", False)


def open_guarded(rig: Rig, *, is_long: bool = True, **levels: Any) -> Position:
    """A LIVE position opened at 100,000 USD with these levels; in DRY a simulated one."""
    exact: dict[str, Any] = {
        name: Decimal(value) if isinstance(value, str) else value for name, value in levels.items()
    }
    intent = rig.intent(is_long=is_long, **exact)
    rig.run()
    return Position.objects.get(fills__intent=intent, state="open")


def look(price: int | str | None = None) -> level_watch.Tick:
    """The price moves, and the watch looks once."""
    if price is not None:
        move_price(price)
    return rounds.watch_levels()


def closes() -> list[TxIntent]:
    return list(TxIntent.objects.filter(intent_key__startswith="tpsl:").order_by("id"))


def grow_old(seconds: int) -> None:
    """The database's clock goes on: what was seen of prices moves into the past."""
    past = timedelta(seconds=seconds)
    Price.objects.update(seen_at=F("seen_at") - past, first_seen_at=F("first_seen_at") - past)


def fill_book(trader: Trader, count: int, *, mode: str = "DRY", **levels: Any) -> list[Position]:
    """Open positions as rows alone, without fills, each with a protection; half of them short."""
    opened_at = datetime.now(UTC)
    positions = Position.objects.bulk_create(
        Position(
            trader=trader,
            venue="0xvenue",
            symbol="BTC-USD",
            pair_index=1,
            trade_index=index,
            opened_at=opened_at,
            mode=mode,
            is_long=index % 2 == 0,
            collateral_usdc=5,
            leverage_x=2,
            open_price=OPENED_AT,
        )
        for index in range(count)
    )
    Protection.objects.bulk_create(
        Protection(
            position=position,
            version=1,
            is_long=position.is_long,
            set_by="test",
            watermark=OPENED_AT,
            **levels,
        )
        for position in positions
    )
    return positions
