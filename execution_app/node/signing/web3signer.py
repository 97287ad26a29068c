"""Web3Signer over HTTP, REST API of ETH1: `GET publicKeys`, `POST sign/{public key}`.

It hashes with keccak what it is given and answers r, s and v in hex. v is not
believed: the parity is found by recovering the address, which also shows an
answer of another key. Its URL may carry a password, so it is in no message.
"""

import json
import threading
import time
from string import hexdigits
from typing import Any

import structlog
import urllib3

from execution_app.node import connections
from execution_app.node.signing import ecdsa
from execution_app.node.signing.backends import SignerAwayError, SignerRefusedError

log = structlog.get_logger(__name__)
CONNECTIONS = 8
BODY_LIMIT = 256 * 1024
KEYS_LIMIT = 2_000
NOT_FOUND, TOO_MANY, SERVER_ERROR = 404, 429, 500
OK = 200
SIGNATURE = (130, 132)  # hex digits of r, s and v; v may come as two bytes


class Web3Signer:
    remote = True

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        manager = urllib3.PoolManager(num_pools=1, maxsize=CONNECTIONS, retries=False, block=False)
        self._pool = connections.timely(manager)
        self._identifiers: dict[str, str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "<Web3Signer>"

    def require(self, address: str) -> None:
        self._identifier(address, time.monotonic() + self._timeout_s)

    def addresses(self) -> list[str]:
        return sorted(self._public_keys(time.monotonic() + self._timeout_s))

    def sign(self, address: str, payload: bytes, deadline_s: float) -> ecdsa.Numbers:
        identifier = self._identifier(address, deadline_s)
        body = json.dumps({"data": "0x" + payload.hex()}).encode()
        status, answer = self._ask("POST", f"/api/v1/eth1/sign/{identifier}", deadline_s, body)
        if status == NOT_FOUND:
            with self._lock:
                self._identifiers.pop(address.lower(), None)
            raise SignerRefusedError(f"web3signer has no key for wallet {address}")
        if status != OK:
            raise SignerRefusedError(f"web3signer refuses to sign for wallet {address}: HTTP {status}")
        return _numbers(answer)

    def _identifier(self, address: str, deadline_s: float) -> str:
        """The public key by which the signer knows the wallet; asked once, and again for one that was not there."""
        with self._lock:
            found = self._identifiers.get(address.lower())
        if found is None:
            known = self._public_keys(deadline_s)
            with self._lock:
                self._identifiers = known
            found = known.get(address.lower())
        if found is None:
            raise SignerRefusedError(f"web3signer has no key for wallet {address}")
        return found

    def _public_keys(self, deadline_s: float) -> dict[str, str]:
        status, answer = self._ask("GET", "/api/v1/eth1/publicKeys", deadline_s)
        if status != OK:
            raise SignerRefusedError(f"web3signer does not tell its public keys: HTTP {status}")
        try:
            said: Any = json.loads(answer)
            points = {text: bytes.fromhex(text.removeprefix("0x"))[-64:] for text in said[:KEYS_LIMIT]}
            return {ecdsa.address_of_point(point).lower(): text for text, point in points.items()}
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise SignerRefusedError("web3signer's list of public keys cannot be read") from None

    def _ask(self, method: str, path: str, deadline_s: float, body: bytes | None = None) -> tuple[int, str]:
        left_s = min(self._timeout_s, deadline_s - time.monotonic())
        if left_s <= 0:
            raise SignerAwayError("no time is left to ask web3signer")
        try:
            answer = self._pool.request(
                method,
                self._url + path,
                body=body,
                headers={"Content-Type": "application/json", "Accept": "*/*"},
                timeout=urllib3.Timeout(total=left_s),
                preload_content=False,
                redirect=False,
            )
            raw = _read(answer, deadline_s)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Without its cause: urllib3's words carry the address, which may carry a password.
            raise SignerAwayError(f"web3signer does not answer ({type(error).__name__})") from None
        if answer.status >= SERVER_ERROR or answer.status == TOO_MANY or len(raw) > BODY_LIMIT:
            raise SignerAwayError(f"web3signer is out of order: HTTP {answer.status}")
        return answer.status, raw.decode("utf-8", errors="replace").strip()


def _read(answer: urllib3.BaseHTTPResponse, deadline_s: float) -> bytes:
    """The body, up to a byte above the limit. One that trickles in does not outlast the deadline."""
    raw, in_time = b"", False
    try:
        while time.monotonic() <= deadline_s:
            part = answer.read1(BODY_LIMIT + 1 - len(raw))
            raw += part
            if not part or len(raw) > BODY_LIMIT:
                in_time = True
                break
    finally:
        # What still comes belongs to no request.
        if in_time and len(raw) <= BODY_LIMIT:
            answer.release_conn()
        else:
            answer.close()
    if not in_time:
        raise SignerAwayError("web3signer's answer takes too long")
    return raw


def _numbers(answer: str) -> ecdsa.Numbers:
    digits = answer.strip('"').removeprefix("0x")
    if len(digits) not in SIGNATURE or not set(digits) <= set(hexdigits):
        raise SignerRefusedError("web3signer's answer is no signature")
    return ecdsa.Numbers(int(digits[:64], 16), int(digits[64:128], 16))
