"""Notices as the bot finds them in its outbox, made without any trade."""

from datetime import UTC, datetime
from typing import Any

from ops.bot.models import Notice

AT = "2026-01-02T03:04:05+00:00"


def notice(user: int, number: int, *, due: bool = True, **fields: Any) -> Notice:
    """An order that was accepted, not saved."""
    about = {
        "symbol": "BTC-USD",
        "is_long": True,
        "collateral_usdc": "5",
        "leverage_x": "2",
        "intent_key": f"sig:flood:{number}",
        "owner": user,
        "whose": "ann",
    }
    defaults = {
        "tg_user_id": user,
        "thread": f"trade {1_000_000 + number}",
        "about": about,
        "steps": [step("pending", "accepted", number)],
        "wanted": 1,
        "due_at": datetime.now(UTC) if due else None,
    }
    return Notice(**{**defaults, **fields})


def step(state: str, event: str, number: int = 0, **facts: Any) -> dict[str, Any]:
    return {"key": f"{state} {number}", "event": event, "at": AT, "state": state, **facts}


def queue(users: list[int], many: int) -> None:
    """So many notices, spread over these people."""
    Notice.objects.bulk_create(notice(users[number % len(users)], number) for number in range(many))
