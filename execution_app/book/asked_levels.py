"""The levels that an open asked for, as they were when it filled."""

from execution_app.models import Fill, TxIntent, VenueOrder


def of(opening: Fill) -> TxIntent | VenueOrder:
    """Whose levels they are: the intent's, or those that a change gave it while it rested."""
    changed = VenueOrder.objects.filter(intent=opening.intent_id, limit_price__isnull=False).first()
    asked = changed or opening.intent
    assert asked is not None  # an open is always an order's
    return asked
