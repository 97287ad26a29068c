"""The summary of a UTC day, once, when the next one has begun. A bot that was away tells the last day, and no older one."""

from datetime import UTC, date, timedelta
from decimal import Decimal

from django.db import transaction

from execution_app.engine.waiting import database_now
from execution_app.states import Mode
from ops.bot import figures
from ops.bot.models import Event, Level, Role, Tally
from ops.bot.notices import Audience, News, post

TOLD = "told day"


def look() -> int:
    """Tell yesterday, where it was not told; returns how many messages have to leave. Raises django.db.Error."""
    with transaction.atomic():
        now = database_now().astimezone(UTC)
        today = now.date()
        told, created = Tally.objects.select_for_update().get_or_create(
            name=TOLD, defaults={"number": today.toordinal()}
        )
        if created or told.number >= today.toordinal():
            return 0
        told.number = today.toordinal()
        told.save(update_fields=["number"])
        yesterday = today - timedelta(days=1)
        audience = Audience()
        found = []
        for person in audience.people:
            if audience.level(person, Event.DAILY, None) is Level.OFF:
                continue
            owner = person.tg_user_id if person.role == Role.TRADER else None
            found.append(_summary(person.tg_user_id, owner, yesterday))
        return post(found)


def _summary(reader: int, owner: int | None, day: date) -> News:
    modes = [figures.of_day(owner, mode, day) for mode in (Mode.LIVE, Mode.DRY)]
    live, dry = (figures.daily_pnl(owner, mode, day, figures.DAYS) for mode in (Mode.LIVE, Mode.DRY))
    # The picture is of what is traded: DRY where nothing was ever realised LIVE.
    shown = Mode.LIVE if any(Decimal(sum_usdc) for _, sum_usdc in live) else Mode.DRY
    picture = {"kind": "pnl", "mode": shown.value, "points": live if shown is Mode.LIVE else dry}
    return News(
        Event.DAILY,
        thread=f"daily {day.isoformat()}",
        key=f"daily {day.isoformat()}",
        at=figures.begin_of(day + timedelta(days=1)),
        about={"picture": picture},
        facts={"day": day.isoformat(), "modes": modes},
        only=reader,
    )
