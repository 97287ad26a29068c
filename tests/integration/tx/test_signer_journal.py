"""What the signer's journal keeps from happening: a nonce used for two orders after the database has forgotten one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast, reserve, signatures
from execution_app.gate import control
from execution_app.models import AuditEntry, TxIntent, TxSend, Wallet
from execution_app.node import signers
from execution_app.states import Action, Reason, SendKind
from tests import invariants
from tests.crash.trial import in_child
from tests.guards import without_guards
from tests.integration.tx.remote import finish, signing_remotely
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute


def journal(rig: Rig) -> Path:
    folder: Path = django_settings.ENVIRONMENT.signer_journal_dir
    return folder / f"31337-{rig.wallet.address.lower()}.journal"


def kinds(rig: Rig) -> list[str]:
    return [line.split(" ")[0] for line in journal(rig).read_text().splitlines()]


def forget_everything(rig: Rig) -> None:
    """The database is put back to a backup from before the first order."""
    with without_guards(), connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE tx_intents, intent_transitions, tx_sends, sign_requests, risk_reservations CASCADE"
        )
        cursor.execute("UPDATE wallets SET next_nonce = 0")


def assert_halted(rig: Rig) -> None:
    wallet = Wallet.objects.get(pk=rig.wallet.pk)
    assert "old copy" in wallet.halted_reason
    assert AuditEntry.objects.filter(action="wallet_halted", subject__contains=wallet.address).count() == 1


def test_an_order_is_noted_when_it_is_signed_and_bound_before_it_leaves(rig: Rig, node: Proxy) -> None:
    rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    assert kinds(rig) == ["tentative"]
    node.hold()
    rig.submit()
    assert kinds(rig) == ["tentative", "bound"]
    for _ in range(3):
        pass_a_minute()
        rig.track()
    assert TxSend.objects.filter(kind="bump").exists()
    assert kinds(rig) == ["tentative", "bound"], "a bump is the same order"
    node.release()
    finish(rig)
    invariants.check(node)


def test_a_round_is_synced_once(rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TURN_S", 60)  # a turn that is over begins another round
    rig.intent()
    rig.run()
    for _ in range(8):
        rig.intent()
    synced: list[int] = []
    real = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    assert reserve.reserve(rig.wallet.pk) == 8
    assert len(synced) == 1
    broadcast.broadcast(rig.wallet.pk)
    assert len(synced) == 2


@pytest.mark.parametrize("remote", [False, True])
def test_a_restored_database_halts_the_wallet_before_it_takes_the_nonce_again(
    rig: Rig, node: Proxy, settings: Settings, *, remote: bool
) -> None:
    rig.intent()
    node.hold()
    rig.submit()
    assert len(node.log) == 1
    forget_everything(rig)
    rig.intent()  # another request
    if remote:
        with signing_remotely(rig, settings) as signer:
            rig.submit()
            assert signer.signed == []
    else:
        rig.submit()
    assert_halted(rig)
    assert TxIntent.objects.get().nonce is None
    assert Wallet.objects.get().next_nonce == 0
    rig.submit()
    assert TxIntent.objects.get().reason == Reason.WALLET_HALTED
    assert len(node.first_seen()) == 1


def test_a_database_restored_between_signature_and_departure_halts_the_wallet(rig: Rig, node: Proxy) -> None:
    """Another machine signed and sent what this database has forgotten, so only the last look notices."""
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    foreign = signers.Slot(31337, rig.wallet.address, 0, rig.wallet.address, 0, 21_000, b"")
    assert signers.bind([foreign]) == [None]
    rig.submit()
    assert_halted(rig)
    assert node.log == []
    assert intent.sends.get().offers == 0


@pytest.mark.parametrize("remote", [False, True])
def test_a_remote_slot_whose_nonce_is_anothers_is_not_signed(
    rig: Rig, node: Proxy, settings: Settings, *, remote: bool
) -> None:
    with signing_remotely(rig, settings) as signer:
        rig.intent()
        assert reserve.reserve(rig.wallet.pk) == 1
        foreign = signers.Slot(31337, rig.wallet.address, 0, rig.wallet.address, 0, 21_000, b"")
        assert signers.bind([foreign]) == [None]
        rig.track() if remote else rig.submit()
        assert_halted(rig)
        assert (signer.signed, node.log, TxSend.objects.count()) == ([], [], 0)


def _die_at_commit() -> None:
    commit = connection._commit  # type: ignore[attr-defined]

    def die() -> None:
        if any(TxIntent.objects.filter(state="signed")):
            os.kill(os.getpid(), signal.SIGKILL)
        commit()

    connection._commit = die  # type: ignore[attr-defined]


def test_a_crash_between_a_local_signature_and_its_commit_blocks_nobody(rig: Rig, node: Proxy) -> None:
    """The journal has noted what the database never heard of; another order takes the nonce."""
    rig.intent()
    rig.run()
    lost = rig.intent(symbol="ETH-USD")

    def walk(_: int) -> None:
        rig.open_gate()
        _die_at_commit()
        rig.submit()

    assert in_child(walk).signal == signal.SIGKILL
    assert kinds(rig) == ["tentative", "bound", "tentative"]
    rig.open_gate()
    close = rig.intent(Action.CLOSE)  # an exit goes first
    finish(rig)
    for intent, nonce in ((close, 1), (lost, 2)):
        intent.refresh_from_db()
        assert (intent.state, intent.nonce) == ("filled", nonce)
    assert not Wallet.objects.get().halted_reason
    invariants.check(node)


def test_a_journal_that_cannot_be_used_holds_orders_without_a_nonce(rig: Rig, node: Proxy) -> None:
    journal(rig).parent.mkdir(exist_ok=True)
    journal(rig).mkdir()
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("held", Reason.NO_WALLET, None)
    assert "journal" in intent.reason_detail
    assert node.log == []
    journal(rig).rmdir()
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node)


def test_a_journal_that_breaks_before_the_departure_keeps_the_bytes_here(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    whole = journal(rig).read_bytes()
    journal(rig).write_bytes(b"damaged\n")
    rig.submit()
    assert node.log == []
    assert not Wallet.objects.get().halted_reason
    journal(rig).unlink()
    journal(rig).write_bytes(whole)
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node)


def test_the_signature_of_a_bump_and_a_cancel_carry_the_slots_order(rig: Rig, node: Proxy) -> None:
    intent: Any = rig.intent()
    reserve.reserve(rig.wallet.pk)
    intent = TxIntent.objects.get(pk=intent.pk)
    orders = {signatures.slot_of(intent, kind).order for kind in SendKind}
    assert len(orders) == 1
    assert orders.pop().hex() in journal(rig).read_text()
