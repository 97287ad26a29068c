"""The headers of Standard Webhooks 1.0: https://www.standardwebhooks.com. Pure, and in constant time.

Signed are the bytes `id.timestamp.body`. The key is what `whsec_` and base64
spell where a secret has that form, and the secret's own UTF-8 bytes otherwise.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from execution_app.errors import Refused
from signals_app.signatures import MAX_SECRETS

ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = HEADERS = (
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
TOLERANCE_S = 300
# A sender that rotates signs under each of its secrets.
MAX_SIGNATURES = 8
PREFIX = "whsec_"

_ID = re.compile(r"[!-~]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
# Base64 of 32 bytes has one spelling here: 43 characters and one sign of padding.
_V1 = re.compile(r"v1,([A-Za-z0-9+/]{43}=)")


class Unsigned(Refused):
    """The headers cannot prove anything, whatever the secret; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The three headers, well formed and in time; whether they are true is for `verify`."""

    webhook_id: str
    timestamp: str
    digests: tuple[bytes, ...]

    @classmethod
    def read(cls, headers: Mapping[str, str], now_s: float) -> Self:
        """Raises Unsigned when a header is missing or malformed, or the timestamp too old or too new."""
        given = [headers.get(name, "") for name in HEADERS]
        missing = [name for name, value in zip(HEADERS, given, strict=True) if not value]
        if missing:
            raise Unsigned(f"{' and '.join(missing)} missing: Standard Webhooks need all three headers")
        webhook_id, timestamp, signatures = given
        if not _ID.fullmatch(webhook_id):
            raise Unsigned(f"{ID_HEADER} must be 1 to 128 visible ASCII characters")
        if not _TIMESTAMP.fullmatch(timestamp):
            raise Unsigned(f"{TIMESTAMP_HEADER} must be whole seconds since 1970 in ASCII digits")
        if abs(now_s - int(timestamp)) > TOLERANCE_S:
            raise Unsigned(f"{TIMESTAMP_HEADER} is more than {TOLERANCE_S} s away from the time here")
        return cls(webhook_id, timestamp, _digests(signatures))

    def verify(self, body: bytes, secrets: Sequence[str]) -> int | None:
        """Return the position of the secret under which one of the signatures is true, or None.

        Every secret is tried against every signature even after a match.
        """
        if len(secrets) > MAX_SECRETS or not all(secrets):
            raise ValueError(f"between none and {MAX_SECRETS} secrets, none of them blank")
        content = f"{self.webhook_id}.{self.timestamp}.".encode() + body
        found = None
        for position, secret in enumerate(secrets):
            expected = hmac.new(key_of(secret), content, hashlib.sha256).digest()
            for digest in self.digests:
                if hmac.compare_digest(expected, digest) and found is None:
                    found = position
        return found


def key_of(secret: str) -> bytes:
    """The bytes that sign. Of a `whsec_` secret, what its base64 spells, if it is base64."""
    if secret.startswith(PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True) or secret.encode()
        except (binascii.Error, ValueError):
            return secret.encode()
    return secret.encode()


def _digests(signatures: str) -> tuple[bytes, ...]:
    parts = signatures.split(" ")
    if len(parts) > MAX_SIGNATURES:
        raise Unsigned(f"{SIGNATURE_HEADER} has more than {MAX_SIGNATURES} signatures")
    # Other versions may stand beside ours: v1a is for public keys.
    digests = tuple(base64.b64decode(match[1]) for part in parts if (match := _V1.fullmatch(part)))
    if not digests:
        raise Unsigned(f"{SIGNATURE_HEADER} must have a signature of the form v1,BASE64 of HMAC-SHA256")
    return digests
