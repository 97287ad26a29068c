"""What is refused after a restore, to the last microsecond: whatever may be from before it could be done twice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from execution_app.errors import Refused
from execution_app.gate import restore_points
from execution_app.gate.restore_points import CLOCK_SKEW, Copy, Former, Held, close, objection, objections
from execution_app.models import AuditEntry, Chain, Control, RestorePoint, Restriction, Wallet
from execution_app.states import IntentState, Origin, RestrictionKind
from signals_app import decisions
from tests.execution import rows

RESTORED = datetime(2026, 1, 2, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.fixture
def restored(database: None) -> RestorePoint:
    return point(RESTORED)


def point(restored_at: datetime) -> RestorePoint:
    row: rows.Row = {"snapshot_at": restored_at - timedelta(days=1), "restored_at": restored_at, "former": ""}
    row |= {"backup_sha256": "a" * 64, "epoch": 2, "restored_by": "ann", "reason": "the disk is gone"}
    return RestorePoint.objects.get(pk=rows.insert("restore_points", row))


def test_without_a_restore_nothing_is_refused(database: None) -> None:
    assert objection(None, RESTORED) == ""
    assert objection(RESTORED, RESTORED) == ""
    assert restore_points.latest() is restore_points.unreconciled() is None
    with pytest.raises(Refused, match="never restored"):
        restore_points.accept_untimed(by="ann", reason="none of them is old")


def test_a_time_counts_from_as_far_ahead_as_one_may_be(restored: RestorePoint) -> None:
    """What the lost database took may have borne a time of a sender whose clock was ahead, by what intake lets pass."""
    assert CLOCK_SKEW == timedelta(seconds=5) == timedelta(seconds=decisions.CLOCK_SKEW_S)
    later = RESTORED + timedelta(hours=1)
    for old in (RESTORED - timedelta(days=2), RESTORED, RESTORED + CLOCK_SKEW):
        assert objection(old, later).startswith("ts "), old
    assert objection(RESTORED + CLOCK_SKEW + TICK, later) == ""


def test_what_was_received_before_it_is_refused_whatever_time_it_names(restored: RestorePoint) -> None:
    ahead = RESTORED + timedelta(hours=1)
    for received_at in (RESTORED - timedelta(days=2), RESTORED):
        assert objection(ahead, received_at).startswith("it was received at ")
    assert objection(ahead, RESTORED + TICK) == ""


def test_without_a_time_a_person_accepts_what_comes_from_then_on(restored: RestorePoint) -> None:
    now = RESTORED + timedelta(hours=1)
    assert objection(None, now).startswith("it has no ts")
    assert restore_points.accept_untimed(by="ann", reason="none of them is old")
    assert not restore_points.accept_untimed(by="eve", reason="none of them is old")
    restored.refresh_from_db()
    accepted_at = restored.untimed_accepted_at
    assert accepted_at is not None
    assert restored.untimed_accepted_by == "ann"
    assert objection(None, accepted_at).startswith("it has no ts")
    assert objection(None, accepted_at + TICK) == ""
    assert objection(RESTORED, accepted_at + TICK).startswith("ts "), (
        "its acceptance is of those without a time"
    )


def test_the_last_restore_counts(restored: RestorePoint) -> None:
    newer = point(RESTORED + timedelta(days=3))
    point(RESTORED + timedelta(days=1))  # of a clock that was set back
    assert restore_points.latest() == restore_points.unreconciled() == newer
    assert objection(RESTORED + timedelta(days=2), RESTORED + timedelta(days=4)).startswith("ts ")
    restore_points.accept_untimed(by="ann", reason="none of them is old")
    assert RestorePoint.objects.get(untimed_accepted_by="ann") == newer
    RestorePoint.objects.filter(pk=newer.pk).update(reconciled_at=RESTORED + timedelta(days=4))
    assert restore_points.unreconciled() is None


def test_what_speaks_against_going_on(restored: RestorePoint) -> None:
    def speaks() -> list[str]:
        return objections(restored)

    never = "chain and database have not been found to agree since the restore"
    assert speaks() == [never]
    chain = {"chain_id": 31337, "genesis_hash": "0x0", "trading_address": "0x0", "head_hash": ""}
    rows.insert("chains", chain | {"head_number": 0, "finalized_number": 0, "halted_reason": ""})
    for at, halted, found in (
        (RESTORED, "", [never]),
        (RESTORED + TICK, "x", [never]),
        (RESTORED + TICK, "", []),
    ):
        rows.execute("UPDATE chains SET reconciled_at = %s, halted_reason = %s", at, halted)
        assert speaks() == found
    rows.wallet(trader_id=rows.trader(enabled=False), halted_reason="restored")
    rows.wallet()
    assert speaks() == []
    address = rows.address()
    rows.wallet(address=address, halted_reason="restored")
    assert speaks() == [f"wallet {address} is halted"]
    rows.intent_in(IntentState.MINED)
    pending = rows.intent_in(IntentState.PENDING_INCLUSION)
    assert speaks()[1:] == ["1 executions on the chain are not settled yet"]
    rows.update("tx_intents", pending, {"state": "mined"})
    assert speaks()[1:] == ["2 executions on the chain are not settled yet"]


def test_a_copy_is_closed_by_one_commit(database: None) -> None:
    """Stopped, DRY, every wallet halted, above the epoch of both; what held before holds, and no reason is lost."""
    chain = {"chain_id": 31337, "genesis_hash": "0x0", "trading_address": "0x0", "head_hash": ""}
    rows.insert("chains", chain | {"head_number": 0, "finalized_number": 0, "halted_reason": ""})
    rows.execute("UPDATE chains SET reconciled_at = now()")
    known, gone, halted = (Wallet.objects.get(pk=rows.wallet(next_nonce=4)) for _ in range(3))
    Wallet.objects.filter(pk=halted.pk).update(halted_reason="a person said so", halted_at=RESTORED)
    Control.objects.update(epoch=5)
    held = Held(RestrictionKind.REDUCE_ONLY, Origin.HTTP, "bob", "too much of it")
    nonces = {f"31337:{known.address}": 4, f"31337:{gone.address}": 9}
    former = Former("vanta_before", epoch=8, next_nonces=nonces, held=[held], audit_head="abc")
    copied_at = datetime(2100, 1, 1, tzinfo=UTC)  # of a server whose clock was ahead of this one's
    point = close(Copy(copied_at, "b" * 64, "ann", "the disk is gone"), former)
    assert (point.epoch, point.former, point.restored_by) == (9, "vanta_before", "ann")
    assert (point.snapshot_at, point.restored_at) == (copied_at, copied_at)
    assert (point.backup_sha256, point.reason) == ("b" * 64, "the disk is gone")
    assert Control.objects.get().epoch == 9
    why = "restored from a backup of 2100-01-01T00:00:00Z: the disk is gone"
    assert set(Restriction.objects.values_list("kind", "origin", "set_by", "reason", "lifted_at")) == {
        ("emergency_stop", "command", "ann", why, None),
        ("dry", "command", "ann", why, None),
        ("reduce_only", "http", "bob", "too much of it", None),
    }
    found = dict(Wallet.objects.values_list("pk", "halted_reason"))
    assert found == {known.pk: why, gone.pk: why, halted.pk: "a person said so"}
    assert dict(Wallet.objects.values_list("pk", "seen_next_nonce")) == {
        known.pk: None,
        gone.pk: 9,
        halted.pk: None,
    }
    assert Chain.objects.get().reconciled_at is None
    entry = AuditEntry.objects.get(action="database_restored")
    assert entry.before == {"epoch": 5, "former": "vanta_before", "former_audit_head": "abc"}
    assert entry.after == {
        "epoch": 9,
        "sha256": "b" * 64,
        "imposed": ["emergency_stop of command", "dry of command", "reduce_only of http"],
        "halted": [known.address, gone.address],
    }
    again = close(Copy(RESTORED, "b" * 64, "ann", "again"), Former(epoch=3))
    assert again.epoch == 10
    assert again.restored_at > RESTORED
    assert Restriction.objects.filter(lifted_at=None).count() == 3


LANDED = (
    *(IntentState.MINED, IntentState.ORDERED, IntentState.FILLED),
    *(IntentState.CHANGED, IntentState.VENUE_CANCELLED),
)


@pytest.mark.parametrize("state", IntentState)
def test_what_is_on_the_chain_and_not_settled_speaks_against_it(
    restored: RestorePoint, state: IntentState
) -> None:
    """All else waits for a nonce, or ends by itself: of that the copy may go on."""
    pk = rows.intent_in(state)
    told = [line for line in objections(restored) if "not settled" in line]
    assert told == (["1 executions on the chain are not settled yet"] if state in LANDED else [])
    if state in LANDED:
        rows.update("tx_intents", pk, {"settled_at": "2026-01-01T00:00:00Z"})
        assert not [line for line in objections(restored) if "not settled" in line]


def test_fifty_wallets_are_named(restored: RestorePoint) -> None:
    made = [Wallet.objects.get(pk=rows.wallet()).address for _ in range(51)]
    point = close(Copy(RESTORED, "b" * 64, "ann", "the disk is gone"), Former())
    entry = AuditEntry.objects.get(action="database_restored")
    assert entry.after is not None
    assert entry.after["halted"] == made[:50], "in the audit log"
    assert Wallet.objects.exclude(halted_reason="").count() == 51
    assert objections(point)[1:] == [f"wallet {address} is halted" for address in made[:50]]


def test_a_copy_that_is_closed_says_who_did_it_and_long_words_are_cut(database: None) -> None:
    wallet = Wallet.objects.get(pk=rows.wallet())
    held = Held(RestrictionKind.REDUCE_ONLY, Origin.HTTP, "h" * 1_000, "q" * 1_000)
    point = close(Copy(RESTORED, "b" * 64, "a" * 1_000, "r" * 1_000), Former("f", held=[held]))
    assert (point.restored_by, point.reason) == ("a" * 150, "r" * 400)
    stop = Restriction.objects.get(kind="emergency_stop")
    assert (stop.set_by, len(stop.reason)) == ("a" * 150, 400)
    reduce = Restriction.objects.get(kind="reduce_only")
    assert (reduce.set_by, reduce.reason) == ("h" * 150, "q" * 400)
    wallet.refresh_from_db()
    assert len(wallet.halted_reason) == 200
    assert wallet.halted_at is not None
    entry = AuditEntry.objects.get(action="database_restored")
    assert (entry.actor, entry.origin, entry.reason) == ("a" * 150, "command", "r" * 400)
    assert entry.subject == "backup of 2026-01-02T00:00:00+00:00"


def test_the_highest_nonce_that_was_seen_stays(database: None) -> None:
    """Of the former database's and of what the copy knew itself; one that is not above the next says nothing."""
    found = []
    for next_nonce, seen, former in ((4, 7, 5), (4, 5, 7), (4, None, None), (4, None, 5)):
        wallet = Wallet.objects.get(pk=rows.wallet(next_nonce=next_nonce, seen_next_nonce=seen))
        nonces = {} if former is None else {f"31337:{wallet.address}": former}
        close(Copy(RESTORED, "b" * 64, "ann", "again"), Former(next_nonces=nonces))
        wallet.refresh_from_db()
        found.append(wallet.seen_next_nonce)
    assert found == [7, 7, None, 5]


