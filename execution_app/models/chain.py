"""Which chain this database belongs to, and whether both agree."""

from django.db import models
from django.db.models.functions import Now


class Chain(models.Model):
    """Identity and head of the one chain this database trades on.

    `reconciled_at` is refreshed whenever chain and database were compared and
    agreed; the gate opens only while it is fresh. `halted_reason` is why they
    did not agree. The final block only goes on; its hash is blank until a pass
    has agreed on one.
    """

    chain_id = models.BigIntegerField(primary_key=True)
    genesis_hash = models.CharField(max_length=66)
    trading_address = models.CharField(max_length=42)
    head_number = models.BigIntegerField(default=0)
    # The head as a majority of endpoints last had it; below head_number where fewer have led further since.
    reached_number = models.BigIntegerField(default=0, db_default=0)
    head_hash = models.CharField(max_length=66, blank=True, default="")
    finalized_number = models.BigIntegerField(default=0)
    finalized_hash = models.CharField(max_length=66, blank=True, default="", db_default="")
    reconciled_at = models.DateTimeField(null=True, blank=True)
    halted_reason = models.CharField(max_length=400, blank=True, default="")
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "chains"

    def __str__(self) -> str:
        return f"chain {self.chain_id}"
