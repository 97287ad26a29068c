"""What beat rings for, installed by code each time beat starts.

The rows belong to django-celery-beat; sub-second periods are why they are
written here and not through `beat_schedule`, which counts in whole seconds.
"""

from datetime import UTC, datetime

from django.db import transaction

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# name → (task, period in ms)
BELLS: dict[str, tuple[str, int]] = {
    "follow the chain": ("execution_app.tasks.track", 400),
    "sweep intents": ("execution_app.tasks.sweep", 1_000),
    "sweep signals": ("signals_app.tasks.sweep_signals", 1_000),
    "compare positions": ("execution_app.tasks.compare_positions", 5_000),
    "watch levels": ("execution_app.tasks.watch_levels", 1_000),
    "ask the feed": ("execution_app.tasks.keep_feed", 1_000),
    "note the audit head": ("execution_app.tasks.note_audit_head", 3_600_000),
}


def install() -> None:
    """Make the rows say what BELLS says, whatever was there before."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    with transaction.atomic():
        PeriodicTask.objects.exclude(name__in=[*BELLS, "celery.backend_cleanup"]).delete()
        for name, (task, period_ms) in BELLS.items():
            # Its column holds no more than 35 minutes in microseconds.
            every, period = (
                (period_ms // 1_000, IntervalSchedule.SECONDS)
                if period_ms % 1_000 == 0
                else (period_ms * 1_000, IntervalSchedule.MICROSECONDS)
            )
            interval, _ = IntervalSchedule.objects.get_or_create(every=every, period=period)
            row = {
                "task": task,
                "interval": interval,
                # No clock says when a bell is worthless: `vanta/beat.py` rings none while others like it wait.
                "expire_seconds": None,
                "enabled": True,
                "crontab": None,
            }
            # A new bell rings at once, not after its first period: health waits for what it brings.
            PeriodicTask.objects.update_or_create(
                name=name, defaults=row, create_defaults={**row, "last_run_at": LONG_AGO}
            )
