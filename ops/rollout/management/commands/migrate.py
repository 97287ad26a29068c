"""`manage.py migrate`, whose lines name a migration by its number.

One of Django's own has "error" in its name, and whoever greps the log of a healthy start for that word has to find nothing.
"""

from typing import Any

from django.core.management.commands.migrate import Command as Migrate


class Command(Migrate):
    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        if migration is not None:
            migration = f"{migration.app_label} {migration.name.partition('_')[0]}"
        super().migration_progress_callback(action, migration, fake)
