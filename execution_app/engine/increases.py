"""More of a position, as an intent that is an open to the caps: when it may go, and what waits for it.

Its message names a slot and no trade, and blends whatever trade is there by then. So it goes while nothing else is about
to change the trade or to take the slot: it waits for closes of the position and for opens of its symbol, such opens wait
for it (`level_changes.symbols_kept`), and so does a close, which could not say how much it closes; all of them until its
deadline at most. One increase of a position at a time.
"""

from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.db.models import Q, QuerySet

from execution_app.book import growth, margins
from execution_app.engine.level_changes import opens_under_way
from execution_app.engine.waiting import hold, note, refuse
from execution_app.gate.admission import Admission, Verdict
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import IN_FLIGHT, WAITING, Action, Mode, PositionState, Reason, Road
from execution_app.venues.interface import Action as Asked
from execution_app.venues.interface import UnsupportedError, require

LEVERAGE_PLACES = Decimal("0.0001")


def size(position: Position, collateral_usdc: Decimal) -> dict[str, Any]:
    """The columns of an increase by this collateral: at the trade's own leverage, in as many digits as an order has.

    By message where the trade is at the venue, whatever road its open took; a simulated one has no road.
    """
    return {
        "action": Action.INCREASE.value,
        "symbol": position.symbol,
        "position": position,
        "is_long": position.is_long,
        "collateral_usdc": collateral_usdc,
        "leverage_x": position.leverage_x.quantize(LEVERAGE_PLACES, ROUND_DOWN),
        "road": Road.GATEWAY.value if position.mode == Mode.LIVE else "",
    }


def unsupported(position: Position, venue: str, field: str = "") -> str:
    """Why a position is not increased where orders take this road; blank where it is. On-chain no call for it is known."""
    try:
        require(venue if position.mode == Mode.LIVE else "paper", Asked.INCREASE, field)
    except UnsupportedError as refusal:
        return str(refusal)
    return ""


def ask(position: Position, collateral_usdc: Decimal, *, key: str, by: str, **terms: Any) -> TxIntent | None:
    """The one intent of this key that increases a position, and never another in its place; None without a wallet."""
    wallet = Wallet.objects.filter(trader=position.trader).first()
    if wallet is None:
        return None
    intent, _ = open_intent(
        key=key,
        by=by,
        trader=position.trader,
        wallet=wallet,
        tg_user_id=position.trader.tg_user_id,
        only_position=True,
        **size(position, collateral_usdc),
        **terms,
    )
    return intent


def may_go(intent: TxIntent, verdict: Verdict) -> bool:
    """Whether this may be signed, or simulated, now; what keeps it is written on the row, or ends it."""
    position = intent.position
    assert position is not None
    if position.state != PositionState.OPEN:
        _end(intent, position)
    elif position.mode == Mode.DRY:
        return _is_simulated(intent, position, verdict)
    elif verdict is not Verdict.EXECUTE:
        hold(intent, Reason.LIVE_POSITION_IN_DRY, "a live position is not increased by a simulation")
    elif is_to_be_closed(position):
        note(intent, Reason.WAITS_FOR_EARLIER_CLOSE, "a close of this position is not finished")
    elif opens_under_way(intent).exists():
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "an open on this symbol is under way")
    elif margins.under_way(position).exists():
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "a change of this position's margin is under way")
    elif _is_second(intent, position):
        note(intent, Reason.WAITS_FOR_EARLIER_ORDER, "an earlier increase of this position is under way")
    else:
        return True
    return False


def _is_simulated(intent: TxIntent, position: Position, verdict: Verdict) -> bool:
    if verdict is Verdict.SIMULATE:
        return True
    # A sender meant what there is in LIVE; who named the position meant it, and the gate simulates that.
    detail = f"position {position.pk} is simulated, and this would go LIVE"
    refuse(intent, Admission(Verdict.REFUSE, Reason.NO_POSITION, detail))
    return False


def _end(intent: TxIntent, position: Position) -> None:
    """What ended the position has to be final: a reorg may open it again. It may expire meanwhile."""
    if position.mode == Mode.LIVE and position.settled_at is None:
        note(
            intent, Reason.WAITS_FOR_EARLIER_CLOSE, f"position {position.pk} is {position.state}, not finally"
        )
        return
    detail = f"position {position.pk} is {position.state}"
    refuse(intent, Admission(Verdict.REFUSE, Reason.NO_POSITION, detail))


def is_forbidden(intent: TxIntent) -> bool:
    """Whether what came since it was signed keeps it from leaving: the position ended, or is being closed."""
    if intent.action != Action.INCREASE or intent.position is None:
        return False
    return intent.position.state != PositionState.OPEN or is_being_closed(intent.position)


def is_being_closed(position: Position) -> bool:
    """Whether a close works on the position."""
    its_own = Q(position=position) & (Q(holds_position=True) | Q(state__in=sorted(IN_FLIGHT)))
    return _closes(position).filter(its_own).exists()


def is_to_be_closed(position: Position) -> bool:
    """Whether one does, or waits for its turn.

    Whichever was asked for first: a close that waits for an increase would else wait for each that was asked before it.
    """
    waits = Q(position=None) | Q(position=position)
    return is_being_closed(position) or _closes(position).filter(waits, state__in=sorted(WAITING)).exists()


def _closes(position: Position) -> QuerySet[TxIntent]:
    return TxIntent.objects.filter(
        trader=position.trader, symbol=position.symbol, action=Action.CLOSE, settled_at=None
    )


def _is_second(intent: TxIntent, position: Position) -> bool:
    others = TxIntent.objects.filter(position=position, action=Action.INCREASE, settled_at=None)
    waiting = others.filter(state__in=sorted(WAITING), pk__lt=intent.pk)
    return waiting.exists() or growth.is_under_way(position)
