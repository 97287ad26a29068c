"""What a delegate key signs as a message for the gateway, and what it never signs."""

import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from execution_app import meters
from execution_app.errors import Refused
from execution_app.node import signers
from execution_app.node.signers import Letter, SignerAwayError, SignerRefusedError, Violation
from execution_app.node.signing import letters
from execution_app.venues import messages
from execution_app.venues.messages import (
    CloseMessage,
    DelegateMessage,
    IncreaseMessage,
    LevelsMessage,
    OpenMessage,
)
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import Domain
from tests.remote_signers import RemoteSigner

TRADER = "0x" + "11" * 20
STRANGER = "0x" + "22" * 20
KEY = "sig:test:1"


@pytest.fixture(scope="module")
def wallet() -> str:
    return signers.create_key()


def domain(**changes: Any) -> Domain:
    return replace(Domain(31337, django_settings.ENVIRONMENT.venue_trading_address), **changes)


def soon_ms(seconds: int = 60) -> int:
    return int(time.time() + seconds) * 1000


def opening(trader: str = TRADER, **changes: Any) -> OpenMessage:
    order = OpenOrder(trader, 1, True, Decimal(5), Decimal(2), Decimal(60_000), Decimal("0.5"))
    return replace(OpenMessage(order, soon_ms(), messages.nonce_of(KEY, domain())), **changes)


def letter(wallet: str, message: Any = None, **changes: Any) -> Letter:
    return replace(Letter(domain(), wallet, TRADER, KEY, message or opening()), **changes)


def closing() -> CloseMessage:
    order = CloseOrder(TRADER, 1, 0, Decimal(5), Decimal(60_000))
    return CloseMessage(order, 1_800_000_000, soon_ms(), messages.nonce_of(KEY, domain()))


def increasing(trader: str = TRADER) -> IncreaseMessage:
    order = IncreaseOrder(trader, 1, 0, Decimal(5), Decimal(2), Decimal(60_000), Decimal("0.5"))
    return IncreaseMessage(order, soon_ms(), messages.nonce_of(KEY, domain()))


def changing(trader: str = TRADER, **changes: Any) -> LevelsMessage:
    nonce = messages.nonce_of(KEY, domain())
    return replace(LevelsMessage(trader, 1, 0, Decimal(70_000), None, soon_ms(), nonce), **changes)


@pytest.mark.parametrize(
    "message",
    [opening, closing, changing, increasing],
    ids=["an open", "a close", "new levels", "an increase"],
)
def test_an_order_of_the_trader_is_signed_by_the_wallet(wallet: str, message: Any) -> None:
    asked = letter(wallet, message())
    signature = signers.sign_letter(asked)
    assert len(signature) == 65
    digest = messages.digest(asked.domain, asked.message)
    assert Account._recover_hash(digest, signature=signature) == wallet
    assert signers.sign_letter(asked) == signature  # the same message is the same bytes


NAMES = (
    *("another chain", "another contract", "no sender", "another trader", "another key's nonce"),
    *("a nonce of its own", "years from now", "a delegate", "another's levels"),
    *("another's increase",),
    *("levels with a nonce of their own", "levels for years"),
)


