"""What a process looks at, and how old it may be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from execution_app.gate.look import Seen, look
from execution_app.models import Control
from execution_app.states import Origin, RestrictionKind
from tests.execution import rows
from tests.guards import without_guards


def test_how_old_a_comparison_may_be() -> None:
    """Of a process that began with it, 20 s to the microsecond."""
    at, tick = datetime(2026, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    seen = Seen(1, frozenset(), "", reconciled_at=at, now=at + timedelta(seconds=20))
    never = "chain and database have not been compared yet"
    before = "chain and database have not been compared since this process started"
    assert seen.chain_problem(started_at=at) == ""
    late = replace(seen, now=seen.now + tick)
    assert late.chain_problem(at) == "chain and database were last compared too long ago"
    assert seen.chain_problem(at + tick) == before
    assert replace(seen, reconciled_at=None).chain_problem(at) == before
    assert replace(seen, halted="another genesis").chain_problem(at) == "another genesis"
    assert replace(seen, halted=None).chain_problem(at) == never


def test_one_look_sees_all_that_rules_the_mode(database: None) -> None:
    """The chain is this deployment's, whatever else stands in the table."""
    seen = look()
    assert (seen.epoch, seen.restrictions, seen.halted, seen.reconciled_at) == (1, frozenset(), None, None)
    chain: rows.Row = {"genesis_hash": "0x0", "trading_address": "0x0", "head_hash": "", "head_number": 0}
    chain |= {"finalized_number": 0, "halted_reason": "another one's"}
    rows.insert("chains", chain | {"chain_id": 8453})
    assert look().halted is None
    compared_at = datetime(2026, 1, 1, tzinfo=UTC)
    rows.insert("chains", chain | {"chain_id": 31337, "halted_reason": "", "reconciled_at": compared_at})
    rows.restriction(kind="dry", origin="redis")
    rows.restriction(kind="emergency_stop", origin="http")
    rows.restriction(kind="reduce_only", origin="admin", lifted_at=compared_at, lifted_by="ann")
    rows.execute("UPDATE control SET epoch = 7")
    seen = look()
    assert (seen.epoch, seen.halted, seen.reconciled_at) == (7, "", compared_at)
    assert seen.restrictions == {
        (RestrictionKind.DRY, Origin.REDIS),
        (RestrictionKind.STOP, Origin.HTTP),
    }
    assert seen.kinds == {RestrictionKind.DRY, RestrictionKind.STOP}
    assert seen.now > compared_at


def test_a_database_without_its_one_row_is_none(database: None) -> None:
    with without_guards(), transaction.atomic():
        rows.execute("DELETE FROM control")
        with pytest.raises(Control.DoesNotExist):
            look()
        transaction.set_rollback(True)  # the row is there once, for all tests
    assert look().epoch == Control.objects.get().epoch
