"""Post stored messages: announced before, recorded after, the same bytes again without harm."""

import time
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Greatest, Now

from execution_app import meters
from execution_app.engine import increases, level_changes
from execution_app.engine.gateway import making
from execution_app.engine.waiting import BY, database_now
from execution_app.errors import Retryable, Stale
from execution_app.gate import limits
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.control import LEASE_S, Turn
from execution_app.models import VenueMessage, Wallet
from execution_app.moves import Step, move, move_all
from execution_app.node import gateway
from execution_app.node.gateway import Posted, UnknownOrderError
from execution_app.states import Action, IntentState, SendOutcome
from execution_app.venues import gateway as wire
from execution_app.venues import messages
from execution_app.venues.gateway import Event, Offer

log = structlog.get_logger(__name__)
BATCH = 16
ASKED = 32  # statuses in one look
LISTEN_S = 2.0  # of one look: who follows the chain asks, and the chain is followed again only afterwards
LEAVING = (IntentState.SIGNED, IntentState.SENDING, IntentState.PENDING_INCLUSION)


def post(wallet_id: int) -> int:
    """Post every message of the wallet that the gateway is not known to have, if it may leave; returns how many went.

    Safe to repeat: the same bytes have the same nonce, which the venue spends once.
    """
    begun_s = time.monotonic()
    leased = _lease(wallet_id)
    if not leased:
        return 0
    answers = gateway.post_all(
        [_offer(message) for message in leased],
        lambda: time.monotonic() - begun_s < LEASE_S - gateway.CONNECT_TIMEOUT_S,
    )
    posted = 0
    for message, answer in zip(leased, answers, strict=True):
        if answer is None:
            log.warning("not posted: the lease ran out, or the gateway rests", digest=message.digest)
            continue
        _record(message, answer)
        posted += 1
    return posted


def _offer(message: VenueMessage) -> Offer:
    content = bytes(message.content)
    read = messages.decode(making.KINDS[Action(message.intent.action)], content)
    return wire.offer(read, content, bytes(message.signature))


def _lease(wallet_id: int) -> list[VenueMessage]:
    """Announce what may be a first post: a stop that commits before this sees none, one after waits for it."""
    # What a block has passed unused waits for finality alone: however much of it an outage left, it is in nobody's way.
    unknown = VenueMessage.objects.filter(
        intent__wallet_id=wallet_id,
        intent__state__in=LEAVING,
        intent__settled_at=None,
        tracking_id="",
        unused_at_block=None,
    )
    if gateway.rests() or not unknown.exists():
        return []
    leaving: list[VenueMessage] = []
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return leaving
        ruling, now, mine = ruling_now(), database_now(), Turn()
        # Exits first, then in the order they were signed.
        waiting = unknown.select_related("intent__wallet", "intent__trader", "intent__position").order_by(
            "intent__action", "id"
        )
        with limits.read_once():
            for message in waiting[: 4 * BATCH]:
                if len(leaving) == BATCH or (leaving and mine.is_over()):
                    break
                intent = message.intent
                expired = intent.expires_at is not None and intent.expires_at <= now
                first = message.held_at is None
                departure = may_leave(intent, ruling, now, expired=expired and first)
                forbidden = first and (
                    level_changes.is_forbidden(intent, ruling) or increases.is_forbidden(intent)
                )
                if intent.cancel_asked_at is not None or forbidden or departure is not Departure.LEAVE:
                    # Nothing fills its place: unposted, it ends with its deadline.
                    if ruling.emergency_stop:
                        log.warning("parked: emergency stop", intent=intent.pk, digest=message.digest)
                elif _is_due(message, now):
                    leaving.append(message)
        signed = [one for one in leaving if one.intent.state == IntentState.SIGNED]
        move_all([Step(one.intent, one.digest) for one in signed], IntentState.SENDING, by=BY)
        VenueMessage.objects.filter(pk__in=[one.pk for one in leaving]).update(leased_at=Now())
    return leaving


def _is_due(message: VenueMessage, now: datetime) -> bool:
    """The timer runs from the last post, or from the lease of who died or is still at it; see `broadcast`.

    Where the last post lies ahead the lease alone counts.
    """
    leased, posted = message.leased_at, message.last_posted_at
    if leased is not None and (posted is None or posted < leased or posted > now):
        return abs(now - leased) > timedelta(seconds=LEASE_S)
    return posted is None or abs(now - posted) > timedelta(seconds=settings.ENVIRONMENT.rebroadcast_after_s)


def _record(message: VenueMessage, answer: Posted) -> None:
    row = VenueMessage.objects.filter(pk=message.pk)
    accepted = answer.outcome is SendOutcome.ACCEPTED
    fields: dict[str, object] = {}
    if accepted:
        fields = {"held_at": Coalesce("held_at", Now()), "tracking_id": answer.tracking_id, "last_seq": -1}
    said = answer.events[-1].words if answer.events else answer.detail
    with transaction.atomic():
        row.update(
            outcome=answer.outcome,
            posts=F("posts") + 1,
            posted_at=Coalesce("posted_at", Now()),
            # Never before the first post, which lies ahead where the clock was set back since.
            last_posted_at=Greatest(Now(), F("posted_at")),
            said=wire.plain(said),
            **fields,
        )
        if accepted:
            _move_on(message, answer.tracking_id)


def _move_on(message: VenueMessage, tracking_id: str) -> None:
    intent = message.intent
    if intent.state not in (IntentState.SIGNED, IntentState.SENDING):
        return  # posted anew after a reorg, or after the gateway forgot it
    try:
        with transaction.atomic():
            move(intent, IntentState.PENDING_INCLUSION, why=f"accepted as {tracking_id}", by=BY)
    except Stale:
        return  # the chain was faster than this answer
    if message.posted_at is None:
        age = database_now() - intent.accepted_at
        meters.SIGNAL_TO_BROADCAST.observe(age.total_seconds())


def listen() -> int:
    """Read what the gateway tells of accepted messages since the last time; returns how many events.

    For people alone: none of it moves an intent, so a gateway that is slow is asked about some, in turn. What it has
    forgotten is posted again, with the gate's leave.
    """
    begun_s = time.monotonic()
    due = Q(asked_at=None) | Q(asked_at__lt=Now() - timedelta(seconds=1))
    accepted = VenueMessage.objects.filter(due, intent__settled_at=None, intent__state__in=LEAVING).exclude(
        tracking_id=""
    )
    heard = 0
    for message in accepted.order_by(F("asked_at").asc(nulls_first=True), "id")[:ASKED]:
        if time.monotonic() - begun_s > LISTEN_S:
            break
        VenueMessage.objects.filter(pk=message.pk).update(asked_at=Now())
        try:
            events = gateway.status(message.tracking_id, message.last_seq)
        except UnknownOrderError:
            log.warning("the gateway has forgotten a message", digest=message.digest)
            forget(message)
            continue
        except Retryable as problem:
            log.warning("no status", digest=message.digest, problem=str(problem))
            break  # the others wait for the same gateway
        heard += _note(message, events)
    return heard


def forget(message: VenueMessage) -> None:
    """Take the gateway's name of it for void, so that the same bytes are posted again."""
    VenueMessage.objects.filter(pk=message.pk, tracking_id=message.tracking_id).update(
        tracking_id="", last_seq=-1
    )


def _note(message: VenueMessage, events: list[Event]) -> int:
    new = [event for event in events if event.seq > message.last_seq]
    if new:
        last = max(new, key=lambda event: event.seq)
        VenueMessage.objects.filter(pk=message.pk, tracking_id=message.tracking_id).update(
            last_seq=last.seq, said=last.words
        )
    return len(new)
