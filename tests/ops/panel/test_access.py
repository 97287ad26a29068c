"""Who may ask what: every address of the site, from the resolver, by every role and method, against this table.

An address that is not in it, or answers otherwise, fails: whoever adds a page says here who may see it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template.response import SimpleTemplateResponse
from django.test import Client

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind
from ops.bot.models import TelegramUser
from ops.panel import roles
from ops.panel.deeds.page import DEEDS
from tests.conftest import empty_database
from tests.ops.panel import addresses
from tests.ops.panel.rows import one_of_each

ROLES = ("anonymous", "nobody", "viewer", "trader", "operator", "admin", "root")
# What GET and POST answer each of these, in their order; "nobody" is staff without a role. Whoever is shown a page
# that only shows gets it for a POST, too.
EVERYBODY = "302/302 200/200 200/200 200/200 200/200 200/200 200/200"
LOOKS = "302/302 403/403 200/200 403/403 200/200 200/200 200/200"
LOOKS_OR_OWNS = "302/302 403/403 200/200 200/200 200/200 200/200 200/200"
MANAGES = "302/302 403/403 403/403 403/403 403/403 200/200 200/200"
ROOT_ALONE = "302/302 403/403 403/403 403/403 403/403 403/403 200/200"
NEVER = "302/302 403/403 403/403 403/403 403/403 403/403 403/403"
ONWARDS = "302/302 302/302 302/302 302/302 302/302 302/302 302/302"  # to the page itself, which asks
# What is not there, or not theirs, leads back to the home page.
GONE = "302/302 403/403 302/403 403/403 302/403 302/403 302/403"
FUNCTION = "302/302 200/405 200/405 200/405 200/405 200/405 200/405"

# Tables whose rows belong to somebody, who sees their own without seeing the table.
OWNED = {
    "execution_app/txintent",
    "execution_app/intenttransition",
    "execution_app/txsend",
    "execution_app/venuemessage",
    "execution_app/txreceipt",
    "execution_app/venueorder",
    "execution_app/position",
    "execution_app/correction",
    "execution_app/marginchange",
    "execution_app/externaltrade",
    "execution_app/fill",
    "execution_app/protection",
    "execution_app/protectiontrigger",
    "execution_app/trader",
    "execution_app/wallet",
    "execution_app/reservation",
    "signals_app/signal",
}
EMPTY = {
    "django_celery_beat/periodictask",
    "django_celery_beat/intervalschedule",
    "django_celery_beat/crontabschedule",
}
SHOWN = {
    "": LOOKS,
    "add/": NEVER,
    "<path:object_id>/history/": "302/302 302/302 200/200 302/302 200/200 200/200 200/200",
    "<path:object_id>/delete/": NEVER,
    "<path:object_id>/change/": "302/302 403/403 200/403 403/403 200/403 200/403 200/403",
    "<path:object_id>/": ONWARDS,
}
SHOWN_TO_OWNER = SHOWN | {
    "": LOOKS_OR_OWNS,
    "<path:object_id>/history/": "302/302 302/302 200/200 200/200 200/200 200/200 200/200",
    "<path:object_id>/change/": "302/302 403/403 200/403 200/403 200/403 200/403 200/403",
}
SHOWN_EMPTY = SHOWN | {"<path:object_id>/history/": ONWARDS, "<path:object_id>/change/": GONE}
MANAGED = {
    "": MANAGES,
    "<path:object_id>/history/": MANAGES,
    "<path:object_id>/delete/": ROOT_ALONE,
    "<path:object_id>/": ONWARDS,
}
TABLES = {
    "auth/user": MANAGED | {"add/": MANAGES, "<path:object_id>/change/": MANAGES, "<id>/password/": MANAGES},
    "auth/group": MANAGED
    | {
        "add/": ROOT_ALONE,
        "<path:object_id>/change/": "302/302 403/403 403/403 403/403 403/403 200/403 200/200",
    },
}
SITE = {
    "admin/": EVERYBODY,
    "admin/(?P<url>.*)$": "302/302 404/404 404/404 404/404 404/404 404/404 404/404",
    "admin/^(?P<app_label>APPS)/$": "302/302 404/404 200/200 200/200 200/200 200/200 200/200",
    "admin/autocomplete/": "302/302 403/405 403/405 403/405 403/405 403/405 403/405",
    "admin/charts/": EVERYBODY,
    "admin/do/": EVERYBODY,
    "admin/emergency-stop": "405/401 405/401 405/401 405/401 405/401 405/401 405/401",
    "admin/execution_app/control/resume/": "302/302 403/403 403/403 403/403 200/200 200/200 200/200",
    # A stop waits for no word.
    "admin/execution_app/control/stop/": "302/302 403/403 403/403 403/403 200/302 200/302 200/302",
    "admin/export/": LOOKS_OR_OWNS,
    "admin/find/": LOOKS_OR_OWNS,
    "admin/jsi18n/": FUNCTION,
    "admin/live/banner/": EVERYBODY,
    "admin/live/home/": EVERYBODY,
    "admin/login/": "200/200 302/200 302/200 302/200 302/200 302/200 302/200",
    "admin/password_change/": EVERYBODY,
    "admin/password_change/done/": FUNCTION,
    "admin/r/<path:content_type_id>/<path:object_id>/": "302/302 404/404 404/404 404/404 404/404 404/404 404/404",
    "admin/runbook/": EVERYBODY,
    "admin/runbook/<slug:name>/": EVERYBODY,
    "admin/passkeys/": "302/302 200/422 200/422 200/422 200/422 200/422 200/422",
    "admin/passkeys/<int:key>/remove/": "302/302 302/302 302/302 302/302 302/302 302/302 302/302",
    "admin/passkeys/options/<slug:what>/": "302/302 405/200 405/200 405/200 405/200 405/200 405/200",
    "admin/search/": EVERYBODY,
    "admin/trace/<path:key>/": LOOKS_OR_OWNS,
}
# Ends the session, so it is asked by itself; each deed is below.
APART = {"admin/logout/", "admin/do/<slug:name>/", "admin/do/<slug:name>/<path:target>/"}
_OPERATOR = "302 403 403 403 {} {} {}"
_TRADER = "302 403 403 {} {} {} {}"
_ADMIN = "302 403 403 403 403 {} {}"
# By whom each deed may be looked at; a POST without words is refused as 422 to whoever may.
DOES = {
    **dict.fromkeys(
        ("dry", "live", "reduce-only", "allow-opens", "flatten", "set-cap", "lift-cap"), _OPERATOR
    ),
    **dict.fromkeys(
        (
            *("approve", "reject", "reject-several", "cancel", "speed-up"),
            *("take-back", "change-order", "replay-dry"),
        ),
        _OPERATOR,
    ),
    **dict.fromkeys(("close", "halve", "increase", "deposit", "withdraw"), _TRADER),
    **dict.fromkeys(("rotate-secret", "retire-secret", "bind-trader", "unbind-trader"), _ADMIN),
    **dict.fromkeys(("export-person", "forget-person"), _ADMIN),
}


@pytest.fixture(scope="module")
def people(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Client]]:
    """Each role, logged in, over one row of every table. The trader is whose rows they are."""
    with django_db_blocker.unblock():
        empty_database()
        one_of_each()
        found = {"anonymous": Client()}
        for name in ROLES[1:]:
            user = User.objects.create_user(name, is_staff=True, is_superuser=name == "root")
            if name in set(roles.SiteRole):
                user.groups.add(roles.group(roles.SiteRole(name)))
            found[name] = Client()
            found[name].force_login(user)
        TelegramUser.objects.create(tg_user_id=123, role="trader", account="trader", allowed_by="test")
        yield found
        empty_database()
        connection.close()


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may see a page is decided before it is drawn, and drawing some thousand takes minutes."""
    monkeypatch.setattr(SimpleTemplateResponse, "rendered_content", property(lambda _: ""))


