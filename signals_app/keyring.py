"""The secrets under which a signal may be signed, as this process last read them."""

import threading
import time
from collections import deque
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import Error as DatabaseFault

from execution_app.errors import Retryable
from signals_app import seals
from signals_app.deadline import database_deadline
from signals_app.models import SourceSecret

log = structlog.get_logger(__name__)

# With the default one these are all that are tried, so they bound the cost of a forged request.
MAX_ACTIVE = 64
# Anybody can send unknown signatures; each process asks the database for them this often at most.
MAX_READS, READS_WITHIN_S = 10, 1.0
WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Key:
    """A secret and whose it is; `source` and `secret_id` are None for the default one."""

    secret: str
    source: str | None = None
    secret_id: int | None = None


class Unavailable(Retryable):
    """The database did not tell the secrets, and the signature is under none that is known."""


class Keyring:
    """What was read may be old: a key found here is judged again in the statement that stores the signal.

    So it is read again only for a signature that nothing here explains, and a
    signal under the default secret costs no query.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: tuple[Key, ...] = ()
        self._reads: deque[float] = deque(maxlen=MAX_READS)

    def keys(self) -> tuple[Key, ...]:
        """The default secret first, then the active ones of all sources as last read."""
        return (Key(settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value()), *self._own)

    def newer(self) -> tuple[Key, ...]:
        """The keys, read again unless that was done ten times within the last second. Raises Unavailable."""
        if not self._lock.acquire(timeout=WAIT_S):
            raise Unavailable("the database is not available")
        try:
            now_s = time.monotonic()
            if len(self._reads) < MAX_READS or now_s - self._reads[0] > READS_WITHIN_S:
                self._own = _read()
                self._reads.append(now_s)
        finally:
            self._lock.release()
        return self.keys()

    def forget(self) -> None:
        """Know nothing but the default secret, as after a start."""
        self._own = ()
        self._reads.clear()


def _read() -> tuple[Key, ...]:
    try:
        with database_deadline():
            rows = list(
                SourceSecret.objects.filter(active=True)
                .order_by("pk")
                .values_list("pk", "source_id", "sealed")[:MAX_ACTIVE]
            )
    except DatabaseFault as error:
        log.warning("secrets not read", error=type(error).__name__)
        raise Unavailable("the database is not available") from error
    keys = []
    for pk, source, sealed in rows:
        try:
            keys.append(Key(seals.unseal(bytes(sealed), source, settings.SECRET_KEY), source, pk))
        except seals.Unreadable as error:
            # The others go on; this source is shut out, loudly, until it gets a new secret.
            log.error("secret unreadable", source=source, secret=pk, error=str(error))  # noqa: TRY400
    return tuple(keys)


KEYRING = Keyring()
