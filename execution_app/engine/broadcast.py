"""Offer stored bytes to the nodes: leased before, recorded after, repeated without harm."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from execution_app.engine import permissions
from execution_app.engine.offers import offer
from execution_app.engine.permissions import Permissions
from execution_app.engine.replace import cancel_in_slot
from execution_app.engine.waiting import BY, database_now
from execution_app.errors import Refused
from execution_app.gate import limits
from execution_app.gate.admission import Departure, may_leave, ruling_now
from execution_app.gate.control import LEASE_S, Turn
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.moves import Step, move_all
from execution_app.node import fees, rpc
from execution_app.states import Action, IntentState, Mode, SendKind

log = structlog.get_logger(__name__)
BATCH = 100
IDLE_LIMIT = 2 * BATCH  # slots one after the other of which nothing leaves
BEFORE_ALL = -1  # nonces begin at 0
SIMULATED_S = 5  # for as long a simulation's word is good


def broadcast(wallet_id: int, market: fees.Market | None = None) -> int:
    """Offer every slot of the wallet of which no node is known to hold anything, if it may leave; returns how many.

    Safe to repeat: the same bytes have the same hash. `market` is what a cancel
    would be priced with; without one, slots to be cancelled wait.
    """
    offered = idle = 0
    after: int | None = BEFORE_ALL
    # Where nothing of many may leave, as under a stop, not all of them are looked at by each bell.
    while after is not None and idle < IDLE_LIMIT:
        granted = _look_again(wallet_id)
        begun_s = time.monotonic()
        leased = _lease(wallet_id, market, after, granted)
        offer(leased.sends, begun_s)
        offered += len(leased.sends)
        idle = 0 if leased.sends else idle + leased.looked_at
        after = leased.last
    return offered


def _look_again(wallet_id: int) -> Permissions | None:
    """What the trader permits now, where an open has waited with its signature; None where none has, or no node says.

    A node that is away stops no exit: what it would refuse is refused by the venue.
    """
    before = Now() - timedelta(seconds=SIMULATED_S)
    waited = TxIntent.objects.filter(
        wallet_id=wallet_id, action=Action.OPEN, state=IntentState.SIGNED, updated_at__lt=before
    )
    if not waited.exists():
        return None
    try:
        return permissions.look(Wallet.objects.select_related("trader").get(pk=wallet_id))
    except (rpc.RpcFault, rpc.NodeError) as problem:
        log.warning("nobody says what the trader permits", wallet=wallet_id, problem=str(problem))
        return None


@dataclass
class _Leased:
    """What may leave, how many slots were looked at for it, and the nonce of the last of them where there may be more."""

    sends: list[TxSend] = field(default_factory=list)
    looked_at: int = 0
    last: int | None = None


def _lease(
    wallet_id: int, market: fees.Market | None, after: int = BEFORE_ALL, granted: Permissions | None = None
) -> _Leased:
    """Announce what may be a first broadcast: a stop that commits before this sees none, one after waits for it.

    Looks at a page of the slots after a nonce, as far as its turn goes. The gate is asked again at every offer until a
    node is known to hold the slot: what all nodes refused a minute ago is no order that has left.
    """
    found = _Leased()
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        if wallet.halted_reason:
            return found
        ruling = ruling_now()
        mine = Turn()
        now = database_now()
        with limits.read_once():
            page = _unheld(wallet_id, after)
            for send in page:
                if found.looked_at and mine.is_over():
                    break
                found.looked_at += 1
                found.last = send.intent.nonce
                due = send.intent.state == IntentState.SIGNED or _is_due(send, now)
                if due and (newest := _let_go(send, ruling, now, market, granted)) is not None:
                    found.sends.append(newest)
        if found.looked_at == len(page) < BATCH:
            found.last = None
        _announce(found.sends)
    return found


def _announce(leaving: list[TxSend]) -> None:
    """From this commit on a stop waits for these bytes, or names them."""
    signed = [send for send in leaving if send.intent.state == IntentState.SIGNED]
    move_all([Step(send.intent, send.tx_hash) for send in signed], IntentState.SENDING, by=BY)
    TxSend.objects.filter(pk__in=[send.pk for send in leaving]).update(leased_at=Now())


def _let_go(
    send: TxSend,
    ruling: Ruling,
    now: datetime,
    market: fees.Market | None,
    granted: Permissions | None,
) -> TxSend | None:
    """The bytes of a slot that may leave: these, its newest, or a cancel in their place; None where it stays."""
    intent = send.intent
    expired = intent.expires_at is not None and intent.expires_at <= now
    departure = may_leave(intent, ruling, now, expired=expired)
    forbidden = departure is Departure.LEAVE and _is_forbidden(intent, granted)
    if forbidden or (intent.cancel_asked_at is not None and not _stays_parked(intent, departure)):
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
        return cancel
    return send


def _stays_parked(intent: TxIntent, departure: Departure) -> bool:
    """A person's wish is done under a stop, too; a close that was called off and has not left waits for its end."""
    return departure is Departure.PARK and intent.action == Action.CLOSE


def _is_forbidden(intent: TxIntent, granted: Permissions | None) -> bool:
    """Whether an open that never left would fail by now: its allowance, USDC or delegation is gone."""
    if granted is None or intent.action != Action.OPEN or intent.state != IntentState.SIGNED:
        return False
    lacking = granted.missing(intent.collateral_usdc)
    if lacking is not None:
        log.warning("signed, and no longer permitted", intent=intent.pk, nonce=intent.nonce, why=lacking[1])
    return lacking is not None


