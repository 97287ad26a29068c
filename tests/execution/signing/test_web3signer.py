"""Web3Signer's HTTP to the byte: what it is asked, which answers are signatures, and how much of one is read."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import hexdigits
from typing import Any

import pytest
from eth_account import Account

from execution_app.errors import Refused
from execution_app.node.signing.backends import SignerAwayError, SignerRefusedError
from execution_app.node.signing.web3signer import Web3Signer
from tests.feeds import scripted
from tests.remote_signers import public_point

KEY = Account.from_key("0x" + "4c" * 32)
OTHER = Account.from_key("0x" + "4d" * 32)
TEXT = "0x04" + public_point(KEY).hex()
R, S = 2**255 + 5, 2**200 + 3
SIGNATURE = f"0x{R:064x}{S:064x}1b"
PAYLOAD = b"\x02what is signed"
BODY_LIMIT = 262_144


class Scripted(ThreadingHTTPServer):
    """Gives the answers it was told, one after the other, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[Any] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def will_say(self, *answers: tuple[int, bytes | str]) -> None:
        self.answers += [
            (status, said.encode() if isinstance(said, str) else said) for status, said in answers
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.server.headers.append(self.headers)
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        status, said = self.server.answers.pop(0)
        if not status:
            self.close_connection = True  # without a word
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        if status in (301, 307):
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        try:
            self.wfile.write(said)
        except OSError:
            self.close_connection = True  # whoever asked has read enough

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Tests read what was asked, not this."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def signer(server: Scripted) -> Web3Signer:
    """It knows its key already."""
    server.will_say((200, json.dumps([TEXT])))
    found = Web3Signer(server.url, 10.0)
    found.require(KEY.address)
    return found


def soon() -> float:
    return time.monotonic() + 30


def sign(signer: Web3Signer) -> tuple[int, int]:
    r, s, _ = signer.sign(KEY.address, PAYLOAD, soon())
    return r, s


def test_what_it_is_asked(server: Scripted) -> None:
    """By its public keys first, once; a slash at the end of the URL does not matter."""
    server.will_say((200, json.dumps([TEXT])), (200, SIGNATURE), (200, SIGNATURE))
    signer = Web3Signer(server.url + "/", 10.0)
    assert sign(signer) == sign(signer) == (R, S)
    assert server.asked == [
        ("GET", "/api/v1/eth1/publicKeys"),
        ("POST", f"/api/v1/eth1/sign/{TEXT}"),
        ("POST", f"/api/v1/eth1/sign/{TEXT}"),
    ]
    assert json.loads(server.bodies[1]) == {"data": "0x" + PAYLOAD.hex()}
    assert server.headers[1]["Content-Type"] == "application/json"
    assert server.headers[1]["Accept"] == "*/*", "a signature is text, keys are JSON"
    assert server.connections == 1, "and it is kept"


def test_every_wallet_it_has_a_key_for(server: Scripted) -> None:
    """In lower case and in order, whether a key is told with 0x and the mark of an uncompressed point or without."""
    server.will_say((200, json.dumps([TEXT, public_point(OTHER).hex()])))
    assert Web3Signer(server.url, 10.0).addresses() == sorted([KEY.address.lower(), OTHER.address.lower()])


@pytest.mark.parametrize(
    "answer",
    [
        SIGNATURE,
        SIGNATURE.removeprefix("0x"),
        f'"{SIGNATURE}"',
        f"\n{SIGNATURE}\r\n",
        f"0x{R:064x}{S:064x}0000",
        f"0x{R:064X}{S:064X}1C",
    ],
)
def test_a_signature_however_it_is_written(server: Scripted, signer: Web3Signer, answer: str) -> None:
    server.will_say((200, answer))
    assert sign(signer) == (R, S)


def test_a_signature_with_every_digit_there_is(server: Scripted, signer: Web3Signer) -> None:
    digits = (hexdigits * 6)[:130]
    server.will_say((200, digits))
    assert sign(signer) == (int(digits[:64], 16), int(digits[64:128], 16))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        SIGNATURE[:-1],
        SIGNATURE + "0",
        SIGNATURE + "000",
        SIGNATURE[:-2],
        "0x1_" + SIGNATURE[4:],
        "0x+1" + SIGNATURE[4:],
        SIGNATURE[:-2] + "zz",
        f"'{SIGNATURE}'",
    ],
)
def test_what_is_no_signature_is_refused(server: Scripted, signer: Web3Signer, answer: str) -> None:
    server.will_say((200, answer))
    with pytest.raises(SignerRefusedError, match="no signature"):
        sign(signer)


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 405, 412, 428, 430, 499])
def test_an_answer_that_is_final(server: Scripted, signer: Web3Signer, status: int) -> None:
    server.will_say((status, b""))
    with pytest.raises(SignerRefusedError, match=f"HTTP {status}"):
        sign(signer)


