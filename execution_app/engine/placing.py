"""A place for an intent: a nonce, a fee and a signature, gathered in a round and stored together."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from execution_app import reservations
from execution_app.book import prices, shadow
from execution_app.engine import replace, signatures
from execution_app.engine.gateway import making
from execution_app.engine.plans import EXITS, Plan
from execution_app.engine.waiting import BY, database_now, hold, refuse
from execution_app.errors import Refused, Stale
from execution_app.gate.admission import counts_rows, leverage_breaches, raises, refusal, room
from execution_app.gate.modes import Ruling
from execution_app.models import Shadow, TxIntent, Wallet
from execution_app.models.arrays import rows_of
from execution_app.moves import Step, move_all
from execution_app.node import fees, signers
from execution_app.states import ORDERS, Action, IntentState, Mode, OrderType, Reason, SendKind

# In-flight places that opens cannot use, and closes' worth of gas that opens leave in the wallet.
EXIT_PLACES = 4
EXIT_RESERVE = 2


@dataclass(frozen=True)
class Asked:
    """What was asked outside before any lock was taken.

    `signer_problem` is why a remote signer would not sign for this wallet just now.
    """

    market: prices.Market
    drawn: dict[int, Plan]
    signer_problem: tuple[Reason, str] | None


@dataclass
class Round:
    """One pass over a locked wallet; its room shrinks as intents are placed."""

    wallet: Wallet
    ruling: Ruling
    asked: Asked
    in_flight: int  # slots
    messages: int  # that may still be executed; they take no place of a slot, and no slot one of theirs
    spendable_wei: int
    now: datetime  # the database's clock, read under the wallet's lock
    kept: frozenset[str] = frozenset()  # symbols of which nothing is opened yet
    placed: list["Placement"] = field(default_factory=list)  # signed, and not stored yet
    made: list[making.Made] = field(default_factory=list)  # messages, likewise
    shadows: list[Shadow] = field(default_factory=list)  # estimates of all of them

    @property
    def market(self) -> prices.Market:
        return self.asked.market


@dataclass(frozen=True)
class Placement:
    """An intent with its slot and its signature, before the round stores them."""

    intent: TxIntent
    slot: signers.Slot
    plan: Plan
    fee: fees.Fee
    signed: signers.Signed | None  # None where a remote signer is asked


def place(round_: Round, intent: TxIntent, plan: Plan) -> bool:
    """Give the intent the wallet's next nonce and a signature, if places, fee, gas and caps allow; `store` keeps it."""
    wallet, market = round_.wallet, round_.market
    if round_.asked.signer_problem is not None:
        hold(intent, *round_.asked.signer_problem)
        return False
    exits = intent.action in EXITS
    by_message = making.goes(intent)
    under_way = round_.messages if by_message else round_.in_flight
    # An order that is taken back is no position that is left: the last places are for closes alone.
    if under_way >= wallet.max_in_flight + (EXIT_PLACES if intent.action == Action.CLOSE else 0):
        return False
    if by_message:
        return _place_message(round_, intent, plan)
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
    if not _has_room(round_, intent, plan, cost_wei):
        return False
    slot = _slot(wallet, intent, plan)
    try:
        signed = _signed(slot, fee)
    except Refused as error:
        hold(intent, Reason.NO_WALLET, str(error))
        return False
    wallet.next_nonce = slot.nonce + 1
    round_.placed.append(Placement(intent, slot, plan, fee, signed))
    _cast_shadow(round_, intent, plan)
    round_.in_flight += 1
    round_.spendable_wei -= cost_wei
    return True


def _place_message(round_: Round, intent: TxIntent, plan: Plan) -> bool:
    """The same for the gateway's road: no slot and no gas, and a signature over the order itself."""
    if not _has_room(round_, intent, plan, 0):
        return False
    now_s = max(round_.market.at, int(database_now().timestamp()))
    terms = making.Terms(
        plan.wanted_price, plan.close_usdc, plan.trade_opened_at, now_s, round_.market.block_number
    )
    try:
        made = making.make(round_.wallet, intent, terms)
    except Refused as error:
        hold(intent, Reason.SIGNER_REFUSED, str(error))
        return False
    round_.made.append(made)
    _cast_shadow(round_, intent, plan)
    round_.messages += 1
    return True


def _cast_shadow(round_: Round, intent: TxIntent, plan: Plan) -> None:
    if intent.action not in ORDERS or intent.order_type != OrderType.MARKET:
        return  # nobody knows when its price comes
    row = shadow.cast(intent, round_.market, plan.close_usdc)
    if row is not None:
        round_.shadows.append(row)


def _has_room(round_: Round, intent: TxIntent, plan: Plan, cost_wei: int) -> bool:
    """Whether the caps let an open, an increase or a change of margin in; it is refused where they do not. Exits always have room."""
    if broken := leverage_breaches(intent, plan.leverage_x):
        refuse(intent, refusal(broken))
        return False
    if not raises(intent):
        return True
    if counts_rows(intent):
        store(round_)
    if full := room(intent, Mode.LIVE, round_.now, cost_wei):
        refuse(intent, full)
        return False
    return True


def _slot(wallet: Wallet, intent: TxIntent, plan: Plan) -> signers.Slot:
    to = settings.ENVIRONMENT.venue_trading_address
    assert intent.trader is not None
    return signers.Slot(
        chain_id=wallet.chain_id,
        sender=wallet.address,
        nonce=wallet.next_nonce,
        to=to,
        value_wei=plan.value_wei,
        gas_limit=plan.gas_limit,
        data=plan.calldata,
        trader=intent.trader.address,
        order=signers.order_of(intent.intent_key, to, plan.value_wei, plan.gas_limit, plan.calldata),
    )


def _signed(slot: signers.Slot, fee: fees.Fee) -> signers.Signed | None:
    """A local key signs at once. A remote signer is asked after the commit, so what it will be asked is judged here."""
    if not signers.is_remote():
        return signers.sign(slot, fee)
    signers.permit(slot, fee)
    signers.check_nonce(slot)
    return None


def store(round_: Round) -> None:
    """Every intent placed so far takes its slot, for life, with its signature, in the round's transaction."""
    made, round_.made = round_.made, []
    making.store(made)
    shadows, round_.shadows = round_.shadows, []
    rows_of(Shadow).bulk_create(shadows)
    reservations.take_all([one.intent for one in made if raises(one.intent)], Mode.LIVE)
    placed, round_.placed = round_.placed, []
    if not placed:
        return
    steps = [Step(one.intent, f"nonce {one.slot.nonce}", _owned(one)) for one in placed]
    move_all(steps, IntentState.RESERVED, by=BY)
    first, last = placed[0].slot.nonce, placed[-1].slot.nonce
    if not Wallet.objects.filter(pk=round_.wallet.pk, next_nonce=first).update(next_nonce=last + 1):
        raise Stale(f"nonce {first} of wallet {round_.wallet.pk} is given away already")
    reservations.take_all([one.intent for one in placed if raises(one.intent)], Mode.LIVE)
    # A remote signer is asked after the commit.
    signed = [(one.intent, one.fee, one.signed) for one in placed if one.signed is not None]
    signatures.store_first(signed)
    move_all([Step(intent, made.tx_hash) for intent, _, made in signed], IntentState.SIGNED, by=BY)
    for one in placed:
        if one.signed is None:
            signatures.ask(one.intent, 0, SendKind.EXEC, one.fee)


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
        "wanted_price": one.plan.wanted_price or None,
        "close_usdc": one.plan.close_usdc,
        "reason": "",
        "reason_detail": "",
    }
