"""Forms of accounts and groups: what gives somebody more takes a reason and a second factor, what takes away takes neither.

Judged by the rows as they are in the database when the form comes, under the lock of whoever reads them for it.
"""

from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from execution_app.errors import Refused
from execution_app.gate import loosening, second_factor
from ops.panel import passkeys
from ops.panel.switch import REASON_LIMIT

FLAGS = ("is_active", "is_staff", "is_superuser")
RIGHTS = ("groups", "user_permissions", "permissions")
TITLE = "What gives more"
NOTE = (
    "A new account or group, another name, a password, and whatever lets somebody do more takes a reason and a second "
    "factor of yours. To take a right away, or to deactivate an account, takes neither."
)


def asked(request: HttpRequest) -> tuple[str, ...]:
    """The fields that are shown to whoever asks: on the rehearsal chain nobody is asked for a code who never enrolled."""
    name = str(request.user.get_username())
    return ("reason", "code") if second_factor.is_needed(name) else ("reason",)


class Careful(forms.Form):
    """Beside a form of rights: why, and who it is. Subclasses say by `gives_more` whether these are needed."""

    request: ClassVar[HttpRequest]

    reason = forms.CharField(
        max_length=REASON_LIMIT,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    code = forms.CharField(
        label="One-time code",
        max_length=12,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )
    passkey = passkeys.AnswerField()

    @property
    def has_passkey(self) -> bool:
        return second_factor.has_passkey(str(self.request.user.get_username()))

    @property
    def changed_data(self) -> list[str]:
        """Of the row: what else was typed is in the audit log, or is nobody's to keep."""
        return [name for name in super().changed_data if name not in Careful.base_fields]

    def gives_more(self) -> bool:
        raise NotImplementedError

    def full_clean(self) -> None:
        """The second factor last of all, so that no code is used up by what is refused anyway."""
        super().full_clean()
        if not self.is_bound or self.errors or not self.gives_more():
            return
        try:
            with passkeys.shown(self.request):
                loosening.permit(
                    by=str(self.request.user.get_username()),
                    reason=self.cleaned_data["reason"],
                    code=self.cleaned_data["code"],
                )
        except Refused as problem:
            self.add_error(None, f"This gives more than before: {problem}.")


class NewUserForm(Careful, UserCreationForm):  # type: ignore[misc]
    """Another account is more, whatever it may do later."""

    def gives_more(self) -> bool:
        return True


class UserForm(Careful, UserChangeForm):  # type: ignore[misc]
    def gives_more(self) -> bool:
        """Another name is another's, too: Telegram ids are tied to names, and so are entries of the audit log."""
        was, told = User.objects.get(pk=self.instance.pk), self.cleaned_data
        return (
            told.get("username", was.username) != was.username
            or any(told.get(name, False) and not getattr(was, name) for name in FLAGS)
            or _gains(was, told)
        )


class GroupForm(Careful, forms.ModelForm):  # type: ignore[type-arg]
    def gives_more(self) -> bool:
        """Roles are known by their group's name, so a new name is a new role."""
        was = Group.objects.filter(pk=self.instance.pk).first()
        return was is None or self.cleaned_data["name"] != was.name or _gains(was, self.cleaned_data)


class PasswordForm(Careful, AdminPasswordChangeForm):  # type: ignore[misc]
    """Whoever knows somebody's password may be them; that nobody knows it is less."""

    @property
    def shown(self) -> tuple[str, ...]:
        return ("password1", "password2", *asked(self.request))

    def gives_more(self) -> bool:
        return bool(self.cleaned_data["set_usable_password"])


def _gains(was: User | Group, told: dict[str, Any]) -> bool:
    """Whether anything is chosen that the row has not."""
    for name in RIGHTS:
        if name in told:
            has = set(getattr(was, name).values_list("pk", flat=True))
            if {row.pk for row in told[name]} - has:
                return True
    return False


def of(request: HttpRequest, form: type[Any]) -> type[Any]:
    """The form as this request fills it in."""
    return type(form.__name__, (form,), {"request": request})
