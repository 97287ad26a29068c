"""Offer stored bytes to the nodes: leased before, recorded after, repeated without harm."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from execution_app import meters
from execution_app.engine import reconcile, signatures
from execution_app.engine.replace import cancel_in_slot
from execution_app.engine.waiting import BY, database_now
from execution_app.errors import Refused, Stale
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.control import LEASE_S, Turn
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.moves import move
from execution_app.node import fees, node_errors, rpc, signers
from execution_app.states import IntentState, Mode, SendKind, SendOutcome

log = structlog.get_logger(__name__)
BATCH = 50
BEFORE_ALL = -1  # nonces begin at 0


def broadcast(wallet_id: int, market: fees.Market | None = None) -> int:
    """Offer every slot of the wallet of which no node is known to hold anything, if it may leave; returns how many.

    Safe to repeat: the same bytes have the same hash. `market` is what a cancel
    would be priced with; without one, slots to be cancelled wait.
    """
    offered = 0
    after: int | None = BEFORE_ALL
    while after is not None:
        begun_s = time.monotonic()
        leased, after = _lease(wallet_id, market, after)
        offer(leased, begun_s)
        offered += len(leased)
    return offered


def latest_send(intent: TxIntent) -> TxSend:
    """The newest bytes of a slot; only these are offered, so a cancelled order never leaves again."""
    send = intent.sends.order_by("-attempt").first()
    assert send is not None
    return send


def _lease(
    wallet_id: int, market: fees.Market | None, after: int = BEFORE_ALL
) -> tuple[list[TxSend], int | None]:
    """Announce what may be a first broadcast: a stop that commits before this sees none, one after waits for it.

    Looks at the slots after a nonce and returns the last one it came to, where its turn was over before all were
    looked at. The gate is asked again at every offer until a node is known to hold the
    slot: what all nodes refused a minute ago is no order that has left.
    """
    leased: list[TxSend] = []
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return leased, None
        ruling = ruling_now()
        mine = Turn()
        now = database_now()
        last: int | None = None
        for intent in _unheld(wallet_id, now, after):
            if last is not None and mine.is_over():
                return leased, last
            last = intent.nonce
            if (send := _let_go(intent, ruling, now, market)) is not None:
                leased.append(send)
    return leased, None


def _let_go(intent: TxIntent, ruling: Ruling, now: datetime, market: fees.Market | None) -> TxSend | None:
    """The bytes of a slot that may leave, announced; None where it stays."""
    expired = intent.expires_at is not None and intent.expires_at <= now
    departure = may_leave(intent, ruling, now, expired=expired)
    send = latest_send(intent)
    if intent.cancel_asked_at is not None:
        departure = Departure.CANCEL
    if departure is Departure.PARK:
        _log_parked(intent, ruling)
        return None
    if departure is Departure.CANCEL and send.kind != SendKind.CANCEL:
        if market is None:
            return None
        try:
            cancel = cancel_in_slot(intent, market, why="it may no longer leave")
        except Refused as error:
            # Such as a lost key; what is signed already, exits first of all, still leaves.
            log.warning("slot cannot be cancelled", intent=intent.pk, problem=str(error))
            return None
        if cancel is None:
            return None  # a remote signer is asked
        send = cancel
    if intent.state == IntentState.SIGNED:
        move(intent, IntentState.SENDING, why=send.tx_hash, by=BY)
    TxSend.objects.filter(pk=send.pk).update(leased_at=Now())
    return send


def _unheld(wallet_id: int, now: datetime, after: int) -> list[TxIntent]:
    """Slots of which no node is known to hold anything: signed ones, and those due for another try."""
    held = TxSend.objects.filter(intent=OuterRef("pk"), held_at__isnull=False)
    intents = (
        TxIntent.objects.filter(
            ~Exists(held),
            state__in=[IntentState.SIGNED, IntentState.SENDING],
            wallet_id=wallet_id,
            nonce__gt=after,
        )
        .select_related("wallet", "trader")
        .order_by("nonce")[: 2 * BATCH]
    )
    due = [i for i in intents if i.state == IntentState.SIGNED or _is_due(latest_send(i), now)]
    return due[:BATCH]


def _log_parked(intent: TxIntent, ruling: Ruling) -> None:
    if ruling.emergency_stop:
        log.warning("parked: emergency stop", intent=intent.pk, nonce=intent.nonce)


def offer(sends: Sequence[TxSend], begun_s: float) -> None:
    """Give the bytes to every endpoint and record what they said. No transaction is open meanwhile.

    The signer's journal knows of the order before the first node does.

    `begun_s` is time.monotonic() from before the sends were leased. Whoever
    sets a stop waits for leases only while they last, so bytes that no node is
    known to hold are not given to one later than that.
    """
    sends = _bound(sends)
    for send, said in zip(sends, _ask_endpoints(sends, begun_s), strict=True):
        if said:
            record(send, node_errors.best(said))
        else:
            log.warning("lease ran out before a node was asked", hash=send.tx_hash)


def _bound(sends: Sequence[TxSend]) -> list[TxSend]:
    """Those that have left, and those whose nonce the journal has bound to their order; another order's halts the wallet."""
    new = [send for send in sends if send.held_at is None]
    if not new:
        return list(sends)
    try:
        answers = signers.bind([signatures.slot_of(send.intent, SendKind.EXEC) for send in new])
    except signers.JournalUnusableError as problem:
        log.error("nothing new leaves", problem=str(problem))  # noqa: TRY400
        return [send for send in sends if send.held_at is not None]
    barred = set()
    for send, used in zip(new, answers, strict=True):
        if used is not None:
            assert send.intent.wallet is not None
            barred.add(send.pk)
            reconcile.halt_wallet(send.intent.wallet, str(used))
    return [send for send in sends if send.pk not in barred]


