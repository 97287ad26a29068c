"""What waits without a nonce, decided by a person."""

from typing import Any

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.book import positions
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.gate import approval, control, loosening
from execution_app.models import TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import Action, IntentState, Mode, PositionState, Reason

log = structlog.get_logger(__name__)
FOR_THE_MODE = (Reason.MODE_DEGRADED, Reason.LIVE_POSITION_IN_DRY)


def reject(key: str, *, by: str, reason: str, origin: AuditOrigin = AuditOrigin.COMMAND) -> TxIntent:
    """End a held intent. Raises TxIntent.DoesNotExist where none of that key is held, Stale where it moved on."""
    with transaction.atomic(durable=True):
        intent = TxIntent.objects.get(intent_key=key, state=IntentState.HELD)
        if intent.wallet_id is not None:
            # Whoever places it holds the wallet.
            Wallet.objects.select_for_update(no_key=True).get(pk=intent.wallet_id)
        why = {"reason": Reason.OPERATOR_REJECTED.value, "reason_detail": reason[:400]}
        before = {"state": intent.state, "reason": intent.reason}
        move(intent, IntentState.REJECTED, why=reason, by=by, **why)
        after = {"state": intent.state, "reason": intent.reason}
        who = audit.by(by, origin)
        audit.record(AuditAction.INTENT_DECIDED, key, reason=reason, before=before, after=after, who=who)
    return intent


def approve(
    key: str, *, by: str, reason: str, code: str, origin: AuditOrigin = AuditOrigin.COMMAND
) -> TxIntent:
    """Let one held close of a live position go although Redis is not well; for approval.UNUSED_S seconds.

    Loosens, so it needs a reason and a second factor. Nothing is executed here: whoever places the intent asks
    the gate again. Raises Refused, and Retryable while the audit log is not to be had.
    """
    if not by.strip():
        raise Refused("whoever approves has to be named")
    with transaction.atomic(durable=True):
        _find(key)  # no code is used up for what is refused anyway
    loosening.permit(by=by, reason=reason, code=code)
    try:
        with transaction.atomic(durable=True):
            intent = _find(key)
            before = _told(intent)
            TxIntent.objects.filter(pk=intent.pk, state=IntentState.HELD).update(
                approved_at=Now(), approved_by=by[:150], next_try_at=None, updated_at=Now()
            )
            intent.refresh_from_db()
            # A stop waits behind this: where the log is not free it is given up, and nothing is approved.
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [audit.PATIENCE])
            after, who = _told(intent), audit.by(by, origin)
            audit.record(AuditAction.INTENT_DECIDED, key, reason=reason, before=before, after=after, who=who)
    except OperationalError as problem:
        if isinstance(problem.__cause__, LockNotAvailable):
            raise Retryable("the audit log is busy, so nothing was approved; try again") from problem
        raise
    log.warning("held intent approved", intent=intent.pk, key=key, by=by, reason=reason)
    return intent


def _find(key: str) -> TxIntent:
    """The intent of this key under its wallet's lock, if it may be approved; nothing can be restricted meanwhile."""
    intent = TxIntent.objects.filter(intent_key=key).first()
    if intent is None:
        raise Refused(f"no intent is called {key}")
    if intent.action == Action.OPEN:
        raise Refused(f"{key} is an open: an open is never approved, it waits for the mode until its max lag")
    if intent.action != Action.CLOSE:
        raise Refused(f"{key} is no close: nothing else is approved")
    if intent.wallet_id is None:
        raise Refused(f"{key} has no wallet")
    wallet = Wallet.objects.select_for_update(no_key=True).get(pk=intent.wallet_id)
    active = control.hold_still()
    intent = TxIntent.objects.select_related("position").get(pk=intent.pk)
    if intent.state != IntentState.HELD:
        raise Refused(f"{key} is not held: it is {intent.state} {intent.reason}".rstrip())
    if problem := approval.obstacle(active, wallet.chain_id) or wallet.halted_reason:
        raise Refused(problem)
    if intent.reason not in FOR_THE_MODE:
        raise Refused(f"{key} waits for {intent.reason}, not for the mode: {intent.reason_detail}")
    if not _is_of_a_live_position(intent):
        raise Refused(f"{key} closes no live position")
    _refuse_twice(intent)
    return intent


def _is_of_a_live_position(intent: TxIntent) -> bool:
    bound = intent.position
    if bound is not None and bound.mode == Mode.LIVE:
        return PositionState(bound.state) is PositionState.OPEN
    return positions.closable(intent, Mode.LIVE).exists()


def _refuse_twice(intent: TxIntent) -> None:
    if intent.approved_at is None:
        return
    until = intent.approved_at + approval.UNUSED
    if until > database_now():
        raise Refused(
            f"{intent.intent_key} is approved by {intent.approved_by} until {until:%H:%M:%SZ} already"
        )


def _told(intent: TxIntent) -> dict[str, Any]:
    approved = intent.approved_at.isoformat() if intent.approved_at else None
    return {
        "state": intent.state,
        "reason": intent.reason,
        "approved_at": approved,
        "approved_by": intent.approved_by,
    }
