"""/api/docs: everything of the document, for eyes, without a script or anything from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from ops.api.document import document
from ops.api.views import POLICY

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Notes what a browser would fetch, run and jump to, and whether every tag is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(str(value))
            if name in {"href", "src"}:
                self.links.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def answer() -> Any:
    return Client().get("/api/docs")


@pytest.fixture
def page(answer: Any) -> Reader:
    reader = Reader()
    reader.feed(answer.content.decode())
    assert reader.open == []
    return reader


@pytest.fixture
def sheet() -> str:
    return Path(str(finders.find("api/docs.css"))).read_text()


def test_it_shows_every_operation_every_status_and_every_field(page: Reader) -> None:
    for path, item in document()["paths"].items():
        assert path in page.text
        for operation in item.values():
            assert operation["operationId"] in page.ids
            assert all(response["description"] in page.text for response in operation["responses"].values())
    for name, schema in document()["components"]["schemas"].items():
        assert name in page.ids
        for field, part in schema.get("properties", {}).items():
            assert field in page.text
            assert part.get("description", "") in page.text
    for scheme in document()["components"]["securitySchemes"].values():
        assert scheme["description"] in page.text
    for rule in document()["components"]["schemas"]["SignalBody"]["allOf"]:
        assert rule["description"] in page.text


def test_every_link_leads_somewhere_and_nothing_comes_from_elsewhere(page: Reader) -> None:
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert link in {"/static/api/docs.css", "/api/openapi.json"}
            assert Client().get(link).status_code == 200


def test_it_needs_nothing_that_a_strict_policy_forbids(answer: Any, page: Reader, sheet: str) -> None:
    assert answer["Content-Security-Policy"] == POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert not page.tags & {"script", "style", "iframe", "form", "object", "embed", "base"}
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert "url(" not in sheet
    assert "@import" not in sheet


def test_it_is_public_and_says_no_secret(answer: Any, settings: Any) -> None:
    assert answer.status_code == 200
    for secret in (settings.ENVIRONMENT.admin_token, settings.ENVIRONMENT.webhook_hmac_secret):
        assert secret.get_secret_value() not in answer.content.decode()


def test_it_fits_a_phone_and_the_readers_colours(page: Reader, answer: Any, sheet: str) -> None:
    assert b'name="viewport" content="width=device-width' in answer.content
    assert "prefers-color-scheme: dark" in sheet
    assert "max-width: 40rem" in sheet


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read(sheet: str, theme: str) -> None:
    """WCAG AA: 4.5 to 1 against both grounds."""
    roots = re.findall(r":root \{([^}]*)\}", sheet)
    assert len(roots) == 2
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", roots[0]))
    if theme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#[0-9a-f]+)", roots[1]))
    for name in ("text", "quiet", "link", "get", "post", "delete"):
        for ground in ("ground", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
