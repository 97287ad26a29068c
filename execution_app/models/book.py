"""What the venue did: orders, fills, and the positions they add up to."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.models.columns import factor, leverage, listed, one_of, price, usdc
from execution_app.models.intents import TxIntent
from execution_app.models.kinds import BEYOND
from execution_app.models.traders import Trader
from execution_app.states import (
    ENDED_BY_VENUE,
    ORDERS,
    Action,
    Mode,
    OrderState,
    PositionEnd,
    PositionState,
)

# Positions that no close of ours ended.
_NOT_BY_US = sorted(end.value for end in PositionEnd if end is not PositionEnd.CLOSE)


class VenueOrder(models.Model):
    """An order the venue registered for us; a keeper executes or refunds it later."""

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="venue_order")
    venue = models.CharField(max_length=42)
    order_id = models.BigIntegerField()
    block_number = models.BigIntegerField()
    block_hash = models.CharField(max_length=66)
    state = one_of(OrderState, default=OrderState.REGISTERED.value)
    # The slot in which it rests, by which it is taken back; blank for a market order. Slots are given away again.
    limit_index = models.PositiveIntegerField(null=True, blank=True)
    # What our last change on the chain made of it; all blank where there is none, and then it is as its open asked.
    limit_price = price(null=True, blank=True)
    slippage_pct = factor(null=True, blank=True)
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    # A final block at which the venue had it resting: its end stands behind that.
    rested_to_block = models.BigIntegerField(null=True, blank=True)
    # Where the keeper's execution or refund stands, until it is final.
    done_block_number = models.BigIntegerField(null=True, blank=True)
    done_block_hash = models.CharField(max_length=66, blank=True, default="")
    # How far the venue's events were read in vain for its end.
    scanned_to_block = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "venue_orders"
        constraints = [
            models.UniqueConstraint(fields=["venue", "order_id"], name="uq_venue_orders_order"),
            listed("venue_orders", "state", OrderState),
            # A change gives it a price and a slippage; its levels may be none.
            models.CheckConstraint(
                condition=Q(
                    limit_price__isnull=True,
                    slippage_pct__isnull=True,
                    take_profit__isnull=True,
                    stop_loss__isnull=True,
                )
                | Q(
                    limit_index__isnull=False,
                    limit_price__isnull=False,
                    slippage_pct__isnull=False,
                    limit_price__gt=0,
                    limit_price__lt=BEYOND,
                    slippage_pct__gt=0,
                    slippage_pct__lt=BEYOND,
                ),
                name="ck_venue_orders_terms",
            ),
        ]

    def __str__(self) -> str:
        return f"order {self.order_id}"


class Position(models.Model):
    """A trade at the venue: a fold over its fills, DRY and LIVE never mixed.

    `opened_at` is the venue's time of the opening and, with the slot, names the
    position for good. `venue_timestamp` is what the venue's storage says now: a
    partial close or an increase refreshes it. `grown_price` is the opening price that an
    increase by its owner's own hand gave the trade, while the book does not have it yet. `missed_at_block` is where the venue had no such
    trade, although no close of ours ended it; `absent_at_block` is the same block
    once it is final, and ends the position. `opened_by` is the order whose fill left the
    chain, where one has, also when the row is open again: what that opens anew is this trade. `differs_at_block` is where the venue
    had another trade than the book in the way that `differs_as` spells; once that
    block is final it becomes a Correction.
    """

    trader = models.ForeignKey(Trader, models.PROTECT, related_name="positions")
    venue = models.CharField(max_length=42)
    symbol = models.CharField(max_length=32)
    pair_index = models.PositiveIntegerField()
    trade_index = models.PositiveIntegerField()
    opened_at = models.DateTimeField()
    mode = one_of(Mode)
    state = one_of(PositionState, default=PositionState.OPEN.value)
    opened_by = models.ForeignKey(TxIntent, models.PROTECT, null=True, blank=True, related_name="+")
    is_long = models.BooleanField()
    collateral_usdc = usdc()
    leverage_x = leverage()
    open_price = price()
    grown_price = price(null=True, blank=True)
    close_price = price(null=True, blank=True)
    paid_out_usdc = usdc(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    ended_by = one_of(PositionEnd, blank=True, default="", db_default="")
    missed_at_block = models.BigIntegerField(null=True, blank=True)
    missed_at_hash = models.CharField(max_length=66, blank=True, default="", db_default="")
    absent_at_block = models.BigIntegerField(null=True, blank=True)
    differs_at_block = models.BigIntegerField(null=True, blank=True)
    differs_at_hash = models.CharField(max_length=66, blank=True, default="", db_default="")
    differs_as = models.CharField(max_length=200, blank=True, default="", db_default="")
    venue_timestamp = models.DateTimeField(null=True, blank=True)
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    drift = models.CharField(max_length=200, blank=True, default="")
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "positions"
        constraints = [
            models.UniqueConstraint(
                fields=["trader", "venue", "pair_index", "trade_index", "opened_at", "mode"],
                name="uq_positions",
            ),
            # The venue keeps one open trade per slot, so do we.
            models.UniqueConstraint(
                fields=["trader", "venue", "pair_index", "trade_index", "mode"],
                condition=Q(state=PositionState.OPEN.value),
                name="uq_positions_open_slot",
            ),
            # PostgreSQL sorts NaN above every number, so an upper bound keeps it out.
            models.CheckConstraint(
                condition=Q(collateral_usdc__gte=0, collateral_usdc__lt=10**18),
                name="ck_positions_collateral",
            ),
            listed("positions", "mode", Mode),
            listed("positions", "state", PositionState),
            models.CheckConstraint(
                condition=Q(ended_by="")
                | Q(ended_by__in=sorted(end.value for end in PositionEnd), state=PositionState.CLOSED.value),
                name="ck_positions_ended_by",
            ),
        ]
        indexes = [
            models.Index(
                fields=["trader", "symbol", "mode"],
                condition=Q(state=PositionState.OPEN.value),
                name="ix_positions_open",
            ),
            # Who was liquidated lately is asked every half second.
            models.Index(
                fields=["updated_at"],
                condition=Q(ended_by__in=_NOT_BY_US),
                name="ix_positions_not_by_us",
            ),
            # Where the venue has an open one otherwise: seldom any, asked for every few seconds.
            models.Index(
                fields=["id"],
                condition=Q(state=PositionState.OPEN.value) & ~Q(drift=""),
                name="ix_positions_drift",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.mode} {self.symbol} #{self.trade_index}"


class Correction(models.Model):
    """What the venue held of a trade at a final block, where the book made it something else: its fold begins there.

    No trade of ours: its owner took a part or added margin, moved a level, or a
    row was damaged. Append-only. `differed` names each difference, ours and theirs.
    """

    position = models.ForeignKey(Position, models.PROTECT, related_name="corrections")
    block_number = models.BigIntegerField()
    block_hash = models.CharField(max_length=66)
    collateral_usdc = usdc()
    leverage_x = leverage()
    # Blank in corrections of before there were increases: then it did not change.
    open_price = price(null=True, blank=True)
    take_profit = price(null=True, blank=True)
    stop_loss = price(null=True, blank=True)
    venue_timestamp = models.DateTimeField()
    differed = models.CharField(max_length=400)
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "position_corrections"
        constraints = [
            models.UniqueConstraint(fields=["position", "block_number"], name="uq_position_corrections"),
            models.CheckConstraint(
                condition=Q(collateral_usdc__gt=0, collateral_usdc__lt=10**18),
                name="ck_position_corrections_collateral",
            ),
            models.CheckConstraint(
                condition=Q(leverage_x__gt=0, leverage_x__lt=10**6), name="ck_position_corrections_leverage"
            ),
            models.CheckConstraint(condition=~Q(differed=""), name="ck_position_corrections_differed"),
            models.CheckConstraint(
                condition=Q(open_price__isnull=True) | Q(open_price__gt=0, open_price__lt=BEYOND),
                name="ck_position_corrections_open_price",
            ),
        ]

    def __str__(self) -> str:
        return f"position {self.position_id} at block {self.block_number}"


class Fill(models.Model):
    """One execution by the venue (LIVE) or by the simulation (DRY).

    Of an increase `price`, `collateral_usdc` and `leverage_x` are of what was added, `open_price_after` and
    `leverage_after_x` of the whole trade from then on.

    Without an intent it is what ended a trade that no close of ours ended, and `ended_by` says how; such a LIVE one
    stands in a final block when it is written.
    """

    intent = models.OneToOneField(TxIntent, models.PROTECT, related_name="fill", null=True, blank=True)
    position = models.ForeignKey(Position, models.PROTECT, related_name="fills")
    action = one_of(Action)
    mode = one_of(Mode)
    open_price_after = price(null=True, blank=True)
    leverage_after_x = leverage(null=True, blank=True)
    price = price()
    collateral_usdc = usdc()
    leverage_x = leverage()
    fee_usdc = usdc(null=True, blank=True)
    sent_to_trader_usdc = usdc(null=True, blank=True)
    ended_by = one_of(PositionEnd, blank=True, default="", db_default="")
    # A simulated fill has no transaction: its hash is `dry:` and the intent's id, or the position that was liquidated.
    tx_hash = models.CharField(max_length=80)
    log_index = models.PositiveIntegerField()
    block_number = models.BigIntegerField(null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True, default="")
    # What the venue's storage says of the trade after this fill, LIVE only.
    venue_timestamp = models.DateTimeField(null=True, blank=True)
    filled_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "fills"
        constraints = [
            models.UniqueConstraint(fields=["tx_hash", "log_index"], name="uq_fills_event"),
            listed("fills", "mode", Mode),
            models.CheckConstraint(condition=Q(action__in=sorted(ORDERS)), name="ck_fills_action"),
            models.CheckConstraint(
                condition=Q(
                    ~Q(action=Action.INCREASE.value),
                    open_price_after__isnull=True,
                    leverage_after_x__isnull=True,
                )
                | Q(
                    action=Action.INCREASE.value,
                    open_price_after__isnull=False,
                    open_price_after__gt=0,
                    open_price_after__lt=BEYOND,
                    leverage_after_x__isnull=False,
                    leverage_after_x__gt=0,
                    leverage_after_x__lt=10**6,
                ),
                name="ck_fills_increase",
            ),
            models.CheckConstraint(
                condition=Q(mode=Mode.DRY.value) | Q(block_number__isnull=False),
                name="ck_fills_live_has_block",
            ),
            models.CheckConstraint(
                condition=Q(intent__isnull=False, ended_by="")
                | Q(
                    intent__isnull=True,
                    ended_by__in=sorted(ENDED_BY_VENUE),
                    action=Action.CLOSE.value,
                    sent_to_trader_usdc__isnull=False,
                ),
                name="ck_fills_whose",
            ),
        ]
        indexes = [
            # The largest trade of the last hour is asked for at every scrape.
            models.Index(
                fields=["filled_at"],
                condition=Q(action=Action.OPEN.value, mode=Mode.LIVE.value),
                name="ix_fills_live_opens",
            ),
            # What was realised today.
            models.Index(fields=["filled_at"], name="ix_fills_filled_at"),
        ]

    def __str__(self) -> str:
        return f"{self.mode} {self.action} fill at {self.price}"
