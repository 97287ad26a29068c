"""What an intent of each kind may say and how it may end: constraints of `tx_intents`, by what is asked for."""

from django.db import models
from django.db.models import Q

from execution_app.models.columns import listed
from execution_app.states import ORDER_CHANGES, Action, IntentState, OrderType, Road

# PostgreSQL holds NaN for greater than every number, so "above zero" alone lets it in.
BEYOND = 10**18
MOST_WEI = 10**36
# All others are an order's.
_OF_LEVELS = (
    *("pending", "held", "rejected", "expired", "no_op", "reserved", "signed", "sending"),
    *("pending_inclusion", "mined", "changed", "lapsed"),
)
_OF_CHANGES = {*_OF_LEVELS, "final_reverted", "final_cancelled", "lost_nonce"} - {"lapsed"}
_CHANGES = sorted(action.value for action in ORDER_CHANGES)
# What may be of the position that it names alone.
ONE_POSITION = [Action.CLOSE.value, Action.INCREASE.value, Action.MARGIN.value]
# An increase is an order by message, without a slot.
_NOT_OF_INCREASES = ("changed", "final_reverted", "final_cancelled", "lost_nonce", "no_op")

KINDS: tuple[models.CheckConstraint, ...] = (
    # New levels are of one position, and go by message alone: they own a nonce, never a slot, and no fill.
    models.CheckConstraint(
        condition=~Q(action=Action.LEVELS.value)
        | Q(position__isnull=False, road=Road.GATEWAY.value, state__in=sorted(_OF_LEVELS)),
        name="ck_tx_intents_levels",
    ),
    models.CheckConstraint(
        condition=~Q(state=IntentState.CHANGED.value)
        | Q(action__in=[Action.LEVELS.value, Action.MARGIN.value, *_CHANGES]),
        name="ck_tx_intents_changed_levels",
    ),
    # An increase is of one position, goes by message alone and has a size; refused, it may have found none.
    models.CheckConstraint(
        condition=~Q(action=Action.INCREASE.value)
        | Q(state=IntentState.REJECTED.value)
        | Q(
            ~Q(state__in=_NOT_OF_INCREASES),
            position__isnull=False,
            collateral_usdc__isnull=False,
            leverage_x__isnull=False,
            is_long__isnull=False,
            nonce__isnull=True,
            road__in=["", Road.GATEWAY.value],
        ),
        name="ck_tx_intents_increase",
    ),
    listed("tx_intents", "order_type", OrderType),
    # What rests has its price, is an open, and goes on-chain alone; a change of it may name another price.
    models.CheckConstraint(
        condition=Q(order_type=OrderType.MARKET.value, limit_price__isnull=True)
        | Q(
            action=Action.UPDATE_ORDER.value,
            order_type=OrderType.MARKET.value,
            limit_price__gt=0,
            limit_price__lt=BEYOND,
        )
        | Q(
            ~Q(order_type=OrderType.MARKET.value),
            limit_price__isnull=False,
            limit_price__gt=0,
            limit_price__lt=BEYOND,
            action=Action.OPEN.value,
            road=Road.ONCHAIN.value,
        ),
        name="ck_tx_intents_limit_price",
    ),
    # Whose open is named takes it back or changes it, on-chain alone: it owns a slot, and no order and no fill.
    # A signal that names none is kept all the same, refused.
    models.CheckConstraint(
        condition=Q(~Q(action__in=_CHANGES), target__isnull=True)
        | Q(
            action__in=_CHANGES,
            target__isnull=False,
            road=Road.ONCHAIN.value,
            state__in=sorted(_OF_CHANGES),
        )
        | Q(
            action=Action.UPDATE_ORDER.value,
            target__isnull=True,
            road=Road.ONCHAIN.value,
            state=IntentState.REJECTED.value,
        ),
        name="ck_tx_intents_target",
    ),
    models.CheckConstraint(
        condition=Q(new_slippage_pct__isnull=True)
        | Q(action=Action.UPDATE_ORDER.value, new_slippage_pct__gt=0, new_slippage_pct__lt=BEYOND),
        name="ck_tx_intents_new_slippage",
    ),
    # A change says what it changes.
    models.CheckConstraint(
        condition=~Q(action=Action.UPDATE_ORDER.value)
        | Q(limit_price__isnull=False)
        | Q(new_slippage_pct__isnull=False)
        | Q(take_profit__isnull=False)
        | Q(stop_loss__isnull=False),
        name="ck_tx_intents_changes_something",
    ),
    # Margin is of one position, on-chain alone or simulated: it owns a slot, and no order and no fill. A signal that names
    # none is kept all the same, refused.
    models.CheckConstraint(
        condition=Q(~Q(action=Action.MARGIN.value), margin_usdc__isnull=True)
        | Q(
            ~Q(margin_usdc=0),
            Q(position__isnull=False) | Q(state=IntentState.REJECTED.value),
            action=Action.MARGIN.value,
            margin_usdc__isnull=False,
            margin_usdc__gt=-BEYOND,
            margin_usdc__lt=BEYOND,
            road__in=["", Road.ONCHAIN.value],
            state__in=sorted({*_OF_CHANGES, "simulated"}),
        ),
        name="ck_tx_intents_margin",
    ),
)
