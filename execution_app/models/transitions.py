"""An intent's history, and the moves that it may make."""

from django.db import models
from django.db.models.functions import Now

from execution_app.models.intents import TxIntent


class IntentTransition(models.Model):
    """One line of an intent's history; append-only (a trigger refuses more)."""

    intent = models.ForeignKey(TxIntent, models.PROTECT, related_name="transitions")
    from_state = models.CharField(max_length=32, blank=True)
    to_state = models.CharField(max_length=32)
    at = models.DateTimeField(db_default=Now())
    why = models.CharField(max_length=400, blank=True)
    by = models.CharField(max_length=64)

    class Meta:
        db_table = "intent_transitions"
        indexes = [models.Index(fields=["intent", "id"], name="ix_intent_transitions")]

    def __str__(self) -> str:
        return f"{self.from_state or 'new'}>{self.to_state}"


class IntentMove(models.Model):
    """The legal moves as the database's trigger reads them; equal to states.MOVES (a test compares)."""

    from_state = models.CharField(max_length=32)
    to_state = models.CharField(max_length=32)

    class Meta:
        db_table = "intent_moves"
        constraints = [models.UniqueConstraint(fields=["from_state", "to_state"], name="uq_intent_moves")]

    def __str__(self) -> str:
        return f"{self.from_state}>{self.to_state}"
