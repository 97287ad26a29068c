"""Which rows may leave the database, when, and how: one line a table; what has none here stays.

Signals and intents stay, since an id is spent for ever: what a repeat is told, and that it executes nothing, hangs on
them. So do signed bytes, receipts, orders, fills, positions and the audit log (docs/adr/0017).
"""

from dataclasses import dataclass

from execution_app.models import ArchivedTable


@dataclass(frozen=True)
class Leaving:
    """Which rows of a table `t` may leave: those that ended long ago. Rows of one `owner` leave in one commit."""

    source: str
    ended: str
    owner: str
    leave: str
    what: str
    only: str = "true"


_OF_INTENT = "JOIN tx_intents o ON o.id = t.intent_id"
_DELETE = "DELETE FROM {} WHERE id = ANY(%s)"
LEAVING: dict[ArchivedTable, Leaving] = {
    ArchivedTable.INTENT_TRANSITIONS: Leaving(
        f"intent_transitions t {_OF_INTENT}",
        "o.settled_at",
        "intent_id",
        _DELETE.format("intent_transitions"),
        "the moves of intents that settled on that day; the rows are deleted",
    ),
    # A reservation that is released adds up to nothing, and so does all that is left when its lines go together.
    ArchivedTable.RISK_LOG: Leaving(
        "risk_log t JOIN risk_reservations o ON o.id = t.reservation_id",
        "o.released_at",
        "reservation_id",
        _DELETE.format("risk_log"),
        "the changes of reservations that were released on that day; the rows are deleted",
    ),
    ArchivedTable.SHADOW_FILLS: Leaving(
        f"shadow_fills t {_OF_INTENT}",
        "o.settled_at",
        "intent_id",
        _DELETE.format("shadow_fills"),
        "the estimates of intents that settled on that day; the rows are deleted",
    ),
    # The row stays, since its id is spent for ever.
    ArchivedTable.SIGNALS: Leaving(
        "signals t",
        "t.received_at",
        "id",
        "UPDATE signals SET meta = '{}' WHERE id = ANY(%s) AND meta <> '{}'",
        "signals of that day to which their senders added something; the rows stay, `meta` is emptied",
        "t.decided_at IS NOT NULL AND t.meta <> '{}'",
    ),
    ArchivedTable.ADMIN_LOG: Leaving(
        "django_admin_log t",
        "t.action_time",
        "id",
        _DELETE.format("django_admin_log"),
        "changes of that day on the admin site, as Django notes them; the rows are deleted",
    ),
    ArchivedTable.PRICE_TICKS: Leaving(
        "price_ticks t",
        "t.at",
        "id",
        _DELETE.format("price_ticks"),
        "prices of that day, one a symbol every 5 s; the rows are deleted",
    ),
}
