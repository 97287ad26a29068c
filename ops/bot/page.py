"""The page behind a link of /bind: the exact text, the wallet's own way to sign it, and a box for whoever signs elsewhere.

It shows nothing but the text and stores nothing but one answer. Nothing on it comes from another site, and no script
stands in it. Whoever has the link may answer; the answer is judged by the bot.
"""

from http import HTTPStatus
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

from ops.bot import binding, binding_pages, words
from signals_app.deadline import database_deadline

log = structlog.get_logger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the token is part of the address
    "X-Robots-Tag": "noindex",
}
LONGEST = 8_194  # characters of a signature
FIELDS = ("address", "signature")


@csrf_exempt  # the token in the path is all that counts, and no cookie does
def bind(request: HttpRequest, token: str) -> HttpResponse:
    """GET asks for the address; with one it shows the text; POST takes the signature down, once."""
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponse(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET,POST"} | HEADERS)
    try:
        with database_deadline():
            return _bind(request, token)
    except DatabaseError as error:
        log.warning("a page is not answered", why=type(error).__name__)
        with words.speaking(request.headers.get("Accept-Language", "")[:2]):
            return _show(request, {"problem": words.DATABASE_AWAY}, HTTPStatus.SERVICE_UNAVAILABLE)


def _bind(request: HttpRequest, token: str) -> HttpResponse:
    page = binding_pages.open_page(token)
    known = binding_pages.language_of(token) if page is None else page.language
    spoken = known or request.headers.get("Accept-Language", "")[:2]
    with words.speaking(spoken):
        if page is None:
            return _show(request, {"problem": words.PAGE_OVER}, HTTPStatus.GONE)
        fields = request.POST if request.method == "POST" else request.GET
        told = {name: fields.get(name, "").strip()[:LONGEST] for name in FIELDS}
        shown: dict[str, Any] = {"step": "address", "address": told["address"]}
        if not told["address"]:
            return _show(request, shown)
        try:
            address = binding.read_address(told["address"])
        except ValueError as problem:
            return _show(request, shown | {"problem": problem}, HTTPStatus.UNPROCESSABLE_ENTITY)
        text = binding.text_of(page, address)
        shown = {"step": "sign", "address": address, "text": text, "signature": told["signature"]}
        if request.method != "POST":
            return _show(request, shown)
        try:
            signature = binding.read_signature(told["signature"])
        except ValueError as problem:
            return _show(request, shown | {"problem": problem}, HTTPStatus.UNPROCESSABLE_ENTITY)
        if not binding_pages.answer(page, address, signature):
            return _show(request, {"problem": words.PAGE_OVER}, HTTPStatus.GONE)
        return _show(request, {"step": "done"})


def _show(request: HttpRequest, shown: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> HttpResponse:
    texts = {name.lower(): words.text(name) for name in TEXTS}
    answer = render(request, "bot/bind.html", shown | texts | {"language": words.language()}, status=status)
    for name, value in HEADERS.items():
        answer.headers[name] = value
    return answer


TEXTS = (
    "PAGE_TITLE",
    "PAGE_WHY",
    "PAGE_USE_WALLET",
    "PAGE_OR_TYPE",
    "PAGE_ADDRESS",
    "PAGE_GO_ON",
    "PAGE_TEXT",
    "PAGE_SIGN",
    "PAGE_ELSEWHERE",
    "PAGE_COPY",
    "PAGE_SIGNATURE",
    "PAGE_HAND_IN",
    "PAGE_DONE",
    "PAGE_NO_WALLET",
    "PAGE_OTHER_ACCOUNT",
    "PAGE_REFUSED",
)
