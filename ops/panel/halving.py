"""Where in a table a time is, without an index: rows of a table that is only appended to are in the order of their ids."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet

# Rows of transactions that ran at the same time may stand in another order than their times.
SLACK = 1_000


def first_at(rows: "QuerySet[Any]", field: str, at: datetime) -> int:
    """The id from which on rows are of this time or later, one above the last where there is none.

    Some rows after it may be a little older, so whoever needs the exact moment asks for it as well.
    """
    plain = rows.order_by("pk").values_list("pk", field)
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    low, high = 1, (newest or 0) + 1
    while low < high:
        middle = (low + high) // 2
        # The first row from there on: numbers that were given away and never used leave gaps.
        found = plain.filter(pk__gte=middle).first()
        if found is None or found[1] >= at:
            high = middle
        else:
            low = found[0] + 1
    return max(1, low - SLACK)
