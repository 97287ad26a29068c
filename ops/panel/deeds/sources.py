"""Deeds about sources of signals: a new secret, the end of one, for whom a source may trade."""

from typing import Any

from django import forms
from django.http import Http404
from django.urls import reverse

from execution_app.gate import loosening
from ops.panel import words
from ops.panel.deeds.deed import Deed, DeedForm, Person, Subject, whole_number
from signals_app import payloads, sources
from signals_app.models import SourceGrant, SourceSecret

SECRETS = "signals_app.change_sourcesecret"
GRANTS = "signals_app.change_sourcegrant"
INPUT = {"class": "vanta-input", "autocomplete": "off"}


class SourceForm(DeedForm):
    source = forms.RegexField(
        payloads.SOURCE.pattern, label="Source", max_length=64, widget=forms.TextInput(attrs=INPUT)
    )


class GrantForm(SourceForm):
    tg_user_id = forms.IntegerField(
        label="Telegram id of the trader",
        min_value=1,
        widget=forms.TextInput(attrs={**INPUT, "inputmode": "numeric"}),
    )


def _nothing_named(target: str) -> None:
    if target:
        raise Http404


class Rotate(Deed):
    """As `manage.py source rotate`: the secret is made here and shown this once."""

    name, title, button = "rotate-secret", "Give a source a new secret", "Make it"
    permission = SECRETS
    loosens = True
    tells_secret = True
    form, asks = SourceForm, ("source",)

    def look(self, target: str) -> Subject:
        _nothing_named(target)
        note = (
            "Older secrets stay valid until they are retired. A source that had none of its own is served by the "
            "default one no longer. The new secret is shown once, on the page that follows."
        )
        back = reverse("admin:signals_app_sourcesecret_changelist")
        return Subject("A secret of a source", "SECRET", (), note, "", back)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        issued = sources.rotate(told["source"], None)
        return f"Secret {issued.secret_id} of {told['source']}, shown this once: {issued.secret}"


class Retire(Deed):
    """As `manage.py source retire`."""

    name, title, button = "retire-secret", "End a secret", "End it"
    permission = SECRETS

    def look(self, target: str) -> Subject:
        secret = SourceSecret.objects.defer("sealed").filter(pk=whole_number(target)).first()
        if secret is None:
            raise Http404
        facts = (("source", str(secret.source_id)), ("made", words.utc(secret.created_at)))
        back = reverse("admin:signals_app_sourcesecret_changelist")
        problem = "" if secret.active else "it is retired already"
        note = "At once and for ever. A source without a secret left is shut out until it gets one."
        return Subject(str(secret), str(secret.source_id), facts, note, problem, back, secret)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        left = sources.retire(subject.row.source_id, subject.row.pk)
        return f"Retired; active secrets of {subject.row.source_id}: {left}."


class Grant(Deed):
    """As `manage.py source grant`."""

    name, title, button = "bind-trader", "Let a source trade for a trader", "Permit it"
    permission = GRANTS
    loosens = True
    form, asks = GrantForm, ("source", "tg_user_id")

    def look(self, target: str) -> Subject:
        _nothing_named(target)
        back = reverse("admin:signals_app_sourcegrant_changelist")
        return Subject("A source and a trader", "BIND", (), "", "", back)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        new = sources.grant(told["source"], told["tg_user_id"])
        return "Permitted." if new else "It was permitted already; nothing changed."


class Revoke(Deed):
    """As `manage.py source revoke`."""

    name, title, button = "unbind-trader", "End a source's permission", "End it"
    permission = GRANTS

    def look(self, target: str) -> Subject:
        grant = SourceGrant.objects.filter(pk=whole_number(target)).first()
        if grant is None:
            raise Http404
        facts = (("source", grant.source), ("trader", str(grant.tg_user_id)))
        note = "Signals that are decided already go their way."
        back = reverse("admin:signals_app_sourcegrant_changelist")
        return Subject(str(grant), grant.source, facts, note, "", back, grant)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        sources.revoke(subject.row.source, subject.row.tg_user_id)
        return "Ended."


DEEDS: tuple[Deed, ...] = (Rotate(), Retire(), Grant(), Revoke())
