"""A rig whose wallet's key lies with a remote signer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection
from pydantic import SecretStr
from pytest_django.fixtures import Settings

from execution_app.models import TxIntent
from execution_app.node import signers
from tests.remote_signers import Web3SignerFake
from tests.rig import Rig
from tests.timers import pass_a_minute


@contextmanager
def signing_remotely(rig: Rig, settings: Settings) -> Iterator[Web3SignerFake]:
    with Web3SignerFake([signers._account(rig.wallet.address)]) as signer:
        update: dict[str, object] = {"signer_backend": "web3signer", "web3signer_url": SecretStr(signer.url)}
        update["signer_timeout_s"] = (
            20  # of a lease of 45: a machine that loses some seconds has a signer still
        )
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=update)
        yield signer


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Elsewhere, on a database connection of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s


def finish(rig: Rig) -> None:
    """Sweeps and blocks until all is settled."""
    for _ in range(5):
        rig.finish()
        if not TxIntent.objects.filter(settled_at=None).exists():
            return
        pass_a_minute()
