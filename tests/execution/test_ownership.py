"""Who signed a text: a key by EIP-191, as wallets spell it, or a contract by ERC-1271; everything else is a no."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from pytest_django.fixtures import Settings

from execution_app.errors import Refused, Retryable
from execution_app.node import ownership, rpc
from tests import real_parts
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call

TEXT = "Somebody asks you.\n\nNonce: \N{EURO SIGN} 1"
CONTRACT = "0x" + "c0" * 20
ANSWERS_MAGIC = "631626ba7e60e01b60005260206000f3"


def signed(text: str = TEXT) -> tuple[str, bytes]:
    person = Account.create()
    return person.address, bytes(person.sign_message(encode_defunct(text=text)).signature)


def approves(hashed: bytes) -> str:
    """Code of a contract that takes any signature of this hash, and of no other."""
    return "0x" + "6004357f" + hashed.hex() + "14631626ba7e02" + "60e01b60005260206000f3"


def test_a_keys_signature_is_its_own_texts_alone(rig: Rig) -> None:
    address, signature = signed()
    ownership.require(address, TEXT, signature)
    ownership.require(address, TEXT, signature[:64] + bytes([signature[64] - 27]))  # as some wallets count v
    for text, other in (
        (TEXT + " ", signature),
        (TEXT, signed()[1]),
        (TEXT, b"\0" * 65),
        (TEXT, b"\xff" * 65),
    ):
        with pytest.raises(Refused, match="not of"):
            ownership.require(address, text, other)


@pytest.mark.parametrize("length", [0, 1, 64, 66, 4_096, 4_097])
def test_bytes_of_another_length_are_nobodys(rig: Rig, length: int) -> None:
    address, signature = signed()
    with pytest.raises(Refused):
        ownership.require(address, TEXT, (signature * 64)[:length])


def test_a_contract_is_asked(rig: Rig) -> None:
    rpc_call("anvil_setCode", CONTRACT, approves(ownership.digest(TEXT)))
    ownership.require(CONTRACT, TEXT, b"\x01\x02")
    ownership.require(CONTRACT, TEXT, signed()[1])  # of an owner's key
    with pytest.raises(Refused):
        ownership.require(CONTRACT, TEXT + "!", b"\x01\x02")


@pytest.mark.parametrize(
    "code",
    [
        "60006000fd",
        "00",
        "60016000526020" + "6000f3",
        "631626ba7e60005260206000f3",
        ANSWERS_MAGIC[:-10] + "60046000f3",
    ],
)
def test_whatever_a_contract_answers_but_the_plain_yes_is_a_no(rig: Rig, code: str) -> None:
    """It reverts, says nothing, says another number, the magic at the wrong end, or four bytes of it."""
    rpc_call("anvil_setCode", CONTRACT, "0x" + code)
    with pytest.raises(Refused):
        ownership.require(CONTRACT, TEXT, b"\x01\x02")


def test_without_a_node_nothing_is_decided(rig: Rig, settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": "http://127.0.0.1:9"})
    rpc.endpoints.cache_clear()
    try:
        with pytest.raises(Retryable):
            ownership.require(CONTRACT, TEXT, b"\x01\x02")
        ownership.require(*signed_of(TEXT))  # a key needs no node
    finally:
        rpc.endpoints.cache_clear()


def signed_of(text: str) -> tuple[str, str, bytes]:
    address, signature = signed(text)
    return address, text, signature


@pytest.fixture
def nodes(rig: Rig, settings: Settings) -> Iterator[list[Proxy]]:
    """Three endpoints before one chain."""
    with ExitStack() as stack:
        found = [stack.enter_context(Proxy(real_parts.anvil.url)) for _ in range(3)]
        urls = ",".join(node.url for node in found)
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": urls})
        rpc.endpoints.cache_clear()
        yield found
    rpc.endpoints.cache_clear()


def says_yes(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """A node that gives any address to anybody."""
    lies = {"eth_getCode": "0x00", "eth_call": "0x1626ba7e" + "00" * 28}
    return {**answer, "result": lies.get(request["method"], answer.get("result"))}


def says_no(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "result": "0x"} if request["method"] == "eth_getCode" else answer


def test_one_node_gives_no_address_away(nodes: list[Proxy]) -> None:
    """Whichever of the three it is, the others know no contract there."""
    for liar in nodes:
        liar.faults.tell = says_yes
        with pytest.raises(Refused, match="not of"):
            ownership.require(CONTRACT, TEXT, b"\x01\x02")
        liar.faults.tell = None


def test_a_liar_and_a_silent_node_decide_nothing(nodes: list[Proxy]) -> None:
    nodes[0].faults.tell = says_yes
    nodes[1].faults.broken = "reset"
    with pytest.raises(Retryable, match="too few nodes agree"):
        ownership.require(CONTRACT, TEXT, b"\x01\x02")


def test_two_of_three_are_believed(nodes: list[Proxy]) -> None:
    rpc_call("anvil_setCode", CONTRACT, approves(ownership.digest(TEXT)))
    nodes[0].faults.tell = says_no
    ownership.require(CONTRACT, TEXT, b"\x01\x02")
    nodes[1].faults.broken = "reset"
    with pytest.raises(Retryable):
        ownership.require(CONTRACT, TEXT, b"\x01\x02")
