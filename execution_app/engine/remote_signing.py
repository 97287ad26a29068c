"""Signatures of a remote signer, made between two short commits.

The first commit gave the slot its nonce and left a request. Here requests are
leased under the gate, the signer is asked with no transaction open, and its
answers are stored under the gate again. So a stop either comes before the lease,
and the signer is not asked, or it waits for the lease and names it; what is
signed after it has returned is thrown away. A crash in between leaves a lease
that runs out, and the same slot is signed again: only stored bytes are ever
broadcast.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import meters
from execution_app.engine import reconcile, replace, signatures
from execution_app.engine.waiting import BY, database_now
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.control import LEASE_S
from execution_app.gate.modes import Ruling
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.moves import move
from execution_app.node import fees, signers
from execution_app.node.fees import Fee
from execution_app.states import UNMINED, Action, IntentState, Mode, Reason, SendKind

log = structlog.get_logger(__name__)
GWEI = 10**9
BATCH = 16
STORE_S = 0.5  # of a lease is kept for the second commit
# A signer that is away is asked again soon, then less often; one that refuses needs a person.
AWAY_S, AWAY_LIMIT_S, REFUSED_S = 0.5, 10.0, 30.0


@dataclass(frozen=True)
class _Leased:
    request_id: int
    lease: uuid.UUID
    slot: signers.Slot
    fee: Fee


@dataclass
class Signatures:
    """What was stored. `sends` are of slots that have left: the caller offers them, `begun_s` is their lease's beginning."""

    begun_s: float
    stored: int = 0
    sends: list[TxSend] = field(default_factory=list)


def sign_waiting(wallet_id: int, market: fees.Market | None) -> Signatures:
    """Have the wallet's open requests signed, as far as the gate lets them; safe to repeat and for two at once.

    With `market` the fee of a replacement that waited is brought up to date.
    """
    begun_s = time.monotonic()
    leased = _lease(wallet_id, market)
    if not leased:
        return Signatures(begun_s)
    answers = signers.sign_remotely([(one.slot, one.fee) for one in leased], begun_s + LEASE_S - STORE_S)
    found = _store(wallet_id, leased, answers, in_time=time.monotonic() - begun_s < LEASE_S)
    for answer in answers:
        if isinstance(answer, signers.NonceUsedError):
            reconcile.halt_wallet(Wallet.objects.get(pk=wallet_id), str(answer))
    return found


def _lease(wallet_id: int, market: fees.Market | None) -> list[_Leased]:
    """Announce what the signer will be asked: a stop that commits before this sees none, one after waits for it."""
    if not SignRequest.objects.filter(intent__wallet_id=wallet_id).exists():
        return []
    leased: list[_Leased] = []
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return []
        ruling, now = ruling_now(), database_now()
        for request in _open(wallet_id, now):
            intent = request.intent
            if intent.state not in UNMINED:
                request.delete()  # decided on the chain meanwhile
                continue
            kind = _kind(request, ruling, now)
            if kind is None:
                continue
            fee = _fee(request, market)
            lease = uuid.uuid4()
            SignRequest.objects.filter(pk=request.pk).update(
                kind=kind, max_fee_wei=fee.max_fee_wei, tip_wei=fee.tip_wei, leased_at=Now(), lease=lease
            )
            leased.append(_Leased(request.pk, lease, signatures.slot_of(intent, kind), fee))
    return leased


def _open(wallet_id: int, now: datetime) -> list[SignRequest]:
    # What lies ahead by more than it ever may is of before the clock was set back, and no slot waits until it has caught
    # up; of two who are asked for one signature, the one whose lease is gone throws its own away.
    free = Q(leased_at=None) | Q(leased_at__lt=now - timedelta(seconds=LEASE_S)) | Q(leased_at__gt=now)
    put_off = now + timedelta(seconds=REFUSED_S)
    due = Q(next_try_at=None) | Q(next_try_at__lte=now) | Q(next_try_at__gt=put_off)
    requests = SignRequest.objects.filter(free, due, intent__wallet_id=wallet_id)
    return list(requests.select_related("intent__wallet", "intent__trader").order_by("intent__nonce")[:BATCH])


