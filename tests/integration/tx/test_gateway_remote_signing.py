"""The gateway's road with a signer over a network: the message fixed, then signed, then posted, and never after a stop."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from execution_app.engine import reserve
from execution_app.engine.gateway import signing
from execution_app.gate import control
from execution_app.models import Position, TxIntent, VenueMessage
from execution_app.node import signers
from execution_app.states import Action, Origin, Reason, RestrictionKind
from tests.execution.desks.harness import run
from tests.integration.tx.remote import in_thread, signing_remotely, until
from tests.integration.tx.test_gateway_faults import Scene, path, scene, state_of
from tests.remote_signers import Web3SignerFake
from tests.timers import pass_a_minute

__all__ = ["scene"]  # the fixture


@pytest.fixture
def signer(scene: Scene, settings: Any) -> Iterator[Web3SignerFake]:
    with signing_remotely(scene.rig, settings) as signer:
        yield signer


def reserved(scene: Scene) -> TxIntent:
    """A message that the signer has not been asked for."""
    intent = scene.ask()
    assert reserve.reserve(scene.rig.wallet.pk) == 1
    message = VenueMessage.objects.get()
    assert (state_of(intent), bytes(message.signature), message.leased_at) == ("reserved", b"", None)
    return intent


def stop() -> control.Imposed:
    return control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")


def test_orders_and_levels_are_signed_once_each(scene: Scene, signer: Web3SignerFake) -> None:
    opened = scene.ask()
    run(scene.rig, scene.gateway)
    position = Position.objects.get()
    levels = scene.ask(Action.LEVELS, position=position, stop_loss=90_000)
    run(scene.rig, scene.gateway)
    closed = scene.ask(Action.CLOSE, position=position)
    run(scene.rig, scene.gateway)
    assert [state_of(one) for one in (opened, levels, closed)] == ["filled", "changed", "filled"]
    assert path(opened)[:4] == ["pending", "reserved", "signed", "sending"]
    assert (len(signer.signed), len(scene.gateway.posts)) == (3, 3)
    scene.check()


def test_a_signer_is_never_asked_within_a_transaction(scene: Scene, signer: Web3SignerFake) -> None:
    reserved(scene)
    message = VenueMessage.objects.select_related("intent__trader").get()
    with transaction.atomic(), pytest.raises(RuntimeError, match="never within"):
        signers.sign_letter(signing._letter(message))
    assert signer.signed == []


def test_a_signer_that_is_away_delays_and_loses_nothing(scene: Scene, signer: Web3SignerFake) -> None:
    intent = reserved(scene)
    signer.faults.away = True
    scene.rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason) == ("reserved", Reason.SIGNER_AWAY)
    assert list(scene.gateway.posts) == []
    signer.faults.away = False
    VenueMessage.objects.update(sign_after=None)
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()


def test_what_nobody_signs_ends_with_its_deadline(scene: Scene, signer: Web3SignerFake) -> None:
    intent = reserved(scene)
    signer.faults.away = True
    scene.rig.submit()
    scene.outlive()
    assert (state_of(intent), list(scene.gateway.posts)) == ("lapsed", [])
    signer.faults.away = False
    VenueMessage.objects.update(sign_after=None)
    scene.rig.submit()
    assert signer.signed == []


def test_under_a_stop_the_signer_is_not_asked(scene: Scene, signer: Web3SignerFake) -> None:
    intent = reserved(scene)
    imposed = stop()
    assert (imposed.in_flight, imposed.at_signer) == ([], [])
    for _ in range(2):
        pass_a_minute()
        scene.rig.submit()
        scene.rig.track()
    assert (state_of(intent), signer.signed, list(scene.gateway.posts)) == ("reserved", [], [])
    assert control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    run(scene.rig, scene.gateway)
    assert state_of(intent) == "filled"


def test_a_stop_names_what_a_slow_signer_was_asked_and_its_answer_is_thrown_away(
    scene: Scene, signer: Web3SignerFake
) -> None:
    intent = reserved(scene)
    message = VenueMessage.objects.get()
    signer.go.clear()
    submitting = in_thread(scene.rig.submit)
    until(lambda: signer.waiting == 1)
    imposed = stop()
    assert imposed.at_signer == [f"message {message.digest} of {scene.rig.wallet.address}"]
    signer.go.set()
    submitting.join()
    message.refresh_from_db()
    assert (state_of(intent), bytes(message.signature), message.sign_lease) == ("reserved", b"", None)
    assert list(scene.gateway.posts) == []
    assert control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    run(scene.rig, scene.gateway)
    assert (state_of(intent), scene.trades()) == ("filled", 1)
    scene.check()
