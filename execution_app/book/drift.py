"""Positions as we know them against positions as the venue stores them."""

import structlog
from django.db.models.functions import Now

from execution_app.book import absence, corrections, displaced, endings, margins
from execution_app.models import Position, TxIntent
from execution_app.states import IN_FLIGHT, Mode, PositionState
from execution_app.venues.onchain import OpenTrade

log = structlog.get_logger(__name__)
BATCH = 200


def compare() -> int:
    """Write on each open LIVE position how the venue's storage differs; returns how many do.

    What drifts is shown, and repaired by writing down what the venue has, never by
    a trade. A trade that the venue had no more at a final block, and that no close
    of ours ended, was ended by the venue or its owner; one that it has otherwise is corrected.
    While a close of ours is under way a position is not judged anew.
    """
    margins.settle()
    held = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).select_related("trader")
    doubted, drifting, after = corrections.doubted(), 0, 0
    while some := list(held.filter(pk__gt=after).order_by("id")[:BATCH]):
        drifting += _compare(some, doubted)
        after, doubted = some[-1].pk, []
    if doubted:
        _compare([], doubted)
    endings.learn()
    return drifting


def _compare(held: list[Position], doubted: list[Position]) -> int:
    """At one block, as many as one request asks for."""
    sighting = absence.look([*held, *doubted])
    for position in doubted:
        corrections.reconsider(position, sighting)
    missed = {position.pk: absence.remember(position, sighting) for position in held}
    gone = {pk: block_number for pk, block_number in missed.items() if block_number is not None}
    ends = endings.find(gone)
    for position in (one for one in held if one.pk in ends):
        told = ends[position.pk].event
        margins.follow_before(position, told.opened_at, told.block_number)
    for position in held:
        if position.pk in gone:
            absence.end(position, gone[position.pk], ends.get(position.pk))
    closing = _being_closed(held)
    drifting = 0
    for position in held:
        if position.pk in closing:
            # The venue may have executed it, and the book is about to say the same; what was shown before stays.
            drifting += bool(position.drift)
            if _is_displaced(position, sighting.trades[position.pk]):
                displaced.call_off(Position.objects.filter(pk=position.pk))
            continue
        known, drift = _explained(position, sighting)
        if corrections.consider(known, sighting, drift):
            continue
        drifting += bool(drift)
        if drift != known.drift:
            Position.objects.filter(pk=position.pk, state=PositionState.OPEN).update(
                drift=drift, updated_at=Now()
            )
            log.warning(
                "position drift", position=position.pk, symbol=position.symbol, drift=drift or "none any more"
            )
    return drifting


def _is_displaced(position: Position, trade: OpenTrade | None) -> bool:
    """Whether another trade has its slot, and most endpoints miss its own there."""
    if trade is None or absence.is_there(position, trade):
        return False
    return Position.objects.filter(pk=position.pk, missed_at_block__isnull=False).exists()


def _explained(position: Position, sighting: absence.Sighting) -> tuple[Position, str]:
    """How it differs once what changed its margin is in the book; the row as it is by then."""
    trade = sighting.trades[position.pk]
    drift = _difference(position, trade)
    if drift and margins.follow(position, sighting):
        position = Position.objects.select_related("trader").get(pk=position.pk)
        drift = _difference(position, trade)
    return position, drift


def _being_closed(held: list[Position]) -> set[int]:
    """Positions with an order of ours that may still change them at the venue."""
    under_way = TxIntent.objects.filter(position__in=held, state__in=sorted(IN_FLIGHT))
    return {pk for pk in under_way.values_list("position_id", flat=True) if pk is not None}


def _difference(position: Position, trade: OpenTrade | None) -> str:
    if trade is None:
        return "the venue has no such trade"
    pairs = (
        ("collateral_usdc", position.collateral_usdc, trade.collateral_usdc),
        ("leverage_x", position.leverage_x, trade.leverage_x),
        ("is_long", position.is_long, trade.is_long),
        ("open_price", position.open_price, trade.open_price),
        ("take_profit", position.take_profit, trade.take_profit),
        ("stop_loss", position.stop_loss, trade.stop_loss),
        (
            "venue_timestamp",
            int((position.venue_timestamp or position.opened_at).timestamp()),
            trade.opened_at,
        ),
    )
    return "; ".join(
        f"{name} is {ours}, the venue has {theirs}" for name, ours, theirs in pairs if ours != theirs
    )[:200]
