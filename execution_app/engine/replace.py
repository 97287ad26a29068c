"""Another transaction for the same slot: a higher fee, or a cancel. The nonce is never given back."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from execution_app import meters
from execution_app.engine import signatures
from execution_app.engine.waiting import database_now
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.modes import Ruling
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.node.fees import Fee
from execution_app.node.node_errors import TOO_CHEAP
from execution_app.states import UNMINED, Action, IntentState, Mode, SendKind, SendOutcome

log = structlog.get_logger(__name__)
GWEI = 10**9
MAX_BUMPS = 10  # more only where the base fee has left it behind


def cancel_in_slot(intent: TxIntent, market: fees.Market, *, why: str) -> TxSend | None:
    """Sign an empty self-transfer for the intent's slot; the caller's transaction holds the wallet.

    None where a remote signer was asked for it, now or before.
    """
    if SignRequest.objects.filter(intent=intent, kind=SendKind.CANCEL).exists():
        return None
    last = intent.sends.order_by("-attempt").first()
    assert last is not None
    fee = fees.raised(Fee(int(last.max_fee_wei), int(last.tip_wei)), market, _environment_ceiling_wei())
    if fee is None:
        # No node has seen the older bytes if we come here below the ceiling's last eighth: any valid fee does.
        most_wei = _environment_ceiling_wei()
        fee = Fee(most_wei, min(int(last.tip_wei) + 1, most_wei))
    log.warning("slot is cancelled", intent=intent.pk, nonce=intent.nonce, why=why)
    return signatures.obtain(intent, last.attempt + 1, SendKind.CANCEL, fee, leaves=True)


def may_be_cancelled(intent: TxIntent, market: fees.Market) -> bool:
    """Whether the environment's ceiling leaves a fee that nodes take instead of the slot's newest."""
    last = intent.sends.order_by("-attempt").first()
    assert last is not None
    old = Fee(int(last.max_fee_wei), int(last.tip_wei))
    return fees.raised(old, market, _environment_ceiling_wei()) is not None


def ceiling_wei(intent: TxIntent) -> int:
    """The highest fee per gas of the intent's order: the environment's ceiling and its own cost, whichever is lower.

    Where orders are cancelled at their ceiling, opens leave room above it for that cancel.
    """
    environment = settings.ENVIRONMENT
    found_wei = fees.ceiling(
        _environment_ceiling_wei(),
        None if intent.max_cost_wei is None else int(intent.max_cost_wei),
        value_wei=int(intent.value_wei or 0),
        gas_limit=int(intent.gas_limit or 0),
        l1_fee_wei=int(intent.l1_fee_wei),
    )
    if environment.at_fee_ceiling == "cancel" and intent.action == Action.OPEN:
        return min(found_wei, fees.with_room_to_cancel(_environment_ceiling_wei()))
    return found_wei


def replace(wallet_id: int, market: fees.Market, consumed: int) -> TxSend | None:
    """Raise the fee of the lowest unmined slot when it is stuck or a person wants it; returns the new send, not yet offered.

    `consumed` is the chain's count for the wallet: only the lowest unconsumed
    nonce is raised, since those behind it wait for it anyway. With ENABLE_RBF=false no
    fee is raised, but bytes that no node will ever take are still cancelled. A remote
    signer is only asked here, and None returned.
    """
    if not _may_be_due(wallet_id, consumed):
        return None
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        ruling = ruling_now()
        intent = TxIntent.objects.filter(wallet=wallet, nonce=consumed, state__in=sorted(UNMINED)).first()
        if intent is None or wallet.halted_reason:
            return None
        last = intent.sends.order_by("-attempt").first()
        asked = intent.cancel_asked_at is not None and last is not None and last.kind == SendKind.CANCEL
        if (ruling.emergency_stop or ruling.mode is not Mode.LIVE) and not asked:
            return None  # under a stop only a cancel that a person asked for is raised
        if last is None or intent.state == IntentState.SIGNED:
            return None
        stuck = _is_stuck(last)
        if not stuck and not (is_hurried(intent, last) and last.held_at is not None):
            return None
        # Once for each send, however long it stays so and whether or not it may be replaced.
        if stuck and TxSend.objects.filter(pk=last.pk, stuck_at=None).update(stuck_at=Now()):
            transaction.on_commit(meters.TX_STUCK.inc)
        if last.outcome == SendOutcome.INVALID_PERMANENT and last.kind != SendKind.CANCEL:
            # A higher fee would not help, and whatever is behind this slot waits for it, exits too.
            return cancel_in_slot(intent, market, why="no node will ever take these bytes")
        asked_already = SignRequest.objects.filter(intent=intent).exists()
        if _is_at_its_most(last, market) or not settings.ENVIRONMENT.enable_rbf or asked_already:
            return None
        return _raise(intent, last, ruling, market, stuck=stuck)


def _is_at_its_most(last: TxSend, market: fees.Market) -> bool:
    """Whether it is raised no more: a fee below the base fee is in no block, and whatever is behind it would wait for ever."""
    return last.attempt >= MAX_BUMPS and int(last.max_fee_wei) >= market.base_fee_wei


def is_hurried(intent: TxIntent, last: TxSend) -> bool:
    """Whether a person wants the slot's newest bytes replaced before their time; what replaces them uses it up."""
    return intent.speed_up_asked_at is not None and intent.speed_up_asked_at > last.signed_at


