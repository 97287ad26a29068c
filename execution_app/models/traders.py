"""Who trades, and the delegate key that signs for them."""

from django.db import models
from django.db.models.functions import Now


class Trader(models.Model):
    """A person whose collateral is at stake. Their own key is never here."""

    tg_user_id = models.BigIntegerField(unique=True)
    label = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=42, unique=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "traders"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(address__regex=r"^0x[0-9a-fA-F]{40}$"), name="ck_traders_address"
            )
        ]

    def __str__(self) -> str:
        return self.label or f"trader {self.tg_user_id}"


class Wallet(models.Model):
    """A delegate account: the row whose lock orders everything it signs.

    `next_nonce` never steps back; a trigger refuses it.
    """

    trader = models.OneToOneField(Trader, models.PROTECT, related_name="wallet")
    chain_id = models.BigIntegerField()
    address = models.CharField(max_length=42)
    next_nonce = models.BigIntegerField(default=0)
    # A database that is gone had given away all nonces below this one; None where none was ever missed.
    seen_next_nonce = models.BigIntegerField(null=True, blank=True)
    max_in_flight = models.PositiveIntegerField(default=16)
    halted_reason = models.CharField(max_length=200, blank=True, default="")
    halted_at = models.DateTimeField(null=True, blank=True)
    balance_wei = models.DecimalField(max_digits=40, decimal_places=0, null=True, blank=True)
    # Until when the venue lets it trade for its trader; None where nobody has looked yet.
    delegated_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "wallets"
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "address"], name="uq_wallets_chain_address"),
            models.CheckConstraint(
                condition=models.Q(address__regex=r"^0x[0-9a-fA-F]{40}$"), name="ck_wallets_address"
            ),
            models.CheckConstraint(condition=models.Q(next_nonce__gte=0), name="ck_wallets_next_nonce"),
            models.CheckConstraint(condition=models.Q(max_in_flight__gte=1), name="ck_wallets_max_in_flight"),
        ]

    def __str__(self) -> str:
        return self.address
