"""What a delegate key may be put under as a message for the venue's gateway. Pure.

A delegate opens, increases and closes trades of its trader and sets their levels; it names no delegate, and what
a server offers to be signed is never looked at.
"""

from dataclasses import dataclass

from eth_utils.address import is_hex_address

from execution_app.node.signing.policy import Violation
from execution_app.node.signing.transactions import Signature
from execution_app.venues import messages
from execution_app.venues.messages import CloseMessage, IncreaseMessage, LevelsMessage, Message, OpenMessage
from execution_app.venues.typed_data import Domain

# A message that nobody executed may be executed until then, so it ends soon. Chains' clocks differ from ours.
MAX_LIFE_MS = 3_600_000
FIRST_V = 27


@dataclass(frozen=True)
class Letter:
    """A message with whose it is: `key` names its intent, `trader` is whose delegate the sender is."""

    domain: Domain
    sender: str
    trader: str
    key: str
    message: Message


def check(letter: Letter, chain_id: int, trading_address: str, now_s: float) -> None:
    """Raise Violation, naming the field, for anything but an order of this trader for this venue."""
    for field, words in _broken(letter, chain_id, trading_address, now_s):
        if words:
            raise Violation(field, f"{field}: {words}")


def _broken(letter: Letter, chain_id: int, trading_address: str, now_s: float) -> list[tuple[str, str]]:
    domain, message = letter.domain, letter.message
    found = [
        ("chain_id", domain.chain_id != chain_id, f"chain {domain.chain_id} is not CHAIN_ID {chain_id}"),
        (
            "sender",
            not (is_hex_address(letter.sender) and letter.sender.startswith("0x")),
            "the sender is no address",
        ),
        (
            "to",
            not trading_address or domain.trading_address.lower() != trading_address.lower(),
            f"a delegate key signs nothing for {domain.trading_address}, only for VENUE_TRADING_ADDRESS",
        ),
    ]
    if not isinstance(message, OpenMessage | CloseMessage | IncreaseMessage | LevelsMessage):
        found.append(("selector", True, f"a delegate key does not sign a {messages.kind_of(message)}"))
    else:
        named = message.trader if isinstance(message, LevelsMessage) else message.order.trader
        found += [
            (
                "trader",
                named.lower() != letter.trader.lower(),
                f"a delegate key does not sign for {named}, its trader is {letter.trader}",
            ),
            (
                "nonce",
                message.nonce != messages.nonce_of(letter.key, domain),
                f"the nonce is not the one of {letter.key}",
            ),
            (
                "deadline_ms",
                message.deadline_ms > now_s * 1000 + MAX_LIFE_MS,
                f"{message.deadline_ms} is more than {MAX_LIFE_MS} ms from now",
            ),
        ]
    return [(field, words if broken else "") for field, broken, words in found]


def payload(letter: Letter) -> bytes:
    """The bytes whose keccak hash is signed."""
    return messages.payload(letter.domain, letter.message)


def written(signature: Signature) -> bytes:
    """As contracts recover it: r, s, and v of 27 or 28."""
    return (
        signature.r.to_bytes(32, "big")
        + signature.s.to_bytes(32, "big")
        + bytes([FIRST_V + signature.y_parity])
    )
