"""A remote signer that is asked for one signature is waited for twice its timeout at most."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.errors import Retryable
from execution_app.node import signers

TIMEOUT_S, NOW_S = 7.0, 1_000.0


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[float]:
    """Deadlines at which a signer that is away was given up."""
    deadlines: list[float] = []

    def ask(asked: list[Any], deadline_s: float) -> list[Retryable]:
        deadlines.append(deadline_s)
        return [Retryable("away") for _ in asked]

    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"signer_timeout_s": TIMEOUT_S})
    monkeypatch.setattr(time, "monotonic", lambda: NOW_S)
    monkeypatch.setattr(signers, "permit", lambda *_: None)
    monkeypatch.setattr(signers, "is_remote", lambda: True)
    monkeypatch.setattr(signers, "backend", lambda: SimpleNamespace(remote=True))
    monkeypatch.setattr(signers, "sign_remotely", ask)
    monkeypatch.setattr(signers, "sign_letters_remotely", ask)
    return deadlines


def test_a_transaction_and_a_message_have_the_same_time(away: list[float]) -> None:
    with pytest.raises(Retryable, match="away"):
        signers.sign(None, None)  # type: ignore[arg-type]
    with pytest.raises(Retryable, match="away"):
        signers.sign_letter(None)  # type: ignore[arg-type]
    assert away == [NOW_S + 2 * TIMEOUT_S] * 2
