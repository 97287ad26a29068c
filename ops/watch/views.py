"""Health, readiness and metrics over HTTP; always an answer, never a hang."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from execution_app.gate import watch
from ops.watch import exposition
from ops.watch import health as parts
from ops.watch.readiness import ready_problem
from signals_app.answers import JsonAnswer

View = Callable[[HttpRequest], HttpResponse]


def read_only(view: View) -> View:
    """GET and HEAD; anything else 405 in JSON. Exempt from CSRF, or a POST would get a page instead."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return JsonAnswer(
                {"status": "error", "error": "method not allowed", "mode": watch.effective_mode()},
                status=HTTPStatus.METHOD_NOT_ALLOWED,
                headers={"Allow": "GET, HEAD"},
            )
        response = view(request)
        response["Cache-Control"] = "no-store"
        return response

    return csrf_exempt(guarded)


@read_only
def health(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    status, body = parts.answer()
    return JsonAnswer(body, status=status)


@read_only
def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """The process answers; it asks nobody else, so a probe never kills it for another part's fault."""
    return JsonAnswer(
        {
            "status": "ok",
            "service": parts.SERVICE,
            "version": settings.VERSION,
            "mode": watch.effective_mode(),
        }
    )


@read_only
def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Whether this process may be sent signals: database usable, every migration applied."""
    problem = ready_problem()
    return JsonAnswer(
        {
            "status": "unavailable" if problem else "ok",
            "service": parts.SERVICE,
            "version": settings.VERSION,
            "detail": problem,
            "mode": watch.effective_mode(),
        },
        status=HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK,
    )


@read_only
def metrics(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return HttpResponse(exposition.render(), content_type=exposition.CONTENT_TYPE)