def expected(route: str) -> str | None:
    """What the tables above say of a route; None where nobody has said anything."""
    if route in SITE:
        return SITE[route]
    if route.startswith("admin/^(?P<app_label>"):
        return SITE["admin/^(?P<app_label>APPS)/$"]
    for name in addresses.models():
        if route.startswith(f"admin/{name}/"):
            shown = SHOWN_TO_OWNER if name in OWNED else SHOWN_EMPTY if name in EMPTY else SHOWN
            return TABLES.get(name, shown).get(route.removeprefix(f"admin/{name}/"))
    return None


@pytest.mark.timeout(300)
def test_every_address_answers_every_role_as_the_table_says(
    people: dict[str, Client], unrendered: None
) -> None:
    wrong, asked = {}, 0
    for route, _ in addresses.routes():
        if route in APART:
            continue
        path = addresses.address(route)
        answers = []
        for client in people.values():
            answers.append(f"{client.get(path).status_code}/{client.post(path, {}).status_code}")
            control.lift(RestrictionKind.STOP, Origin.ADMIN, by="test", reason="as before")
            asked += 2
        if " ".join(answers) != expected(route):
            wrong[route] = f"{' '.join(answers)} and not {expected(route)}"
    assert wrong == {}
    assert asked > 3_000


def test_the_table_speaks_of_nothing_that_is_not_there() -> None:
    routes = {route for route, _ in addresses.routes()}
    gone = {route for route in SITE if route not in routes and "APPS" not in route}
    assert gone == set()
    assert routes >= APART
    assert set(addresses.models()) >= OWNED | EMPTY | set(TABLES)


@pytest.mark.parametrize("name", sorted(DEEDS))
def test_every_deed_is_for_whom_the_table_says(
    people: dict[str, Client], unrendered: None, name: str
) -> None:
    target = addresses.deeds().get(name, "")
    path = f"/admin/do/{name}/{target}/" if target else f"/admin/do/{name}/"
    looked = " ".join(str(client.get(path).status_code) for client in people.values())
    pressed = " ".join(str(client.post(path, {}).status_code) for client in people.values())
    assert looked == DOES[name].format(200, 200, 200, 200)
    assert pressed == DOES[name].format(422, 422, 422, 422)


def test_logging_out_needs_a_post(people: dict[str, Client], unrendered: None) -> None:
    client = Client()
    client.force_login(User.objects.get(username="viewer"))
    assert client.get("/admin/logout/").status_code == 405
    assert client.post("/admin/logout/").status_code == 200
    assert client.get("/admin/").status_code == 302