def _kind(request: SignRequest, ruling: Ruling, now: datetime) -> SendKind | None:
    """What may be signed for the slot now, None where nothing may: asked before the signer is, and again before storing."""
    intent, kind = request.intent, SendKind(request.kind)
    asked = intent.cancel_asked_at is not None
    if intent.sends.filter(held_at__isnull=False).exists():
        # It has left: under a stop only a cancel that a person asked for replaces it.
        stopped = ruling.emergency_stop or ruling.mode is not Mode.LIVE
        return None if stopped and not (asked and kind is SendKind.CANCEL) else kind
    expired = intent.expires_at is not None and intent.expires_at <= now
    departure = may_leave(intent, ruling, now, expired=expired)
    if departure is Departure.PARK and (not asked or intent.action == Action.CLOSE):
        return None
    return SendKind.CANCEL if asked or departure is Departure.CANCEL else kind


def _fee(request: SignRequest, market: fees.Market | None) -> Fee:
    """As it was committed; of a replacement what the market asks now, where the ceiling lets it."""
    asked = Fee(int(request.max_fee_wei), int(request.tip_wei))
    last = request.intent.sends.order_by("-attempt").first()
    if last is None or market is None:
        return asked
    if request.kind == SendKind.CANCEL:
        ceiling_wei = int(settings.ENVIRONMENT.max_fee_per_gas_gwei * GWEI)
    else:
        ceiling_wei = replace.ceiling_wei(request.intent)
    return fees.raised(Fee(int(last.max_fee_wei), int(last.tip_wei)), market, ceiling_wei) or asked


def _store(
    wallet_id: int, leased: Sequence[_Leased], answers: Sequence[signers.Answer], *, in_time: bool
) -> Signatures:
    found = Signatures(time.monotonic())
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        ruling, now = ruling_now(), database_now()
        for one, answer in zip(leased, answers, strict=True):
            request = (
                SignRequest.objects.filter(pk=one.request_id, lease=one.lease)
                .select_related("intent__wallet", "intent__trader")
                .first()
            )
            if request is None:
                log.warning("lease of a signature ran out; it is not used", nonce=one.slot.nonce)
            elif not isinstance(answer, signers.Signed):
                _wait(request, answer)
            elif wallet.halted_reason or not in_time or _kind(request, ruling, now) is None:
                # Signed after a stop had begun: nobody keeps it, and the slot is signed again if it may be.
                words = "emergency stop" if ruling.emergency_stop else ruling.reason or wallet.halted_reason
                log.warning("signature is thrown away", nonce=one.slot.nonce, why=words)
                _release(request)
            else:
                _keep(request, one, answer, found)
    return found


def _keep(request: SignRequest, one: _Leased, signed: signers.Signed, found: Signatures) -> None:
    intent, kind = request.intent, SendKind(request.kind)
    request.delete()
    if intent.state not in UNMINED:
        return  # decided on the chain meanwhile
    has_left = intent.sends.filter(held_at__isnull=False).exists()
    send = signatures.store(intent, request.attempt, kind, one.fee, signed, leaves=has_left)
    found.stored += 1
    if intent.state == IntentState.RESERVED:
        move(intent, IntentState.SIGNED, why=send.tx_hash, by=BY, reason="", reason_detail="")
    elif intent.reason in (Reason.SIGNER_AWAY, Reason.SIGNER_REFUSED):
        TxIntent.objects.filter(pk=intent.pk).update(reason="", reason_detail="", updated_at=Now())
    if kind is SendKind.BUMP:
        meters.RBF_ATTEMPT.inc()
    if has_left:
        found.sends.append(send)


def _wait(request: SignRequest, problem: Exception) -> None:
    """The slot stays as it is and says why; its nonce is never given back."""
    refused = not isinstance(problem, signers.SignerAwayError)
    later_s = REFUSED_S if refused else min(AWAY_S * 2 ** min(request.tries, 10), AWAY_LIMIT_S)
    _release(request, tries=request.tries + 1, next_try_at=Now() + timedelta(seconds=later_s))
    reason = Reason.SIGNER_REFUSED if refused else Reason.SIGNER_AWAY
    TxIntent.objects.filter(pk=request.intent_id).update(
        reason=reason.value, reason_detail=str(problem)[:400], updated_at=Now()
    )
    tell = log.error if refused else log.warning
    tell(
        "a slot waits for its signature",
        intent=request.intent_id,
        nonce=request.intent.nonce,
        why=str(problem),
    )


def _release(request: SignRequest, **fields: object) -> None:
    SignRequest.objects.filter(pk=request.pk).update(leased_at=None, lease=None, **fields)
