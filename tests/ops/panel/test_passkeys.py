"""A passkey stands in for a one-time code: for whose it is, on our site, for what was asked just now, and once."""

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from execution_app.errors import Refused
from execution_app.gate import control, second_factor
from execution_app.models import AuditEntry, Passkey
from execution_app.states import Origin, RestrictionKind
from ops.panel import passkeys
from tests.ops.panel.authenticator import Authenticator
from tests.ops.panel.test_deeds import WHY, press

PAGE = "/admin/passkeys/"
LIVE = "/admin/do/live/"
ONCE = str(uuid.uuid4())
SAID = {"once": ONCE, "reason": WHY, "confirm": "LIVE"}


def asked(client: Client, what: str, path: str = LIVE, said: dict[str, str] = SAID) -> dict[str, Any]:
    """As the page's script asks, before a form with this content goes to this path."""
    answer = client.post(f"{PAGE}options/{what}/", {**said, "passkey": "", "passkey_for": path})
    assert answer.status_code == 200, answer
    assert "no-store" in answer.headers["Cache-Control"]
    found: dict[str, Any] = answer.json()
    return found


def add(client: Client, authenticator: Authenticator, code: str = "", name: str = "my phone") -> Any:
    answer = authenticator.create(asked(client, "new", PAGE, {"name": name}))
    return client.post(PAGE, {"name": name, "code": code, "passkey": answer})


@pytest.fixture
def phone(admin: Client) -> Authenticator:
    made = Authenticator()
    assert add(admin, made).status_code == 302
    return made


def restrict() -> None:
    control.impose(RestrictionKind.DRY, Origin.ADMIN, by="root", reason="drill")


def loosened(client: Client, answer: str) -> bool:
    restrict()
    status = press(client, "live", "LIVE", passkey=answer, once=ONCE).status_code
    assert status in {302, 422}
    assert (status == 302) == (control.active_kinds() == frozenset())
    return bool(status == 302)


def test_it_loosens_once_and_is_told(admin: Client, phone: Authenticator) -> None:
    row = Passkey.objects.get()
    assert (row.name, row.uses, row.last_used_at) == ("my phone", 0, None)
    assert second_factor.is_needed("root"), "whoever has one is asked for it"
    assert not loosened(admin, ""), "nothing was shown"
    answer = phone.get(asked(admin, "shown"))
    assert loosened(admin, answer)
    assert not loosened(admin, answer), "the same answer again"
    row.refresh_from_db()
    assert row.uses == 1
    assert row.last_used_at is not None
    said = AuditEntry.objects.filter(action="second_factor_set").values_list("after", flat=True)
    assert list(said) == [{"passkey": "my phone", "confirmed": True}]


def test_of_two_requests_at_once_with_one_question_only_the_first_passes(
    admin: Client, phone: Authenticator
) -> None:
    """The session forgets the question with its answer, so another request may still have found it there."""
    options = asked(admin, "shown")
    question = admin.session[passkeys.ASKED]
    first, second = phone.get(options), phone.get(options)
    assert loosened(admin, first)
    session = admin.session
    session[passkeys.ASKED] = question
    session.save()
    assert not loosened(admin, second)
    assert loosened(admin, phone.get(asked(admin, "shown"))), "a new question is answered anew"


OTHER_FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "another deed": ("/admin/do/allow-opens/", SAID),
    "removing a passkey": (f"{PAGE}1/remove/", {}),
    "the same form said otherwise": (LIVE, SAID | {"reason": "something harmless"}),
    "the same form once more": (LIVE, SAID | {"once": str(uuid.uuid4())}),
    "no form at all": ("", {}),
}


@pytest.mark.parametrize("other", OTHER_FORMS)
def test_what_was_shown_for_another_form_opens_nothing(
    admin: Client, phone: Authenticator, other: str
) -> None:
    """Whoever gets hold of an answer, as by a page that looks like another, can use it for nothing else."""
    assert not loosened(admin, phone.get(asked(admin, "shown", *OTHER_FORMS[other])))
    assert loosened(admin, phone.get(asked(admin, "shown")))


