"""That this database is a copy: from which moment, since when, and what a person has let through since."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class RestorePoint(models.Model):
    """One restore; written in the copy before anybody can reach it, and kept.

    What was accepted between `snapshot_at` and `restored_at` is unknown here. Both
    acceptances are given once: of signals without a time, and of the comparison with
    chain and venue (`reconciled_at`), before which the stop is not lifted.
    """

    snapshot_at = models.DateTimeField()
    restored_at = models.DateTimeField(db_default=Now())
    backup_sha256 = models.CharField(max_length=64)
    # Under which name the database before it was kept; blank where there was none.
    former = models.CharField(max_length=63, blank=True, default="")
    epoch = models.BigIntegerField()
    restored_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=400)
    untimed_accepted_at = models.DateTimeField(null=True, blank=True)
    untimed_accepted_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    reconciled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "restore_points"
        constraints = [
            models.CheckConstraint(
                condition=Q(restored_at__gte=F("snapshot_at")), name="ck_restore_points_order"
            ),
            models.CheckConstraint(
                condition=Q(backup_sha256__regex=r"^[0-9a-f]{64}$"), name="ck_restore_points_sha256"
            ),
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(restored_by=""), name="ck_restore_points_reason"
            ),
            models.CheckConstraint(
                condition=Q(untimed_accepted_at__isnull=True, untimed_accepted_by="")
                | (
                    # A comparison with NULL is neither true nor false, and a check takes that for true.
                    Q(untimed_accepted_at__isnull=False, untimed_accepted_at__gte=F("restored_at"))
                    & ~Q(untimed_accepted_by="")
                ),
                name="ck_restore_points_untimed",
            ),
            models.CheckConstraint(
                condition=Q(reconciled_at__isnull=True) | Q(reconciled_at__gte=F("restored_at")),
                name="ck_restore_points_reconciled",
            ),
        ]

    def __str__(self) -> str:
        return f"restored from {self.snapshot_at.isoformat()}"
