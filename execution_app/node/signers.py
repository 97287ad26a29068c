"""Signing with a delegate key: policy, then journal, then whichever backend SIGNER_BACKEND names.

No key, password or answer of a signer is ever in a log or an error.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import structlog
from django.conf import settings
from django.db import connection
from eth_utils.crypto import keccak

from execution_app import meters
from execution_app.errors import Refused, Retryable
from execution_app.node.fees import Fee
from execution_app.node.signing import ecdsa, keyfiles, letters, policy, transactions
from execution_app.node.signing.backends import (
    Backend,
    SignerAwayError,
    SignerRefusedError,
    backend,
    backend_of,
)
from execution_app.node.signing.journal import Journal, JournalUnusableError, NonceUsedError
from execution_app.node.signing.keyfiles import create_key, key_path, make_key
from execution_app.node.signing.letters import Letter
from execution_app.node.signing.policy import Violation
from execution_app.node.signing.slots import CANCEL_GAS, Signed, Slot, order_of

__all__ = [
    "CANCEL_GAS",
    "JournalUnusableError",
    "Letter",
    "NonceUsedError",
    "Signed",
    "SignerAwayError",
    "SignerRefusedError",
    "Slot",
    "Violation",
    "create_key",
    "key_path",
    "make_key",
    "order_of",
]

log = structlog.get_logger(__name__)

# What one order may cost beyond its collateral, whatever a node says: the venue's execution fee is about
# gas price times 935,000, and an open takes a few hundred thousand gas.
MAX_VALUE_WEI = 5 * 10**16
MAX_GAS = 5_000_000
AT_ONCE = 8  # requests to a remote signer
GWEI = 10**9

# The signed bytes, or why there are none: for good, for now, or because the database is an old copy.
Answer = Signed | Refused | Retryable | NonceUsedError
# A message's signature, or why there is none.
LetterAnswer = bytes | Refused | Retryable

_account = keyfiles.account


def is_remote() -> bool:
    """Whether signatures come over a network: then they are asked for between two commits."""
    return backend().remote


def require_key(address: str) -> None:
    """Return when the wallet's key can be used. Raises Refused where it cannot, Retryable where nobody knows."""
    keys = backend()
    try:
        keys.require(address)
    except (Refused, Retryable) as problem:
        # Without its key nothing is placed, so no signature would ever be asked for, and be counted.
        if keys.remote:
            _count("away" if isinstance(problem, Retryable) else "refused")
        raise


def has_key(address: str) -> bool:
    """The same as an answer. Raises Retryable where a remote signer is away."""
    if settings.ENVIRONMENT.signer_backend == "keyfile":
        return keyfiles.has_file(address)
    try:
        require_key(address)
    except Refused:
        return False
    return True


def addresses() -> list[str]:
    """Every wallet that the signer has a key for, in lower case.

    Raises Refused where one of its keys is unfit, Retryable where a remote signer is away.
    """
    return backend().addresses()


def forget() -> None:
    """Drop connections and what is known of a signer: neither may be shared with a child that is forked."""
    backend_of.cache_clear()


def permit(slot: Slot, fee: Fee) -> None:
    """Ask the policy. Raises Violation, which was logged and counted."""
    environment = settings.ENVIRONMENT
    limits = policy.Limits(
        chain_id=environment.chain_id,
        trading_address=environment.venue_trading_address,
        max_value_wei=MAX_VALUE_WEI,
        max_gas=MAX_GAS,
        max_fee_wei=int(environment.max_fee_per_gas_gwei * GWEI),
    )
    try:
        policy.check(slot, fee, limits)
    except Violation as violation:
        meters.SIGNATURES_REFUSED.labels(violation.field).inc()
        facts = {"field": violation.field, "wallet": slot.sender, "nonce": slot.nonce}
        log.error("signature refused by policy", why=str(violation), **facts)  # noqa: TRY400
        raise


def check_nonce(slot: Slot) -> None:
    """Ask the journal. Raises NonceUsedError, JournalUnusableError."""
    _journal().check(slot)


def bind(slots: Sequence[Slot]) -> list[NonceUsedError | None]:
    """Have the journal bind each nonce to its order, before bytes leave. Raises JournalUnusableError."""
    answers = _journal().bind(slots)
    for used in filter(None, answers):
        log.error("nothing leaves: the nonce is another order's", why=str(used))
    return answers


def group() -> AbstractContextManager[None]:
    """One sync of the journal for all that is signed within. Raises Retryable at its end where that fails."""
    return _journal().group()


def sign(slot: Slot, fee: Fee) -> Signed:
    """Sign the slot with its sender's key.

    Raises Refused when policy, signer or key say no or the journal cannot be used,
    NonceUsedError when it knows another order, Retryable when a remote signer is away.
    """
    permit(slot, fee)
    keys = backend()
    if keys.remote:
        (answer,) = sign_remotely([(slot, fee)], time.monotonic() + 2 * settings.ENVIRONMENT.signer_timeout_s)
        if isinstance(answer, Signed):
            return answer
        raise answer
    _journal().note(slot)
    return _made(keys, slot, fee, float("inf"))


