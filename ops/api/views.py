"""The description over HTTP: public, since it holds no secret, and made once per process, since anybody may ask."""

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from ops.api import page
from ops.api.document import document
from ops.watch.views import read_only

# One sheet of our own and nothing else: no script, no frame, no other address.
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@read_only
def openapi(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return HttpResponse(_json(), content_type="application/json")


@read_only
def docs(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return HttpResponse(_page(), headers={"Content-Security-Policy": POLICY})


@cache
def _json() -> str:
    return json.dumps(document(), indent=1)


@cache
def _page() -> str:
    return render_to_string("api/docs.html", page.context(document()))