@pytest.mark.parametrize("status", [429, 500, 501, 503])
def test_an_answer_after_which_the_same_may_be_asked_again(
    server: Scripted, signer: Web3Signer, status: int
) -> None:
    server.will_say((status, SIGNATURE), (200, SIGNATURE))
    with pytest.raises(SignerAwayError, match=f"HTTP {status}"):
        sign(signer)
    assert sign(signer) == (R, S)


def test_a_key_that_is_gone_is_looked_for_anew(server: Scripted, signer: Web3Signer) -> None:
    """It was loaded again under another name, say."""
    server.will_say((404, b""))
    with pytest.raises(SignerRefusedError, match=f"no key for wallet {KEY.address}"):
        sign(signer)
    again = public_point(KEY).hex()
    server.will_say((200, json.dumps([again])), (200, SIGNATURE))
    assert sign(signer) == (R, S)
    assert server.asked[-1] == ("POST", f"/api/v1/eth1/sign/{again}")


def test_as_much_of_an_answer_is_read_as_one_may_have(server: Scripted, signer: Web3Signer) -> None:
    """More of it is nobody's signature, and is not read to its end; the next request is not answered by its rest."""
    server.will_say((200, b"1" * BODY_LIMIT), (200, b"1" * (BODY_LIMIT + 1)), (200, b"1" * 10 * BODY_LIMIT))
    with pytest.raises(SignerRefusedError, match="no signature"):
        sign(signer)
    assert server.connections == 1
    for _ in range(2):
        with pytest.raises(SignerAwayError, match="out of order"):
            sign(signer)
    server.will_say((200, SIGNATURE))
    assert sign(signer) == (R, S)


@pytest.mark.parametrize(
    "told",
    ["", "not json", "5", "null", "[5]", "[[]]", '["zz"]', '["0x12"]', '{"a": 1}', "[" * 100_000, "[null]"],
)
def test_a_list_of_keys_that_cannot_be_read(server: Scripted, told: str) -> None:
    server.will_say((200, told))
    with pytest.raises(SignerRefusedError, match="cannot be read"):
        Web3Signer(server.url, 10.0).addresses()


@pytest.mark.parametrize("status", [201, 404])
def test_keys_that_are_not_told(server: Scripted, status: int) -> None:
    server.will_say((status, json.dumps([TEXT])))
    with pytest.raises(SignerRefusedError, match=f"HTTP {status}"):
        Web3Signer(server.url, 10.0).require(KEY.address)


def test_two_thousand_keys_are_read(server: Scripted) -> None:
    """Without 0x and spaces as many fit into an answer."""
    mine, other = (public_point(key).hex() for key in (KEY, OTHER))
    for others, is_found in ((1_999, True), (2_000, False)):
        server.will_say((200, json.dumps([other] * others + [mine], separators=(",", ":"))))
        assert (KEY.address.lower() in Web3Signer(server.url, 10.0).addresses()) is is_found


def test_what_is_to_be_signed_is_not_sent_elsewhere(server: Scripted, signer: Web3Signer) -> None:
    for status in (301, 307):
        server.will_say((status, b""))
        with pytest.raises((Refused, SignerAwayError)):
            sign(signer)
    assert not [path for _, path in server.asked if path == "/elsewhere"]


@pytest.mark.parametrize("verb", [sign, Web3Signer.addresses], ids=["a signature", "the keys"])
def test_what_is_not_answered_is_not_asked_again(
    server: Scripted, signer: Web3Signer, verb: Callable[[Web3Signer], object]
) -> None:
    """Whoever asks decides that, with the time it has left; a second signature may be of what was stopped meanwhile."""
    server.will_say((0, b""), (200, SIGNATURE))
    before = len(server.asked)
    with pytest.raises(SignerAwayError, match="does not answer"):
        verb(signer)
    assert len(server.asked) == before + 1


def test_no_more_time_is_taken_than_there_is(server: Scripted, signer: Web3Signer) -> None:
    before = len(server.asked)
    with pytest.raises(SignerAwayError, match="no time is left"):
        signer.sign(KEY.address, PAYLOAD, time.monotonic() - 0.1)
    assert len(server.asked) == before


def test_its_address_is_told_nobody(server: Scripted) -> None:
    assert repr(Web3Signer("http://operator:secret@127.0.0.1:1", 1.0)) == "<Web3Signer>"


def test_one_that_drips_is_away_in_time() -> None:
    with scripted() as dripping:
        dripping.drip_s = 0.05
        begun_s = time.monotonic()
        with pytest.raises(SignerAwayError, match="ReadTimeoutError"):
            Web3Signer(dripping.url, 0.3).require(KEY.address)
        assert time.monotonic() - begun_s < 15.0, "it drips for 20 s"
