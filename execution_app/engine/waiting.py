"""Intents without a nonce: refuse, expire, hold or bind them before anything is signed."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from execution_app import meters
from execution_app.book import absence, growth, positions, reopened
from execution_app.engine import resting
from execution_app.engine.dues import RETRY_S, due, ends_at, executable
from execution_app.engine.further import ask_further
from execution_app.gate import control
from execution_app.gate.admission import Admission, Verdict, admit, room
from execution_app.gate.modes import Ruling
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import GROWING, ORDER_CHANGES, Action, IntentState, Mode, PositionState, Reason

log = structlog.get_logger(__name__)
BY = "engine"
BATCH = 64


def waiting(wallet: Wallet | int) -> QuerySet[TxIntent]:
    """Intents of a wallet, or of its id, that have no nonce, exits first, then in the order they came."""
    # Who waits for the mode is always due: it returns for all at once, and the younger must not be placed first.
    return (
        TxIntent.objects.filter(wallet=wallet, state__in=[IntentState.PENDING, IntentState.HELD])
        .filter(due() | Q(reason=Reason.MODE_DEGRADED), executable())
        .select_related("position")
        .prefetch_related("trader")  # one object for all, where a join would make one for each
        .order_by("action", "id")  # "close" sorts before "levels" and "open"
    )


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment


def actions_due(wallet: Wallet | int) -> dict[str, int]:
    """What is waited for at all, with what the wallet may have in flight: most passes find intents of one kind, or none."""
    return dict(waiting(wallet).order_by().values_list("action", "wallet__max_in_flight").distinct())


def turn(wallet: Wallet | int, action: Action, most: int = BATCH) -> list[int]:
    """Whose turn it is: the oldest, and those that were not looked at for longest, all in the order they came.

    The oldest alone would keep all others from their turn where they wait for something that does not come.
    """
    due = waiting(wallet).filter(action=action).values_list("pk", flat=True)
    oldest = list(due[:most])
    others = due.order_by(F("next_try_at").asc(nulls_first=True), "id")[:most] if len(oldest) == most else ()
    return sorted({*oldest, *others})


def sort(wallet: Wallet, ruling: Ruling, now: datetime, keys: list[int]) -> tuple[list[TxIntent], list[int]]:
    """Decide waiting intents, in the order of `keys`, as far as that can be without the chain.

    Returns those that may execute or be simulated under this ruling, and the keys that nobody came to: a stop
    waits for the caller's transaction, so that is a short one. It holds the wallet's lock.
    """
    ready: list[TxIntent] = []
    mine = control.Turn()
    found = {intent.pk: intent for intent in waiting(wallet).filter(pk__in=keys)}
    for at, key in enumerate(keys):
        if at and mine.is_over():
            return ready, keys[at:]
        # What an exit before it has refused is no longer there when opens are read, which is afterwards.
        if key in found and _is_ready(wallet, found[key], ruling, now):
            ready.append(found[key])
    return ready, []


def _is_ready(wallet: Wallet, intent: TxIntent, ruling: Ruling, now: datetime) -> bool:
    if _expire(intent, now):
        return False
    admission = admit(intent, ruling)
    if admission.verdict is Verdict.REFUSE:
        refuse(intent, admission)
    elif admission.verdict is Verdict.HOLD:
        hold(intent, admission.reason, admission.detail)
    elif wallet.halted_reason and admission.verdict is Verdict.EXECUTE:
        hold(intent, Reason.WALLET_HALTED, wallet.halted_reason)
    elif intent.state == IntentState.HELD and admission.verdict is Verdict.SIMULATE:
        # What waited for LIVE is not simulated: it expires, or an operator decides.
        note(intent, Reason(intent.reason), intent.reason_detail)
    elif intent.action in {Action.LEVELS, Action.MARGIN, *ORDER_CHANGES}:
        return True  # engine/level_changes.py, margin_changes.py and order_changes.py judge the rest
    elif intent.action in GROWING:
        # Asked without the caps' lock, which is enough to refuse; whoever gives it a nonce asks under it.
        full = room(intent, admission.mode, now) if intent.keeper_due_at is None else None
        if full is None:
            return True
        refuse(intent, full)
    else:
        return _bind(intent, admission.mode)
    return False


def _expire(intent: TxIntent, now: datetime) -> bool:
    end = ends_at(intent)
    if end is None or end > now:
        return False
    why = f"max lag passed at {end.isoformat()}"
    waited_for = f"{intent.reason} {intent.reason_detail}".strip() if intent.reason else "its turn"
    detail = f"{why}; waited for: {waited_for}"
    move(
        intent,
        IntentState.EXPIRED,
        why=why,
        by=BY,
        reason=Reason.LAG_EXCEEDED.value,
        reason_detail=detail[:400],
    )
    return True


def refuse(intent: TxIntent, admission: Admission) -> None:
    """End an intent that has no nonce. What was held before a stop stays held under it."""
    if intent.state == IntentState.HELD and admission.reason is Reason.EMERGENCY_STOP:
        note(intent, Reason(intent.reason), intent.reason_detail)
        return
    if admission.reason is Reason.EMERGENCY_STOP and intent.keeper_due_at is not None:
        note(intent, admission.reason, admission.detail)  # as a slot is parked
        return
    if admission.reason is Reason.EMERGENCY_STOP and positions.is_asked_again(intent):
        log.warning("held: emergency stop", intent=intent.pk, key=intent.intent_key)
        hold(intent, admission.reason, admission.detail)
        return
    if admission.reason is Reason.EMERGENCY_STOP:
        log.warning("refused: emergency stop", intent=intent.pk, key=intent.intent_key)
    meters.SIGNALS_REJECTED.labels(admission.reason.value).inc()
    move(
        intent,
        IntentState.REJECTED,
        why=admission.detail,
        by=BY,
        reason=admission.reason.value,
        reason_detail=admission.detail[:400],
    )


def _later() -> Any:
    """When an intent that cannot go on is looked at again, so that it does not crowd out the next."""
    return Now() + timedelta(seconds=RETRY_S)


def hold(intent: TxIntent, reason: Reason, detail: str) -> None:
    """Keep an intent without a nonce, visibly; the sweep looks at it again."""
    told = reason, detail[:400]
    if intent.state == IntentState.PENDING:
        fields = {"reason": reason.value, "reason_detail": told[1], "next_try_at": _later()}
        move(intent, IntentState.HELD, why=detail, by=BY, **fields)
    elif reason is not Reason.MODE_DEGRADED or (intent.reason, intent.reason_detail) != told:
        # Hundreds may wait for the mode: to write each anew at every bell would keep the children from the chain.
        note(intent, reason, detail)


def note(intent: TxIntent, reason: Reason, detail: str) -> None:
    """Say on the row why it waits, without a change of state."""
    TxIntent.objects.filter(pk=intent.pk, state=intent.state).update(
        reason=reason.value, reason_detail=detail[:400], next_try_at=_later(), updated_at=Now()
    )


def _bind(intent: TxIntent, mode: Mode) -> bool:
    """Give a close its position; more positions become further intents of the same request.

    Where an earlier open on its symbol is not known yet, what is open already is
    closed at once, and one intent of the request waits without a nonce. Where an
    earlier close works on the position, this one waits for its outcome and takes
    what is left.
    """
    if intent.position is not None:
        if intent.position.state == PositionState.CLOSED:
            _end_closed(intent, intent.position)
            return False
        if intent.position.mode == mode and intent.position.state == PositionState.OPEN:
            return _hold_position(intent, intent.position)
        if intent.position.mode == Mode.LIVE and intent.position.state == PositionState.OPEN:
            # Asked for while LIVE: to take a simulated position now would use the exit up.
            hold(intent, Reason.LIVE_POSITION_IN_DRY, "a live position is never closed by a simulated fill")
            return False
        if intent.only_position:
            _await_opening(intent, intent.position)
            return False
        positions.let_go(intent)
    _supersede_held_opens(intent)
    earlier = positions.earlier_open(intent)
    if mode is Mode.LIVE:
        earlier = earlier.exclude(mode=Mode.DRY)  # no LIVE exit waits for a simulation
    if positions.leaves_all(intent) and mode is Mode.LIVE:
        resting.take_back_before(intent)
    else:
        # What rests may do so for weeks, and who asks for less than all, or in DRY, leaves it there.
        earlier = earlier.exclude(pk__in=positions.resting().values("pk"))
    waits = earlier.exists()  # asked first: what fills meanwhile is found below
    found = list(positions.closable(intent, mode))
    waits = waits or earlier.exists()  # and once more: a reorg may have taken one back in between
    found = found or list(positions.closable(intent, mode))
    if not found and waits:
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "an earlier open on this symbol is not filled yet")
    elif not found:
        _end_without_position(intent, mode)
    else:
        return _share_out(intent, found, waits=waits)
    return False


def _await_opening(intent: TxIntent, position: Position) -> None:
    """The opening of the one position that is asked for left the chain: it comes again, or there is nothing to close."""
    anew, comes = reopened.outcome(position)
    stands = Position.objects.filter(pk=position.pk).exclude(state=PositionState.VOID).exists()
    if comes or stands or anew == position:
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, f"position {position.pk} is opened anew after a reorg")
    elif anew is None:
        end_empty(intent, Reason.NO_POSITION, f"position {position.pk} was never opened")
    else:
        further = ask_further(intent, anew, intent.reduce_usdc)
        end_empty(intent, Reason.NO_POSITION, f"a reorg made it position {anew.pk}: {further.intent_key}")


def _share_out(intent: TxIntent, found: list[Position], *, waits: bool) -> bool:
    """One intent per position, oldest first; says whether this one may go on."""
    left_usdc = intent.reduce_usdc
    # How far the amount reaches depends on what the earlier close leaves, or an increase puts in.
    if left_usdc is not None and any(positions.is_taken(p, intent) or growth.is_under_way(p) for p in found):
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, "an earlier close on this symbol is not finished")
        return False
    shares: list[tuple[Position | None, Decimal | None]] = []
    for position in [*found, *([None] if waits else [])]:
        if left_usdc is None:
            shares.append((position, None))
        elif left_usdc:
            share = left_usdc if position is None else min(left_usdc, position.collateral_usdc)
            shares.append((position, share))
            left_usdc -= share
    (first, share), *others = shares
    assert first is not None
    TxIntent.objects.filter(pk=intent.pk, state=intent.state).update(
        position=first, reduce_usdc=share, updated_at=Now()
    )
    intent.position, intent.reduce_usdc = first, share
    for position, other_share in others:
        ask_further(intent, position, other_share)
    return _hold_position(intent, first)


def _hold_position(intent: TxIntent, position: Position) -> bool:
    """Take the position for this close alone, or wait for whoever has it."""
    if positions.is_taken(position, intent):
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, "an earlier close of this position is not finished")
        return False
    if growth.is_under_way(position):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "an increase of this position is under way")
        return False
    if not intent.holds_position:
        try:
            positions.hold(position, intent)
        except ValueError as error:
            refuse(intent, Admission(Verdict.REFUSE, Reason.NOT_REPRESENTABLE, str(error)))
            return False
    return True


def _supersede_held_opens(close: TxIntent) -> None:
    """Nobody who asked to be out wants what was held before to be opened afterwards, nor to wait for it.

    Nor does who asked for less: a partial close ends held opens, too.
    """
    for held in positions.earlier_open(close).filter(state=IntentState.HELD).select_for_update():
        detail = f"{close.intent_key} closes {close.symbol}"
        refuse(held, Admission(Verdict.REFUSE, Reason.SUPERSEDED_BY_CLOSE, detail))


def _end_closed(intent: TxIntent, position: Position) -> None:
    """What ended the position has to be final: a reorg may open it again, and an exit is not asked for twice."""
    if position.mode == Mode.LIVE and position.settled_at is None:
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, f"position {position.pk} is closed, not finally yet")
        return
    end_empty(intent, Reason.NO_POSITION, f"position {position.pk} is closed already")


def _end_without_position(intent: TxIntent, mode: Mode) -> None:
    if mode is Mode.DRY and positions.closable(intent, Mode.LIVE).exists():
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "a live position is never closed by a simulated fill")
        return
    end_empty(intent, Reason.NO_POSITION, f"no open {mode.value} position on {intent.symbol}")


def end_empty(intent: TxIntent, reason: Reason, detail: str) -> None:
    """End a close that has nothing to close: what was asked for is so, without a transaction."""
    move(intent, IntentState.NO_OP, why=detail, by=BY, reason=reason.value, reason_detail=detail[:400])


def end_closed_elsewhere(intent: TxIntent, block_number: int, detail: str) -> None:
    """End what was asked of a trade that the venue had no more at this final block, or wait until that is sure."""
    assert intent.position is not None
    if not absence.end(intent.position, block_number):
        note(intent, Reason.CLOSED_ELSEWHERE, f"{detail}; waits until what we did with it is final")
    elif intent.action == Action.INCREASE:
        refuse(intent, Admission(Verdict.REFUSE, Reason.CLOSED_ELSEWHERE, detail))
    else:
        end_empty(intent, Reason.CLOSED_ELSEWHERE, detail)
