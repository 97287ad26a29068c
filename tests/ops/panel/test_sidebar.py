"""The list of tables beside a page is kept between requests: of what this person may see, with what they look at."""

import re

from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.template import Context, engines
from django.test import Client, RequestFactory

from ops.panel.templatetags import panel_sidebar

HOME, INTENTS = "/admin/", "/admin/execution_app/txintent/"


def links(client: Client, path: str) -> list[str]:
    return re.findall(r'id="link-([\w-]+)"', client.get(path).content.decode())


def test_nobody_is_shown_what_another_may_see(admin: Client, database: None) -> None:
    panel_sidebar._KEPT.clear()
    every = links(admin, HOME)
    assert {"execution_app-txintent", "execution_app-fill", "auth-user"} <= set(every)
    ann = User.objects.create_user("ann", is_staff=True)
    ann.user_permissions.add(Permission.objects.get(codename="view_fill"))
    client = Client()
    client.force_login(ann)
    for _ in range(2):
        assert links(client, HOME) == ["execution_app-fill"]
        assert links(admin, HOME) == every
    ann.user_permissions.add(Permission.objects.get(codename="view_txintent"))
    assert links(client, HOME) == ["execution_app-fill", "execution_app-txintent"]


def test_the_table_that_is_looked_at_is_marked(admin: Client) -> None:
    for _ in range(2):
        marked = re.findall(r"model-(\w+) current-model", admin.get(INTENTS).content.decode())
        assert marked == ["txintent"]
        assert "current-model" not in admin.get(HOME).content.decode()


def test_it_is_the_themes_own_text(admin: Client) -> None:
    theirs = engines["django"].from_string(panel_sidebar.THEIRS.read_text("utf-8"))
    for path in (HOME, INTENTS, f"{INTENTS}7/change/"):
        request = RequestFactory().get(path)
        request.user = User.objects.get(username="root")
        apps = site.get_app_list(request)
        for _ in range(2):
            assert panel_sidebar.tables(Context({"request": request}), apps) == theirs.render(
                {"app_list": apps}, request
            )