def has_room(intent: TxIntent, last: TxSend) -> bool:
    """Whether the ceiling leaves a fee that nodes take instead of these bytes, in the cheapest of markets."""
    old = Fee(int(last.max_fee_wei), int(last.tip_wei))
    bound_wei = _environment_ceiling_wei() if last.kind == SendKind.CANCEL else ceiling_wei(intent)
    return fees.raised(old, fees.Market(0, 0), bound_wei) is not None


def _raise(
    intent: TxIntent, last: TxSend, ruling: Ruling, market: fees.Market, *, stuck: bool
) -> TxSend | None:
    """What leaves in place of the slot's newest bytes, if anything may."""
    kind = SendKind.CANCEL if last.kind == SendKind.CANCEL else SendKind.BUMP
    departure = _departure(intent, ruling) if kind is SendKind.BUMP else Departure.LEAVE
    if departure is Departure.CANCEL:
        return cancel_in_slot(intent, market, why="it may no longer leave")
    if departure is Departure.PARK:
        return None
    bound_wei = _environment_ceiling_wei() if kind is SendKind.CANCEL else ceiling_wei(intent)
    fee = fees.raised(Fee(int(last.max_fee_wei), int(last.tip_wei)), market, bound_wei)
    if fee is None:
        # Whoever wants an order sooner does not want it cancelled.
        return _at_ceiling(intent, last, market) if stuck else None
    send = signatures.obtain(intent, last.attempt + 1, kind, fee, leaves=True)
    if send is not None:
        facts = {"intent": intent.pk, "nonce": intent.nonce, "attempt": send.attempt}

        def tell() -> None:
            meters.RBF_ATTEMPT.inc()
            log.info("replaced by fee", max_fee_wei=fee.max_fee_wei, **facts)

        transaction.on_commit(tell)
    return send


def _departure(intent: TxIntent, ruling: Ruling) -> Departure:
    """Bytes that no node is known to hold have not left: a higher fee may make them the first that do."""
    if intent.sends.filter(held_at__isnull=False).exists():
        return Departure.LEAVE
    if intent.cancel_asked_at is not None:
        return Departure.CANCEL
    now = database_now()
    expired = intent.expires_at is not None and intent.expires_at <= now
    return may_leave(intent, ruling, now, expired=expired)


def _at_ceiling(intent: TxIntent, last: TxSend, market: fees.Market) -> TxSend | None:
    """Nobody pays more for it: by policy an open is cancelled in its slot; all else is offered on as it is."""
    cancels = settings.ENVIRONMENT.at_fee_ceiling == "cancel" and intent.action == Action.OPEN
    if cancels and last.kind != SendKind.CANCEL and may_be_cancelled(intent, market):
        return cancel_in_slot(intent, market, why="its fee ceiling is reached")
    log.warning("fee ceiling reached", intent=intent.pk, nonce=intent.nonce, fee_wei=int(last.max_fee_wei))
    return None


def _may_be_due(wallet_id: int, consumed: int) -> bool:
    """Asked without the wallet, for which whoever places would wait at every look; who finds so asks again under it."""
    slot = TxIntent.objects.filter(wallet=wallet_id, nonce=consumed, state__in=sorted(UNMINED))
    stuck = Exists(TxSend.objects.filter(_stuck(), intent=OuterRef("pk")))
    return slot.filter(Q(speed_up_asked_at__isnull=False) | stuck).exists()


def _is_stuck(send: TxSend) -> bool:
    return TxSend.objects.filter(_stuck(), pk=send.pk).exists()


def _stuck() -> Q:
    """A node has held it for long, or refused it for its fee or for good; what nobody knows is only repeated."""
    before = Now() - timedelta(seconds=settings.ENVIRONMENT.bump_after_s)
    refused = Q(outcome__in=[*TOO_CHEAP, SendOutcome.INVALID_PERMANENT], offered_at__lt=before)
    # Since when it is held is ahead of us only where the clock was set back.
    held = Q(held_at__lt=before) | Q(held_at__gt=Now())
    return held | refused


def _environment_ceiling_wei() -> int:
    return int(settings.ENVIRONMENT.max_fee_per_gas_gwei * GWEI)
