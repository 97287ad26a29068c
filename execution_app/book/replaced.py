"""Which trades of a slot came after another one: the venue keeps one a slot."""

from django.db.models import QuerySet

from execution_app.models import Fill, Position
from execution_app.states import Action, Mode, PositionState


def replaced_at(position: Position) -> int | None:
    """The final block in which the next trade of its slot was opened; None where there is none."""
    final = replacements(position).filter(settled_at__isnull=False).order_by("block_number")
    return final.values_list("block_number", flat=True).first()


def is_replaced(position: Position) -> bool:
    """Whether another position of the book has the slot now, or had it later: the venue keeps one trade a slot."""
    others = Position.objects.filter(**slot_of(position), state=PositionState.OPEN).exclude(pk=position.pk)
    return others.exists() or replacements(position).exists()


def replacements(position: Position) -> QuerySet[Fill]:
    """Openings of later trades in the same slot of the venue; the simulation never reuses a taken one.

    Asked in two steps: joined, a planner without statistics reads all positions of the trader for each fill.
    """
    later = list(
        Position.objects.filter(**slot_of(position), opened_at__gt=position.opened_at).values_list(
            "pk", flat=True
        )
    )
    if not later:
        return Fill.objects.none()
    return Fill.objects.filter(position__in=later, action=Action.OPEN, mode=Mode.LIVE)


def slot_of(position: Position) -> dict[str, object]:
    names = ("trader_id", "venue", "pair_index", "trade_index", "mode")
    return {name: getattr(position, name) for name in names}