def test_a_restore_is_reconciled_once_and_no_other(restored: RestorePoint) -> None:
    other = point(RESTORED + timedelta(days=1))
    restore_points.note_reconciled(restored)
    restored.refresh_from_db()
    other.refresh_from_db()
    first = restored.reconciled_at
    assert first is not None
    assert other.reconciled_at is None
    restore_points.note_reconciled(restored)
    restored.refresh_from_db()
    assert restored.reconciled_at == first


def test_an_acceptance_leaves_an_entry_and_is_no_part_of_a_larger_transaction(restored: RestorePoint) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        restore_points.accept_untimed(by="ann", reason="none of them is old")
    older = point(RESTORED - timedelta(days=1))
    assert restore_points.accept_untimed(by="a" * 1_000, reason="none of them is old")
    older.refresh_from_db()
    restored.refresh_from_db()
    assert (older.untimed_accepted_by, restored.untimed_accepted_by) == ("", "a" * 150)
    entry = AuditEntry.objects.get(action="untimed_accepted")
    assert (entry.subject, entry.reason, entry.origin) == (
        f"restore {restored.pk}",
        "none of them is old",
        "command",
    )
    assert entry.after == {"restored_at": RESTORED.isoformat()}
    assert not restore_points.accept_untimed(by="eve", reason="none of them is old")
    assert AuditEntry.objects.filter(action="untimed_accepted").count() == 1
