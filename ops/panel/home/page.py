"""The home page's boxes in their order, and the parts of a page that are fetched anew every few seconds."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from ops.panel import roles
from ops.panel.home import flow, gap, money, safety, wallets
from ops.panel.home.box import Box, Shown, show
from ops.watch import health

BOXES = (
    Box(
        "attention",
        "Needs a person",
        "execution_app.view_txintent",
        safety.attention,
        "",
        "execution_app_txintent",
    ),
    Box(
        "parts",
        "Parts",
        "execution_app.view_heartbeat",
        safety.parts,
        "",
        "execution_app_heartbeat",
        waits=True,
    ),
    Box(
        "result",
        "Result today (UTC)",
        "execution_app.view_fill",
        money.result,
        "No fill yet since 00:00 UTC. Send a signal to POST /signals.",
        "execution_app_fill",
    ),
    Box(
        "positions",
        "Positions",
        "execution_app.view_position",
        money.positions,
        "Nothing is open.",
        "execution_app_position",
    ),
    Box(
        "agreement",
        "Chain and book",
        "execution_app.view_position",
        safety.agreement,
        "No chain was met yet: start a worker.",
        "execution_app_chain",
    ),
    Box(
        "latency",
        "From signal to fill, last hour",
        "execution_app.view_txintent",
        flow.latency,
        "No LIVE order was mined within the last hour.",
        "execution_app_txreceipt",
    ),
    Box(
        "gap",
        "LIVE against DRY, 7 days",
        "execution_app.view_fill",
        gap.gap,
        "No LIVE fill has an estimate yet. Trade LIVE with small caps; then manage.py shadow judges the gap.",
        "execution_app_fill",
    ),
    Box("line", "In line", "execution_app.view_txintent", flow.line_up, "", "execution_app_txintent"),
    Box(
        "prices",
        "Prices",
        "execution_app.view_price",
        safety.prices,
        "No symbol may be traded: set ALLOWED_SYMBOLS.",
        "execution_app_price",
    ),
    Box(
        "wallets",
        "Wallets",
        "execution_app.view_wallet",
        wallets.wallets,
        "No enabled trader has a wallet: manage.py wallet create.",
        "execution_app_wallet",
        waits=True,
    ),
    Box("caps", "Caps", "execution_app.view_cap", money.cap_use, "", "execution_app_cap"),
)


def boxes(request: HttpRequest) -> list[Shown]:
    """All boxes that this user may see. Looks that wait for others begin first and are asked last."""
    for probe in (*health.PROBES, wallets.ALLOWANCES):
        probe.begin()
    return show(BOXES, request.user)


def told(request: HttpRequest) -> dict[str, Any]:
    """What the template of the boxes asks for; who sees no table, and is told of their own rows, sees no box."""
    shown = boxes(request)
    return {"boxes": shown, "own": not shown and roles.sees_own(request.user)}


def live_home(request: HttpRequest) -> HttpResponse:
    """The boxes anew, as a part of a page."""
    return _part(request, "panel/home.html", told(request))


def live_banner(request: HttpRequest) -> HttpResponse:
    """The banner anew, as a part of a page; on the home page it is larger."""
    return _part(request, "panel/live_banner.html", {"home": "home" in request.GET})


def _part(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    page = render_to_string(template, {**context, "user": request.user}, request=request)
    return HttpResponse(page, headers={"Cache-Control": "no-store"})