def permit_letter(letter: Letter) -> None:
    """Ask the policy of messages. Raises Violation, which was logged and counted."""
    environment = settings.ENVIRONMENT
    try:
        letters.check(letter, environment.chain_id, environment.venue_trading_address, time.time())
    except Violation as violation:
        meters.SIGNATURES_REFUSED.labels(violation.field).inc()
        facts = {"field": violation.field, "wallet": letter.sender, "key": letter.key}
        log.error("signature refused by policy", why=str(violation), **facts)  # noqa: TRY400
        raise


def sign_letter(letter: Letter) -> bytes:
    """The signature of a message for the gateway: r, s and v, 65 bytes.

    No journal: the message's nonce is made of its intent's key, and the venue
    spends it once. Raises Refused when policy, key or signer say no, Retryable when a remote signer is away.
    """
    if is_remote():
        (answer,) = sign_letters_remotely(
            [letter], time.monotonic() + 2 * settings.ENVIRONMENT.signer_timeout_s
        )
        if isinstance(answer, bytes):
            return answer
        raise answer
    permit_letter(letter)
    return _written(backend(), letter, float("inf"))


def sign_letters_remotely(asked: Sequence[Letter], deadline_s: float) -> list[LetterAnswer]:
    """Ask a remote signer for several messages at once, none later than time.monotonic() `deadline_s`.

    Each answer is a signature or why there is none. Never within a transaction.
    """
    _never_within()
    keys = backend()

    def answer(letter: Letter) -> LetterAnswer:
        found: LetterAnswer
        try:
            permit_letter(letter)
            found, outcome = _written(keys, letter, deadline_s), "ok"
        except Violation as violation:
            return violation
        except Retryable as problem:
            found, outcome = problem, "away"
        except Refused as problem:
            found, outcome = problem, "refused"
        meters.SIGNER_REQUESTS.labels(settings.ENVIRONMENT.signer_backend, outcome).inc()
        return found

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="signer") as pool:
        return list(pool.map(answer, asked))


def _written(keys: Backend, letter: Letter, deadline_s: float) -> bytes:
    """The one place where a signature becomes a message's: it is recovered first, whoever made it."""
    payload = letters.payload(letter)
    r, s, parity = keys.sign(letter.sender, payload, deadline_s)
    try:
        return letters.written(ecdsa.recovered(keccak(payload), r, s, letter.sender, parity))
    except ValueError as problem:
        log.error("a signer answered another key's signature", wallet=letter.sender)  # noqa: TRY400
        raise SignerRefusedError(str(problem)) from None


def _never_within() -> None:
    if connection.in_atomic_block:
        raise RuntimeError("a remote signer is asked between transactions, never within one")


def sign_remotely(asked: Sequence[tuple[Slot, Fee]], deadline_s: float) -> list[Answer]:
    """Ask a remote signer for several signatures at once, none later than time.monotonic() `deadline_s`.

    Each answer is the signed bytes or why there are none. All nonces are bound to
    their orders by one sync of the journal first. Never within a transaction.
    """
    _never_within()
    answers: list[Answer] = [_permitted(slot, fee) or _UNASKED for slot, fee in asked]
    open_ = [at for at, answer in enumerate(answers) if answer is _UNASKED]
    try:
        bound = bind([asked[at][0] for at in open_])
    except JournalUnusableError as problem:
        return [problem if answer is _UNASKED else answer for answer in answers]
    for at, used in zip(open_, bound, strict=True):
        if used is not None:
            answers[at] = used
    open_ = [at for at in open_ if answers[at] is _UNASKED]
    keys = backend()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="signer") as pool:
        made = pool.map(lambda at: _tried(keys, *asked[at], deadline_s), open_)
        for at, answer in zip(open_, made, strict=True):
            answers[at] = answer
    return answers


_UNASKED = SignerAwayError("not asked")


def _permitted(slot: Slot, fee: Fee) -> Violation | None:
    try:
        permit(slot, fee)
    except Violation as violation:
        return violation
    return None


def _tried(keys: Backend, slot: Slot, fee: Fee, deadline_s: float) -> Signed | Refused | Retryable:
    answer: Signed | Refused | Retryable
    try:
        answer, outcome = _made(keys, slot, fee, deadline_s), "ok"
    except Retryable as problem:
        answer, outcome = problem, "away"
    except Refused as problem:
        answer, outcome = problem, "refused"
    if keys.remote:
        _count(outcome)
    return answer


def _count(outcome: str) -> None:
    meters.SIGNER_REQUESTS.labels(settings.ENVIRONMENT.signer_backend, outcome).inc()


def _made(keys: Backend, slot: Slot, fee: Fee, deadline_s: float) -> Signed:
    """The one place where a signature becomes a transaction: it is recovered first, whoever made it."""
    payload = transactions.payload(slot, fee)
    r, s, parity = keys.sign(slot.sender, payload, deadline_s)
    try:
        signature = ecdsa.recovered(keccak(payload), r, s, slot.sender, parity)
    except ValueError as problem:
        log.error("a signer answered another key's signature", wallet=slot.sender, nonce=slot.nonce)  # noqa: TRY400
        raise SignerRefusedError(str(problem)) from None
    return transactions.assemble(slot, fee, signature)


def _journal() -> Journal:
    return _journal_of(settings.ENVIRONMENT.signer_journal_dir)


@lru_cache(maxsize=4)
def _journal_of(folder: Path) -> Journal:
    return Journal(folder)
