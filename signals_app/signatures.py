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


def bearer(header: str) -> str:
    """Return the token in an `Authorization` header; blank where there is none, or another scheme."""
    scheme, _, offered = header.partition(" ")
    return offered.strip() if scheme.lower() == "bearer" else ""


def bears(header: str, token: str) -> bool:
    """Whether an `Authorization` header carries this bearer token; a blank token admits nobody.

    Hashes are compared, which are equally long whatever was offered.
    """
    same = hmac.compare_digest(sha256(bearer(header)), sha256(token))
    return same and bool(token)


def sha256(token: str) -> str:
    """The hex digest by which a token is known without being kept."""
    return hashlib.sha256(token.encode()).hexdigest()
