"""Every state of an intent and every legal move; the database holds the same list (a test compares)."""

from enum import StrEnum


class IntentState(StrEnum):
    PENDING = "pending"  # decided, owns no nonce yet
    HELD = "held"  # waits, without a nonce, for the mode, for gas or for an operator
    RESERVED = "reserved"  # owns (wallet, nonce) for life; a remote signer has still to sign
    SIGNED = "signed"  # the bytes are stored; no node has seen them
    SENDING = "sending"  # a broadcast has begun: a node may hold the bytes
    PENDING_INCLUSION = "pending_inclusion"  # a node said it holds the bytes
    MINED = "mined"  # a receipt exists in a block that may still be reorganised
    ORDERED = "ordered"  # the venue registered the order; a keeper has to execute it, at once or at its price
    FILLED = "filled"  # the venue executed it; settled once that block is final
    CHANGED = (
        "changed"  # the venue did what it asked for, which is no order; settled once that block is final
    )
    VENUE_CANCELLED = "venue_cancelled"  # the venue refunded it; settled once that block is final
    FINAL_REVERTED = "final_reverted"  # mined, failed, and final
    FINAL_CANCELLED = "final_cancelled"  # its slot was filled by a cancel, and final
    REJECTED = "rejected"  # refused before a nonce was taken
    SIMULATED = "simulated"  # executed in DRY
    EXPIRED = "expired"  # its max lag passed before a nonce was taken
    NO_OP = "no_op"  # a close that found nothing to close: a success without a transaction
    LOST_NONCE = "lost_nonce"  # its nonce was consumed by a transaction that is not ours
    LAPSED = "lapsed"  # its signed message went unused until its deadline, and finally


S = IntentState

MOVES: dict[IntentState, frozenset[IntentState]] = {
    S.PENDING: frozenset({S.HELD, S.RESERVED, S.REJECTED, S.SIMULATED, S.EXPIRED, S.NO_OP}),
    S.HELD: frozenset({S.RESERVED, S.REJECTED, S.EXPIRED, S.NO_OP}),
    # A remote signer may be away for long, and the key may be used elsewhere meanwhile.
    # A message that nobody signs ends with its deadline; an earlier copy of the database may have had it signed.
    S.RESERVED: frozenset({S.SIGNED, S.MINED, S.LOST_NONCE, S.LAPSED}),
    # A restored database may know less than the chain: a receipt is proof from any sent state.
    # A signed message that is never executed ends with its deadline; a transaction's slot never does.
    S.SIGNED: frozenset({S.SENDING, S.MINED, S.LOST_NONCE, S.LAPSED}),
    S.SENDING: frozenset({S.PENDING_INCLUSION, S.MINED, S.LOST_NONCE, S.LAPSED}),
    S.PENDING_INCLUSION: frozenset({S.MINED, S.LOST_NONCE, S.LAPSED}),
    S.MINED: frozenset({S.PENDING_INCLUSION, S.ORDERED, S.CHANGED, S.FINAL_REVERTED, S.FINAL_CANCELLED}),
    S.ORDERED: frozenset({S.PENDING_INCLUSION, S.FILLED, S.VENUE_CANCELLED}),
    # Provisional until settled_at is set, then nothing moves them.
    S.FILLED: frozenset({S.PENDING_INCLUSION, S.ORDERED}),
    S.CHANGED: frozenset({S.PENDING_INCLUSION}),
    S.VENUE_CANCELLED: frozenset({S.PENDING_INCLUSION, S.ORDERED}),
    S.FINAL_REVERTED: frozenset(),
    S.FINAL_CANCELLED: frozenset(),
    S.REJECTED: frozenset(),
    S.SIMULATED: frozenset(),
    S.EXPIRED: frozenset(),
    S.NO_OP: frozenset(),
    S.LOST_NONCE: frozenset(),
    S.LAPSED: frozenset(),
}

WAITING = frozenset({S.PENDING, S.HELD})
OWNING_NONCE = frozenset(
    {
        S.RESERVED,
        S.SIGNED,
        S.SENDING,
        S.PENDING_INCLUSION,
        S.MINED,
        S.ORDERED,
        S.FILLED,
        S.CHANGED,
        S.VENUE_CANCELLED,
        S.FINAL_REVERTED,
        S.FINAL_CANCELLED,
        S.LOST_NONCE,
        S.LAPSED,
    }
)
UNMINED = frozenset({S.RESERVED, S.SIGNED, S.SENDING, S.PENDING_INCLUSION})
# States that are final as soon as they are reached.
TERMINAL = frozenset(state for state, moves in MOVES.items() if not moves)
# A close that comes here lets its position go: it has ended, or it has closed its part and the rest is free.
RELEASING = TERMINAL | {S.FILLED, S.VENUE_CANCELLED}
# Closes in these states may still take something out of their position at the venue.
IN_FLIGHT = UNMINED | {S.MINED, S.ORDERED}
# States in which an open may still become, or has become, exposure nobody has closed.
UNDECIDED = WAITING | UNMINED | {S.MINED, S.ORDERED}


