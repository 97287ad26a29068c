"""Give waiting intents their nonce and their signature, in one commit under the wallet's lock."""

from dataclasses import dataclass, field
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import DecimalField, ExpressionWrapper, F, Max, Sum

from execution_app import reservations
from execution_app.book import positions, prices, simulation
from execution_app.engine import plans, replace
from execution_app.engine.plans import Plan
from execution_app.engine.waiting import (
    BY,
    database_now,
    end_closed_elsewhere,
    hold,
    note,
    refuse,
    sort,
    waiting,
)
from execution_app.errors import Refused, Stale
from execution_app.gate import limits
from execution_app.gate.admission import Admission, Verdict, admit, counts_rows, room, ruling_now
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.moves import Step, move_all
from execution_app.node import fees, signers
from execution_app.states import UNMINED, Action, IntentState, Mode, PositionState, Reason, SendKind

log = structlog.get_logger(__name__)

# In-flight places that opens cannot use, and closes' worth of gas that opens leave in the wallet.
EXIT_PLACES = 4
EXIT_RESERVE = 2


@dataclass
class Round:
    """One pass over a locked wallet; its room shrinks as intents are placed."""

    wallet: Wallet
    ruling: Ruling
    market: prices.Market
    in_flight: int
    spendable_wei: int
    placed: list["Placement"] = field(default_factory=list)  # signed, and not stored yet


@dataclass(frozen=True)
class Placement:
    """An intent with its slot and its signature, before the round stores them."""

    intent: TxIntent
    slot: signers.Slot
    plan: Plan
    fee: fees.Fee
    signed: signers.Signed


def reserve(wallet_id: int) -> int:
    """Place as many waiting intents of the wallet as may be placed; returns how many were.

    Short transactions with the chain asked in between: the first sorts out what
    needs no chain, the others take nonces and sign. Exits have one of their own,
    so that none waits for the caps' lock, which opens take. Raises Retryable when
    the node is away; everything then waits as it was.
    """
    wallet = Wallet.objects.get(pk=wallet_id)
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        with limits.read_once():
            ready = sort(wallet, ruling_now(), database_now())
    if not ready:
        return 0
    market = prices.look({intent.symbol for intent in ready}, wallet.address)
    drawn = plans.draw(wallet, [intent for intent in ready if _needs_chain(intent)], market)
    for action in (Action.CLOSE, Action.OPEN):
        keys = [intent.pk for intent in ready if intent.action == action]
        # Exits that got their nonce are sent before opens may wait for anything.
        if keys and (placed := _take_turn(wallet_id, action, keys, market, drawn)):
            return placed
    return 0


def _take_turn(
    wallet_id: int, action: Action, keys: list[int], market: prices.Market, drawn: dict[int, Plan]
) -> int:
    with transaction.atomic(durable=True):
        wallet = Wallet.objects.select_for_update(no_key=True).get(pk=wallet_id)
        # Before the gate is read: who waits here must not keep a stop waiting. Nor an exit, which waits for the wallet.
        if action is Action.OPEN and not reservations.lock_soon():
            log.info("opens wait for their turn at the caps", wallet=wallet_id)
            return 0
        round_ = _begin(wallet, ruling_now(), market)
        with limits.read_once():  # after the lock, under which they do not change
            still = waiting(wallet).filter(pk__in=keys)
            placed = sum(_decide(round_, intent, drawn.get(intent.pk)) for intent in still)
        _store(round_)
        return placed


def _needs_chain(intent: TxIntent) -> bool:
    """A close of a simulated position exists in our book only; the venue knows nothing of it."""
    return intent.position is None or intent.position.mode == Mode.LIVE


def _begin(wallet: Wallet, ruling: Ruling, market: prices.Market) -> Round:
    unmined = TxIntent.objects.filter(wallet=wallet, state__in=sorted(UNMINED))
    cost = ExpressionWrapper(
        F("gas_limit") * F("max_fee_wei") + F("value_wei") + F("l1_fee_wei"),
        DecimalField(max_digits=60, decimal_places=0),
    )
    owed = unmined.annotate(max_fee_wei=Max("sends__max_fee_wei")).aggregate(total=Sum(cost))["total"] or 0
    return Round(wallet, ruling, market, unmined.count(), market.balance_wei - int(owed))


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
    if intent.position and (
        intent.position.state != PositionState.OPEN or positions.is_taken(intent.position, intent)
    ):
        return False  # a block came or left in between; the next pass sorts it again
    if plan is not None and plan.problem is None and plan.position_id != intent.position_id:
        return False  # it was drawn for another position; the next pass draws again
    if plan is not None and plan.problem is not None:
        _say_problem(intent, plan)
        return False
    if admission.verdict is Verdict.SIMULATE or mode is Mode.DRY:
        _simulate(intent, round_.market, admission.verdict)
        return False
    if plan is None or round_.wallet.halted_reason:
        return False  # it was bound a moment ago, or the wallet was halted; the next pass decides
    return _place(round_, intent, plan)


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
    if stale := market.problem(intent.symbol, Action(intent.action)):
        note(intent, Reason.PRICE_UNAVAILABLE, stale)
        return
    opens = intent.action == Action.OPEN
    if opens and (full := room(intent, Mode.DRY, database_now())):
        refuse(intent, full)
        return
    refusal = simulation.simulate(intent, market, database_now(), by=BY)
    if refusal:
        refuse(intent, Admission(Verdict.REFUSE, Reason.VENUE_WOULD_CANCEL, refusal))
    elif opens:
        reservations.take(intent, Mode.DRY)
        reservations.follow(intent.pk)


