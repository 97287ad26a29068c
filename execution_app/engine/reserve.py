"""Give waiting intents their nonce and their signature, in one commit under the wallet's lock."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, DecimalField, ExpressionWrapper, F, Max, Q, Sum
from django.db.models.functions import Coalesce

from execution_app import reservations
from execution_app.book import growth, positions, prices, simulation
from execution_app.engine import increases, level_changes, margin_changes, order_changes, plans
from execution_app.engine.placing import Asked, Round, place, store
from execution_app.engine.plans import Plan
from execution_app.engine.waiting import (
    BATCH,
    BY,
    actions_due,
    database_now,
    end_closed_elsewhere,
    hold,
    note,
    refuse,
    sort,
    turn,
    waiting,
)
from execution_app.errors import Refused, Retryable
from execution_app.gate import limits
from execution_app.gate.admission import (
    Admission,
    Verdict,
    admit,
    leverage_breaches,
    raises,
    refusal,
    room,
    ruling_now,
)
from execution_app.gate.control import Turn
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, Wallet
from execution_app.node import signers
from execution_app.states import (
    GROWING,
    ORDER_CHANGES,
    STAKING,
    UNMINED,
    Action,
    IntentState,
    Mode,
    PositionState,
    Reason,
)

log = structlog.get_logger(__name__)


# Exits first, then what makes them happen at the venue.
TURNS = (
    *(Action.CLOSE, Action.CANCEL_ORDER, Action.LEVELS),
    *(Action.UPDATE_ORDER, Action.MARGIN, Action.INCREASE, Action.OPEN),
)

LEAST = 8  # intents that are read for a turn
# Of a wallet that may have as many in flight. Where fewer fit, more would be asked about in vain.
MOST = 3 * BATCH


class Returned:
    """Whether LIVE came back in the middle of a pass. What it has held until then is older than what it would place now."""

    def __init__(self) -> None:
        self._was_degraded = False
        self._is_back = False

    def since(self, ruling: Ruling) -> bool:
        """Asked at each transaction of a pass; once True, the rest is left to the next pass, which begins with the oldest."""
        self._is_back = self._is_back or (self._was_degraded and not ruling.degraded)
        self._was_degraded = ruling.degraded
        return self._is_back


def reserve(wallet_id: int) -> int:
    """Place as many waiting intents of the wallet as may be placed; returns how many were.

    Short transactions with the chain asked in between: the first sort out what
    needs no chain, the others take nonces and sign. None of them keeps a stop
    waiting for long (`control.Turn`). Exits have transactions of their own, so
    that none waits for the caps' lock, which opens take. Raises Retryable when
    the node is away; everything then waits as it was.
    """
    ready = _sort(wallet_id)
    if not ready:
        return 0
    wallet = Wallet.objects.get(pk=wallet_id)
    market = prices.look({intent.symbol for intent in ready}, wallet.address)
    drawable = [intent for intent in ready if _needs_chain(intent)]
    exits = [intent for intent in drawable if intent.action not in GROWING]
    asked = Asked(market, plans.draw(wallet, exits, market), _signer_problem(wallet))
    returned = Returned()
    for action in TURNS:
        keys = [intent.pk for intent in ready if intent.action == action]
        if keys and action in GROWING:
            # Not before, so that no exit waits for the venue's feed.
            market = prices.compare(market, {intent.symbol for intent in ready if intent.action == action})
            mine = [intent for intent in drawable if intent.action == action]
            drawn = {**asked.drawn, **plans.draw(wallet, mine, market)}
            asked = Asked(market, drawn, asked.signer_problem)
        placed, most = 0, len(keys)
        while keys:
            more, left = _take_turn(wallet_id, action, keys[:most], asked, returned)
            placed += more
            if left is None:
                break
            left += keys[most:]
            # No more are read than the last turn had time for, or about that: a slow machine would read most in vain.
            keys, most = left, max(LEAST, 2 * (len(keys) - len(left)))
        # Exits that got their nonce are sent before opens may wait for anything.
        if placed:
            return placed
    return 0


def _sort(wallet_id: int) -> list[TxIntent]:
    """Those that may be placed, exits first; opens are looked for once the exits are sorted, which may refuse some."""
    ready: list[TxIntent] = []
    returned = Returned()
    due = actions_due(wallet_id)
    for action in TURNS:
        keys = turn(wallet_id, action, min(max(BATCH, due[action]), MOST)) if action in due else []
        while keys:
            with transaction.atomic(durable=True):
                wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
                ruling = ruling_now()
                if returned.since(ruling):
                    return ready
                with limits.read_once():
                    found, keys = sort(wallet, ruling, database_now(), keys)
                    ready += [one for one in found if _may_go(one, ruling)]
    return ready


def _may_go(intent: TxIntent, ruling: Ruling, chain_at: int | None = None) -> bool:
    """Orders are judged elsewhere; new levels and what is done to an order that rests by rules of their own."""
    if intent.action in ORDER_CHANGES:
        return order_changes.may_go(intent, admit(intent, ruling).verdict)
    if intent.action == Action.INCREASE:
        return increases.may_go(intent, admit(intent, ruling).verdict)
    if intent.action == Action.MARGIN:
        return margin_changes.may_go(intent, admit(intent, ruling).verdict)
    if intent.action != Action.LEVELS:
        return True
    return level_changes.may_go(intent, ruling, admit(intent, ruling).verdict, chain_at)


def _signer_problem(wallet: Wallet) -> tuple[Reason, str] | None:
    """A remote signer is asked for the wallet's key before any nonce is taken; what it said once is remembered."""
    if not signers.is_remote():
        return None
    try:
        signers.require_key(wallet.address)
    except Refused as refusal:
        return Reason.SIGNER_REFUSED, str(refusal)
    except Retryable as problem:
        return Reason.SIGNER_AWAY, str(problem)
    return None


