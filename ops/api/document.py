"""The document: OpenAPI 3.1 of every JSON route, made once per process from the code that answers."""

import json
from functools import cache

from django.conf import settings

from ops.api import answers, operations, signal_body, trace_answer
from ops.api.shapes import Json
from signals_app import tokens, webhooks

TITLE = "Vanta"
ABOUT = (
    "Signed trading signals become on-chain perpetual trades: exactly once, within caps, behind a stop that works. "
    "Every JSON answer says in which mode it was given. Reading routes answer HEAD as they answer GET. "
    "An X-Request-Id of at most 64 of A-Z a-z 0-9 . _ - is echoed and stands in the logs; without one, one is made."
)


@cache
def document() -> Json:
    """The whole description; plain JSON, so nobody who holds it holds a part of the code."""
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": settings.VERSION,
            "summary": "Trading signals in, on-chain trades out.",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": operations.TAGS,
        "paths": operations.paths(),
        "components": {
            "schemas": {
                **signal_body.schemas(),
                **answers.schemas(),
                **trace_answer.schemas(),
            },
            "headers": _headers(),
            "securitySchemes": _security_schemes(),
        },
    }
    plain: Json = json.loads(json.dumps(made))
    return plain


def _headers() -> Json:
    def header(about: str, **schema: object) -> Json:
        return {"description": about, "required": True, "schema": schema}

    return {
        "RequestId": header("Names this request in the logs.", type="string"),
        "RetryAfter": header("Seconds after which to try again.", type="integer", minimum=1),
        "WWWAuthenticate": header("How to prove who asks.", type="string"),
    }


def _security_schemes() -> Json:
    def in_header(name: str, about: str) -> Json:
        return {"type": "apiKey", "in": "header", "name": name, "description": about}

    secret = "the source's secret, or WEBHOOK_HMAC_SECRET where the source never had one of its own"  # noqa: S105
    return {
        "xSignature": in_header(
            "X-Signature",
            f"Bare hex HMAC-SHA256 of the raw body under {secret}; the key is the secret's characters as they are. "
            "Judged only where no header of Standard Webhooks is sent.",
        ),
        "webhookId": in_header(
            webhooks.ID_HEADER,
            "Standard Webhooks, one of three headers: 1 to 128 visible ASCII characters, which stand for one content, "
            "for ever.",
        ),
        "webhookTimestamp": in_header(
            webhooks.TIMESTAMP_HEADER,
            f"Whole seconds since 1970, at most {webhooks.TOLERANCE_S} s away from the time here.",
        ),
        "webhookSignature": in_header(
            webhooks.SIGNATURE_HEADER,
            f"v1,BASE64 of HMAC-SHA256 over id.timestamp.body under {secret}; at most {webhooks.MAX_SIGNATURES}, with "
            f"a space between. The key is what the base64 after {webhooks.PREFIX} spells, else the secret's characters.",
        ),
        "API_TOKEN": {
            "type": "http",
            "scheme": "bearer",
            "description": f"A token of `manage.py token create`, {tokens.PREFIX}…: it reads traces and nothing else.",
        },
        "ADMIN_TOKEN": {
            "type": "http",
            "scheme": "bearer",
            "description": "ADMIN_TOKEN of the environment: it reads traces, stops and releases.",
        },
    }
