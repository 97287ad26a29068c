"""Paper: filled in our own book, at the oracle's price and the venue's costs; nothing is signed, whatever the mode.

Decided at once, and filled by the rounds of the trader's wallet when the venue's keeper would come, as in DRY.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from execution_app import reservations
from execution_app.book import positions
from execution_app.desks import views
from execution_app.desks.desk import BY, Desk
from execution_app.engine import reserve, waiting
from execution_app.errors import Refused, Retryable
from execution_app.gate import limits
from execution_app.gate.admission import Admission, Verdict, admit, ruling_now
from execution_app.models import Position, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import GROWING, Action, Mode, PositionState, Reason
from execution_app.venues.interface import Holding, Submission


class PaperDesk(Desk):
    name = "paper"
    mode = Mode.DRY

    def holdings(self) -> Sequence[Holding]:
        held = Position.objects.filter(trader=self.trader, mode=Mode.DRY, state=PositionState.OPEN)
        return [
            Holding(
                symbol=one.symbol,
                slot=one.trade_index,
                is_long=one.is_long,
                collateral_usdc=one.collateral_usdc,
                leverage_x=one.leverage_x,
                open_price=one.open_price,
                take_profit=one.take_profit,
                stop_loss=one.stop_loss,
                opened_at=one.opened_at,
            )
            for one in held.order_by("symbol", "trade_index")
        ]

    def _take_down(self, key: str, **asked: Any) -> Submission:
        """Taken down and decided in one transaction, so that no road to the chain ever finds it undecided."""
        symbol, action = asked["symbol"], Action(asked["action"])
        found = (views.look_to_open if action in GROWING else views.look)(symbol, self.trader)
        if unfit := found.problem(symbol, action):
            raise (Refused if unfit.final else Retryable)(unfit.detail)
        wallet = Wallet.objects.filter(trader=self.trader).first()
        if wallet is None and settings.ENVIRONMENT.dry_keeper_delay_ms:
            raise Refused(
                f"trader {self.trader.tg_user_id} has no wallet, whose rounds fill what is simulated"
            )
        with transaction.atomic(durable=True):
            reservations.lock()
            ruling = ruling_now()
            intent, is_new = open_intent(
                key=key,
                by=BY,
                trader=self.trader,
                wallet=wallet,
                tg_user_id=self.trader.tg_user_id,
                **asked,
            )
            told = self._told(intent, asked, is_new=is_new)
            if not is_new:
                return told
            with limits.read_once():
                admission = admit(intent, ruling)
                if admission.verdict is Verdict.REFUSE:
                    waiting.refuse(intent, admission)
                elif _may_go(intent, action):
                    reserve.simulate(intent, found)
        return told


def _may_go(intent: TxIntent, action: Action) -> bool:
    """Raises Retryable where another order has its position."""
    if action is Action.OPEN:
        return True
    return _is_there(intent) if action in (Action.INCREASE, Action.MARGIN) else _is_held(intent)


def _is_there(change: TxIntent) -> bool:
    """Whether the position is there to be increased, or given another margin. Raises Retryable where a close has it."""
    assert change.position is not None
    position = Position.objects.select_for_update().get(pk=change.position.pk)
    if position.state != PositionState.OPEN:
        detail = f"position {position.pk} is {position.state}"
        waiting.refuse(change, Admission(Verdict.REFUSE, Reason.NO_POSITION, detail))
        return False
    if positions.is_taken(position, change):
        raise Retryable(f"a close of position {position.pk} is not finished")
    change.position = position
    return True


def _is_held(close: TxIntent) -> bool:
    """Take the position for this close; one that is gone has nothing to close. Raises Retryable where it is taken."""
    assert close.position is not None
    position = Position.objects.select_for_update().get(pk=close.position.pk)
    if position.state != PositionState.OPEN:
        waiting.end_empty(close, Reason.NO_POSITION, f"position {position.pk} is closed already")
        return False
    if positions.is_taken(position, close):
        raise Retryable(f"another close of position {position.pk} is not finished")
    close.position = position
    positions.hold(position, close)
    return True
