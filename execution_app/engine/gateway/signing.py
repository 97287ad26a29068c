"""Messages that a signer over a network signs, between two short commits, as slots are (`engine/remote_signing.py`).

The first commit fixed the message and left it unsigned. Here it is leased under the gate, the signer is asked with no
transaction open, and the answer is stored under the gate again: a stop either comes before the lease, or waits for it
and names it, and what is signed after it has returned is thrown away.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.engine import increases, level_changes
from execution_app.engine.gateway import making
from execution_app.engine.waiting import BY, database_now
from execution_app.gate import limits
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.control import LEASE_S
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, VenueMessage, Wallet
from execution_app.moves import move
from execution_app.node import signers
from execution_app.states import Action, IntentState, Reason
from execution_app.venues import messages

log = structlog.get_logger(__name__)
BATCH = 16
STORE_S = 0.5  # of a lease is kept for the second commit
# A signer that is away is asked again soon, then less often; one that refuses needs a person.
AWAY_S, AWAY_LIMIT_S, REFUSED_S = 0.5, 10.0, 30.0


@dataclass(frozen=True)
class _Leased:
    message_id: int
    lease: uuid.UUID
    letter: signers.Letter


def sign_waiting(wallet_id: int) -> int:
    """Have the wallet's unsigned messages signed, as far as the gate lets them; returns how many were. Safe to repeat."""
    begun_s = time.monotonic()
    leased = _lease(wallet_id)
    if not leased:
        return 0
    answers = signers.sign_letters_remotely([one.letter for one in leased], begun_s + LEASE_S - STORE_S)
    return _store(wallet_id, leased, answers, in_time=time.monotonic() - begun_s < LEASE_S)


def _lease(wallet_id: int) -> list[_Leased]:
    """Announce what the signer will be asked: a stop that commits before this sees none, one after waits for it."""
    unsigned = VenueMessage.objects.filter(
        intent__wallet_id=wallet_id, intent__state=IntentState.RESERVED, signature=b""
    )
    leased: list[_Leased] = []
    if not unsigned.exists():
        return leased
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return leased
        ruling, now = ruling_now(), database_now()
        # What lies ahead is of before the clock was set back; see `engine/remote_signing.py`.
        leased_before = Q(sign_leased_at__lt=now - timedelta(seconds=LEASE_S)) | Q(sign_leased_at__gt=now)
        free = Q(sign_leased_at=None) | leased_before
        put_off = now + timedelta(seconds=REFUSED_S)
        due = Q(sign_after=None) | Q(sign_after__lte=now) | Q(sign_after__gt=put_off)
        # What is over already ends with its deadline's block: it must not stand before what may still go.
        alive = Q(deadline_ms__gt=int(now.timestamp() * 1000), intent__cancel_asked_at=None)
        waiting = unsigned.filter(free, due, alive).select_related(
            "intent__wallet", "intent__trader", "intent__position"
        )
        with limits.read_once():
            for message in waiting.order_by("intent__action", "id")[:BATCH]:
                if _may_be_signed(message, ruling, now):
                    lease = uuid.uuid4()
                    VenueMessage.objects.filter(pk=message.pk).update(sign_leased_at=Now(), sign_lease=lease)
                    leased.append(_Leased(message.pk, lease, _letter(message)))
    return leased


def _may_be_signed(message: VenueMessage, ruling: Ruling, now: datetime) -> bool:
    """Asked before the signer is, and again before its answer is kept."""
    intent = message.intent
    if intent.cancel_asked_at is not None or message.deadline_ms <= now.timestamp() * 1000:
        return False  # it ends with its deadline
    if level_changes.is_forbidden(intent, ruling) or increases.is_forbidden(intent):
        return False
    expired = intent.expires_at is not None and intent.expires_at <= now
    return may_leave(intent, ruling, now, expired=expired) is Departure.LEAVE


def _letter(message: VenueMessage) -> signers.Letter:
    intent = message.intent
    assert intent.trader is not None
    read = messages.decode(making.KINDS[Action(intent.action)], bytes(message.content))
    return signers.Letter(making.domain(), message.signer, intent.trader.address, intent.intent_key, read)


def _store(
    wallet_id: int, leased: Sequence[_Leased], answers: Sequence[signers.LetterAnswer], *, in_time: bool
) -> int:
    stored = 0
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        ruling, now = ruling_now(), database_now()
        for one, answer in zip(leased, answers, strict=True):
            message = (
                VenueMessage.objects.filter(pk=one.message_id, sign_lease=one.lease)
                .select_related("intent__wallet", "intent__trader")
                .first()
            )
            if message is None or message.intent.state != IntentState.RESERVED:
                log.warning("lease of a message's signature ran out; it is not used", message=one.message_id)
            elif not isinstance(answer, bytes):
                _wait(message, answer)
            elif wallet.halted_reason or not in_time or not _may_be_signed(message, ruling, now):
                # Signed after a stop had begun: nobody keeps it, and the same message is signed again if it may be.
                words = "emergency stop" if ruling.emergency_stop else ruling.reason or wallet.halted_reason
                log.warning("signature is thrown away", digest=message.digest, why=words)
                _release(message)
            else:
                VenueMessage.objects.filter(pk=message.pk).update(
                    signature=answer, sign_leased_at=None, sign_lease=None
                )
                told = {"reason": "", "reason_detail": ""}
                move(message.intent, IntentState.SIGNED, why=message.digest, by=BY, **told)
                stored += 1
    return stored


def _wait(message: VenueMessage, problem: Exception) -> None:
    """It stays as it is and says why, until its deadline."""
    refused = not isinstance(problem, signers.SignerAwayError)
    later_s = REFUSED_S if refused else min(AWAY_S * 2 ** min(message.sign_tries, 10), AWAY_LIMIT_S)
    tries = message.sign_tries + 1
    _release(message, sign_tries=tries, sign_after=Now() + timedelta(seconds=later_s))
    reason = Reason.SIGNER_REFUSED if refused else Reason.SIGNER_AWAY
    TxIntent.objects.filter(pk=message.intent_id).update(
        reason=reason.value, reason_detail=str(problem)[:400], updated_at=Now()
    )
    tell = log.error if refused else log.warning
    tell(
        "a message waits for its signature", intent=message.intent_id, digest=message.digest, why=str(problem)
    )


def _release(message: VenueMessage, **fields: object) -> None:
    VenueMessage.objects.filter(pk=message.pk).update(sign_leased_at=None, sign_lease=None, **fields)
