"""A deed: what it is about, who may do it, what has to be typed, and the verb that it presses."""

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.http import Http404

from execution_app import audit
from execution_app.audit_words import AuditOrigin
from execution_app.gate import loosening, second_factor
from ops.panel.passkeys import AnswerField
from ops.panel.switch import ReasonForm

WORD_LIMIT = 200
LEAST_REASON = 3

User = AbstractUser | AnonymousUser


@dataclass(frozen=True)
class Subject:
    """What a deed is about, as the page shows it before anything is done.

    `word` is what has to be typed; `obstacle` says why it cannot be done now.
    `row` is the deed's own.
    """

    title: str
    word: str
    facts: tuple[tuple[str, str], ...] = ()
    note: str = ""
    obstacle: str = ""
    back: str = ""
    row: Any = None


@dataclass(frozen=True)
class Person:
    """Who does it, why, and with which one-time code; `once` is the same for a page that is sent twice."""

    name: str
    reason: str
    code: str
    once: str

    def acting(self) -> Any:
        """Entries of the audit log are theirs, from the address that the request came from."""
        who = audit.by(self.name, AuditOrigin.ADMIN)
        return audit.acting(audit.Who(who.actor, who.origin, who.address, self.reason))


class DeedForm(ReasonForm):
    """A reason, the typed word, and a one-time code where the deed loosens."""

    confirm = forms.CharField(
        max_length=WORD_LIMIT,
        required=False,
        widget=forms.TextInput(attrs={"class": "vanta-input", "autocomplete": "off", "spellcheck": "false"}),
    )
    code = forms.CharField(
        label="One-time code",
        max_length=12,
        required=False,
        widget=forms.TextInput(
            attrs={"class": "vanta-input", "autocomplete": "one-time-code", "inputmode": "numeric"}
        ),
    )
    passkey = AnswerField()
    once = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, deed: "Deed", subject: Subject, username: str, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {})["once"] = uuid.uuid4()
        super().__init__(*args, **kwargs)
        self._word = subject.word
        self.fields["confirm"].label = f"Type {subject.word} to confirm"
        self.fields["reason"].label = f"Reason (at least {_least_reason(deed)})"
        asks_code = deed.loosens and second_factor.is_needed(username)
        self.has_passkey = asks_code and second_factor.has_passkey(username)
        if not asks_code:
            del self.fields["code"], self.fields["passkey"]
        elif deed.code_note:
            self.fields["code"].label = f"One-time code ({deed.code_note})"
        if deed.asks:
            self.fields["reason"].widget.attrs.pop("autofocus", None)
            self.fields[deed.asks[0]].widget.attrs["autofocus"] = True
        self.order_fields(["once", *deed.asks, "reason", "confirm", "code", "passkey"])

    def clean_reason(self) -> str:
        reason = str(self.cleaned_data["reason"]).strip()
        if len(reason) < LEAST_REASON:
            raise forms.ValidationError(
                f"Say why, in at least {LEAST_REASON} characters; it is kept in the audit log."
            )
        return reason

    def clean_confirm(self) -> str:
        if str(self.cleaned_data["confirm"]).strip() != self._word:
            raise forms.ValidationError(f"Nothing was done: type exactly {self._word}")
        return self._word


def _least_reason(deed: "Deed") -> str:
    """As the verbs judge it, said before anybody is refused by it."""
    if deed.loosens and deed.code_note:
        return f"{LEAST_REASON} characters, {loosening.LEAST_REASON} {deed.code_note}"
    return f"{loosening.LEAST_REASON if deed.loosens else LEAST_REASON} characters"


class Deed(ABC):
    """One thing that can be done. `target` in its address names what it is done to; blank where there is nothing to name."""

    name: ClassVar[str]
    title: ClassVar[str]
    permission: ClassVar[str]
    # Whether it makes anything looser, for which a second factor is asked.
    loosens: ClassVar[bool] = False
    code_note: ClassVar[str] = ""
    # Under which `do` puts an open file and its name among what was told, where it makes one.
    FILE: ClassVar[str] = "file"
    # Whether what it tells is on no other page, and must be in no cookie: a secret, shown this once.
    tells_secret: ClassVar[bool] = False
    button: ClassVar[str] = "Do it"
    form: ClassVar[type[DeedForm]] = DeedForm
    asks: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def look(self, target: str) -> Subject:
        """What is there now. Raises Http404 where there is no such thing."""

    @abstractmethod
    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:
        """Press the verb; returns what to tell. Raises Refused, Retryable or Stale, and then nothing was done."""

    def permits(self, user: User, subject: Subject) -> bool:  # noqa: ARG002
        """Whether this person may do it to this."""
        return user.has_perm(self.permission)

    def offered(self, user: User) -> bool:
        """Whether it is shown to this person at all."""
        return user.has_perm(self.permission)


def whole_number(target: str) -> int:
    """The id in an address. Raises Http404."""
    if not target.isascii() or not target.isdigit() or len(target) > 18:  # noqa: PLR2004
        raise Http404
    return int(target)
