"""Whether whoever holds an address has signed a text: EIP-191 by its key, or ERC-1271 by the contract that it is.

A key's signature is checked here and needs nobody's word. What a contract thinks is a node's word, and a lying node could
give any address to anybody; so it is believed of a quorum only.
"""

from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak

from execution_app.errors import Refused, Retryable
from execution_app.node import quorum, rpc
from execution_app.node.signing import ecdsa

PREFIX = b"\x19Ethereum Signed Message:\n"
LENGTH = 65  # r, s and v of a key
LONGEST = 4_096  # of a contract's owners together
MAGIC = bytes.fromhex("1626ba7e")  # isValidSignature(bytes32,bytes), and its answer


def digest(text: str) -> bytes:
    """What a wallet signs that is asked for `personal_sign` of this text (EIP-191, version 0x45)."""
    content = text.encode()
    return keccak(PREFIX + str(len(content)).encode() + content)


def require(address: str, text: str, signature: bytes) -> None:
    """Raises Refused where the signature is not the address's, Retryable while too few nodes say what a contract thinks."""
    if len(signature) > LONGEST:
        raise Refused(f"a signature has at most {LONGEST} bytes")
    hashed = digest(text)
    if len(signature) == LENGTH and _is_of_key(address, hashed, signature):
        return
    # Also where a key's signature does not fit: an account may be a contract and have owners with keys.
    if not _is_of_contract(address, hashed, signature):
        raise Refused(f"that signature is not of {address}, or not of this text")


def _is_of_key(address: str, hashed: bytes, signature: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    try:
        ecdsa.recovered(hashed, r, s, address)
    except ValueError:
        return False
    return True


def _is_of_contract(address: str, hashed: bytes, signature: bytes) -> bool:
    """Asked of every endpoint at its latest block; whatever is no plain yes is a no."""
    call = MAGIC + abi_encode(("bytes32", "bytes"), (hashed, signature))
    votes = [
        _says_yes(code, answer)
        for _, (code, answer) in quorum.ask_each(
            [("eth_getCode", (address, "latest")), rpc.eth_call(address, call)]
        )
        if not isinstance(code, rpc.NodeError)
    ]
    if votes.count(True) >= quorum.needed():
        return True
    if votes.count(False) >= quorum.needed():
        return False
    raise Retryable("too few nodes agree now about what that contract thinks; try again in a minute")


def _says_yes(code: object, answer: object) -> bool:
    if not str(code).removeprefix("0x") or isinstance(answer, rpc.NodeError):
        return False  # no contract, or it reverted
    try:
        return bytes.fromhex(str(answer).removeprefix("0x")) == MAGIC + bytes(28)
    except ValueError:
        return False
