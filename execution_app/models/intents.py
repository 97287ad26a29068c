"""The intent: one order, one key, at most one (wallet, nonce), for life."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import factor, listed, one_of, price, usdc, wei
from execution_app.models.kinds import BEYOND, KINDS, MOST_WEI, ONE_POSITION
from execution_app.models.traders import Trader, Wallet
from execution_app.states import (
    ORDERS,
    OWNING_NONCE,
    TERMINAL,
    Action,
    IntentState,
    Mode,
    OrderType,
    Road,
)


class TxIntent(models.Model):
    """What somebody asked for, and how far it has come.

    Only `execution_app.moves.move` changes `state`; a trigger refuses what the
    table of moves does not know.
    """

    intent_key = models.CharField(max_length=220)
    trader = models.ForeignKey(Trader, models.PROTECT, null=True, blank=True, related_name="intents")
    wallet = models.ForeignKey(Wallet, models.PROTECT, null=True, blank=True, related_name="intents")
    tg_user_id = models.BigIntegerField()
    # Who asked, for the caps of a source; blank where no source of signals did.
    source = models.CharField(max_length=64, blank=True, default="", db_default="")
    action = one_of(Action)
    symbol = models.CharField(max_length=32)
    is_long = models.BooleanField(null=True, blank=True)
    collateral_usdc = usdc(null=True, blank=True)
    leverage_x = factor(null=True, blank=True)
    slippage_pct = factor()
    # Blank until it is signed: then as VENUE says, unless who asked named one.
    road = one_of(Road, blank=True, default="", db_default="")
    position = models.ForeignKey(
        "execution_app.Position", models.PROTECT, null=True, blank=True, related_name="closing_intents"
    )
    # A close has its position for itself from here until it has filled or ended; a reorg of its fill does
    # not give it back, since another close may have begun on what was left.
    holds_position = models.BooleanField(default=False, db_default=False)
    # Asked for this very position, which it never exchanges for another one.
    only_position = models.BooleanField(default=False, db_default=False)
    # What a close takes out; both empty closes all. Of several positions each intent has its own share.
    reduce_usdc = usdc(null=True, blank=True)
    reduce_pct = factor(null=True, blank=True)
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    # An open of another type than market rests at the venue until the oracle reaches `limit_price`.
    order_type = one_of(OrderType, default=OrderType.MARKET.value, db_default=OrderType.MARKET.value)
    limit_price = price(null=True, blank=True)
    # The open that rests at the venue and that this one takes back or changes. Of a change what is blank stays as the
    # venue has it, and a level of 0 goes, as the venue writes it.
    target = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="order_changes")
    new_slippage_pct = factor(null=True, blank=True)
    # Collateral that goes into its position, above zero, or out of it.
    margin_usdc = usdc(null=True, blank=True)
    # Watched by us alone; the time counts from the fill.
    trailing_stop_pct = factor(null=True, blank=True)
    break_even_pct = factor(null=True, blank=True)
    time_stop_s = models.PositiveIntegerField(null=True, blank=True)

    state = one_of(IntentState, default=IntentState.PENDING.value)
    reason = models.CharField(max_length=64, blank=True, default="")
    reason_detail = models.CharField(max_length=400, blank=True, default="")
    mode = one_of(Mode, null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())
    # Its slot is to be filled by a cancel, since a person wants that, or since another trade has come into the slot
    # that it closes; that is sent under a stop, too.
    cancel_asked_at = models.DateTimeField(null=True, blank=True)
    # A person wants bytes that are older than this replaced at once; set by `engine.speedups` alone.
    speed_up_asked_at = models.DateTimeField(null=True, blank=True)
    # A person lets this one close go LIVE although Redis is not well; set by `engine.held.approve` alone.
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    # The most that its transaction may cost, all in; blank: only the environment's ceiling binds.
    max_cost_wei = wei(null=True, blank=True)

    # Fixed with the nonce and never changed: what every attempt of this intent executes.
    nonce = models.BigIntegerField(null=True, blank=True)
    to_address = models.CharField(max_length=42, blank=True, default="")
    calldata = models.BinaryField(null=True, blank=True)
    value_wei = wei(null=True, blank=True)
    gas_limit = models.BigIntegerField(null=True, blank=True)
    # The most that the chain below may charge for its data; 0 on chains that charge nothing for it.
    l1_fee_wei = wei(default=0, db_default=0)
    wanted_price = price(null=True, blank=True)
    # When the venue's keeper would execute what is simulated: written once, with the mode and the wanted price.
    keeper_due_at = models.DateTimeField(null=True, blank=True)
    # Collateral that a close takes out of its position.
    close_usdc = usdc(null=True, blank=True)

    class Meta:
        db_table = "tx_intents"
        constraints = [
            # The same request twice is one intent, whoever asked and however often.
            models.UniqueConstraint(fields=["intent_key"], name="uq_tx_intents_idem"),
            # A slot has one intent, ever.
            models.UniqueConstraint(fields=["wallet", "nonce"], name="uq_tx_intents_slot"),
            # A position is closed by one intent at a time; what has filled or ended frees it.
            models.UniqueConstraint(
                fields=["position"], condition=Q(holds_position=True), name="uq_tx_intents_closing"
            ),
            models.CheckConstraint(
                condition=Q(holds_position=False) | Q(position__isnull=False),
                name="ck_tx_intents_holds_what_it_has",
            ),
            models.CheckConstraint(
                condition=Q(only_position=False) | Q(position__isnull=False, action__in=ONE_POSITION),
                name="ck_tx_intents_only_position",
            ),
            *KINDS,
            models.CheckConstraint(
                condition=Q(trailing_stop_pct__isnull=True)
                | Q(trailing_stop_pct__gt=0, trailing_stop_pct__lte=100),
                name="ck_tx_intents_trailing_stop_pct",
            ),
            models.CheckConstraint(
                condition=Q(break_even_pct__isnull=True) | Q(break_even_pct__gt=0, break_even_pct__lte=100),
                name="ck_tx_intents_break_even_pct",
            ),
            # No close takes a nonce for a position that another may be closing.
            models.CheckConstraint(
                condition=~Q(action=Action.CLOSE.value, state__in=["reserved", "sending", "signed"])
                | Q(holds_position=True),
                name="ck_tx_intents_close_holds",
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.CLOSE.value, state__in=sorted(s.value for s in OWNING_NONCE))
                | Q(position__isnull=False, close_usdc__isnull=False),
                name="ck_tx_intents_close_size",
            ),
            models.CheckConstraint(
                condition=Q(close_usdc__isnull=True) | Q(close_usdc__gt=0, close_usdc__lt=BEYOND),
                name="ck_tx_intents_close_usdc",
            ),
            models.CheckConstraint(
                condition=Q(max_cost_wei__isnull=True) | Q(max_cost_wei__gt=0, max_cost_wei__lt=MOST_WEI),
                name="ck_tx_intents_max_cost",
            ),
            models.CheckConstraint(
                condition=Q(l1_fee_wei__gte=0, l1_fee_wei__lt=MOST_WEI), name="ck_tx_intents_l1_fee"
            ),
            models.CheckConstraint(
                condition=Q(reduce_usdc__isnull=True) | Q(reduce_usdc__gt=0, reduce_usdc__lt=BEYOND),
                name="ck_tx_intents_reduce_usdc",
            ),
            models.CheckConstraint(
                condition=Q(reduce_pct__isnull=True)
                | Q(reduce_pct__gt=0, reduce_pct__lte=100, reduce_usdc__isnull=True),
                name="ck_tx_intents_reduce_pct",
            ),
            listed("tx_intents", "state", IntentState),
            listed("tx_intents", "action", Action),
            models.CheckConstraint(
                condition=Q(mode__isnull=True) | Q(mode__in=[Mode.DRY.value, Mode.LIVE.value]),
                name="ck_tx_intents_mode",
            ),
            models.CheckConstraint(
                condition=Q(collateral_usdc__isnull=True)
                | Q(collateral_usdc__gt=0, collateral_usdc__lt=BEYOND),
                name="ck_tx_intents_collateral",
            ),
            models.CheckConstraint(
                condition=Q(leverage_x__isnull=True) | Q(leverage_x__gt=0, leverage_x__lt=BEYOND),
                name="ck_tx_intents_leverage",
            ),
            models.CheckConstraint(
                condition=~Q(action=Action.OPEN.value)
                | Q(collateral_usdc__isnull=False, leverage_x__isnull=False, is_long__isnull=False),
                name="ck_tx_intents_open_size",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(s.value for s in OWNING_NONCE))
                | Q(
                    road=Road.GATEWAY.value,
                    nonce__isnull=True,
                    wallet__isnull=False,
                    trader__isnull=False,
                    mode__isnull=False,
                    mode=Mode.LIVE.value,
                )
                | Q(
                    road__in=["", Road.ONCHAIN.value],
                    nonce__isnull=False,
                    wallet__isnull=False,
                    trader__isnull=False,
                    mode__isnull=False,
                    mode=Mode.LIVE.value,
                    calldata__isnull=False,
                    value_wei__isnull=False,
                    gas_limit__isnull=False,
                ),
                name="ck_tx_intents_sent_owns_slot",
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(s.value for s in OWNING_NONCE)) | Q(nonce__isnull=True),
                name="ck_tx_intents_slot_only_when_sent",
            ),
            models.CheckConstraint(
                condition=Q(road__in=["", *sorted(road.value for road in Road)]), name="ck_tx_intents_road"
            ),
            # A slot of the wallet never lapses: it is filled.
            models.CheckConstraint(
                condition=~Q(state=IntentState.LAPSED.value) | Q(road=Road.GATEWAY.value),
                name="ck_tx_intents_lapsed_by_gateway",
            ),
            models.CheckConstraint(
                condition=~Q(state=IntentState.SIMULATED.value)
                | Q(mode__isnull=False, mode=Mode.DRY.value, trader__isnull=False),
                name="ck_tx_intents_simulated_is_dry",
            ),
            # What waits for a simulation's keeper is never sent, and was priced when it was decided.
            models.CheckConstraint(
                condition=Q(keeper_due_at__isnull=True)
                | (
                    Q(mode__isnull=False, mode=Mode.DRY.value, wanted_price__isnull=False)
                    & Q(action__in=[action.value for action in ORDERS])
                    & Q(wanted_price__gt=0, wanted_price__lt=BEYOND)
                ),
                name="ck_tx_intents_keeper_due",
            ),
            models.CheckConstraint(
                condition=Q(approved_at__isnull=True, approved_by="")
                | (Q(approved_at__isnull=False, action=Action.CLOSE.value) & ~Q(approved_by="")),
                name="ck_tx_intents_approval",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(s.value for s in TERMINAL)) | Q(settled_at__isnull=False),
                name="ck_tx_intents_terminal_is_settled",
            ),
        ]
        indexes = [
            # The sweeps read only what is not settled, however long the history.
            models.Index(
                fields=["wallet", "state", "id"],
                condition=Q(settled_at__isnull=True),
                name="ix_tx_intents_unsettled",
            ),
            models.Index(fields=["state"], name="ix_tx_intents_state"),
            models.Index(fields=["trader", "symbol", "-id"], name="ix_tx_intents_trader_symbol"),
            # Few, and asked for beside everything that is at stake.
            models.Index(
                fields=["id"], condition=Q(action=Action.INCREASE.value), name="ix_tx_intents_increases"
            ),
        ]

    def __str__(self) -> str:
        return self.intent_key
