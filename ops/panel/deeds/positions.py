"""Deeds about what is held: close a position or half of it, increase it, change its margin, close everything."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.http import Http404
from django.urls import reverse

from execution_app.audit_words import AuditOrigin
from execution_app.bells import ring
from execution_app.engine import exits, increases, margin_changes
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.gate import control, loosening
from execution_app.models import Position
from execution_app.states import Action, Mode, Origin, PositionState, RestrictionKind
from execution_app.tasks import submit
from execution_app.venues.interface import DEFAULT_MAX_LAG_S, DEFAULT_SLIPPAGE_PCT
from ops.panel import roles, words
from ops.panel.deeds.deed import Deed, DeedForm, Person, Subject, User, whole_number
from ops.rollout import flattening

CLOSES = "execution_app.change_position"
HALF_PCT = Decimal(50)
FLATTEN_WITHIN_S = 2  # what is asked for by then goes on by itself


class Close(Deed):
    """All of one LIVE position, by the verb that levels and `stop --flatten` ask."""

    name, title, button = "close", "Close a position", "Close it"
    permission = CLOSES
    reduce_pct: ClassVar[Decimal | None] = None

    def look(self, target: str) -> Subject:
        position = Position.objects.select_related("trader").filter(pk=whole_number(target)).first()
        if position is None:
            raise Http404
        taken = position.closing_intents.filter(action=Action.CLOSE, settled_at=None).order_by("id").first()
        facts = (
            ("position", f"{position} {'LONG' if position.is_long else 'SHORT'}"),
            ("trader", str(position.trader)),
            ("collateral", words.grouped(position.collateral_usdc, "USDC")),
            ("leverage", f"{words.grouped(position.leverage_x)}x"),
            ("open price", f"{words.grouped(position.open_price)} USD"),
            ("takes out", "all" if self.reduce_pct is None else f"{words.grouped(self.reduce_pct)} %"),
        )
        note = f"{taken.intent_key} is closing it already; this one waits for that." if taken else ""
        back = reverse("admin:execution_app_position_change", args=[position.pk])
        return Subject(str(position), position.symbol, facts, note, _problem(position), back, position)

    def offered(self, user: User) -> bool:
        return super().offered(user) or roles.sees_own(user)

    def permits(self, user: User, subject: Subject) -> bool:
        """Operators; and a trader what is theirs."""
        return super().permits(user, subject) or roles.owns(user, subject.row.trader.tg_user_id)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        key = f"admin:{self.name}:{subject.row.pk}:{person.once}"
        wallet_id = exits.ask(subject.row, key=key, by=person.name, reduce_pct=self.reduce_pct)
        if wallet_id is None:
            raise Refused(f"{subject.row.trader} has no wallet")
        ring(submit, wallet_id)
        return f"Asked for: {key}"


class Halve(Close):
    """Half of one LIVE position."""

    name, title, button = "halve", "Close half of a position", "Halve it"
    reduce_pct = HALF_PCT


class IncreaseForm(DeedForm):
    """With the collateral that is put in."""

    collateral_usdc = forms.DecimalField(
        label="USDC to put in, at the leverage that it has",
        max_digits=16,
        decimal_places=6,
        min_value=Decimal("0.000001"),
        widget=forms.TextInput(attrs={"class": "vanta-input", "inputmode": "decimal", "autocomplete": "off"}),
    )


class Increase(Close):
    """More of one position, as an INCREASE asks it of the engine; to put something in loosens, so it asks for a code."""

    name, title, button = "increase", "Increase a position", "Increase it"
    loosens = True
    form, asks = IncreaseForm, ("collateral_usdc",)

    def look(self, target: str) -> Subject:
        found = super().look(target)
        position: Position = found.row
        facts = tuple(fact for fact in found.facts if fact[0] != "takes out")
        problem = "" if position.state == PositionState.OPEN else f"it is {position.state}"
        problem = problem or increases.unsupported(position, settings.ENVIRONMENT.venue)
        note = "It asks the caps as an open does, and waits while a close or an open of this symbol is under way."
        return replace(found, facts=facts, note=note, obstacle=problem)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        key = f"admin:{self.name}:{subject.row.pk}:{person.once}"
        intent = increases.ask(
            subject.row,
            told["collateral_usdc"],
            key=key,
            by=person.name,
            slippage_pct=DEFAULT_SLIPPAGE_PCT,
            expires_at=database_now() + timedelta(seconds=DEFAULT_MAX_LAG_S),
        )
        if intent is None or intent.wallet_id is None:
            raise Refused(f"{subject.row.trader} has no wallet")
        ring(submit, intent.wallet_id)
        return f"Asked for: {key}"


class AmountForm(DeedForm):
    """How much USDC."""

    amount_usdc = forms.DecimalField(
        label="USDC",
        max_digits=16,
        decimal_places=6,
        min_value=Decimal("0.000001"),
        widget=forms.TextInput(attrs={"class": "vanta-input", "inputmode": "decimal", "autocomplete": "off"}),
    )


class Deposit(Close):
    """As `manage.py margin deposit`; more is at stake then, so it asks for a code."""

    name, title, button = "deposit", "Put collateral into a position", "Put it in"
    loosens = True
    form, asks = AmountForm, ("amount_usdc",)
    sign: ClassVar[int] = 1
    note: ClassVar[str] = (
        "USDC of the trader, within the allowance; it counts against the caps. The notional stays."
    )

    def look(self, target: str) -> Subject:
        found = super().look(target)
        facts = tuple(fact for fact in found.facts if fact[0] != "takes out")
        return replace(found, facts=facts, note=self.note, obstacle=margin_changes.obstacle(found.row))

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        key = f"admin:{self.name}:{subject.row.pk}:{person.once}"
        intent = margin_changes.change(
            subject.row.pk,
            self.sign * told["amount_usdc"],
            key=key,
            by=person.name,
            reason=person.reason,
            origin=AuditOrigin.ADMIN,
        )
        if intent.wallet_id is not None:
            ring(submit, intent.wallet_id)
        return f"Asked for: {key}"


class Withdraw(Deposit):
    """As `manage.py margin withdraw`: its leverage rises."""

    name, title, button = "withdraw", "Take collateral out of a position", "Take it out"
    sign = -1
    note = (
        "It goes to the trader. The notional stays, so the leverage rises and the liquidation comes nearer."
    )


def _problem(position: Position) -> str:
    if position.mode != Mode.LIVE:
        return "it is a DRY position, which a signal's CLOSE ends"
    return "" if position.state == PositionState.OPEN else f"it is {position.state}"


class Flatten(Deed):
    """As `manage.py stop --flatten`, without the stop: reduce-only, then a close of every LIVE position."""

    name, title, button = "flatten", "Close every LIVE position", "Flatten"
    permission = CLOSES

    def look(self, target: str) -> Subject:
        if target:
            raise Http404
        held = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).count()
        facts = (
            ("LIVE positions", f"{held:,}"),
            ("LIVE opens under way", f"{exits.opens_under_way():,}"),
        )
        problem = ""
        if RestrictionKind.STOP in control.active_kinds():
            problem = "a stop holds, and nothing leaves under it: set reduce-only, resume, then flatten"
        note = "Reduce-only is set first and stays until it is lifted here."
        return Subject(
            "All LIVE positions", f"FLATTEN {held}", facts, note, problem, reverse("admin:index"), held
        )

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        control.impose(RestrictionKind.REDUCE_ONLY, Origin.ADMIN, by=person.name, reason=person.reason)
        left = flattening.flatten(
            by=person.name, within_s=FLATTEN_WITHIN_S, say=None, origin=AuditOrigin.ADMIN
        )
        if not left:
            return "All LIVE positions are closed; reduce-only holds."
        return f"Reduce-only holds; {left:,} still open or opening. Their closes are asked for; look again, and press again for opens that fill meanwhile."


DEEDS: tuple[Deed, ...] = (Close(), Halve(), Increase(), Deposit(), Withdraw(), Flatten())
