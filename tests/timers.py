"""Time passes for the engine's timers without anybody sleeping: the rows' timestamps move into the past."""

from django.db import connection

from tests.guards import without_guards


def pass_a_minute() -> None:
    """Leases and offers become a minute older and waiting intents due, simulated ones too; signed bytes cannot change."""
    with without_guards(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tx_sends SET leased_at = leased_at - interval '1 minute',"
            " offered_at = offered_at - interval '1 minute',"
            " last_offered_at = last_offered_at - interval '1 minute',"
            " held_at = held_at - interval '1 minute'"
        )
        cursor.execute(
            "UPDATE sign_requests SET leased_at = leased_at - interval '1 minute',"
            " next_try_at = next_try_at - interval '1 minute'"
        )
        cursor.execute(
            "UPDATE venue_messages SET leased_at = leased_at - interval '1 minute',"
            " posted_at = posted_at - interval '1 minute',"
            " last_posted_at = last_posted_at - interval '1 minute',"
            " held_at = held_at - interval '1 minute', asked_at = asked_at - interval '1 minute'"
        )
        cursor.execute(
            "UPDATE tx_intents SET next_try_at = next_try_at - interval '1 minute',"
            " keeper_due_at = keeper_due_at - interval '1 minute' WHERE settled_at IS NULL"
        )
        cursor.execute(
            "UPDATE protections SET native_crossed_at = native_crossed_at - interval '1 minute',"
            " closes_at = closes_at - interval '1 minute'"
        )


def set_clock_back() -> None:
    """The database's clock goes back by an hour, as after a failover: what the engine noted lies that far ahead of it."""
    columns = {
        "tx_sends": ("leased_at", "offered_at", "last_offered_at", "held_at"),
        "venue_messages": (
            *("leased_at", "posted_at", "last_posted_at", "held_at"),
            *("sign_leased_at", "sign_after"),
        ),
        "sign_requests": ("leased_at", "next_try_at"),
        "tx_intents": ("next_try_at", "keeper_due_at"),
        "prices": ("seen_at", "first_seen_at"),
        "protections": ("native_crossed_at",),
    }
    with without_guards(), connection.cursor() as cursor:
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} + interval '1 hour'" for name in names)
            cursor.execute(f"UPDATE {table} SET {moved}")
