"""Signals as a sender makes and signs them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from django.conf import settings
from django.test import Client

Body = dict[str, Any]
# Runs a call in another thread; see the fixture.
Elsewhere = Callable[[Callable[[], Any]], Any]
_numbers = count(1)


def open_body(**fields: object) -> Body:
    """A valid open under a fresh id, with overrides."""
    return {
        "source": "drill",
        "signal_id": f"test-{next(_numbers)}",
        "tg_user_id": 123,
        "symbol": "BTC-USD",
        "side": "LONG",
        "collateral_usdc": 5,
        "leverage_x": 2,
        "slippage_pct": 0.5,
    } | fields


def default_secret() -> str:
    return str(settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value())


def sign(body: bytes, secret: str | None = None) -> str:
    return hmac.new((secret or default_secret()).encode(), body, hashlib.sha256).hexdigest()


def webhook_headers(body: bytes, webhook_id: str, secret: str | None = None, at_s: int | None = None) -> Body:
    """The headers of Standard Webhooks as WSGI carries them, made without the code under test."""
    secret, stamp = secret or default_secret(), str(int(time.time()) if at_s is None else at_s)
    prefix, _, encoded = secret.partition("whsec_")
    key = secret.encode() if prefix or not encoded else base64.b64decode(encoded)
    digest = hmac.digest(key, f"{webhook_id}.{stamp}.".encode() + body, "sha256")
    return {
        "HTTP_WEBHOOK_ID": webhook_id,
        "HTTP_WEBHOOK_TIMESTAMP": stamp,
        "HTTP_WEBHOOK_SIGNATURE": "v1," + base64.b64encode(digest).decode(),
    }


def post_webhook(body: Body, webhook_id: str, secret: str | None = None, **environ: Any) -> Any:
    """Send a body signed by the headers of Standard Webhooks alone."""
    raw = json.dumps(body).encode()
    sent = webhook_headers(raw, webhook_id, secret) | environ
    return Client().generic("POST", "/signals", raw, "application/json", **sent)


def post(body: Body | bytes, **environ: Any) -> Any:
    """Send a signed body and return the answer; `environ` overrides what WSGI would carry."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"HTTP_X_SIGNATURE": sign(raw), "CONTENT_TYPE": "application/json"} | environ
    # One client per call: clients are not safe to share between threads.
    return Client().generic("POST", "/signals", raw, sent["CONTENT_TYPE"], **sent)


def get_trace(path: str, token: str | None = None, method: str = "GET") -> Any:
    given = settings.ENVIRONMENT.admin_token.get_secret_value() if token is None else token
    return Client().generic(method, path, HTTP_AUTHORIZATION=f"Bearer {given}")
