"""What operators did and what the machine decided by itself: append-only and chained by hashes."""

from django.db import models

from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.models.columns import listed, one_of


class AuditEntry(models.Model):
    """One entry; only `execution_app.audit.record` writes it, and nothing changes it.

    The database fills in `seq` (1, 2, 3, without gaps), `at`, `digests`,
    `prev_hash` and `hash`, whatever an INSERT says. `hash` is over every column
    and the hash before it; `digests` tell which column was touched afterwards.
    docs/audit.md spells out both.
    """

    seq = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    origin = one_of(AuditOrigin)
    # The client's IP address, or host/pid of the process.
    address = models.CharField(max_length=150)
    action = one_of(AuditAction)
    subject = models.CharField(max_length=200)
    reason = models.CharField(max_length=400, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    digests = models.TextField()
    prev_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        db_table = "audit_log"
        verbose_name_plural = "audit entries"
        constraints = [
            models.CheckConstraint(condition=models.Q(seq__gte=1), name="ck_audit_log_seq"),
            listed("audit_log", "origin", AuditOrigin),
            listed("audit_log", "action", AuditAction),
        ]
        indexes = [
            # How many failed logins there were in the last minute.
            models.Index(
                fields=["at"],
                condition=models.Q(action=AuditAction.LOGIN_FAILED.value),
                name="ix_audit_log_failed_logins",
            )
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.action} {self.subject}"
