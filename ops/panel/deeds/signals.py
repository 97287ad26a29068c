"""A deed about a signal: replay it on paper, whatever the mode."""

from typing import Any

from django.http import Http404
from django.urls import reverse

from execution_app.desks.paper import PaperDesk
from execution_app.models import Trader
from execution_app.venues.interface import OpenRequest
from ops.panel import words
from ops.panel.deeds.deed import Deed, Person, Subject, whole_number
from signals_app.models import Signal
from signals_app.sides import CHANGE, OPENING_SIDES


class Replay(Deed):
    """By the paper desk: filled in our own book at the oracle's price; nothing is signed, and caps of DRY hold."""

    name, title, button = "replay-dry", "Replay a signal as DRY", "Replay it"
    permission = "execution_app.change_txintent"

    def look(self, target: str) -> Subject:
        signal = Signal.objects.filter(pk=whole_number(target)).first()
        if signal is None:
            raise Http404
        trader = Trader.objects.filter(tg_user_id=signal.tg_user_id).first()
        problem = ""
        if signal.side == CHANGE:
            problem = "a CHANGE is about an order of its time; only what opens can be replayed"
        elif signal.side not in OPENING_SIDES:
            problem = f"{signal.side} is about the positions of its time; only what opens can be replayed"
        elif trader is None:
            problem = f"no trader has the Telegram id {signal.tg_user_id}"
        facts = [
            ("signal", signal.intent_key),
            ("received", words.utc(signal.received_at)),
            ("order", f"{signal.side} {signal.symbol}"),
        ]
        if signal.collateral_usdc is not None and signal.leverage_x is not None:
            size = f"{words.grouped(signal.collateral_usdc, 'USDC')} at {words.grouped(signal.leverage_x)}x"
            facts.append(("size", size))
        note = "A new DRY position at today's price, under a key of its own. The signal stays as it is."
        back = reverse("panel:trace", args=[signal.intent_key])
        return Subject(signal.intent_key, signal.symbol, tuple(facts), note, problem, back, (signal, trader))

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        signal, trader = subject.row
        taken = PaperDesk(trader).open(
            OpenRequest(
                key=f"admin:replay:{signal.pk}:{person.once}",
                symbol=signal.symbol,
                is_long=signal.side == "LONG",
                collateral_usdc=signal.collateral_usdc,
                leverage_x=signal.leverage_x,
                slippage_pct=signal.slippage_pct,
                take_profit=signal.take_profit,
                stop_loss=signal.stop_loss,
            )
        )
        return f"Replayed as {taken.key}; Find leads to its trace."


DEEDS: tuple[Deed, ...] = (Replay(),)
