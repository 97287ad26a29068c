"""Cancels that are asked for, of unmined opens and changes of margin by a person, and of closes that lost their trade: slots are filled, also under a stop."""

import structlog
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.engine.replace import cancel_in_slot, may_be_cancelled
from execution_app.errors import Refused
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.states import UNMINED, Action, IntentState, SendKind

log = structlog.get_logger(__name__)
BATCH = 50
TOLD = 20  # keys named in the audit log


def request(*, by: str, key: str | None = None, origin: AuditOrigin = AuditOrigin.COMMAND) -> list[str]:
    """Ask for the cancel of every open, and change of margin, that owns a slot and is not mined, or of the one of this key; returns their keys.

    The engine signs and sends the cancels; whichever of order and cancel is mined
    decides. Exits are left as they are.
    """
    opens = (Action.OPEN, Action.MARGIN)
    pending = TxIntent.objects.filter(action__in=opens, state__in=sorted(UNMINED), settled_at=None)
    if key is not None:
        pending = pending.filter(intent_key=key, cancel_asked_at=None)
    with transaction.atomic(durable=True):
        keys = list(pending.order_by("id").values_list("intent_key", flat=True))
        TxIntent.objects.filter(intent_key__in=keys, cancel_asked_at=None).update(cancel_asked_at=Now())
        if keys:
            told = {"count": len(keys), "first": keys[:TOLD]}
            who = audit.by(by, origin)
            audit.record(AuditAction.PENDING_CANCELLED, "unmined opens", after=told, who=who)
    if keys:
        log.warning("cancels asked for", by=by, count=len(keys))
    return keys


def sign(wallet_id: int, market: fees.Market) -> list[TxSend]:
    """Sign the cancels asked for of slots that nodes hold; returns the new sends, not yet offered.

    Slots of which no node is known to hold anything get theirs before their first offer.
    """
    signed: list[TxSend] = []
    asked = TxIntent.objects.filter(wallet=wallet_id, cancel_asked_at__isnull=False, settled_at=None).filter(
        state__in=[IntentState.SENDING, IntentState.PENDING_INCLUSION], sends__held_at__isnull=False
    )
    uncancelled = asked.exclude(pk__in=TxSend.objects.filter(kind=SendKind.CANCEL).values("intent"))
    # Without the wallet, for which whoever places would wait at every look; asked again under it.
    if not uncancelled.exists():
        return signed
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return signed
        for intent in uncancelled.distinct().order_by("nonce")[:BATCH]:
            if not may_be_cancelled(intent, market):
                log.warning("slot cannot be cancelled yet: fee ceiling", intent=intent.pk, nonce=intent.nonce)
                continue
            try:
                wanted = (
                    "a person asked for it" if intent.action == Action.OPEN else "its trade has lost its slot"
                )
                send = cancel_in_slot(intent, market, why=wanted)
            except Refused as error:
                log.warning("slot cannot be cancelled", intent=intent.pk, problem=str(error))
                continue
            if send is not None:
                signed.append(send)
    return signed
