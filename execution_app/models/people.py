"""The one place that tells which pseudonym is whose."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# Telegram's ids have at most 52 significant bits; no pseudonym can be taken for one.
TELEGRAM_IDS_END = 2**52
PSEUDONYMS_BEGIN = 2**62


class Person(models.Model):
    """Somebody by their Telegram id, and the number that stands for them in what is never changed.

    Once this row is gone, nobody can tell whose number it was. Only `execution_app.people` writes here.
    """

    tg_user_id = models.BigIntegerField(primary_key=True)
    pseudonym = models.BigIntegerField(unique=True)
    since = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "people"
        verbose_name_plural = "people"
        constraints = [
            models.CheckConstraint(
                condition=Q(tg_user_id__gt=0, tg_user_id__lt=TELEGRAM_IDS_END), name="ck_people_id"
            ),
            models.CheckConstraint(condition=Q(pseudonym__gte=PSEUDONYMS_BEGIN), name="ck_people_pseudonym"),
        ]

    def __str__(self) -> str:
        return f"person {self.pseudonym}"