class SendKind(StrEnum):
    EXEC = "exec"  # the order itself
    BUMP = "bump"  # the order again with a higher fee, same nonce
    CANCEL = "cancel"  # a self-transfer that fills the slot


class SendOutcome(StrEnum):
    """What the nodes said to a broadcast, decided once at the RPC boundary."""

    UNOFFERED = "unoffered"
    ACCEPTED = "accepted"
    ALREADY_KNOWN = "already_known"
    NONCE_TOO_LOW = "nonce_too_low"
    NONCE_TOO_HIGH = "nonce_too_high"
    REPLACEMENT_UNDERPRICED = "replacement_underpriced"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    INVALID_PERMANENT = "invalid_permanent"
    POOL_FULL = "pool_full"
    RPC_FAULT = "rpc_fault"
    UNKNOWN = "unknown"


class Road(StrEnum):
    """By which way an order reaches the venue; fixed when it is signed."""

    ONCHAIN = "onchain"  # a transaction of the wallet, in its slot
    GATEWAY = "gateway"  # a signed message, which the venue's operator submits


class Mode(StrEnum):
    DRY = "DRY"
    LIVE = "LIVE"


class Action(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    LEVELS = "levels"  # new levels of a position at the venue: a message without an order
    CANCEL_ORDER = "cancel_order"  # takes back an open that rests at the venue
    UPDATE_ORDER = "update_order"  # gives one another price, slippage or levels
    INCREASE = (
        "increase"  # more of a position: in all that is counted an open, in the book a fill of its position
    )
    MARGIN = "margin"  # puts collateral into an open position at the venue, or takes some out


# What fills: new levels do not, nor what is done to an order that rests.
ORDERS = (Action.OPEN, Action.CLOSE, Action.INCREASE)
# What puts collateral in: it asks the caps, and has a stake.
GROWING = (Action.OPEN, Action.INCREASE)
# What takes a stake: these, and USDC that goes into a position's margin.
STAKING = (*GROWING, Action.MARGIN)
# What is done to an order that rests at the venue: a transaction that registers nothing.
ORDER_CHANGES = (Action.CANCEL_ORDER, Action.UPDATE_ORDER)


class OrderType(StrEnum):
    """When the venue executes an open: at once, or when the oracle reaches its price; until then it rests there."""

    MARKET = "market"
    LIMIT = "limit"  # at its price or better
    STOP_LIMIT = "stop_limit"  # at its price or worse, within the slippage


class OrderState(StrEnum):
    REGISTERED = "registered"
    EXECUTED = "executed"
    CANCELLED = "cancelled"


class PositionState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    VOID = "void"  # its opening fill was reorganised away


class PositionEnd(StrEnum):
    """How a position ended: by a close of ours, by the venue or its owner as an event says, or nobody knows how."""

    CLOSE = "close"
    TAKE_PROFIT = "take_profit"  # the venue's own level fired, as the next one
    STOP_LOSS = "stop_loss"
    LIQUIDATION = "liquidation"
    OWNER = "owner"  # by a close that was not ours
    CLOSED_ELSEWHERE = "closed_elsewhere"  # one of these four, and what it paid is not known


# How a trade ends that no close of ours ended, where an event tells of it.
ENDED_BY_VENUE = (PositionEnd.TAKE_PROFIT, PositionEnd.STOP_LOSS, PositionEnd.LIQUIDATION, PositionEnd.OWNER)


class PriceSource(StrEnum):
    """Who says what a market's price is."""

    CHAIN = "chain"  # the view of the venue's aggregator, by which orders are made
    CORE = "core"  # the feed's two, which are compared with it
    PRO = "pro"


class TriggerKind(StrEnum):
    """What of a position's protection was crossed, so that a close was asked for."""

    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    BREAK_EVEN = "break_even"
    TAKE_PROFIT = "take_profit"
    TIME_STOP = "time_stop"


class RestrictionKind(StrEnum):
    STOP = "emergency_stop"
    DRY = "dry"
    REDUCE_ONLY = "reduce_only"


class ModeKind(StrEnum):
    """Which mode of the stack changed: the one that holds, or the one that is asked for."""

    EFFECTIVE = "effective"
    REQUESTED = "requested"


class Origin(StrEnum):
    """Where a restriction was set, and so the only place where it can be lifted."""

    REDIS = "redis"
    HTTP = "http"
    ADMIN = "admin"
    COMMAND = "command"
    TELEGRAM = "telegram"
    AUTOMATIC = "automatic"


class CapScope(StrEnum):
    """What a cap sums over; every scope but the whole house is named by a value."""

    GLOBAL = "global"
    TRADER = "trader"  # by tg_user_id
    SOURCE = "source"
    SYMBOL = "symbol"


class CapName(StrEnum):
    """What is capped. The unit is in the name; days are UTC days, a minute is the last 60 seconds."""

    BANNED = "banned"  # its value is 0: nothing may be opened
    NOTIONAL = "notional_usdc"  # of one order, as the next two
    COLLATERAL = "collateral_usdc"
    LEVERAGE = "leverage_x"
    OPEN_POSITIONS = "open_positions"  # with the orders that may become one
    EXPOSURE = "exposure_usdc"  # notional of these
    ORDERS_PER_MINUTE = "orders_per_minute"
    DAILY_LOSS = "daily_loss_usdc"  # realised
    GAS_PER_DAY = "gas_per_day_wei"


class ReservationState(StrEnum):
    """How an opening order counts against the caps."""

    OPEN = "open"  # it may still become a position
    EXPOSED = "exposed"  # it is one
    RELEASED = "released"  # it is over, finally


class Reason(StrEnum):
    """Why an intent was refused, held, parked or expired: the bounded set of reason codes."""

    ACCEPTED = "accepted"
    UNKNOWN_TRADER = "unknown_trader"
    TRADER_DISABLED = "trader_disabled"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    SYMBOL_NOT_ALLOWED = "symbol_not_allowed"
    SYMBOL_UNKNOWN = "symbol_unknown"
    NOTIONAL_ABOVE_CAP = "notional_above_cap"
    LEVERAGE_ABOVE_CAP = "leverage_above_cap"
    COLLATERAL_ABOVE_CAP = "collateral_above_cap"
    BANNED = "banned"
    OPEN_POSITIONS_AT_CAP = "open_positions_at_cap"
    EXPOSURE_ABOVE_CAP = "exposure_above_cap"
    ORDERS_PER_MINUTE_AT_CAP = "orders_per_minute_at_cap"
    DAILY_LOSS_AT_CAP = "daily_loss_at_cap"
    GAS_PER_DAY_ABOVE_CAP = "gas_per_day_above_cap"
    LAG_EXCEEDED = "lag_exceeded"
    TS_IN_FUTURE = "ts_in_future"
    OLDER_THAN_RESTORE = "older_than_restore"
    ORDER_TYPE_UNSUPPORTED = "order_type_unsupported"
    TRIGGER_PRICE_UNSUPPORTED = "trigger_price_unsupported"
    NO_POSITION = "no_position"
    CLOSED_ELSEWHERE = "closed_elsewhere"
    WAITS_FOR_EARLIER_CLOSE = "waits_for_earlier_close"
    EMERGENCY_STOP = "emergency_stop"
    REDUCE_ONLY = "reduce_only"
    MODE_DEGRADED = "mode_degraded"
    LIVE_POSITION_IN_DRY = "live_position_in_dry"
    NO_WALLET = "no_wallet"
    WALLET_HALTED = "wallet_halted"
    INSUFFICIENT_GAS = "insufficient_gas"
    INSUFFICIENT_USDC = "insufficient_usdc"
    INSUFFICIENT_ALLOWANCE = "insufficient_allowance"
    NO_DELEGATION = "no_delegation"
    PRICE_UNAVAILABLE = "price_unavailable"
    PRICE_DEVIATES = "price_deviates"
    MARKET_CLOSED = "market_closed"
    MARKET_CLOSE_ONLY = "market_close_only"
    WAITS_FOR_EARLIER_ORDER = "waits_for_earlier_order"
    SUPERSEDED_BY_CLOSE = "superseded_by_close"
    VENUE_REVERT = "venue_revert"
    VENUE_WOULD_CANCEL = "venue_would_cancel"
    NOT_REPRESENTABLE = "not_representable"
    FEE_ABOVE_CEILING = "fee_above_ceiling"
    SIGNER_AWAY = "signer_away"
    SIGNER_REFUSED = "signer_refused"
    OPERATOR_REJECTED = "operator_rejected"
    MAY_BE_EXECUTED = "may_be_executed"
    ORDER_LOST = "order_lost"
    NO_ORDER = "no_order"


# Why an intent is held, the labels of its counters.
HOLDING = (
    *(Reason.MODE_DEGRADED, Reason.LIVE_POSITION_IN_DRY, Reason.NO_WALLET, Reason.WALLET_HALTED),
    *(Reason.INSUFFICIENT_GAS, Reason.INSUFFICIENT_USDC, Reason.INSUFFICIENT_ALLOWANCE),
    *(Reason.NO_DELEGATION, Reason.FEE_ABOVE_CEILING, Reason.SIGNER_AWAY, Reason.SIGNER_REFUSED),
    Reason.VENUE_REVERT,
)
OTHER_REASON = "other"
