"""Passkeys (WebAuthn) beside one-time codes: somebody adds one on their own page, and shows it where a code is asked for.

What is to be signed is drawn by the server for one form as it was filled in,
stands in the session for two minutes and is good once. The browser's answer comes
with that form; under another address, or with another content, it is refused.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import structlog
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.gate import second_factor
from execution_app.models import Passkey

log = structlog.get_logger(__name__)

FIELD = "passkey"
FORM = "passkey_for"  # beside the form's fields, when the browser asks: the path that the form goes to
ASKED = "vanta_passkey"  # in the session: what is to be signed, for what, and since when
# What of a form is no part of what it asks for.
_NOT_ASKED = frozenset({FIELD, FORM, "code", "csrfmiddlewaretoken"})
GOOD_FOR_S = 120
ANSWER_LIMIT = 16 * 1024
MOST = 10  # passkeys of one person
NEW, SHOWN = "new", "shown"


class AnswerField(forms.CharField):
    """Where the browser's answer comes back; filled by static/panel/passkeys.js."""

    def __init__(self) -> None:
        super().__init__(max_length=ANSWER_LIMIT, required=False, widget=forms.HiddenInput)


class AddForm(forms.Form):
    name = forms.CharField(
        max_length=64,
        label="What you call it",
        widget=forms.TextInput(
            attrs={"class": "vanta-input", "autocomplete": "off", "placeholder": "my phone"}
        ),
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


def passkeys(request: HttpRequest) -> HttpResponse:
    """One's own passkeys: those that there are, and another one."""
    user = _user(request)
    form = AddForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            told = form.cleaned_data
            _add(request, user, told["name"].strip(), told["code"], told[FIELD])
        except Refused as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, "Added. It counts wherever a one-time code is asked for.")
            return HttpResponseRedirect(reverse("panel:passkeys"))
    if not second_factor.is_needed(user.username):
        del form.fields["code"]
    context = {
        **admin.site.each_context(request),
        "title": "Your passkeys",
        "form": form,
        "passkeys": Passkey.objects.filter(user=user).order_by("id"),
        "domain": _domain(request),
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
    return TemplateResponse(request, "panel/passkeys.html", context, status=status)


def remove(request: HttpRequest, key: int) -> HttpResponse:
    """End one of one's own, with a code or a passkey."""
    user = _user(request)
    if request.method == "POST":
        try:
            with shown(request):
                second_factor.verify(user.username, request.POST.get("code", "")[:12])
            messages.success(request, "Removed." if _remove(user, key) else "It was gone already.")
        except Refused as problem:
            messages.error(request, str(problem))
    return HttpResponseRedirect(reverse("panel:passkeys"))


def _remove(user: User, key: int) -> bool:
    with transaction.atomic():
        found = Passkey.objects.select_for_update().filter(pk=key, user=user).first()
        if found is not None:
            found.delete()
            _tell(user, found.name, confirmed=False)
    return found is not None


def options(request: HttpRequest, what: str) -> HttpResponse:
    """What the browser's authenticator is asked to sign; a new one at each request. POST, so that no other site can ask.

    The body has the fields of the form that the answer will come with, and in FORM its path.
    """
    user = _user(request)
    if request.method != "POST":
        return HttpResponse(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
    known = [
        PublicKeyCredentialDescriptor(id=bytes(row.credential_id))
        for row in Passkey.objects.filter(user=user)
    ]
    if what == NEW:
        asked: Any = generate_registration_options(
            rp_id=_domain(request),
            rp_name="Vanta",
            user_id=str(user.pk).encode(),
            user_name=user.username,
            exclude_credentials=known,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
        )
    else:
        asked = generate_authentication_options(
            rp_id=_domain(request),
            allow_credentials=known,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    request.session[ASKED] = {
        "what": what,
        "act": _act(unquote(request.POST.get(FORM, "")), request.POST),
        "challenge": asked.challenge.hex(),
        "at_s": _now_s(),
    }
    return JsonResponse(json.loads(options_to_json(asked)), headers={"Cache-Control": "no-store"})


@contextmanager
def shown(request: HttpRequest) -> Iterator[None]:
    """Whoever sent this form has shown a passkey, if one came with it. Raises Refused where it does not fit."""
    answer = request.POST.get(FIELD, "")
    if not answer:
        yield
        return
    user = _user(request)
    _check(request, user, answer)
    with second_factor.shown_by(user.username):
        yield


def _check(request: HttpRequest, user: User, answer: str) -> None:
    challenge, asked_at = _challenge(request, SHOWN)
    try:
        with transaction.atomic():
            # The session forgets what it asked for with its answer only: two requests at once must not both pass.
            unused = Q(last_used_at=None) | Q(last_used_at__lt=asked_at)
            row = Passkey.objects.select_for_update().get(unused, user=user, credential_id=_id_in(answer))
            found = verify_authentication_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=_domain(request),
                expected_origin=_origins(request),
                credential_public_key=bytes(row.public_key),
                credential_current_sign_count=row.uses,
                require_user_verification=True,
            )
            Passkey.objects.filter(pk=row.pk).update(uses=found.new_sign_count, last_used_at=Now())
    except (WebAuthnException, Passkey.DoesNotExist, ValueError) as problem:
        with transaction.atomic():
            audit.record(AuditAction.SECOND_FACTOR_REFUSED, f"user {user.username}", who=_who(user))
        log.warning("a passkey was refused", name=user.username, problem=type(problem).__name__)
        raise Refused("that passkey is not one of yours, or its answer does not fit") from None


def _add(request: HttpRequest, user: User, name: str, code: str, answer: str) -> None:
    if not answer:
        raise Refused("your browser gave no passkey")
    challenge, _ = _challenge(request, NEW)
    try:
        found = verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=_domain(request),
            expected_origin=_origins(request),
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError) as problem:
        log.warning("a new passkey was refused", name=user.username, problem=type(problem).__name__)
        raise Refused("the browser's answer does not fit; try again") from None
    # Whoever has a password alone must not be able to add what stands in for the second factor.
    second_factor.verify(user.username, code)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if Passkey.objects.filter(user=user).count() >= MOST:
            raise Refused(f"{MOST} are the most; remove one first")
        if Passkey.objects.filter(credential_id=found.credential_id).exists():
            raise Refused("that passkey is known already")
        Passkey.objects.create(
            user=user,
            name=name,
            credential_id=found.credential_id,
            public_key=found.credential_public_key,
            uses=found.sign_count,
        )
        _tell(user, name, confirmed=True)


def _challenge(request: HttpRequest, what: str) -> tuple[bytes, datetime]:
    """What was asked to be signed, used up by this, and when, by the database's clock. Raises Refused."""
    asked = request.session.pop(ASKED, None)
    if asked is None or asked["what"] != what or _now_s() - asked["at_s"] > GOOD_FOR_S:
        raise Refused(f"a passkey is shown within {GOOD_FOR_S} s and once; try again")
    if asked.get("act") != _act(request.path, request.POST):
        raise Refused("that passkey was shown for something else; try again")
    return bytes.fromhex(asked["challenge"]), datetime.fromtimestamp(asked["at_s"], UTC)


def _act(path: str, fields: QueryDict) -> str:
    """By which a form with this content is known again; neither the code nor the passkey is content."""
    told = sorted((name, fields.getlist(name)) for name in fields if name not in _NOT_ASKED)
    return sha256(json.dumps([path, told]).encode()).hexdigest()


def _now_s() -> float:
    return database_now().timestamp()


def _id_in(answer: str) -> bytes:
    """Raises ValueError where there is none."""
    told = json.loads(answer)
    if not isinstance(told, dict) or not isinstance(told.get("id"), str):
        raise ValueError("no id")  # noqa: TRY004  (what came from outside has no type)
    return base64url_to_bytes(told["id"])


def _domain(request: HttpRequest) -> str:
    return str(settings.ENVIRONMENT.passkey_domain) or request.get_host().rsplit(":", 1)[0]


def _origins(request: HttpRequest) -> list[str]:
    """Where the browser may have stood: this host alone, by the scheme of the request, or behind a proxy that ends TLS."""
    host = request.get_host()
    return [f"{request.scheme}://{host}", f"https://{host}"]


def _user(request: HttpRequest) -> User:
    found = User.objects.filter(username=request.user.get_username(), is_active=True, is_staff=True).first()
    if found is None:
        raise PermissionDenied
    return found


def _tell(user: User, name: str, *, confirmed: bool) -> None:
    told = {"passkey": name, "confirmed": confirmed}
    audit.record(AuditAction.SECOND_FACTOR_SET, f"user {user.username}", after=told, who=_who(user))


def _who(user: User) -> audit.Who:
    return audit.by(user.username, AuditOrigin.ADMIN)
