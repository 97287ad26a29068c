"""For how long one person's word for one close counts, with and without a nonce, and what stands in its way."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.gate import approval
from execution_app.gate.modes import NONE, Ruling
from execution_app.models import SignRequest, TxIntent
from execution_app.states import IntentState, Mode, RestrictionKind
from tests.execution import rows
from tests.guards import without_guards

REDIS_ALONE = Ruling(Mode.LIVE, Mode.DRY, False, False, "redis: away", only_redis=True)
SECOND = timedelta(seconds=1)


def close(ago_s: float | None, state: IntentState = IntentState.HELD, **fields: Any) -> TxIntent:
    """A close that was approved so many seconds ago, by the database's clock."""
    pk = rows.intent_in(state, action="close")
    if ago_s is not None:
        now = rows.one("SELECT clock_timestamp()")
        fields |= {"approved_at": now - timedelta(seconds=ago_s), "approved_by": "ann"}
    with without_guards():
        if fields:
            rows.update("tx_intents", pk, fields)
    return TxIntent.objects.get(pk=pk)


@pytest.mark.parametrize(("ago_s", "does_count"), [(None, False), (0, True), (240, True), (300.5, False)])
def test_unused_it_counts_for_five_minutes(database: None, ago_s: float | None, does_count: bool) -> None:
    close(1)  # another's
    mine = close(ago_s)
    assert approval.counts(mine, REDIS_ALONE) is does_count
    assert approval.counts(mine, replace(REDIS_ALONE, only_redis=False)) is False


def test_it_is_read_from_the_row_and_not_from_what_is_known_of_it(database: None) -> None:
    """Whoever holds the intent may have read it before it was taken back, or before it had its nonce."""
    mine = close(1)
    with without_guards():
        rows.update("tx_intents", mine.pk, {"approved_at": None, "approved_by": ""})
    assert not approval.counts(mine, REDIS_ALONE)
    placed = close(1, IntentState.SIGNED)
    placed.nonce = None
    assert not approval.counts(placed, REDIS_ALONE)


# Seconds after the approval at which the first bytes, their replacement, or the request to a remote signer for one of
# them were made; and whether the approval is the slot's.
USED = {
    "signed in time": ({0: 299}, None, True),
    "signed too late": ({0: 301}, None, False),
    "signed in time and replaced long after": ({0: 299, 1: 900}, None, True),
    "replaced by clocks that disagree": ({0: 301, 1: 299}, None, False),
    "asked for in time": ({}, (0, 299), True),
    "asked for too late": ({}, (0, 301), False),
    "a replacement asked for": ({}, (1, 299), False),
    "signed in time, a replacement asked for": ({0: 299}, (1, 900), True),
    "never signed": ({}, None, False),
}


@pytest.mark.parametrize("name", USED)
def test_with_its_nonce_it_is_the_slots_if_that_was_signed_in_time(database: None, name: str) -> None:
    sends, asked, is_used = USED[name]
    mine = close(1_000, IntentState.SIGNED)
    assert mine.approved_at is not None
    with without_guards():
        for attempt, after_s in sends.items():
            kind = "bump" if attempt else "exec"
            rows.send(
                intent_id=mine.pk, attempt=attempt, kind=kind, signed_at=mine.approved_at + after_s * SECOND
            )
        if asked is not None:
            SignRequest.objects.create(
                intent=mine, attempt=asked[0], kind="exec", max_fee_wei=2, tip_wei=1,
                asked_at=mine.approved_at + asked[1] * SECOND,
            )  # fmt: skip
    assert approval.counts(mine, REDIS_ALONE) is is_used


def test_what_no_approval_passes_is_said(database: None, settings: Settings) -> None:
    def obstacle(*kinds: RestrictionKind) -> str:
        return approval.obstacle(frozenset(kinds), 31337)

    never = "chain and database have not been compared yet"
    assert obstacle() == never
    chain: rows.Row = {"genesis_hash": "0x0", "trading_address": "0x0", "head_hash": "", "head_number": 0}
    chain |= {"finalized_number": 0, "halted_reason": ""}
    rows.insert("chains", chain | {"chain_id": 8453})
    assert obstacle() == never
    rows.insert("chains", chain | {"chain_id": 31337})
    assert approval.obstacle(NONE, 31337) == obstacle(RestrictionKind.REDUCE_ONLY) == ""
    assert "emergency stop" in obstacle(RestrictionKind.STOP, RestrictionKind.DRY)
    assert "DRY was set by an operator" in obstacle(RestrictionKind.DRY)
    rows.execute("UPDATE chains SET halted_reason = 'another genesis' WHERE chain_id = 31337")
    assert obstacle() == "another genesis"
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"force_dry": True})
    assert obstacle().startswith("FORCE_DRY is set")
