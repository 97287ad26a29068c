"""A process without work that stays: it says why once, beats, and ends when it is asked to."""

import os
import threading

import structlog
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Now

from execution_app.models import Heartbeat

log = structlog.get_logger(__name__)

COMPONENT = "bot"
BEAT_EVERY_S = 2.0
BLANK = "waiting: TELEGRAM_BOT_TOKEN is blank"
MALFORMED = "waiting: TELEGRAM_BOT_TOKEN is no token of a bot"


def idle(ended: threading.Event, note: str) -> None:
    """Until `ended`: a process that gave up would be restarted for ever. A database that is away is waited for."""
    log.warning(note, component=COMPONENT)
    started = away = False
    while not ended.is_set():
        try:
            connection.close_if_unusable_or_obsolete()
            beat(note, begins=not started)
        except DatabaseError as error:
            connection.close()
            if not away:
                log.warning(
                    "no heartbeat: the database is away", component=COMPONENT, why=type(error).__name__
                )
            away = True
        else:
            started, away = True, False
        ended.wait(BEAT_EVERY_S)
    connection.close()
    log.info("ended", component=COMPONENT)


def beat(note: str, *, begins: bool) -> None:
    """Say that this process lives, and in `note` what it does. Raises django.db.Error."""
    row = {"pid": os.getpid(), "at": Now(), "note": note}
    new = {**row, "started_at": Now()}
    Heartbeat.objects.update_or_create(
        component=COMPONENT, defaults=new if begins else row, create_defaults=new
    )