def _unheld(wallet_id: int, after: int) -> list[TxSend]:
    """The newest bytes of slots of which no node is known to hold anything, signed or offered before; a page of them.

    Only the newest are ever offered, so a cancelled order never leaves again.
    """
    held = TxSend.objects.filter(intent=OuterRef("pk"), held_at__isnull=False)
    intents = (
        TxIntent.objects.filter(
            ~Exists(held),
            state__in=[IntentState.SIGNED, IntentState.SENDING],
            wallet_id=wallet_id,
            nonce__gt=after,
        )
        .prefetch_related("wallet", "trader")
        .order_by("nonce")[:BATCH]
    )
    return newest(intents)


def newest(intents: Iterable[TxIntent]) -> list[TxSend]:
    """The newest bytes of each slot, in the order of `intents`."""
    by_key = {intent.pk: intent for intent in intents}
    found = _newest_of(by_key, TxSend.objects.filter(intent__in=by_key))
    return [found[key] for key in by_key]


def _newest_of(by_key: dict[int, TxIntent], sends: QuerySet[TxSend]) -> dict[int, TxSend]:
    found = {send.intent_id: send for send in sends.order_by("intent_id", "-attempt").distinct("intent_id")}
    for key, send in found.items():
        send.intent = by_key[key]
    return found


def _log_parked(intent: TxIntent, ruling: Ruling) -> None:
    if ruling.emergency_stop:
        log.warning("parked: emergency stop", intent=intent.pk, nonce=intent.nonce)


def rebroadcast(wallet_id: int) -> int:
    """Offer the bytes of unmined slots again where the rebroadcast timer ran out; permitted under a stop.

    Only slots of which a node is known to hold something: others go through the
    gate again. Under a stop, in DRY and where the wallet is halted, only the
    newest bytes that a node is known to hold are repeated; else those, too, where
    a higher fee for them is held by nobody.
    """
    # Asked without the wallet, for which whoever places would wait at every look; asked again under it.
    if not TxSend.objects.filter(_are_due(), intent__in=_left(wallet_id).values("pk")).exists():
        return 0
    begun_s = time.monotonic()
    sends = _lease_again(wallet_id)
    offer(sends, begun_s)
    return len(sends)


def _lease_again(wallet_id: int) -> list[TxSend]:
    """Of the lowest slots that have left, the bytes that are due for another offer; a few queries, so no turn is needed."""
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        ruling = ruling_now()
        stopped = ruling.emergency_stop or ruling.mode is not Mode.LIVE or bool(wallet.halted_reason)
        now = database_now()
        left = list(_left(wallet_id).prefetch_related("wallet", "trader"))
        known = _known(left)
        offered = known if stopped else newest(left)
        sends = [send for send in [*offered, *_behind(offered, known)] if _is_due(send, now)]
        TxSend.objects.filter(pk__in=[send.pk for send in sends], held_at=None).update(leased_at=Now())
    return sends


def _known(intents: Iterable[TxIntent]) -> list[TxSend]:
    """The newest bytes of each slot that a node is known to hold, in the order of `intents`.

    An offer that failed may never have arrived: to repeat it could be the first to leave. What fills a slot that
    a person wants filled may leave under a stop.
    """
    by_key = {intent.pk: intent for intent in intents}
    fills = Q(kind=SendKind.CANCEL, intent__cancel_asked_at__isnull=False)
    held = TxSend.objects.filter(Q(held_at__isnull=False) | fills, intent__in=by_key)
    found = _newest_of(by_key, held)
    return [found[key] for key in by_key if key in found]


def _behind(offered: Iterable[TxSend], known: Iterable[TxSend]) -> list[TxSend]:
    """Bytes that nodes held before those that are offered, where no node is known to hold these.

    A wallet that cannot pay the higher fee can pay the lower one, and a node that was restarted has forgotten both. Not
    where a cancel is offered: what is to be cancelled is not given to a node once more.
    """
    unheld = {send.intent_id: send for send in offered if send.held_at is None}
    return [
        older
        for older in known
        if (newer := unheld.get(older.intent_id)) is not None
        and newer.pk != older.pk
        and (newer.kind != SendKind.CANCEL or older.kind == SendKind.CANCEL)
    ]


def _left(wallet_id: int) -> QuerySet[TxIntent]:
    """The lowest unmined slots of which a node is known to hold some bytes."""
    held = TxSend.objects.filter(intent=OuterRef("pk"), held_at__isnull=False)
    states = [IntentState.SENDING, IntentState.PENDING_INCLUSION]
    return TxIntent.objects.filter(Exists(held), wallet_id=wallet_id, state__in=states).order_by("nonce")[
        :BATCH
    ]


def _is_due(send: TxSend, now: datetime) -> bool:
    """The timer runs from the last offer, or from the lease of bytes whose sender died or is still at it.

    What lies ahead by more than that is of before the clock was set back, and nobody waits until it has caught up.
    """
    leased, offered = send.leased_at, send.last_offered_at
    if leased is not None and (offered is None or offered < leased):
        return abs(now - leased) > timedelta(seconds=LEASE_S)
    return offered is None or abs(now - offered) > timedelta(seconds=settings.ENVIRONMENT.rebroadcast_after_s)


def _are_due() -> Q:
    """As `_is_due`, for the database to find whether there are any."""

    def long_ago(name: str, after_s: float) -> Q:
        span = timedelta(seconds=after_s)
        return Q(**{f"{name}__lt": Now() - span}) | Q(**{f"{name}__gt": Now() + span})

    is_leased = Q(leased_at__isnull=False) & (Q(last_offered_at=None) | Q(last_offered_at__lt=F("leased_at")))
    offered = Q(last_offered_at=None) | long_ago("last_offered_at", settings.ENVIRONMENT.rebroadcast_after_s)
    return (is_leased & long_ago("leased_at", LEASE_S)) | (~is_leased & offered)
