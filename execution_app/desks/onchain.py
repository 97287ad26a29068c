"""The on-chain road: a delegate's transactions, reserved, signed and followed by the engine."""

from typing import Any

from django.db import transaction

from execution_app.bells import ring
from execution_app.desks.desk import BY, Desk
from execution_app.errors import Refused
from execution_app.models import Trader, Wallet
from execution_app.moves import open_intent
from execution_app.states import Mode, Road
from execution_app.tasks import submit
from execution_app.venues.interface import Submission


class OnChainDesk(Desk):
    name = "onchain"
    mode = Mode.LIVE
    road: Road | None = Road.ONCHAIN

    def __init__(self, trader: Trader) -> None:
        """Raises Refused for a trader without a delegate wallet."""
        super().__init__(trader)
        wallet = Wallet.objects.filter(trader=trader).first()
        if wallet is None:
            raise Refused(f"trader {trader.tg_user_id} has no delegate wallet")
        self.wallet = wallet

    def _take_down(self, key: str, **asked: Any) -> Submission:
        wallet_id = self.wallet.pk
        with transaction.atomic():
            intent, is_new = open_intent(
                key=key,
                by=BY,
                trader=self.trader,
                wallet=self.wallet,
                tg_user_id=self.trader.tg_user_id,
                **asked,
            )
            told = self._told(intent, asked, is_new=is_new)
            transaction.on_commit(lambda: ring(submit, wallet_id))
        return told
