"""Deeds about a person: everything that is kept about them as a file, and their pseudonym in its place."""

import tempfile
from typing import Any

from django import forms
from django.http import Http404
from django.urls import reverse

from execution_app.audit_words import AuditOrigin
from execution_app.gate import loosening
from execution_app.models.people import TELEGRAM_IDS_END
from ops.panel.deeds.deed import Deed, DeedForm, Person, Subject
from ops.rollout import privacy

MANAGES_PEOPLE = "execution_app.change_person"
IN_MEMORY_BYTES = 5 * 1024 * 1024


class PersonForm(DeedForm):
    tg_user_id = forms.IntegerField(
        label="Telegram id of the person",
        min_value=1,
        max_value=TELEGRAM_IDS_END - 1,
        widget=forms.TextInput(attrs={"class": "vanta-input", "autocomplete": "off", "inputmode": "numeric"}),
    )


class _OfPerson(Deed):
    permission = MANAGES_PEOPLE
    loosens = True  # a code: one hands out what is nobody else's, the other cannot be taken back
    form, asks = PersonForm, ("tg_user_id",)
    word, note = "", ""

    def look(self, target: str) -> Subject:
        if target:
            raise Http404
        back = reverse("admin:execution_app_trader_changelist")
        return Subject("A person", self.word, (), self.note, "", back)


class ExportPerson(_OfPerson):
    """As `manage.py privacy export`."""

    name, title, button = "export-person", "Export what is kept about a person", "Make the file"
    word = "EXPORT"
    note = "One ZIP with a file for each table. Hand it over by a way that nobody else reads."

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  (closed by the answer that sends it)
        try:
            privacy.export(
                told["tg_user_id"], file, by=person.name, reason=person.reason, origin=AuditOrigin.ADMIN
            )
        except BaseException:
            file.close()
            raise
        file.seek(0)
        told[self.FILE] = file, f"vanta-person-{told['tg_user_id']}.zip"
        return "Exported."


class ForgetPerson(_OfPerson):
    """As `manage.py privacy pseudonymise`."""

    name, title, button = "forget-person", "Pseudonymise a person", "Forget who it was"
    word = "FORGET"
    note = (
        "Their Telegram id becomes a random number everywhere, for good; what only served to talk with them is deleted, "
        "and they can trade no more. Trades, fees and the audit log stay. Refused while anything of theirs is open."
    )

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        loosening.permit(by=person.name, reason=person.reason, code=person.code)
        done = privacy.pseudonymise(
            told["tg_user_id"], by=person.name, reason=person.reason, origin=AuditOrigin.ADMIN
        )
        said = f"Forgotten: {sum(done.rows.values()):,} rows. Backups made before have the id until they are deleted."
        if done.archives:
            said += (
                f" These archives have it, too: {', '.join(done.archives)}; on the machine manage.py privacy rewrite takes "
                "it out of them."
            )
        return said


DEEDS: tuple[Deed, ...] = (ExportPerson(), ForgetPerson())