def _ask_endpoints(sends: Sequence[TxSend], begun_s: float) -> list[list[SendOutcome]]:
    said: list[list[SendOutcome]] = [[] for _ in sends]
    for endpoint in rpc.awake():
        leased = _is_leased(begun_s)
        asked = [at for at, send in enumerate(sends) if leased or send.held_at is not None]
        calls: list[rpc.Call] = [
            ("eth_sendRawTransaction", ("0x" + bytes(sends[at].raw).hex(),)) for at in asked
        ]
        held = all(sends[at].held_at is not None for at in asked)
        answers = endpoint.offer(calls, lambda held=held: held or _is_leased(begun_s))  # type: ignore[misc]
        for at, answer in zip(asked, _of_our_chain(endpoint, answers), strict=True):
            if answer is not None:
                said[at].append(_outcome(answer, sends[at], endpoint.position))
    return said


def _is_leased(begun_s: float) -> bool:
    return time.monotonic() - begun_s < LEASE_S - rpc.CONNECT_TIMEOUT_S


def _of_our_chain(endpoint: rpc.Endpoint, answers: list[Any]) -> list[Any]:
    """What was said, unless it was perhaps said by a node of another chain: then nobody knows.

    Asked after the offer, since bytes are good for one chain alone and must not wait.
    """
    problem = next((one for one in answers if isinstance(one, rpc.RpcFault)), None)
    if problem is not None:
        log.warning("no answer to a broadcast", endpoint=endpoint.position, fault=str(problem))
    if all(answer is None or isinstance(answer, rpc.RpcFault) for answer in answers):
        return answers
    try:
        endpoint.confirm()
    except (rpc.RpcFault, rpc.NodeError) as unsure:
        log.warning("not known to be on our chain", endpoint=endpoint.position, problem=str(unsure))
        fault = rpc.RpcFault(str(unsure))
        return [None if answer is None else fault for answer in answers]
    return answers


def _outcome(answer: object, send: TxSend, position: int) -> SendOutcome:
    if isinstance(answer, rpc.RpcFault):
        return SendOutcome.UNKNOWN
    if isinstance(answer, rpc.NodeError):
        return _refusal(answer, send, position)
    if str(answer).lower() != send.tx_hash:
        log.error("a node answered another hash", hash=send.tx_hash, answered=str(answer)[:80])
        return SendOutcome.UNKNOWN
    return SendOutcome.ACCEPTED


