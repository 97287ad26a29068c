"""What restricts execution, who said so, the mode that follows from it, and which processes are alive."""

from datetime import UTC, datetime

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import listed, one_of
from execution_app.states import Mode, ModeKind, Origin, RestrictionKind

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Control(models.Model):
    """The one row whose lock orders stops against nonces and first broadcasts.

    `epoch` grows with every restriction that Redis is asked to remember; a
    Redis that carries another epoch is an old copy and is not believed.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.BigIntegerField(default=1)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "control"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="ck_control_single")]

    def __str__(self) -> str:
        return f"epoch {self.epoch}"


class Restriction(models.Model):
    """A stop, DRY or reduce-only, from one origin; active until lifted there. Rows stay as history."""

    kind = one_of(RestrictionKind)
    origin = one_of(Origin)
    reason = models.CharField(max_length=400, blank=True, default="")
    set_by = models.CharField(max_length=150)
    set_at = models.DateTimeField(db_default=Now())
    lifted_by = models.CharField(max_length=150, blank=True, default="")
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "mode_changes"
        constraints = [
            # Setting the same restriction again from the same place changes nothing.
            models.UniqueConstraint(
                fields=["kind", "origin"], condition=Q(lifted_at__isnull=True), name="uq_mode_changes_active"
            ),
            listed("mode_changes", "kind", RestrictionKind),
            listed("mode_changes", "origin", Origin),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.origin}"


class StackMode(models.Model):
    """The one row that says in which mode the whole stack was last seen, so that a change counts once.

    For counting only: the gate never reads it. `dry_at` is when a process last said that it is in DRY.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    mode = one_of(Mode, default=Mode.DRY.value)
    dry_at = models.DateTimeField()
    changes = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(null=True, blank=True)
    # What the stack asks for, in the same way.
    requested = one_of(Mode, default=Mode.DRY.value, db_default=Mode.DRY.value)
    requested_dry_at = models.DateTimeField(db_default=LONG_AGO)

    class Meta:
        db_table = "stack_mode"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="ck_stack_mode_single"),
            listed("stack_mode", "mode", Mode),
            listed("stack_mode", "requested", Mode),
        ]

    def __str__(self) -> str:
        return str(self.mode)


class ModeChange(models.Model):
    """One change of a mode of the whole stack, written in the statement that changes `stack_mode`; append-only."""

    at = models.DateTimeField(db_default=Now())
    kind = one_of(ModeKind)
    mode = one_of(Mode)
    # As the process saw it that noticed first.
    reason = models.CharField(max_length=400, blank=True)
    streak = models.PositiveIntegerField()
    epoch = models.BigIntegerField()
    said_by = models.CharField(max_length=150)

    class Meta:
        db_table = "mode_history"
        constraints = [listed("mode_history", "kind", ModeKind), listed("mode_history", "mode", Mode)]

    def __str__(self) -> str:
        return f"{self.kind} {self.mode}"


class Heartbeat(models.Model):
    """When a component's main process began and last said that it lives, in the database's time.

    `process` names it for good: machine, pid and the tick it began at.
    """

    component = models.CharField(max_length=32, primary_key=True)
    process = models.CharField(max_length=120, blank=True, default="", db_default="")
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    at = models.DateTimeField(db_default=Now())
    # What it wants to be known of it, such as why it waits.
    note = models.CharField(max_length=120, blank=True, default="", db_default="")

    class Meta:
        db_table = "heartbeats"

    def __str__(self) -> str:
        return self.component


class PoolBeat(models.Model):
    """When a child of a worker's pool last said that it lives, and since when one task has kept it busy."""

    process = models.CharField(max_length=120, primary_key=True)
    component = models.CharField(max_length=32)
    pid = models.IntegerField()
    busy_since = models.DateTimeField(null=True, blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "pool_beats"

    def __str__(self) -> str:
        return f"{self.component} {self.pid}"
