"""One pass over a wallet at a time: whoever comes second goes on with something else, such as the chain."""

import threading

import pytest
from django.db import connection, transaction

from execution_app import tasks
from execution_app.engine import rounds
from execution_app.models import TxIntent, Wallet
from tests import invariants
from tests.e2e.stack import wait_until
from tests.proxy import Proxy
from tests.rig import Rig

SOON_S = 10  # less than what a pass waits for the wallet's row, see tests/patience.py


def run(wallet_id: int) -> threading.Thread:
    """One bell, heard by a child of its own."""

    def hear() -> None:
        tasks.submit(wallet_id)
        connection.close()

    child = threading.Thread(target=hear, daemon=True)
    child.start()
    return child


def is_being_placed() -> bool:
    """Whether somebody is at a pass over a wallet; taking the lock to see would keep him from it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE classid = %s AND objsubid = 2", [rounds.SUBMIT_LOCK]
        )
        return bool(cursor.fetchone()[0])


def test_a_second_pass_does_not_wait_for_the_first(rig: Rig, node: Proxy) -> None:
    """A burst rings hundreds of bells for one wallet: were they to queue for its lock, nobody would follow the chain."""
    intent = rig.intent()
    with transaction.atomic():
        Wallet.objects.select_for_update(no_key=True).get(pk=rig.wallet.pk)
        first = run(rig.wallet.pk)
        wait_until(is_being_placed, SOON_S, "the first is at it")
        second = run(rig.wallet.pk)
        second.join(SOON_S)
        assert not second.is_alive(), "it waits for the wallet"
        assert first.is_alive()
    first.join(SOON_S)
    assert not first.is_alive()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    rig.finish()
    invariants.check(node)


def test_a_pass_that_failed_leaves_the_wallet_to_the_next(rig: Rig, node: Proxy) -> None:
    rig.intent()
    node.faults.http_5xx_next = 2
    tasks.submit(rig.wallet.pk)
    assert not is_being_placed()
    node.faults.http_5xx_next = 0
    TxIntent.objects.update(next_try_at=None)
    tasks.submit(rig.wallet.pk)
    assert TxIntent.objects.get().state == "pending_inclusion"
    rig.finish()
    invariants.check(node)


def test_who_hangs_keeps_nobody_out(rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is stopped at its work holds the lock until something kills it; orders do not wait for that."""
    intent = rig.intent()
    monkeypatch.setattr(rounds, "HUNG_S", 600)
    holding, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        with rounds.alone_with(rig.wallet.pk) as alone:
            assert alone
            holding.set()
            may_end.wait(30)
        connection.close()

    hung = threading.Thread(target=hang, daemon=True)
    hung.start()
    try:
        assert holding.wait(SOON_S)
        tasks.submit(rig.wallet.pk)
        intent.refresh_from_db()
        assert intent.state == "pending", "it has not hung for long"
        monkeypatch.setattr(rounds, "HUNG_S", 1)
        wait_until(lambda: rounds._hangs((rounds.SUBMIT_LOCK, rig.wallet.pk)) is not None, SOON_S, "it hangs")
        tasks.submit(rig.wallet.pk)
        intent.refresh_from_db()
        assert intent.state == "pending_inclusion"
    finally:
        may_end.set()
        hung.join()
    rig.finish()
    invariants.check(node)
