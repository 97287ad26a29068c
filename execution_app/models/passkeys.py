"""Public keys of the authenticators with which people show on the admin site that they are who they are."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

LONGEST_ID, LONGEST_KEY = 1023, 4096  # bytes; the first is WebAuthn's own limit


class Passkey(models.Model):
    """A passkey (WebAuthn): its public half alone. `uses` is the authenticator's own count, which never goes back."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="passkeys")
    name = models.CharField(max_length=64)
    credential_id = models.BinaryField(max_length=LONGEST_ID, unique=True)
    public_key = models.BinaryField(max_length=LONGEST_KEY)
    uses = models.BigIntegerField(default=0)
    added_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "passkeys"
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="ck_passkeys_name"),
            models.CheckConstraint(condition=Q(uses__gte=0), name="ck_passkeys_uses"),
        ]

    def __str__(self) -> str:
        return self.name