def _take_turn(
    wallet_id: int, action: Action, keys: list[int], asked: Asked, returned: Returned
) -> tuple[int, list[int] | None]:
    """Place what comes first; returns how many got their nonce, and the keys that nobody came to.

    None in their place where the rest is left to another pass.
    """
    # The journal is on the disk before the commit is; a local signature that is not committed has gone nowhere.
    with transaction.atomic(durable=True), signers.group():
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        # Before the gate is read: who waits here must not keep a stop waiting. Nor an exit, which waits for the wallet.
        if action in STAKING and not reservations.lock_soon():
            log.info("opens wait for their turn at the caps", wallet=wallet_id)
            return 0, None
        ruling = ruling_now()
        if returned.since(ruling):
            return 0, None
        mine = Turn()
        round_ = _begin(wallet, ruling, asked)
        placed, later = 0, list[int]()
        with limits.read_once():  # after the lock, under which they do not change
            still = list(waiting(wallet).filter(pk__in=keys))
            for at, intent in enumerate(still):
                if at and mine.is_over():
                    later = [left.pk for left in still[at:]]
                    break
                placed += _decide(round_, intent, asked.drawn.get(intent.pk))
        store(round_)
    return placed, later


def _needs_chain(intent: TxIntent) -> bool:
    """A close of a simulated position exists in our book only, and so does what is decided as a simulation."""
    if intent.mode == Mode.DRY:
        return False
    return intent.position is None or intent.position.mode == Mode.LIVE


def _begin(wallet: Wallet, ruling: Ruling, asked: Asked) -> Round:
    unmined = TxIntent.objects.filter(wallet=wallet, state__in=sorted(UNMINED))
    cost = ExpressionWrapper(
        F("gas_limit") * F("max_fee_wei") + F("value_wei") + F("l1_fee_wei"),
        DecimalField(max_digits=60, decimal_places=0),
    )
    dearest = Max(Coalesce("sends__max_fee_wei", "sign_request__max_fee_wei"))
    owed = unmined.annotate(max_fee_wei=dearest).aggregate(total=Sum(cost))["total"] or 0
    spendable_wei = asked.market.balance_wei - int(owed)
    kept = level_changes.symbols_kept(wallet, asked.market.at)
    # A message whose deadline a block has passed unused waits for finality alone; it keeps no exit from its place.
    alive = Q(nonce=None, message__unused_at_block=None)
    places = unmined.aggregate(
        slots=Count("pk", filter=Q(nonce__isnull=False)), messages=Count("pk", filter=alive)
    )
    return Round(
        wallet, ruling, asked, places["slots"], places["messages"], spendable_wei, database_now(), kept
    )


