"""Stops and deaths between the commits of a signature: nothing is kept that was signed after a stop, nothing is lost."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import cancels, remote_signing, reserve
from execution_app.gate import control
from execution_app.models import SignRequest, TxIntent, TxSend
from execution_app.node import signers
from execution_app.states import Origin, RestrictionKind
from tests import invariants
from tests.crash.trial import in_child
from tests.integration.tx.remote import finish, in_thread, signing_remotely, until
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.remote_signers import Web3SignerFake
from tests.rig import Rig
from tests.timers import pass_a_minute


@pytest.fixture
def signer(rig: Rig, node: Proxy, settings: Settings):
    with signing_remotely(rig, settings) as signer:
        yield signer


def stop() -> control.Imposed:
    return control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")


def resume() -> None:
    assert control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")


def reserved(rig: Rig, count: int = 1) -> list[TxIntent]:
    intents = [rig.intent() for _ in range(count)]
    assert reserve.reserve(rig.wallet.pk) == count
    return intents


def test_under_a_stop_the_signer_is_not_asked(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    intents = reserved(rig, 3)
    imposed = stop()
    at_s = time.monotonic()
    assert (imposed.in_flight, imposed.at_signer) == ([], [])
    for _ in range(3):
        pass_a_minute()
        rig.submit()
        rig.track()
    assert signer.signed == []
    assert set(TxIntent.objects.values_list("state", flat=True)) == {"reserved"}
    lifted_s = time.monotonic()
    resume()
    finish(rig)
    for intent in intents:
        intent.refresh_from_db()
        assert (intent.state, intent.sends.count()) == ("filled", 1)
    invariants.check(node, stops=[Stop(at_s, lifted_s)])


def test_a_stop_waits_for_the_signer_and_keeps_nothing_of_it(
    rig: Rig, node: Proxy, signer: Web3SignerFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "WAIT_S", 30.0)
    reserved(rig)
    signer.go.clear()
    submitting = in_thread(rig.submit)
    until(lambda: signer.waiting == 1)
    imposed: list[control.Imposed] = []
    stopping = in_thread(lambda: imposed.append(stop()))
    until(lambda: RestrictionKind.STOP in control.active_kinds())
    assert not imposed, "it waits for the signer"
    signer.go.set()
    stopping.join()
    returned_s = time.monotonic()
    submitting.join()
    assert imposed[0].at_signer == []
    assert [asked.at_s < returned_s for asked in signer.signed] == [True]
    assert not TxSend.objects.exists(), "signed while the stop was being set: nobody keeps it"
    assert not node.log
    lifted_s = time.monotonic()
    resume()
    finish(rig)
    assert TxIntent.objects.get().state == "filled"
    invariants.check(node, stops=[Stop(returned_s, lifted_s)])


def test_a_stop_names_what_a_slow_signer_was_asked(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    intent = reserved(rig)[0]
    signer.go.clear()
    submitting = in_thread(rig.submit)
    until(lambda: signer.waiting == 1)
    began_s = time.monotonic()
    imposed = stop()
    returned_s = time.monotonic()
    assert imposed.at_signer == [f"nonce 0 of {rig.wallet.address}"]
    assert returned_s - began_s < 15
    signer.go.set()
    submitting.join()
    intent.refresh_from_db()
    assert (intent.state, TxSend.objects.count(), node.log) == ("reserved", 0, [])
    assert SignRequest.objects.get().lease is None
    lifted_s = time.monotonic()
    resume()
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, intent.sends.count()) == ("filled", 1)
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node, stops=[Stop(returned_s, lifted_s)])


def await_requests(signer: Web3SignerFake, wanted: int, thread: threading.Thread) -> None:
    """Until the signer was asked this often, or whoever asks has ended."""
    deadline_s = time.monotonic() + 60
    while signer.requests < wanted and thread.is_alive():
        assert time.monotonic() < deadline_s


def test_stops_raced_against_signatures(rig: Rig, node: Proxy, signer: Web3SignerFake) -> None:
    """Each stop comes at another moment; whatever is stored was signed and stored before it returned."""
    stops = []
    for number in range(8):
        for _ in range(2):
            rig.intent()
        signer.faults.delay_s = 0.02 * (number % 3)
        before = signer.requests
        submitting = in_thread(rig.submit)
        await_requests(signer, before + number % 4, submitting)
        stop()
        returned_s = time.monotonic()
        stored = set(TxSend.objects.values_list("pk", flat=True))
        submitting.join()
        pass_a_minute()
        rig.submit()
        rig.track()
        assert set(TxSend.objects.values_list("pk", flat=True)) == stored
        assert not [asked for asked in signer.signed if asked.at_s > returned_s]
        stops.append(Stop(returned_s, time.monotonic()))
        resume()
        finish(rig)
    assert set(TxIntent.objects.values_list("state", "reason")) <= {
        ("filled", ""),
        ("rejected", "emergency_stop"),
    }
    invariants.check(node, stops=stops)


def test_under_a_stop_a_person_cancels_a_slot_that_was_never_signed(
    rig: Rig, node: Proxy, signer: Web3SignerFake
) -> None:
    intent = reserved(rig)[0]
    stop()
    cancels.request(by="ann")
    for _ in range(3):
        rig.submit()
        rig.mine()
        rig.track()
    rig.mine(4)
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert [send.kind for send in intent.sends.all()] == ["cancel"]
    assert invariants.executions(rig.wallet) == []


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dies_after(module: Any, name: str) -> None:
    verb: Callable[..., Any] = getattr(module, name)

    def dies(*args: Any, **kwargs: Any) -> None:
        verb(*args, **kwargs)
        _die()

    setattr(module, name, dies)


def _dies_before(module: Any, name: str) -> None:
    setattr(module, name, _die)


DEATHS: dict[str, tuple[Callable[[], None], int, int]] = {
    # Where it dies, then: signatures made by then, signatures made in all.
    "after the nonce's commit": (lambda: _dies_before(remote_signing, "_lease"), 0, 1),
    "after the lease's commit": (lambda: _dies_before(signers, "sign_remotely"), 0, 1),
    "between journal and signer": (lambda: _dies_after(signers, "bind"), 0, 1),
    "between signature and commit": (lambda: _dies_after(signers, "sign_remotely"), 1, 2),
    "before the commit itself": (lambda: _dies_before(remote_signing, "_keep"), 1, 2),
    "after the commit": (lambda: _dies_after(remote_signing, "_store"), 1, 1),
}


@pytest.mark.parametrize("where", DEATHS)
def test_a_death_leaves_one_execution(rig: Rig, node: Proxy, signer: Web3SignerFake, where: str) -> None:
    dies, signed, in_all = DEATHS[where]
    intent = rig.intent()

    def walk(_: int) -> None:
        rig.open_gate()
        dies()
        rig.submit()

    ended = in_child(walk)
    assert ended.signal == signal.SIGKILL, ended.lines
    rig.open_gate()
    assert len(signer.signed) == signed
    assert not node.log
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, intent.nonce, intent.sends.count()) == ("filled", 0, 1)
    assert len(signer.signed) == in_all
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)
