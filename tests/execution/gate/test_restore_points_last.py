"""What the former database took until it lost its name: taken over once, and never looser than either of the two."""

from datetime import UTC, datetime

import pytest

from execution_app.gate import control, restore_points
from execution_app.gate.restore_points import Copy, Former, Held, close, take_over, unread
from execution_app.models import AuditEntry, RestorePoint, Wallet
from execution_app.states import Origin, RestrictionKind
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
COPY = Copy(datetime(2026, 1, 2, tzinfo=UTC), "b" * 64, "ann", "the disk is gone")
STOP = Held(RestrictionKind.STOP, Origin.HTTP, "bob", "at the last second")
REDUCE = Held(RestrictionKind.REDUCE_ONLY, Origin.REDIS, "redis", "at the last second")


def closed(**former: object) -> RestorePoint:
    return close(COPY, Former("vanta_before", **former))  # type: ignore[arg-type]


def test_it_is_left_to_do_until_it_was_done() -> None:
    rows.execute("UPDATE control SET epoch = 5")
    point = closed(epoch=8, held=[REDUCE])
    assert (unread(), point.epoch) == (point, 9)
    before = AuditEntry.objects.order_by("-seq")[0].seq
    assert restore_points.audit_seq(point) == before - 1, "the entry of the restore is not the former one's"
    assert take_over(point, Former("vanta_before", 8, held=[REDUCE, STOP], audit_head="7:abc")) == [STOP]
    assert unread() is None
    assert restore_points.audit_seq(point) == before - 1
    found = {(row.kind, row.origin, row.set_by, row.reason) for row in control.active()}
    assert ("emergency_stop", "http", "bob", "at the last second") in found
    assert len(found) == 4
    entry = AuditEntry.objects.order_by("-seq")[0]
    assert (entry.action, entry.actor, entry.origin) == ("database_restored", "ann", "command")
    assert (entry.subject, entry.reason) == ("from the former database vanta_before", "the disk is gone")
    assert entry.before == {"epoch": 9}
    assert entry.after == {
        "epoch": 9,
        "former": "vanta_before",
        "former_audit_head": "7:abc",
        "imposed": ["emergency_stop of http"],
        "behind": [],
    }


@pytest.mark.parametrize(("former", "epoch"), [(0, 9), (8, 9), (9, 10), (30, 31)])
def test_the_epoch_is_above_the_last_one_of_the_former(former: int, epoch: int) -> None:
    rows.execute("UPDATE control SET epoch = 5")
    point = closed(epoch=8)
    take_over(point, Former("vanta_before", former))
    assert control.epoch() == epoch


def test_a_word_of_redis_raises_it_by_itself() -> None:
    point = closed(epoch=8)
    take_over(point, Former("vanta_before", 9, held=[REDUCE]))
    assert control.epoch() == 10


def test_a_wallet_that_gave_away_more_is_halted_again() -> None:
    """A person may have resumed one before this was made up for; what does not lie behind stays as it is."""
    wallets = [Wallet.objects.get(pk=rows.wallet(next_nonce=4)) for _ in range(3)]
    point = closed(next_nonces={f"31337:{wallet.address}": 6 for wallet in wallets})
    Wallet.objects.update(halted_reason="", halted_at=None)
    nonces = {f"31337:{wallet.address}": nonce for wallet, nonce in zip(wallets, (6, 7, 3), strict=True)}
    take_over(point, Former("vanta_before", next_nonces=nonces))
    found = list(Wallet.objects.order_by("pk").values_list("seen_next_nonce", "halted_reason"))
    why = "restored from a backup of 2026-01-02T00:00:00Z: the disk is gone"
    assert found == [(6, ""), (7, why), (6, "")]
    entry = AuditEntry.objects.order_by("-seq")[0]
    assert entry.after is not None
    assert entry.after["behind"] == [wallets[1].address]


def test_nothing_is_left_to_do_without_a_former_one_or_once_a_person_has_gone_on() -> None:
    assert unread() is None
    close(COPY, Former())
    assert unread() is None
    point = closed()
    assert unread() == point
    restore_points.note_reconciled(point)
    assert unread() is None
