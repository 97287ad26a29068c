"""What has left the database for a file, once the file was read back; without a row here nothing may leave."""

from enum import StrEnum

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of


class ArchivedTable(StrEnum):
    """Tables whose rows leave once they are old: history that nothing decides by any more."""

    INTENT_TRANSITIONS = "intent_transitions"  # on the day on which the intent settled
    RISK_LOG = "risk_log"  # on the day on which the reservation was released
    SHADOW_FILLS = "shadow_fills"  # on the day on which the intent settled
    SIGNALS = "signals"  # on the day on which it came; its row stays, what the sender added to it leaves
    ADMIN_LOG = "django_admin_log"  # on the day on which it was written
    PRICE_TICKS = "price_ticks"  # on the day that they are of


class Archive(models.Model):
    """One file: rows of one table that ended on one UTC day. Written after the file was read back, and kept.

    A row of these tables is deleted only where an archive of its day has its id
    between `first_id` and `last_id`; a trigger refuses everything else. `sha256` is
    the file's. A further `part` holds what turned up after the first was made.
    """

    table_name = one_of(ArchivedTable)
    day = models.DateField()
    part = models.PositiveSmallIntegerField(default=1)
    file = models.CharField(max_length=120)
    sha256 = models.CharField(max_length=64)
    rows = models.PositiveBigIntegerField()
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    made_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "archives"
        constraints = [
            models.UniqueConstraint(fields=["table_name", "day", "part"], name="uq_archives_part"),
            listed("archives", "table_name", ArchivedTable),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="ck_archives_sha256"),
            models.CheckConstraint(
                condition=Q(rows__gte=1, rows__lte=F("last_id") - F("first_id") + 1, part__gte=1),
                name="ck_archives_rows",
            ),
        ]

    def __str__(self) -> str:
        return self.file
