"""Who signed a request: bare hex in X-Signature, or the headers of Standard Webhooks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from execution_app.errors import Refused
from signals_app import signatures, webhooks
from signals_app.keyring import KEYRING, Key

Check = Callable[[Sequence[str]], int | None]


class Unsigned(Refused):
    """No active secret explains the request; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Signer:
    """The secret that verified, and the `webhook-id` it covers, if any.

    Whether the secret stands for the body's source is judged by the statement that stores the signal.
    """

    key: Key
    webhook_id: str = ""


def who_signed(headers: Mapping[str, str], raw: bytes, now_s: float) -> Signer:
    """Find the secret under which the raw body is signed, trying all of them.

    A request with any header of Standard Webhooks is judged by these alone: a
    wrong one is not saved by a right X-Signature.
    Raises Unsigned, or keyring.Unavailable when the secrets could not be read.
    """
    if any(name in headers for name in webhooks.HEADERS):
        try:
            envelope = webhooks.Envelope.read(headers, now_s)
        except webhooks.Unsigned as error:
            raise Unsigned(str(error)) from error
        message = (
            "webhook-signature has no HMAC-SHA256 of webhook-id.webhook-timestamp.body under your secret"
        )
        return Signer(_find(lambda secrets: envelope.verify(raw, secrets), message), envelope.webhook_id)
    header = headers.get("X-Signature", "")
    message = "X-Signature must be the hex HMAC-SHA256 of the raw body"
    if not signatures.well_formed(header):
        raise Unsigned(message)
    return Signer(_find(lambda secrets: signatures.verify(raw, header, secrets), message))


def _find(check: Check, otherwise: str) -> Key:
    for known in (KEYRING.keys, KEYRING.newer):
        keys = known()
        position = check([key.secret for key in keys])
        if position is not None:
            return keys[position]
    raise Unsigned(otherwise)