def _place(round_: Round, intent: TxIntent, plan: Plan) -> bool:
    wallet, market = round_.wallet, round_.market
    exits = intent.action == Action.CLOSE
    if round_.in_flight >= wallet.max_in_flight + (EXIT_PLACES if exits else 0):
        return False
    intent.value_wei, intent.gas_limit = Decimal(plan.value_wei), plan.gas_limit
    intent.l1_fee_wei = Decimal(market.gas.l1_fee_wei)
    ceiling_wei = replace.ceiling_wei(intent)
    fee = (fees.quote_exit if exits else fees.quote)(market.gas, ceiling_wei)
    if fee is None:
        bound = (
            "MAX_FEE_PER_GAS_GWEI" if intent.max_cost_wei is None else f"{ceiling_wei} wei, its own ceiling"
        )
        detail = f"base fee {market.gas.base_fee_wei} wei is too near to {bound}"
        hold(intent, Reason.FEE_ABOVE_CEILING, detail)
        return False
    cost_wei = plan.value_wei + plan.gas_limit * fee.max_fee_wei + market.gas.l1_fee_wei
    kept_wei = 0 if exits else EXIT_RESERVE * cost_wei
    if round_.spendable_wei < cost_wei + kept_wei:
        detail = f"wallet {wallet.address} can spend {round_.spendable_wei} wei, this needs {cost_wei} and keeps {kept_wei}"
        hold(intent, Reason.INSUFFICIENT_GAS, detail)
        return False
    if not exits:
        if counts_rows(intent):
            _store(round_)
        if full := room(intent, Mode.LIVE, database_now(), cost_wei):
            refuse(intent, full)
            return False
    slot = signers.Slot(
        chain_id=wallet.chain_id,
        sender=wallet.address,
        nonce=wallet.next_nonce,
        to=settings.ENVIRONMENT.venue_trading_address,
        value_wei=plan.value_wei,
        gas_limit=plan.gas_limit,
        data=plan.calldata,
    )
    try:
        signed = signers.sign(slot, fee)
    except Refused as error:
        hold(intent, Reason.NO_WALLET, str(error))
        return False
    wallet.next_nonce = slot.nonce + 1
    round_.placed.append(Placement(intent, slot, plan, fee, signed))
    round_.in_flight += 1
    round_.spendable_wei -= cost_wei
    return True


def _store(round_: Round) -> None:
    """Every intent placed so far takes its slot, for life, with its signature, in the round's transaction."""
    placed, round_.placed = round_.placed, []
    if not placed:
        return
    steps = [Step(one.intent, f"nonce {one.slot.nonce}", _owned(one)) for one in placed]
    move_all(steps, IntentState.RESERVED, by=BY)
    first, last = placed[0].slot.nonce, placed[-1].slot.nonce
    if not Wallet.objects.filter(pk=round_.wallet.pk, next_nonce=first).update(next_nonce=last + 1):
        raise Stale(f"nonce {first} of wallet {round_.wallet.pk} is given away already")
    reservations.take_all([one.intent for one in placed if one.intent.action == Action.OPEN], Mode.LIVE)
    TxSend.objects.bulk_create(
        TxSend(
            intent=one.intent,
            attempt=0,
            kind=SendKind.EXEC,
            tx_hash=one.signed.tx_hash,
            raw=one.signed.raw,
            max_fee_wei=one.fee.max_fee_wei,
            tip_wei=one.fee.tip_wei,
        )
        for one in placed
    )
    move_all([Step(one.intent, one.signed.tx_hash) for one in placed], IntentState.SIGNED, by=BY)


def _owned(one: Placement) -> dict[str, object]:
    """What is fixed with the nonce and never changes."""
    return {
        "mode": Mode.LIVE.value,
        "nonce": one.slot.nonce,
        "to_address": one.slot.to,
        "calldata": one.slot.data,
        "value_wei": one.slot.value_wei,
        "gas_limit": one.slot.gas_limit,
        "l1_fee_wei": one.intent.l1_fee_wei,
        "wanted_price": one.plan.wanted_price,
        "close_usdc": one.plan.close_usdc,
        "reason": "",
        "reason_detail": "",
    }
