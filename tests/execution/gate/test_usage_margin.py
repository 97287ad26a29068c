"""What a position that nobody of ours ended has lost: all that ever went into it, less what came out, whoever put it there."""

from datetime import datetime

import pytest

from execution_app.states import CapName, CapScope, Mode
from tests.execution import rows
from tests.execution.gate.test_usage import MIDNIGHT, NOON, SECOND, used
from tests.execution.test_increase_guards import grown, increase


def ended_elsewhere(at: datetime, source: str, mode: str = "LIVE", ended_by: str = "closed_elsewhere") -> int:
    """Opened with 5 USDC, increased by 4, of which a close took 2 out again, so that 7 were in it."""
    position = rows.position(state="closed", ended_by=ended_by, mode=mode, opened_at=at)
    opener = rows.intent(source=source, tg_user_id=7)
    rows.fill(intent_id=opener, position_id=position, mode=mode)
    grown(position_id=position, intent_id=increase(), collateral_usdc=4, mode=mode, filled_at=at)
    rows.fill(
        position_id=position,
        action="close",
        collateral_usdc=2,
        sent_to_trader_usdc=2,
        mode=mode,
        filled_at=at,
    )
    rows.reservation(
        intent_id=opener, source=source, state="released", mode=mode, notional_usdc=0, released_at=at
    )
    return position


def margin(position: int, change: int) -> None:
    row: rows.Row = {"position_id": position, "change_usdc": change, "collateral_usdc": 5, "leverage_x": 2}
    row |= {"tx_hash": rows.tx_hash(), "log_index": 0, "block_number": 1, "block_hash": rows.tx_hash()}
    rows.insert("margin_changes", row | {"venue_timestamp": NOON})


def test_what_went_in_and_out_of_it_counts_whoever_put_it_there(database: None) -> None:
    position = ended_elsewhere(NOON, "drill")
    assert used(CapName.DAILY_LOSS) == 7
    margin(position, 3)
    margin(position, -1)
    assert used(CapName.DAILY_LOSS) == 9
    # Neither of another day, of another mode, nor of one whose payout is known.
    for other in (
        ended_elsewhere(MIDNIGHT - SECOND, "drill"),
        ended_elsewhere(NOON, "drill", ended_by="close"),
    ):
        margin(other, 100)
    assert used(CapName.DAILY_LOSS) == 9
    margin(ended_elsewhere(NOON, "other"), 20)
    assert used(CapName.DAILY_LOSS) == 36
    assert used(CapName.DAILY_LOSS, (CapScope.SOURCE, "drill")) == 9
    assert used(CapName.DAILY_LOSS, (CapScope.TRADER, "7")) == 36
    assert used(CapName.DAILY_LOSS, mode=Mode.DRY) == 0


@pytest.mark.parametrize("taken", [7, 8])
def test_margin_that_was_taken_out_is_not_lost(database: None, taken: int) -> None:
    """And more of it than there was is no profit that would make room for losses."""
    margin(ended_elsewhere(NOON, "drill"), -taken)
    assert used(CapName.DAILY_LOSS) == 0
