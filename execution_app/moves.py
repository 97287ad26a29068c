"""The one function that changes an intent's state, and the one that creates an intent."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from execution_app import meters, reservations
from execution_app.errors import IllegalMove, Stale
from execution_app.models import IntentTransition, TxIntent, arrays
from execution_app.states import HOLDING, MOVES, OTHER_REASON, RELEASING, STAKING, TERMINAL, IntentState

log = structlog.get_logger(__name__)


def move(intent: TxIntent, to: IntentState, *, why: str, by: str, **fields: Any) -> None:
    """Change the state from what the caller saw to `to`, with `fields`, and write history.

    Raises IllegalMove when the table does not know the move, Stale when the row
    is no longer in the state that the caller saw.
    """
    old = IntentState(intent.state)
    if to not in MOVES[old]:
        meters.ILLEGAL_TRANSITION.inc()
        raise IllegalMove(f"intent {intent.pk} cannot move from {old} to {to}")
    if to in TERMINAL:
        fields["settled_at"] = Now()
    if to in RELEASING:
        fields["holds_position"] = False
    # No savepoint of its own within another transaction: nothing is written where it raises Stale.
    with transaction.atomic(savepoint=False):
        changed = TxIntent.objects.filter(pk=intent.pk, state=old, settled_at=None).update(
            state=to, updated_at=Now(), **fields
        )
        if changed:
            _record(intent, old, to, why=why, by=by)
            if IntentState.HELD in (old, to):
                _tell_holding(intent, to, str(fields.get("reason", "")), why)
    if not changed:
        raise Stale(f"intent {intent.pk} is no longer {old}")
    intent.state = to
    for name, value in fields.items():
        if name != "settled_at":
            setattr(intent, name, value)
    log.info(
        "intent", intent=intent.pk, key=intent.intent_key, nonce=intent.nonce, move=f"{old}>{to}", why=why
    )


def _record(intent: TxIntent, old: IntentState, to: IntentState, *, why: str, by: str) -> None:
    IntentTransition.objects.create(
        intent_id=intent.pk, from_state=old, to_state=to, why=why[:400], by=by[:64]
    )
    if intent.action in STAKING and to in reservations.SHAPING:
        reservations.follow(intent.pk, to)


def _tell_holding(intent: TxIntent, to: IntentState, reason: str, why: str) -> None:
    """Count and say that an intent is held now, or no longer: once each, and only if it was committed."""
    about = {"intent": intent.pk, "key": intent.intent_key, "action": intent.action, "why": why}
    if to is IntentState.HELD:
        label = reason if reason in HOLDING else OTHER_REASON

        def tell() -> None:
            meters.INTENTS_HELD.labels(label).inc()
            log.warning("intent held", reason=reason, **about)
    else:
        waited_for = str(intent.reason)
        label = waited_for if waited_for in HOLDING else OTHER_REASON

        def tell() -> None:
            if to is IntentState.EXPIRED:
                meters.HELD_EXPIRED.labels(label).inc()
            log.warning("held intent ended", became=to.value, waited_for=waited_for, **about)

    transaction.on_commit(tell)


@dataclass(frozen=True)
class Step:
    """One intent of many that go to the same state, with what is written beside it; all steps name the same fields."""

    intent: TxIntent
    why: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def move_all(steps: Sequence[Step], to: IntentState, *, by: str) -> None:
    """As `move`, for many intents in a handful of queries: all are moved, or none.

    For states on the way: those that end an order or its place are reached one by one. Raises IllegalMove and Stale
    as `move` does; the intents in memory are then not to be used any more, and within another transaction nothing of
    that one can be kept either.
    """
    assert to not in TERMINAL | RELEASING | {IntentState.FILLED, IntentState.VENUE_CANCELLED}
    if not steps:
        return
    from_states: dict[IntentState, list[Step]] = defaultdict(list)
    for step in steps:
        from_states[IntentState(step.intent.state)].append(step)
    # Some are written where it raises Stale, so without a savepoint the whole transaction goes back with them.
    with transaction.atomic(savepoint=False):
        for old, group in from_states.items():
            _move_group(old, group, to, by)
        if to in reservations.SHAPING:
            reservations.reopen([step.intent for step in steps if step.intent.action in STAKING])
    for old, group in from_states.items():
        for step in group:
            log.info(
                "intent",
                intent=step.intent.pk,
                key=step.intent.intent_key,
                nonce=step.intent.nonce,
                move=f"{old}>{to}",
                why=step.why,
            )


def _move_group(old: IntentState, group: Sequence[Step], to: IntentState, by: str) -> None:
    if to not in MOVES[old]:
        meters.ILLEGAL_TRANSITION.inc()
        raise IllegalMove(f"{len(group)} intents cannot move from {old} to {to}")
    for step in group:
        if IntentState.HELD in (old, to):
            _tell_holding(step.intent, to, str(step.fields.get("reason", "")), step.why)
        step.intent.state = to
        for name, value in step.fields.items():
            setattr(step.intent, name, value)
    changed = _write(group, old, to, by)
    if changed != len(group):
        raise Stale(f"{len(group) - changed} of {len(group)} intents are no longer {old}")


def _write(group: Sequence[Step], old: IntentState, to: IntentState, by: str) -> int:
    """State, fields and history of rows that still are in the old state, in one statement; returns how many were."""
    rows = [step.intent for step in group]
    fields: list[Any] = [TxIntent._meta.get_field(name) for name in group[0].fields]  # noqa: SLF001  (public, by its documentation)
    pairs = "".join(f", {field.column} = new.{field.column}" for field in fields)
    columns = ", ".join(["id", "why", *(field.column for field in fields)])
    kinds = ", ".join(["%s::bigint[]", "%s::varchar[]", *map(arrays.kind_of, fields)])
    values = [arrays.stored(field, [getattr(row, field.attname) for row in rows]) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH moved AS (UPDATE tx_intents"  # noqa: S608
            f" SET state = %s, updated_at = statement_timestamp(){pairs}"
            f" FROM unnest({kinds}) AS new ({columns})"
            " WHERE tx_intents.id = new.id AND tx_intents.state = %s AND tx_intents.settled_at IS NULL"
            " RETURNING tx_intents.id, new.why)"
            " INSERT INTO intent_transitions (intent_id, from_state, to_state, why, by)"
            " SELECT id, %s, %s, why, %s FROM moved ORDER BY id",
            [
                *(to.value, [row.pk for row in rows], [step.why[:400] for step in group], *values),
                *(old.value, old.value, to.value, by[:64]),
            ],
        )
        return int(cursor.rowcount)


def open_intent(
    *, key: str, by: str, state: IntentState = IntentState.PENDING, **fields: Any
) -> tuple[TxIntent, bool]:
    """Create the intent of this key, or return the one that exists; says whether it is new."""
    with transaction.atomic():
        intent, created = TxIntent.objects.get_or_create(
            intent_key=key,
            defaults={"state": state, **({"settled_at": Now()} if state in TERMINAL else {}), **fields},
        )
        if created:
            IntentTransition.objects.create(
                intent=intent,
                from_state="",
                to_state=state,
                why=str(fields.get("reason", ""))[:400],
                by=by[:64],
            )
    if created:
        log.info("intent", intent=intent.pk, key=key, move=f"new>{state}", why=fields.get("reason", ""))
    return intent, created
