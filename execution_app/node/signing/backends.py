"""Where a signature comes from: one small interface, and the backend that SIGNER_BACKEND names."""

from functools import lru_cache
from typing import Protocol

from django.conf import settings

from execution_app.errors import Refused, Retryable
from execution_app.node.signing.ecdsa import Numbers


class SignerAwayError(Retryable):
    """No usable answer of a remote signer: refused, timed out, throttled, or out of order. Nobody knows whether it signed."""


class SignerRefusedError(Refused):
    """The signer said no, or what it answered is not this wallet's signature; asking again would not help."""


class Backend(Protocol):
    """Makes the two numbers of a signature. Never retries by itself, never tells a key.

    `remote` ones are asked over a network, so never within a transaction.
    """

    remote: bool

    def require(self, address: str) -> None:
        """Return when there is a key for the address. Raises Refused where there is none, SignerAwayError where nobody knows."""

    def addresses(self) -> list[str]:
        """Every wallet there is a key for, in lower case. Raises Refused where a key is unfit, SignerAwayError."""

    def sign(self, address: str, payload: bytes, deadline_s: float) -> Numbers:
        """The numbers r and s over keccak(payload), s in either half; not later than time.monotonic() `deadline_s`.

        Raises Refused and SignerAwayError.
        """


@lru_cache(maxsize=4)
def backend_of(name: str, place: str, timeout_s: float) -> Backend:
    """A backend keeps connections and what it knows of keys, so there is one for each setting in a process."""
    from execution_app.node.signing.keyfiles import KeyFiles, KeyStores

    if name == "web3signer":
        from execution_app.node.signing.web3signer import Web3Signer

        return Web3Signer(place, timeout_s)
    if name == "kms":
        from execution_app.node.signing.kms import KeyManagement

        return KeyManagement(tuple(key for key in place.split(",") if key), timeout_s)
    return KeyStores() if name == "keystore" else KeyFiles()


def backend() -> Backend:
    environment = settings.ENVIRONMENT
    places = {
        "web3signer": environment.web3signer_url.get_secret_value(),
        "kms": environment.signer_kms_keys,
    }
    name = environment.signer_backend
    return backend_of(name, places.get(name, ""), float(environment.signer_timeout_s))
