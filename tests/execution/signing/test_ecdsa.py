"""Arithmetic of signatures against eth-account's, and DER that no signer has any business to send."""

import coincurve
import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_keys import keys  # type: ignore[attr-defined]
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_app.node.fees import Fee
from execution_app.node.signing import ecdsa, transactions
from execution_app.node.signing.ecdsa import ORDER, address_of, read_der, recovered
from execution_app.node.signing.slots import Slot
from tests.remote_signers import der, public_point

KEY = Account.from_key("0x" + "4c" * 32)
NUMBERS = st.integers(1, ORDER - 1)
EDGES = [
    0,
    1,
    127,
    128,
    255,
    256,
    2**247,
    2**248 - 1,
    2**255 - 1,
    2**255,
    ORDER // 2,
    ORDER // 2 + 1,
    ORDER - 1,
]


@given(r=NUMBERS, s=NUMBERS)
def test_der_is_read_as_it_was_written(r: int, s: int) -> None:
    assert read_der(der(r, s)) == (r, s)


@pytest.mark.parametrize("number", EDGES)
def test_der_of_numbers_at_the_edges(number: int) -> None:
    assert read_der(der(number, 1)) == (number, 1)
    assert read_der(der(1, number)) == (1, number)


SOUND = der(2**255, 5)
WRONG_DER = {
    "nothing": b"",
    "one byte": b"\x30",
    "another tag": b"\x31" + SOUND[1:],
    "a set of numbers": SOUND.replace(b"\x02", b"\x03", 1),
    "cut": SOUND[:-1],
    "an appendix": SOUND + b"\x00",
    "a length too short": SOUND[:1] + bytes([SOUND[1] - 1]) + SOUND[2:],
    "a length too long": SOUND[:1] + bytes([SOUND[1] + 1]) + SOUND[2:],
    "a long form of length": b"\x30\x81" + SOUND[1:],
    "an endless length": b"\x30\x80" + SOUND[2:] + b"\x00\x00",
    "three numbers": b"\x30\x09" + b"\x02\x01\x01" * 3,
    "one number": b"\x30\x03\x02\x01\x01",
    "an empty sequence": b"\x30\x00",
    "an empty number at its end": b"\x30\x05\x02\x01\x01\x02\x00",
    "an empty number": b"\x30\x05\x02\x00\x02\x01\x01",
    "a negative number": b"\x30\x06\x02\x01\x80\x02\x01\x01",
    "needless zeros": b"\x30\x07\x02\x02\x00\x01\x02\x01\x01",
    "a number of 34 bytes": b"\x30\x27\x02\x22\x00" + b"\xff" * 33 + b"\x02\x01\x01",
    "a compact signature": bytes(64),
}


@pytest.mark.parametrize("name", WRONG_DER)
def test_other_bytes_are_no_signature(name: str) -> None:
    with pytest.raises(ValueError, match=r"signature|DER"):
        read_der(WRONG_DER[name])


@given(content=st.binary(max_size=80))
def test_made_up_bytes_are_read_one_way_or_not_at_all(content: bytes) -> None:
    try:
        r, s = read_der(content)
    except ValueError:
        return
    assert der(r, s) == content


@settings(max_examples=50)
@given(digest=st.binary(min_size=32, max_size=32), high=st.booleans(), first=st.sampled_from((0, 1)))
def test_the_half_and_the_parity_are_found(digest: bytes, high: bool, first: int) -> None:
    wanted = keys.PrivateKey(bytes(KEY.key)).sign_msg_hash(digest)
    found = recovered(digest, wanted.r, ORDER - wanted.s if high else wanted.s, KEY.address, first)
    assert (found.r, found.s, found.y_parity) == (wanted.r, wanted.s, wanted.v)
    assert found.s <= ORDER // 2


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (2**256, 1), (-1, 1), (ORDER - 1, 1), (1, ORDER + 1), (1, -1)],
)
def test_numbers_that_lead_to_no_key_are_refused(r: int, s: int) -> None:
    with pytest.raises(ValueError, match=r"out of range|not of"):
        recovered(keccak(b"x"), r, s, KEY.address)


def test_another_keys_signature_is_refused() -> None:
    digest = keccak(b"x")
    other = keys.PrivateKey(b"\x01" * 32).sign_msg_hash(digest)
    with pytest.raises(ValueError, match="not of"):
        recovered(digest, other.r, other.s, KEY.address)
    with pytest.raises(ValueError, match="not of"):
        recovered(
            keccak(b"y"), other.r, other.s, keys.PrivateKey(b"\x01" * 32).public_key.to_checksum_address()
        )


def test_the_smallest_numbers_are_numbers() -> None:
    digest = keccak(b"x")
    compact = (1).to_bytes(32, "big") * 2 + b"\x00"
    key = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    address = keys.PublicKey(key.format(compressed=False)[1:]).to_checksum_address()
    assert recovered(digest, 1, 1, address) == transactions.Signature(1, 1, 0)


def test_the_address_of_a_public_key() -> None:
    spki = ecdsa.SPKI_PREFIX + public_point(KEY)
    assert address_of(spki) == KEY.address
    p256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04" + public_point(KEY)
    off, other_curve = bytearray(spki), bytearray(spki)
    off[-1] ^= 1
    other_curve[len(ecdsa.SPKI_PREFIX) - 5] ^= 1
    for wrong in (
        b"",
        spki[:-1],
        spki + b"\x00",
        p256,
        bytes(off),
        bytes(other_curve),
        public_point(KEY),
        ecdsa.SPKI_PREFIX + bytes(64),
    ):
        with pytest.raises(ValueError, match="secp256k1"):
            address_of(wrong)


def test_a_point_is_written_in_one_way() -> None:
    """Not by coordinates that are as good as others, nor with zeros before them."""
    x, y = 1, 0x4218F20AE6C646B363DB68605822FB14264CA8D2587FDD6FBC750D587E76A7EE
    point = x.to_bytes(32, "big") + y.to_bytes(32, "big")
    assert ecdsa.address_of_point(point) == keys.PublicKey(point).to_checksum_address()
    for wrong in (
        (x + ecdsa.FIELD).to_bytes(32, "big") + point[32:],
        point[:32] + b"\x00" + point[32:],
        point[:32] + (ecdsa.FIELD - y - 1).to_bytes(32, "big"),
    ):
        with pytest.raises(ValueError, match="not a point"):
            ecdsa.address_of_point(wrong)


@settings(max_examples=50)
@given(
    nonce=st.integers(0, 2**63), value=st.integers(0, 10**20), gas=st.integers(0, 10**8),
    fee=st.integers(0, 10**14), data=st.binary(max_size=600),
)  # fmt: skip
def test_transactions_are_eth_accounts(nonce: int, value: int, gas: int, fee: int, data: bytes) -> None:
    """The library that signed before is the oracle."""
    slot = Slot(31337, KEY.address, nonce, "0x" + "bb" * 20, value, gas, data)
    said = {
        "type": 2, "chainId": 31337, "nonce": nonce, "to": to_checksum_address("0x" + "bb" * 20), "value": value, "gas": gas, "data": data,
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee // 2,
    }  # fmt: skip
    wanted = KEY.sign_transaction(said)
    payload = transactions.payload(slot, Fee(fee, fee // 2))
    assert keccak(payload) == TypedTransaction.from_dict(said).hash()
    signature = recovered(keccak(payload), wanted.r, wanted.s, KEY.address)
    made = transactions.assemble(slot, Fee(fee, fee // 2), signature)
    assert (made.raw, HexBytes(made.tx_hash)) == (bytes(wanted.raw_transaction), wanted.hash)