def refused(wallet: str) -> dict[str, tuple[str, Letter]]:
    nonce = messages.nonce_of(KEY, domain())
    mainnet = domain(chain_id=8453)
    return {
        "another chain": ("chain_id", letter(wallet, domain=mainnet)),
        "another contract": ("to", letter(wallet, domain=domain(trading_address=STRANGER))),
        "no sender": ("sender", letter("nobody")),
        "another trader": ("trader", letter(wallet, opening(STRANGER))),
        "another key's nonce": ("nonce", letter(wallet, opening(nonce=messages.nonce_of("sig:test:2", domain())))),
        "a nonce of its own": ("nonce", letter(wallet, opening(nonce=7))),
        "years from now": ("deadline_ms", letter(wallet, opening(deadline_ms=soon_ms(10**8)))),
        "a delegate": ("selector", letter(wallet, DelegateMessage(TRADER, STRANGER, 4 * 10**9, soon_ms(), nonce))),
        "another's levels": ("trader", letter(wallet, changing(STRANGER))),
        "another's increase": ("trader", letter(wallet, increasing(STRANGER))),
        "levels with a nonce of their own": ("nonce", letter(wallet, changing(nonce=7))),
        "levels for years": ("deadline_ms", letter(wallet, changing(deadline_ms=soon_ms(10**8)))),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_anything_else_is_refused_and_counted(wallet: str, name: str) -> None:
    field, asked = refused(wallet)[name]
    counter = meters.SIGNATURES_REFUSED.labels(field)
    before = counter._value.get()
    with pytest.raises(Violation, match=f"^{field}: ") as caught:
        signers.sign_letter(asked)
    assert caught.value.field == field
    assert counter._value.get() == before + 1
    assert field in (*meters.POLICY_FIELDS, *meters.LETTER_FIELDS)


def test_a_message_lives_an_hour_at_most() -> None:
    now_s = 1_800_000_000.25
    venue = domain().trading_address
    letters.check(letter(TRADER, opening(deadline_ms=1_800_003_600_250)), 31337, venue, now_s)
    with pytest.raises(Violation, match=r"^deadline_ms: "):
        letters.check(letter(TRADER, opening(deadline_ms=1_800_003_600_251)), 31337, venue, now_s)


def test_letters_of_addresses_are_alike_and_without_a_venue_nothing_is_signed() -> None:
    named, shouted = "0x" + "ab" * 20, "0x" + "AB" * 20
    venue = domain().trading_address
    for whose, told, place in ((named, shouted, venue.lower()), (shouted, named, venue.upper())):
        asked = letter(TRADER, opening(whose), trader=told, domain=domain(trading_address=place))
        letters.check(asked, 31337, venue, time.time())
    nowhere = domain(trading_address="")
    with pytest.raises(Violation, match=r"^to: "):
        letters.check(letter(TRADER, domain=nowhere), 31337, "", time.time())
    for sender in (TRADER.removeprefix("0x"), "0xnobody"):
        with pytest.raises(Violation, match=r"^sender: "):
            letters.check(letter(sender), 31337, venue, time.time())


@pytest.mark.parametrize("kind", ["web3signer", "kms"])
def test_a_signer_over_a_network_signs_the_same_message(
    request: pytest.FixtureRequest, key: LocalAccount, kind: str
) -> None:
    remote: RemoteSigner = request.getfixturevalue(kind)
    asked = letter(key.address, changing())
    digest = messages.digest(asked.domain, asked.message)
    local = key.unsafe_sign_hash(Hash32(digest)).signature
    counters = [meters.SIGNER_REQUESTS.labels(kind, how) for how in meters.SIGNER_OUTCOMES]
    before = [counter._value.get() for counter in counters]
    assert signers.sign_letter(asked) == bytes(local)
    assert [one.digest for one in remote.signed] == [digest]
    with pytest.raises(Violation):
        signers.sign_letter(letter(key.address, opening(STRANGER)))
    assert len(remote.signed) == 1
    remote.faults.wrong_key = True
    requests = remote.requests
    with pytest.raises(SignerRefusedError, match="not of 0x"):
        signers.sign_letter(asked)
    assert remote.requests == requests + 1, "and is not asked again"
    remote.faults.away = True
    with pytest.raises(SignerAwayError):
        signers.sign_letter(asked)
    ended = [counter._value.get() - then for counter, then in zip(counters, before, strict=True)]
    assert ended == [1, 1, 1], "ok, away and refused; what is refused here is not asked"


@pytest.mark.parametrize("kind", ["web3signer", "kms"])
def test_several_messages_are_signed_at_once_each_with_an_answer_of_its_own(
    request: pytest.FixtureRequest, database: None, key: LocalAccount, kind: str
) -> None:
    remote: RemoteSigner = request.getfixturevalue(kind)
    sound, stolen = letter(key.address, changing()), letter(key.address, opening(STRANGER))
    refused, signature = signers.sign_letters_remotely([stolen, sound], time.monotonic() + 30)
    assert isinstance(refused, Violation)
    assert signature == bytes(
        key.unsafe_sign_hash(Hash32(messages.digest(sound.domain, sound.message))).signature
    )
    assert len(remote.signed) == 1
    with transaction.atomic(), pytest.raises(RuntimeError, match="between transactions"):
        signers.sign_letters_remotely([sound], time.monotonic() + 30)
    assert len(remote.signed) == 1


def test_a_wallet_without_a_key_signs_nothing() -> None:
    with pytest.raises(Refused):
        signers.sign_letter(letter(Account.create().address))