LIES: dict[str, dict[str, Any]] = {
    "for another site": {"origin": "https://evil.invalid"},
    "for another domain": {"domain": "evil.invalid"},
    "without asking its owner": {"verifies": False},
    "of a copy that counts anew": {"uses": -1},
    "of another key": {"key": Authenticator().key},
    "of nobody": {"credential_id": b"x" * 32},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_does_not_fit_opens_nothing(admin: Client, phone: Authenticator, lie: str) -> None:
    assert loosened(admin, phone.get(asked(admin, "shown")))
    for name, value in LIES[lie].items():
        setattr(phone, name, value)
    assert not loosened(admin, phone.get(asked(admin, "shown")))
    assert AuditEntry.objects.filter(action="second_factor_refused").exists()


def test_what_was_asked_is_good_for_a_while_and_for_one_thing(
    admin: Client, phone: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asked(admin, "shown")
    asked(admin, "shown")
    assert not loosened(admin, phone.get(first)), "another question was asked since"
    assert not loosened(admin, phone.get(asked(admin, "new"))), "that was for a new one"
    late = phone.get(asked(admin, "shown"))
    monkeypatch.setattr(passkeys, "GOOD_FOR_S", -1)
    assert not loosened(admin, late)


@pytest.mark.parametrize("answer", ["x", "{}", "[]", '{"id": 1}', '{"id": "AAAA"}', "1" * 20_000])
def test_nonsense_is_refused(admin: Client, phone: Authenticator, answer: str) -> None:
    asked(admin, "shown")
    assert not loosened(admin, answer)


def test_somebody_elses_passkey_is_nobodys(admin: Client, phone: Authenticator, client: Client) -> None:
    client.force_login(User.objects.create_superuser("other", password=None))
    assert add(client, Authenticator()).status_code == 302
    assert not loosened(client, phone.get(asked(client, "shown")))
    assert add(client, phone, name="taken").status_code == 422
    client.post(f"{PAGE}{Passkey.objects.get(user__username='root').pk}/remove/")
    assert Passkey.objects.filter(user__username="root").count() == 1


def test_a_password_alone_adds_no_passkey(admin: Client) -> None:
    device = TOTPDevice.objects.create(user=User.objects.get(username="root"), name="app", confirmed=True)
    assert add(admin, Authenticator(), code="000000").status_code == 422
    assert not Passkey.objects.exists()
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None, last_t=-1)
    assert add(admin, Authenticator(), code=f"{totp(device.bin_key):06d}").status_code == 302
    assert Passkey.objects.count() == 1


def test_it_is_removed_with_itself_and_by_the_shell(admin: Client, phone: Authenticator) -> None:
    path = f"{PAGE}{Passkey.objects.get().pk}/remove/"
    admin.post(path)
    assert Passkey.objects.count() == 1, "whoever finds an open window removes nothing"
    admin.post(path, {"passkey": phone.get(asked(admin, "shown"))})
    assert Passkey.objects.count() == 1, "that was shown to lift a restriction"
    admin.post(path, {"passkey": phone.get(asked(admin, "shown", path, {}))})
    assert not Passkey.objects.exists()
    assert add(admin, phone).status_code == 302
    second_factor.remove("root")
    assert not Passkey.objects.exists()


def test_passkeys_alone_leave_commands_without_a_code(admin: Client, phone: Authenticator) -> None:
    with pytest.raises(Refused, match="has passkeys alone"):
        second_factor.verify("root", "123456")
    with second_factor.shown_by("root"):
        second_factor.verify("root", "")
    for another in ("other", ""):
        with second_factor.shown_by(another), pytest.raises(Refused):
            second_factor.verify("root", "")


def test_a_stop_is_resumed_with_it(admin: Client, phone: Authenticator) -> None:
    control.impose(RestrictionKind.STOP, Origin.ADMIN, by="root", reason="drill")
    path = "/admin/execution_app/control/resume/"
    assert "Use a passkey" in admin.get(path).content.decode()
    words = {"reason": "looked into it"}
    admin.post(path, words)
    assert control.active_kinds() == {RestrictionKind.STOP}
    admin.post(path, words | {"passkey": phone.get(asked(admin, "shown", path, words))})
    assert control.active_kinds() == frozenset()
