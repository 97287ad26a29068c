"""Deeds at the gate: the mode, reduce-only, caps."""

from decimal import Decimal
from typing import Any

from django import forms
from django.http import Http404
from django.urls import reverse

from execution_app import people
from execution_app.audit_words import AuditOrigin
from execution_app.errors import Refused
from execution_app.gate import cap_rows, caps, control, limits, loosening
from execution_app.models import Cap
from execution_app.states import CapName, CapScope, Origin, RestrictionKind
from ops.panel import words
from ops.panel.deeds.deed import Deed, DeedForm, Person, Subject, whole_number
from ops.panel.present import holding

SWITCHES = "execution_app.change_control"
CAPS = "execution_app.change_cap"
INPUT = {"class": "vanta-input", "autocomplete": "off"}


class _Restrict(Deed):
    """Set a restriction of origin `admin`; needs nothing but a reason, and twice is once."""

    permission = SWITCHES
    kind: RestrictionKind
    word: str
    said: str
    note = ""

    def look(self, target: str) -> Subject:
        if target:
            raise Http404
        return Subject(self.said, self.word, holding(), self.note, "", reverse("admin:index"))

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        imposed = control.impose(self.kind, Origin.ADMIN, by=person.name, reason=person.reason)
        return f"{self.said}." if imposed.changed else "It was set on this site already; nothing changed."


class _Lift(Deed):
    """Lift the restriction that was set on this site; those of other origins stay."""

    permission = SWITCHES
    loosens = True
    kind: RestrictionKind
    word: str
    said: str
    note = "Only what was set on this site is lifted; every other origin still has its say."

    def look(self, target: str) -> Subject:
        if target:
            raise Http404
        mine = any(row.kind == self.kind and row.origin == Origin.ADMIN for row in control.active())
        problem = "" if mine else f"no {self.kind.value} was set on this site"
        return Subject(self.said, self.word, holding(), self.note, problem, reverse("admin:index"))

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        if not control.lift(self.kind, Origin.ADMIN, by=person.name, reason=person.reason):
            raise Refused(f"no {self.kind.value} was set on this site")
        return f"{self.said}."


class Dry(_Restrict):
    """As `manage.py mode DRY`."""

    name, title, button = "dry", "Go DRY", "Go DRY"
    kind, word, said = RestrictionKind.DRY, "DRY", "Nothing real from now on"
    note = "Everything runs up to signing and fills are simulated. Open LIVE positions stay open."


class Live(_Lift):
    """As `manage.py mode LIVE`."""

    name, title, button = "live", "Lift this site's DRY", "Lift it"
    kind, word, said = RestrictionKind.DRY, "LIVE", "This site's DRY is lifted"


class ReduceOnly(_Restrict):
    """As `manage.py reduce-only on`."""

    name, title, button = "reduce-only", "Let only exits pass", "Reduce only"
    kind, word, said = RestrictionKind.REDUCE_ONLY, "REDUCE", "Only what lowers exposure passes"


class AllowOpens(_Lift):
    """As `manage.py reduce-only off`."""

    name, title, button = "allow-opens", "Lift this site's reduce-only", "Lift it"
    kind, word, said = RestrictionKind.REDUCE_ONLY, "OPENS", "This site's reduce-only is lifted"


class CapForm(DeedForm):
    """What is capped, of what, and at how much in the unit of its name."""

    cap = forms.ChoiceField(
        label="Cap",
        choices=[(name.value, name.value) for name in (*list(CapName)[1:], CapName.BANNED)],
        widget=forms.Select(attrs={"class": "vanta-input"}),
    )
    scope = forms.ChoiceField(
        label="Of",
        choices=[
            (scope.value, "the whole house" if scope is CapScope.GLOBAL else scope.value)
            for scope in CapScope
        ],
        widget=forms.Select(attrs={"class": "vanta-input"}),
    )
    scope_value = forms.CharField(
        label="Telegram id, source or symbol (blank: the whole house)",
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs=INPUT),
    )
    value = forms.DecimalField(
        label="Value, in the unit of the cap's name (0 permits nothing)",
        max_digits=40,
        decimal_places=6,
        widget=forms.TextInput(attrs={**INPUT, "inputmode": "decimal"}),
    )

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if (found.get("scope") == CapScope.GLOBAL) != (not found.get("scope_value")):
            self.add_error(
                "scope_value", "Name what it is of, or choose the whole house and leave this blank."
            )
        return found


class SetCap(Deed):
    """As `manage.py caps set`."""

    name, title, button = "set-cap", "Set a cap", "Set it"
    permission = CAPS
    loosens = True
    code_note = "for a higher value"
    form, asks = CapForm, ("cap", "scope", "scope_value", "value")

    def look(self, target: str) -> Subject:
        if target:
            raise Http404
        ceilings = tuple(
            (caps.VARIABLES[name], words.capped(name, value)) for name, value in limits.ceilings().items()
        )
        note = (
            "A first or lower value is stricter and holds once this returns. The environment is the ceiling."
        )
        back = reverse("admin:execution_app_cap_changelist")
        return Subject("Caps of opening orders", "CAP", ceilings, note, "", back)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        name, value = CapName(told["cap"]), Decimal(told["value"])
        change = cap_rows.set_cap(
            name,
            CapScope(told["scope"]),
            told["scope_value"],
            value,
            by=person.name,
            reason=person.reason,
            code=person.code,
            origin=AuditOrigin.ADMIN,
        )
        if not change.changed:
            return "It had this value already; nothing changed."
        before = "none" if change.before is None else words.capped(name, change.before.value)
        ceiling = limits.ceilings().get(name)
        without = ceiling is not None and value >= ceiling
        rest = f" It has no effect: {caps.VARIABLES[name]} is the ceiling." if without else ""
        return f"{change.now}: {before} before, {words.capped(name, value)} now.{rest}"


class LiftCap(Deed):
    """As `manage.py caps lift`."""

    name, title, button = "lift-cap", "Lift a cap", "Lift it"
    permission = CAPS
    loosens = True

    def look(self, target: str) -> Subject:
        cap = Cap.objects.filter(pk=whole_number(target)).first()
        if cap is None:
            raise Http404
        facts = (
            ("cap", str(cap)),
            ("value", words.capped(CapName(cap.name), cap.value)),
            ("set by", f"{people.unveiled(cap.set_by)}, {words.utc(cap.set_at)}: {cap.reason}"),
        )
        back = reverse("admin:execution_app_cap_change", args=[cap.pk])
        problem = "it is lifted already" if cap.lifted_at else ""
        return Subject(str(cap), str(cap.name), facts, "", problem, back, cap)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        cap: Cap = subject.row
        change = cap_rows.lift_cap(
            CapName(cap.name),
            CapScope(cap.scope),
            cap.scope_value,
            by=person.name,
            reason=person.reason,
            code=person.code,
            origin=AuditOrigin.ADMIN,
        )
        return "Lifted." if change.changed else "It was lifted already; nothing changed."


DEEDS: tuple[Deed, ...] = (Dry(), Live(), ReduceOnly(), AllowOpens(), SetCap(), LiftCap())
