"""The watch over positions: one look at the prices, then a close for each that a level demands.

Levels that the venue itself watches (those that came with a LIVE open) are its
first: they are left to it for NATIVE_GRACE_S, then closed here like all others.
Simulated positions that a price liquidates end here, since no venue does it.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import DataError, IntegrityError, transaction

from execution_app.book import feed, liquidation, native_levels, protections, quotes
from execution_app.book.levels import Hit, Levels, decide
from execution_app.engine import exits, watermark
from execution_app.errors import Retryable
from execution_app.gate import control
from execution_app.models import Position, Protection, ProtectionTrigger
from execution_app.node import rpc
from execution_app.states import Mode, PositionState, RestrictionKind

log = structlog.get_logger(__name__)

BY = "tpsl"
# A keeper executes within some blocks; what the venue has not closed by then it has missed.
NATIVE_GRACE = timedelta(seconds=10)


@dataclass
class Tick:
    """What one look came to: wallets with a close to place, and what kept it from being whole."""

    fired: int = 0
    liquidated: int = 0
    wallets: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def require_whole(self) -> None:
        """Raises Retryable where some positions could not be judged; they are at the next look."""
        if self.problems:
            raise Retryable("; ".join(self.problems))


@dataclass(frozen=True)
class Due:
    """A version that is to fire, with what was seen."""

    protection: Protection
    hit: Hit
    price: Decimal | None
    detail: str = ""


def watch() -> Tick:
    """Look once and ask for the closes that are due; two at once, or one that is repeated, ask once.

    Prices that are too old decide nothing, nor do those that lie too far from what
    the venue's feed says at the same time, and a stop lets nothing be asked for: the
    levels are judged anew at the next look, and when it is lifted.
    """
    tick = Tick()
    stopped = RestrictionKind.STOP in control.active_kinds()
    if not stopped:
        protections.arm_refused()
        native_levels.ask_again()
    simulated = liquidation.simulated_symbols()
    symbols = sorted(simulated.union(protections.guarded_symbols()))
    if not symbols:
        return tick
    try:
        with watermark.not_behind():
            quotes.keep(symbols)
    except (rpc.RpcFault, rpc.NodeError) as problem:
        tick.problems.append(f"no new prices: {problem}")
    known = quotes.newest(symbols)
    deviating = feed.deviating(known.fresh)
    tick.problems += deviating.values()
    known = replace(known, fresh={s: price for s, price in known.fresh.items() if s not in deviating})
    # Nobody publishes a price of a market that is closed: its levels wait, and that is no fault.
    closed = feed.closed(feed.known(sorted(known.ages_s))) if known.ages_s else set()
    old = {symbol: age_s for symbol, age_s in known.ages_s.items() if symbol not in closed}
    tick.problems += [f"the price of {symbol} is {age_s:.0f} s old" for symbol, age_s in old.items()]
    for symbol, price in known.fresh.items():
        protections.advance(symbol, price)
    # Before the levels: a price beyond both has gone through the level on its way, but no look saw it there.
    if simulated:
        tick.liquidated = liquidation.carry_out(known.fresh)
    for due in [] if stopped else _due(known):
        try:
            _fire(due, tick)
        except (IntegrityError, DataError) as problem:
            # One trigger that the database refuses must not keep all others from firing.
            log.exception(
                "a level could not fire", position=due.protection.position_id, kind=due.hit.kind.value
            )
            tick.problems.append(f"position {due.protection.position_id}: {type(problem).__name__}")
    return tick


def _due(known: quotes.Newest) -> list[Due]:
    found, crossed, back = [], [], []
    for row in protections.standing().select_related("position"):
        price = known.fresh.get(row.position.symbol)
        levels = protections.of(row)
        hit = decide(_without_native(levels, row.position), price, known.at)
        detail = ""
        native = None if hit else decide(levels, price, known.at)
        if native is None:
            if row.native_crossed_at is not None and price is not None:
                back.append(row.pk)
        elif _is_missed(row, known.at):
            hit, detail = native, "the venue did not close at its own level"
        elif row.native_crossed_at is None:
            crossed.append(row.pk)
        if hit is not None:
            found.append(Due(row, hit, price, detail))
    protections.note_native(crossed, back)
    return found


def _without_native(levels: Levels, position: Position) -> Levels:
    """The levels but those that the venue watches itself, unchanged since the open."""
    if position.mode != Mode.LIVE:
        return levels
    return replace(
        levels,
        take_profit=None if levels.take_profit == position.take_profit else levels.take_profit,
        stop_loss=None if levels.stop_loss == position.stop_loss else levels.stop_loss,
    )


def _is_missed(row: Protection, now: datetime) -> bool:
    """Whether the venue should have fired by now; not where its trade is missed there, which says that it has.

    Where the database's clock was set back nobody knows how long ago it was crossed: long enough.
    """
    if row.native_crossed_at is None or row.position.missed_at_block is not None:
        return False
    return abs(now - row.native_crossed_at) >= NATIVE_GRACE


def _fire(due: Due, tick: Tick) -> None:
    """Note the trigger and open the intent of its close in one commit."""
    with transaction.atomic():
        standing = Protection.objects.select_for_update(of=("self",)).select_related("position__trader")
        row = standing.get(pk=due.protection.pk)
        fired = ProtectionTrigger.objects.filter(protection=row).exists()
        if fired or row.ended_at is not None or row.position.state != PositionState.OPEN:
            return
        key = f"tpsl:{row.position_id}:{row.version}:{due.hit.kind.value}"
        close = exits.ask_intent(row.position, key=key, by=BY)
        if close is None:
            tick.problems.append(f"position {row.position_id} has no wallet")
            return
        ProtectionTrigger.objects.create(
            protection=row,
            intent=close,
            kind=due.hit.kind.value,
            price=due.price,
            level=None if due.hit.level is None else round(due.hit.level, 10),
            detail=due.detail,
        )
    tick.fired += 1
    assert close.wallet_id is not None
    tick.wallets.add(close.wallet_id)
    log.warning(
        "level fired",
        position=row.position_id,
        symbol=row.position.symbol,
        mode=row.position.mode,
        kind=due.hit.kind.value,
        level=due.hit.level,
        price=due.price,
        intent=close.pk,
    )