def _refusal(error: rpc.NodeError, send: TxSend, position: int) -> SendOutcome:
    outcome = node_errors.classify(error)
    said = error.message[:200]
    if outcome is SendOutcome.UNKNOWN:
        meters.RPC_UNRECOGNISED.labels(str(position)).inc()
        if node_errors.UNRECOGNISED.is_new(error.message):
            log.warning("a node's words are in no table", hash=send.tx_hash, endpoint=position, said=said)
    elif outcome is not SendOutcome.ALREADY_KNOWN:
        log.warning("broadcast refused", hash=send.tx_hash, outcome=outcome, said=said)
    return outcome


def record(send: TxSend, outcome: SendOutcome) -> None:
    """Write down what the nodes said; an accepted send moves its intent on."""
    first = send.offered_at is None
    TxSend.objects.filter(pk=send.pk).update(
        outcome=outcome,
        offers=F("offers") + 1,
        offered_at=Coalesce("offered_at", Now()),
        last_offered_at=Now(),
    )
    if first:
        meters.TX_SUBMISSIONS.inc()
    if outcome not in node_errors.HELD_BY_NODE:
        meters.TX_SUBMISSIONS_FAILED.labels(outcome.value).inc()
        return
    TxSend.objects.filter(pk=send.pk, held_at=None).update(held_at=Now())
    intent = TxIntent.objects.get(pk=send.intent_id)
    if intent.state == IntentState.SENDING and outcome is not SendOutcome.NONCE_TOO_LOW:
        try:
            move(intent, IntentState.PENDING_INCLUSION, why=f"{outcome} {send.tx_hash}", by=BY)
        except Stale:
            return  # the chain was faster than this answer
        if send.attempt == 0:
            age = database_now() - intent.accepted_at
            meters.SIGNAL_TO_BROADCAST.observe(age.total_seconds())


def rebroadcast(wallet_id: int) -> int:
    """Offer the bytes of unmined slots again where the rebroadcast timer ran out; permitted under a stop.

    Only slots of which a node is known to hold something: others go through the
    gate again. Under a stop, in DRY and where the wallet is halted, only the
    newest bytes that a node is known to hold are repeated.
    """
    repeated = 0
    after: int | None = BEFORE_ALL
    while after is not None:
        begun_s = time.monotonic()
        sends, after = _lease_again(wallet_id, after)
        offer(sends, begun_s)
        repeated += len(sends)
    return repeated


def _lease_again(wallet_id: int, after: int) -> tuple[list[TxSend], int | None]:
    sends: list[TxSend] = []
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        ruling = ruling_now()
        mine = Turn()
        stopped = ruling.emergency_stop or ruling.mode is not Mode.LIVE or bool(wallet.halted_reason)
        now = database_now()
        last: int | None = None
        for intent in _left(wallet_id, after):
            if last is not None and mine.is_over():
                return sends, last
            last = intent.nonce
            send: TxSend | None = latest_send(intent)
            if stopped:
                # An offer that failed may never have arrived: to repeat it could be the first to leave.
                held = Q(held_at__isnull=False)
                if intent.cancel_asked_at is not None:
                    held |= Q(kind=SendKind.CANCEL)  # what fills a slot may leave under a stop
                send = intent.sends.filter(held).order_by("-attempt").first()
            if send is not None and _is_due(send, now):
                TxSend.objects.filter(pk=send.pk, held_at=None).update(leased_at=Now())
                sends.append(send)
    return sends, None


def _left(wallet_id: int, after: int) -> list[TxIntent]:
    """Unmined slots of which a node is known to hold some bytes."""
    return list(
        TxIntent.objects.filter(
            wallet_id=wallet_id,
            state__in=[IntentState.SENDING, IntentState.PENDING_INCLUSION],
            sends__held_at__isnull=False,
            nonce__gt=after,
        )
        .select_related("wallet", "trader")
        .order_by("nonce")
        .distinct()[:BATCH]
    )


def _is_due(send: TxSend, now: datetime) -> bool:
    """The timer runs from the last offer, or from the lease of bytes whose sender died or is still at it."""
    leased, offered = send.leased_at, send.last_offered_at
    if leased is not None and (offered is None or offered < leased):
        return leased < now - timedelta(seconds=LEASE_S)
    return offered is None or offered < now - timedelta(seconds=settings.ENVIRONMENT.rebroadcast_after_s)
