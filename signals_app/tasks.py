"""Doors of the letter box."""

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError

from signals_app import decisions

log = structlog.get_logger(__name__)


@shared_task
def decide(signal_id: int) -> None:
    """Decide one signal."""
    try:
        decisions.decide(signal_id)
    except (OperationalError, InterfaceError) as problem:
        log.warning(
            "a part is away; the next bell tries again",
            what="decision",
            signal=signal_id,
            problem=type(problem).__name__,
        )


@shared_task
def sweep_signals() -> None:
    """Decide the signals whose bell was lost."""
    try:
        for signal_id in decisions.undecided():
            decisions.decide(signal_id)
    except (OperationalError, InterfaceError) as problem:
        log.warning(
            "a part is away; the next bell tries again", what="decisions", problem=type(problem).__name__
        )
