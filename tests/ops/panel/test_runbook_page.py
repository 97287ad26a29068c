"""The runbook in the panel: every alert's link leads to its section, and links between documents hold."""

import re
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve

from ops.panel import runbook
from tests.ops.alerts import rulebook

ALERTS = rulebook.alerts()


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag in {"h1", "h2", "h3", "h4"} and told.get("id"):
            self.anchors.append(str(told["id"]))
        if tag == "a" and told.get("href"):
            self.links.append(str(told["href"]))


def body(name: str) -> Page:
    path = runbook.DOCS / f"{name}.md"
    return Page(str(runbook.rendered(path, path.stat().st_mtime_ns)[1]))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alerts_link_is_a_url_of_a_section_that_is_there(name: str) -> None:
    url = ALERTS[name].annotations["runbook_url"]
    found = re.fullmatch(r"http://localhost:8090(/admin/runbook/)#(\w+)", url)
    assert found is not None, url
    assert resolve(found[1]).view_name == "panel:runbook"
    assert found[2] == name.lower()
    assert body(runbook.FIRST).anchors.count(found[2]) == 1


def test_the_page_is_shown_to_staff_with_its_sections(database: None) -> None:
    client = Client()
    assert client.get("/admin/runbook/").status_code == 302
    client.force_login(User.objects.create_user("ann", is_staff=True))
    answer = client.get("/admin/runbook/")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert {name.lower() for name in ALERTS} <= set(Page(text).anchors)
    assert "One intent was executed twice (page)." in text
    assert client.get("/admin/runbook/operating/").status_code == 200
    assert client.get("/admin/runbook/nothing-of-this-name/").status_code == 404


def test_every_link_of_every_document_leads_to_a_page_and_a_place_that_are_there() -> None:
    pages = {name: body(name) for name in runbook.names()}
    assert len(pages) > 20
    addresses = {runbook.address(name): name for name in pages}
    followed = 0
    for name, page in pages.items():
        assert len(page.anchors) == len(set(page.anchors)), name
        for link in page.links:
            if link.startswith(("http://", "https://")):
                continue
            address, _, anchor = link.partition("#")
            there = addresses[address] if address else name
            assert not anchor or anchor in pages[there].anchors, f"{name}: {link}"
            followed += 1
    assert followed > 50


def test_what_a_document_has_of_html_is_text() -> None:
    for name in runbook.names():
        path = runbook.DOCS / f"{name}.md"
        _, html = runbook.rendered(path, path.stat().st_mtime_ns)
        assert "<script" not in html, name
        assert "<img" not in html, name
        assert 'href="javascript' not in html, name
