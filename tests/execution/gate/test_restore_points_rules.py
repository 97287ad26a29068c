"""What closing a copy locks, and what the copy's own past must not hide; who accepts what, once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.errors import Refused
from execution_app.gate import restore_points
from execution_app.gate.restore_points import Copy, Former, Held, close
from execution_app.models import AuditEntry, Chain, Control, RestorePoint, Restriction, Wallet
from execution_app.states import IntentState, Origin, RestrictionKind
from tests.execution import rows
from tests.execution.gate.test_restore_points import RESTORED, point

pytestmark = pytest.mark.usefixtures("database")
COPY = Copy(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "b" * 64, "ann", "the disk is gone")
WHY = "restored from a backup of 2026-01-02T03:04:05Z: the disk is gone"
LIFTED = {"lifted_at": "2026-01-01T00:00:00Z", "lifted_by": "bob"}


def statements(call: object, *words: object, **named: object) -> list[str]:
    assert callable(call)
    with CaptureQueriesContext(connection) as asked:
        call(*words, **named)
    return [query["sql"] for query in asked]


def test_a_copy_is_closed_in_one_commit_under_the_lock_of_the_restrictions() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        close(COPY, Former())
    told = statements(close, COPY, Former())
    assert told[0] == "BEGIN"
    assert told[1].endswith("FOR UPDATE")
    assert '"control"' in told[1]
    assert RestorePoint.objects.count() == 1


@pytest.mark.parametrize(("own", "former", "epoch"), [(5, 8, 9), (8, 5, 9), (5, 5, 6), (1, 0, 2)])
def test_its_epoch_is_above_both(own: int, former: int, epoch: int) -> None:
    Control.objects.update(epoch=own, updated_at=RESTORED)
    point = close(COPY, Former(epoch=former))
    control = Control.objects.get()
    assert control.epoch == point.epoch == epoch
    assert control.updated_at > RESTORED
    entry = AuditEntry.objects.get()
    assert entry.before == {"epoch": own, "former": "", "former_audit_head": ""}


def test_what_was_lifted_in_the_copy_holds_again() -> None:
    """Its history has such rows, some of them several: they are over, and say nothing of now."""
    for _ in range(2):
        rows.restriction(kind="emergency_stop", origin="command", **LIFTED)
        rows.restriction(kind="reduce_only", origin="http", **LIFTED)
    rows.restriction(kind="dry", origin="command", set_by="carol", reason="of before")
    held = [
        Held(RestrictionKind.REDUCE_ONLY, Origin.HTTP, "h" * 151, "q" * 401),
        Held(RestrictionKind.DRY, Origin.COMMAND, "dan", "there already"),
    ]
    close(COPY, Former(held=held))
    active = Restriction.objects.filter(lifted_at=None).order_by("kind")
    assert list(active.values_list("kind", "origin", "set_by", "reason")) == [
        ("dry", "command", "carol", "of before"),
        ("emergency_stop", "command", "ann", WHY),
        ("reduce_only", "http", "h" * 150, "q" * 400),
    ]
    entry = AuditEntry.objects.get()
    assert entry.after is not None
    assert entry.after["imposed"] == ["emergency_stop of command", "reduce_only of http"]


def test_every_wallet_is_halted_and_keeps_the_highest_nonce_that_anybody_saw() -> None:
    """A wallet that signed nothing yet has seen nothing, and 0 is no nonce to wait for."""
    table = [
        # its next nonce, what it knew of higher ones, what the former database says; what it knows afterwards
        (0, None, None, None), (0, None, 0, None), (0, None, 1, 1), (4, None, 4, None), (4, None, 5, 5),
        (4, 7, 5, 7), (4, 5, 7, 7), (4, 5, None, 5),
    ]  # fmt: skip
    wallets = [
        Wallet.objects.get(pk=rows.wallet(next_nonce=own, seen_next_nonce=seen)) for own, seen, *_ in table
    ]
    nonces = {f"31337:{wallets[0].address[:-1]}x": 50, f"1:{wallets[0].address}": 50}
    for wallet, (_, _, former, _) in zip(wallets, table, strict=True):
        if former is not None:
            nonces[f"31337:{wallet.address}"] = former
    old = Wallet.objects.get(pk=rows.wallet(halted_reason="for another reason", halted_at=RESTORED))
    rows.update("wallets", wallets[0].pk, {"max_in_flight": 3})  # it now lies behind the others
    close(COPY, Former(next_nonces=nonces))
    found = Wallet.objects.exclude(pk=old.pk).order_by("pk")
    assert [wallet.seen_next_nonce for wallet in found] == [after for *_, after in table]
    assert {wallet.halted_reason for wallet in found} == {WHY}
    assert min(wallet.halted_at for wallet in found if wallet.halted_at) > RESTORED
    old.refresh_from_db()
    assert (old.halted_reason, old.halted_at) == ("for another reason", RESTORED)
    entry = AuditEntry.objects.get()
    assert entry.after is not None
    assert entry.after["halted"] == [wallet.address for wallet in wallets]


def test_what_is_returned_is_the_row_as_it_is_stored() -> None:
    point = close(COPY, Former("vanta_before"))
    assert isinstance(point.restored_at, datetime)
    stored = RestorePoint.objects.get()
    for name in ("snapshot_at", "restored_at", "backup_sha256", "former", "epoch", "restored_by", "reason"):
        assert getattr(point, name) == getattr(stored, name)
    assert point.restored_at > COPY.snapshot_at == point.snapshot_at
    assert (point.former, point.backup_sha256, point.restored_by) == ("vanta_before", "b" * 64, "ann")


def test_an_acceptance_is_one_commit_under_its_row_and_counts_once() -> None:
    words: dict[str, str] = {"by": "a" * 151, "reason": "none of them is old"}
    with pytest.raises(Refused, match="never restored: signals without a ts are taken"):
        restore_points.accept_untimed(**words)
    point(RESTORED - timedelta(days=1))
    point(RESTORED)
    newest = point(RESTORED)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        restore_points.accept_untimed(**words)
    told = statements(restore_points.accept_untimed, **words)
    assert told[0] == "BEGIN"
    assert told[1].endswith("FOR UPDATE")
    assert restore_points.accept_untimed(by="eve", reason="none of them is old") is False
    accepted = RestorePoint.objects.exclude(untimed_accepted_at=None)
    assert list(accepted.values_list("pk", "untimed_accepted_by")) == [(newest.pk, "a" * 150)]
    assert restore_points.latest() == newest, "of two at one moment the later row"
    entry = AuditEntry.objects.get()
    assert (entry.subject, entry.after) == (f"restore {newest.pk}", {"restored_at": RESTORED.isoformat()})


def test_what_speaks_against_going_on_is_told_in_order() -> None:
    restored = point(RESTORED)
    traders = [rows.trader() for _ in range(3)]
    ids = [rows.wallet(halted_reason="restored", trader_id=trader) for trader in reversed(traders)]
    halted = [Wallet.objects.get(pk=pk) for pk in ids]
    rows.wallet(trader_id=rows.trader(enabled=False), halted_reason="restored")
    rows.wallet()
    rows.update("wallets", halted[0].pk, {"max_in_flight": 3})  # it now lies behind the others
    rows.intent_in(IntentState.MINED)
    never = "chain and database have not been found to agree since the restore"
    wallets = [f"wallet {wallet.address} is halted" for wallet in halted]
    landed = "1 executions on the chain are not settled yet"
    assert restore_points.objections(restored) == [never, *wallets, landed]
    chain = {"chain_id": 31337, "genesis_hash": "0x0", "trading_address": "0x0", "head_hash": ""}
    rows.insert("chains", chain | {"head_number": 0, "finalized_number": 0, "halted_reason": ""})
    for reconciled_at, reason, speaks in (
        (RESTORED, "", True),
        (RESTORED + timedelta(microseconds=1), "halted", True),
        (RESTORED + timedelta(microseconds=1), "", False),
    ):
        Chain.objects.update(reconciled_at=reconciled_at, halted_reason=reason)
        assert restore_points.objections(restored) == [never] * speaks + [*wallets, landed]
