"""The operators' documents as pages: what each alert means first, since its message leads there by its name."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCS = settings.BASE_DIR / "docs"
FIRST = "production-runbook"
_OF_OURS = re.compile(r"(?:\./)?([a-z-]+)\.md(#[a-z0-9-]*)?")
_ELSEWHERE = re.compile(r"https?://|#")


def page(request: HttpRequest, name: str = FIRST) -> HttpResponse:
    """One document of docs/, for whoever is staff: it says nothing that the repository does not."""
    path = DOCS / f"{name}.md"
    if name not in names():
        raise Http404(f"there is no document {name}")
    title, body = rendered(path, path.stat().st_mtime_ns)
    context = {**admin.site.each_context(request), "title": title, "body": body}
    return TemplateResponse(request, "panel/runbook.html", context)


def names() -> frozenset[str]:
    """Documents that have a page."""
    return frozenset(path.stem for path in DOCS.glob("*.md"))


def address(name: str) -> str:
    return reverse("panel:runbook") if name == FIRST else reverse("panel:runbook", args=[name])


@lru_cache(maxsize=64)
def rendered(path: Path, _changed_at_ns: int) -> tuple[str, SafeString]:
    """The title, and the rest as HTML; HTML within a document is text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(path.read_text(encoding="utf-8"))
    title = ""
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        title = _plain(tokens[1])
        tokens = tokens[3:]
    taken: dict[str, int] = {}
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(_plain(tokens[at + 1]), taken))
        for child in token.children or ():
            _lead(child)
    html: str = parser.renderer.render(tokens, parser.options, {})
    # What scrolls by itself has to be reached by the keyboard.
    for wide in ("pre", "table"):
        html = html.replace(f"<{wide}>", f'<{wide} tabindex="0">')
    return title, mark_safe(html)  # noqa: S308  (our own file, in which HTML is escaped)


def _plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or ())


def _anchor(words: str, taken: dict[str, int]) -> str:
    """As GitHub makes them, so that the documents' own links hold in both places."""
    name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
    taken[name] = taken.get(name, -1) + 1
    return f"{name}-{taken[name]}" if taken[name] else name


def _lead(token: Token) -> None:
    """Links to other documents lead to their pages; those to files without a page lead nowhere."""
    if token.type != "link_open":
        return
    href = str(token.attrGet("href") or "")
    found = _OF_OURS.fullmatch(href)
    if found is not None and found[1] in names():
        token.attrSet("href", address(found[1]) + (found[2] or ""))
    elif _ELSEWHERE.match(href) is None:
        attrs: dict[str, Any] = dict(token.attrs)
        del attrs["href"]
        token.attrs = attrs
