"""Doors of the letter box."""

from celery import shared_task

from signals_app import decisions


@shared_task
def decide(signal_id: int) -> None:
    """Decide one signal."""
    decisions.decide(signal_id)


@shared_task
def sweep_signals() -> None:
    """Decide the signals whose bell was lost."""
    for signal_id in decisions.undecided():
        decisions.decide(signal_id)