def _decide(round_: Round, intent: TxIntent, plan: Plan | None) -> bool:
    """Place, simulate, hold or refuse one intent under the lock; says whether it got its nonce."""
    admission = admit(intent, round_.ruling)
    mode = Mode.DRY if intent.position and intent.position.mode == Mode.DRY else None
    if admission.verdict is Verdict.REFUSE:
        refuse(intent, admission)
        return False
    if admission.verdict is Verdict.HOLD:
        hold(intent, admission.reason, admission.detail)
        return False
    if _waits(round_, intent, plan):
        return False
    if plan is not None and plan.problem is not None:
        _say_problem(intent, plan)
        return False
    if admission.verdict is Verdict.SIMULATE or mode is Mode.DRY:
        _simulate(intent, round_.market, admission.verdict)
        return False
    if plan is None or round_.wallet.halted_reason:
        return False  # it was bound a moment ago, or the wallet was halted; the next pass decides
    return place(round_, intent, plan)


def _waits(round_: Round, intent: TxIntent, plan: Plan | None) -> bool:
    """Whether something came in between, or is under way, so that this is another pass's to decide."""
    if not _may_go(intent, round_.ruling, round_.market.at):
        return True
    if intent.symbol in round_.kept and intent.action == Action.OPEN:
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "new levels on this symbol may still be taken")
        return True
    position = intent.position
    if position and (position.state != PositionState.OPEN or positions.is_taken(position, intent)):
        return True  # a block came or left in between; the next pass sorts it again
    if position and intent.action == Action.CLOSE and growth.is_under_way(position):
        return True
    # It may have been drawn for another position; the next pass draws again.
    return plan is not None and plan.problem is None and plan.position_id != intent.position_id


def _say_problem(intent: TxIntent, plan: Plan) -> None:
    assert plan.problem is not None
    if plan.absent_at_block is not None:
        end_closed_elsewhere(intent, plan.absent_at_block, plan.detail)
    elif plan.final:
        refuse(intent, Admission(Verdict.REFUSE, plan.problem, plan.detail))
    elif plan.held:
        hold(intent, plan.problem, plan.detail)
    else:
        note(intent, plan.problem, plan.detail)


def _simulate(intent: TxIntent, market: prices.Market, verdict: Verdict) -> None:
    bound_mode = intent.position.mode if intent.position else None
    agrees = bound_mode in {None, Mode.DRY} and verdict is Verdict.SIMULATE
    if intent.state != IntentState.PENDING or not agrees:
        return  # the mode changed in between; the next pass sorts it again
    if problem := market.problem(intent.symbol, Action(intent.action)):
        _say_problem(intent, Plan(problem=problem.reason, detail=problem.detail, final=problem.final))
        return
    simulate(intent, market)


def simulate(intent: TxIntent, market: prices.Market) -> None:
    """Fill an admitted intent in our own book, or refuse it; one transaction, the caller's, which holds the caps' lock.

    Where the venue's keeper takes its time (DRY_KEEPER_DELAY_MS) it is registered first, with its stake, and filled by
    a later pass. A margin is changed by the trader's own transaction, which waits for no keeper.
    """
    opens, now = raises(intent), database_now()
    if intent.action == Action.MARGIN and (
        broken := leverage_breaches(intent, simulation.margined(intent, market).leverage_x)
    ):
        refuse(intent, refusal(broken))
        return
    delay = timedelta(milliseconds=settings.ENVIRONMENT.dry_keeper_delay_ms)
    if registers := intent.keeper_due_at is None:
        if opens and (full := room(intent, Mode.DRY, now)):
            refuse(intent, full)
            return
        if delay and intent.action != Action.MARGIN:
            simulation.register(intent, market, now + delay)
            if opens:
                reservations.take(intent, Mode.DRY)
            return
    refused = simulation.simulate(intent, market, now, by=BY)
    if refused:
        refuse(intent, Admission(Verdict.REFUSE, Reason.VENUE_WOULD_CANCEL, refused))
    elif opens:
        if registers:
            reservations.take(intent, Mode.DRY)
        reservations.follow(intent.pk)
