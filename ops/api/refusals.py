"""What a client is told when no view answers: JSON with the mode, except on the admin site's pages."""

from http import HTTPStatus

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from execution_app.gate import watch
from signals_app.answers import JsonAnswer

PAGES = "/admin/"
# Under the same roof as the pages, but asked by programs.
NO_PAGE = "/admin/emergency-stop"
UNKNOWN_HOST = "the Host header is none of ALLOWED_HOSTS"
BAD_REQUEST = "the request cannot be read"
FORBIDDEN = "forbidden"
NOT_FOUND = "no such address"
FAULT = "a fault of this service; the log has it under the X-Request-Id of this answer"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_page(request):
        return defaults.bad_request(request, exception)
    return _refused(
        HTTPStatus.BAD_REQUEST, UNKNOWN_HOST if isinstance(exception, DisallowedHost) else BAD_REQUEST
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_page(request):
        return defaults.permission_denied(request, exception)
    return _refused(HTTPStatus.FORBIDDEN, FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_page(request):
        return defaults.page_not_found(request, exception)
    return _refused(HTTPStatus.NOT_FOUND, NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_page(request):
        return defaults.server_error(request)
    return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, FAULT)


def _is_page(request: HttpRequest) -> bool:
    return request.path_info.startswith(PAGES) and request.path_info != NO_PAGE


def _refused(status: HTTPStatus, error: str) -> HttpResponse:
    body = {"status": "error", "error": error, "mode": watch.effective_mode()}
    answer = JsonAnswer(body, status=status, headers={"Cache-Control": "no-store"})
    # What fails in a middleware never passes the one that says how long an answer is.
    answer["Content-Length"] = str(len(answer.content))
    return answer
