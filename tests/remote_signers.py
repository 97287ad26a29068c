"""Remote signers on loopback, spoken to over real HTTP: AWS KMS and Web3Signer, with what they may do wrong.

KMS as its API reference has it: JSON 1.1, `X-Amz-Target: TrentService.…`, DER
signatures with s in either half, errors by `__type`. (moto is no oracle here: it
hashes a DIGEST once more.) Web3Signer as its OpenAPI page and its source have it:
public keys as identifiers, keccak over `data`, r, s and v in hex.
"""

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys import keys  # type: ignore[attr-defined]
from eth_utils.crypto import keccak

from execution_app.node.signing import ecdsa


@dataclass
class Faults:
    """What goes wrong from now on; counts run down by one per signature."""

    away: bool = False  # the connection is broken without an answer
    status: int = 0  # instead of an answer
    error: str = ""  # KMS: the `__type`
    wrong_key: bool = False
    other_bytes: bool = False
    high_s: bool = False
    answer: bytes | None = None  # the signature as it is sent: KMS's DER, Web3Signer's text
    delay_s: float = 0.0
    trickle_s: float = 0.0  # between two bytes of an answer
    lose_next: int = 0  # sign, then break the connection


@dataclass
class Asked:
    """A signature that was made; `at_s` is time.monotonic()."""

    at_s: float
    digest: bytes
    address: str


@dataclass
class RemoteSigner:
    """Holds keys and answers; `hold` keeps every signature waiting until it is set again."""

    keys: list[LocalAccount] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    signed: list[Asked] = field(default_factory=list)
    requests: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        remote = self

        class Handler(_Handler):
            signer = remote

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()

    def sign(self, key: LocalAccount, digest: bytes) -> tuple[int, int]:
        self.waiting += 1
        self.go.wait(30)
        self.waiting -= 1
        time.sleep(self.faults.delay_s)
        if self.faults.wrong_key:
            key = Account.create()
        if self.faults.other_bytes:
            digest = keccak(digest)
        signature = keys.PrivateKey(bytes(key.key)).sign_msg_hash(digest)
        self.signed.append(Asked(time.monotonic(), digest, key.address))
        s = ecdsa.ORDER - signature.s if self.faults.high_s else signature.s
        return signature.r, s

    def answer(self, method: str, path: str, target: str, body: bytes) -> tuple[int, str, bytes] | None:
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    signer: RemoteSigner

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        signer = self.signer
        signer.requests += 1
        if signer.faults.away:
            self.close_connection = True
            return
        said = signer.answer(self.command, self.path, self.headers.get("X-Amz-Target", ""), body)
        if said is None:
            self.close_connection = True
            return
        status, kind, content = said
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for at in range(len(content)) if signer.faults.trickle_s else ():
                self.wfile.write(content[at : at + 1])
                time.sleep(signer.faults.trickle_s)
            if not signer.faults.trickle_s:
                self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # whoever asked has gone

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Tests read what was signed, not this."""


class Web3SignerFake(RemoteSigner):
    def answer(self, method: str, path: str, target: str, body: bytes) -> tuple[int, str, bytes] | None:
        if self.faults.status:
            return self.faults.status, "text/html", b"<html><body><h1>no</h1></body></html>"
        points = {"0x" + public_point(key).hex(): key for key in self.keys}
        if (method, path) == ("GET", "/api/v1/eth1/publicKeys"):
            return 200, "application/json", json.dumps(list(points)).encode()
        prefix = "/api/v1/eth1/sign/"
        if method != "POST" or not path.startswith(prefix):
            return 404, "text/html", b"not found"
        key = points.get(path.removeprefix(prefix))
        if key is None:
            return 404, "text/html", b"Public Key not found"
        r, s = self.sign(key, keccak(bytes.fromhex(json.loads(body)["data"][2:])))
        if self.faults.lose_next:
            self.faults.lose_next -= 1
            return None
        text = f"0x{r:064x}{s:064x}1b".encode()
        return 200, "text/plain; charset=utf-8", self.faults.answer or text


class KmsFake(RemoteSigner):
    spec = "ECC_SECG_P256K1"

    def answer(self, method: str, path: str, target: str, body: bytes) -> tuple[int, str, bytes] | None:
        if self.faults.error or self.faults.status:
            said = {"__type": self.faults.error or "InternalFailure", "message": "no"}
            return self.faults.status or 400, "application/x-amz-json-1.1", json.dumps(said).encode()
        asked = json.loads(body)
        key = {self.key_id(key): key for key in self.keys}.get(asked["KeyId"])
        if key is None:
            missing = {"__type": "NotFoundException", "message": "no such key"}
            return 400, "application/x-amz-json-1.1", json.dumps(missing).encode()
        if target == "TrentService.GetPublicKey":
            spki = ecdsa.SPKI_PREFIX + public_point(key)
            said = {
                "KeyId": asked["KeyId"],
                "PublicKey": _base64(spki),
                "KeySpec": self.spec,
                "KeyUsage": "SIGN_VERIFY",
            }
            return 200, "application/x-amz-json-1.1", json.dumps(said).encode()
        assert target == "TrentService.Sign", target
        message = base64.b64decode(asked["Message"])
        assert (asked["MessageType"], asked["SigningAlgorithm"], len(message)) == (
            "DIGEST",
            "ECDSA_SHA_256",
            32,
        )
        r, s = self.sign(key, message)
        if self.faults.lose_next:
            self.faults.lose_next -= 1
            return None
        signature = self.faults.answer if self.faults.answer is not None else der(r, s)
        said = {"KeyId": asked["KeyId"], "Signature": _base64(signature), "SigningAlgorithm": "ECDSA_SHA_256"}
        return 200, "application/x-amz-json-1.1", json.dumps(said).encode()

    @staticmethod
    def key_id(key: LocalAccount) -> str:
        return f"key-{key.address[2:14].lower()}"


def public_point(key: LocalAccount) -> bytes:
    """The coordinates x and y, 64 bytes."""
    return bytes(keys.PrivateKey(bytes(key.key)).public_key.to_bytes())


def der(r: int, s: int) -> bytes:
    body = b"".join(b"\x02" + bytes([len(part)]) + part for part in map(_integer, (r, s)))
    return b"\x30" + bytes([len(body)]) + body


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
