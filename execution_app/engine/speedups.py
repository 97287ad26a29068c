"""A replacement that a person wants before its time: the fee policy's next step, and nothing else.

The request is a time on the intent's row. `engine.replace`, which alone raises
fees, takes it for a slot whose newest bytes are older than the request, so
that the replacement itself uses it up. All that binds a replacement binds this one.
"""

from collections.abc import Iterator

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.engine import replace
from execution_app.errors import Refused, Stale
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.states import UNMINED

log = structlog.get_logger(__name__)


def request(
    key: str, attempt: int, *, by: str, reason: str, origin: AuditOrigin = AuditOrigin.COMMAND
) -> TxSend:
    """Ask that the intent's transaction number `attempt`, its newest, is replaced at once; returns that one.

    Signed and sent at the engine's next look at the chain. Raises Refused where nothing may be raised, Stale where
    another transaction has taken that one's place meanwhile.
    """
    if not by.strip() or not reason.strip():
        raise Refused("whoever speeds up has to be named, with a reason")
    with transaction.atomic(durable=True):
        intent = TxIntent.objects.filter(intent_key=key).first()
        if intent is None or intent.wallet_id is None:
            raise Refused("no intent of that key has a slot")
        # Whoever replaces holds the wallet, so what is the newest stays so until this is committed.
        Wallet.objects.select_for_update(no_key=True).get(pk=intent.wallet_id)
        intent.refresh_from_db()
        problem = obstacle(intent)
        if problem:
            raise Refused(problem)
        last = newest(intent)
        assert last is not None
        if last.attempt != attempt:
            raise Stale(f"transaction {last.attempt} has taken the place of transaction {attempt} meanwhile")
        before = {"attempt": attempt, "hash": last.tx_hash, "max_fee_wei": str(last.max_fee_wei)}
        TxIntent.objects.filter(pk=intent.pk).update(speed_up_asked_at=Now(), updated_at=Now())
        who = audit.by(by, origin)
        audit.record(AuditAction.SPEED_UP_ASKED, key, reason=reason, before=before, who=who)
    log.warning("speed-up asked for", intent=intent.pk, nonce=intent.nonce, attempt=attempt, by=by)
    return last


def newest(intent: TxIntent) -> TxSend | None:
    """The slot's newest transaction."""
    return intent.sends.order_by("-attempt").first()


def obstacle(intent: TxIntent) -> str:
    """Why its fee cannot be raised now; blank where it can. What only the market tells is seen when it is signed."""
    return next(_obstacles(intent, newest(intent)), "")


def _obstacles(intent: TxIntent, last: TxSend | None) -> Iterator[str]:
    """The first one counts: those behind it are asked only where it is none."""
    if intent.state not in UNMINED or intent.settled_at is not None or last is None:
        yield f"only what has left and is not mined can be sped up: it is {intent.state}"
        return
    if last.held_at is None:
        yield "no node is known to hold its newest bytes; the same are offered again until one does"
    if not settings.ENVIRONMENT.enable_rbf:
        yield "ENABLE_RBF is false: no fee is raised"
    if intent.wallet is not None and intent.wallet.halted_reason:
        yield f"its wallet is halted: {intent.wallet.halted_reason}"
    lower = TxIntent.objects.filter(
        wallet=intent.wallet_id, nonce__lt=intent.nonce, state__in=sorted(UNMINED), settled_at=None
    )
    first = lower.order_by("nonce").first()
    if first is not None:
        yield f"it waits behind {first.intent_key}, whose fee decides: speed that up"
    if last.attempt >= replace.MAX_BUMPS:
        yield f"it was replaced {last.attempt} times: more often only by itself, where the base fee is above what it pays"
    if SignRequest.objects.filter(intent=intent).exists():
        yield "its signer was asked for a replacement already"
    if replace.is_hurried(intent, last):
        yield "its replacement was asked for already"
    if not replace.has_room(intent, last):
        yield "its fee ceiling leaves no room for a replacement"
