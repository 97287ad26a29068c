"""Whether bytes or a token come from whoever holds a secret. Pure, and in constant time."""

import hashlib
import hmac
import re
from collections.abc import Sequence

# Every secret is tried for every request, so their number is the cost of a forged one.
MAX_SECRETS = 65

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def well_formed(header: str) -> bool:
    """Whether the header can be a signature at all, under whatever secret."""
    return bool(_HEX_SHA256.fullmatch(header))


def verify(body: bytes, header: str, secrets: Sequence[str]) -> int | None:
    """Return the position of the secret under which `header` signs the raw body, or None.

    The header is the bare hex HMAC-SHA256. All secrets are tried even after a
    match, so the time tells nothing about which one it was.
    Raises ValueError for a blank secret, under which anybody could sign, or too many.
    """
    if len(secrets) > MAX_SECRETS or not all(secrets):
        raise ValueError(f"between none and {MAX_SECRETS} secrets, none of them blank")
    if not well_formed(header):
        return None
    offered = bytes.fromhex(header)
    found = None
    for position, secret in enumerate(secrets):
        expected = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        if hmac.compare_digest(expected, offered) and found is None:
            found = position
    return found


def bears(header: str, token: str) -> bool:
    """Whether an `Authorization` header carries this bearer token; a blank token admits nobody."""
    scheme, _, offered = header.partition(" ")
    same = hmac.compare_digest(offered.strip().encode(), token.encode())
    return same and bool(token) and scheme.lower() == "bearer"
