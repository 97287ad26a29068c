"""What waits without a nonce, decided by a person."""

from django.db import transaction

from execution_app import audit
from execution_app.models import TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import AuditAction, AuditOrigin, IntentState, Reason


def reject(key: str, *, by: str, reason: str) -> TxIntent:
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
        who = audit.by(by, AuditOrigin.COMMAND)
        audit.record(AuditAction.INTENT_DECIDED, key, reason=reason, before=before, after=after, who=who)
    return intent
