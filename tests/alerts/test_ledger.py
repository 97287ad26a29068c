"""What counts as told once: each instance of an alert by itself, however often its group is told anew for another."""

import pytest

from tests.alerts.ledger import Ledger, Line
from tests.ops.alerts.ends import Message, Receivers

BEAT, TPSL = "ticket Restarting: beat restarts\n", "ticket Restarting: tpsl restarts\n"
BEAT_OVER, TPSL_OVER = "RESOLVED Restarting: beat restarts\n", "RESOLVED Restarting: tpsl restarts\n"


@pytest.mark.parametrize(
    ("messages", "told", "over"),
    [
        ([BEAT, BEAT_OVER], 1, 1),
        ([BEAT], 1, 0),
        ([BEAT, BEAT], 2, 0),
        ([BEAT, BEAT_OVER, BEAT, BEAT_OVER], 2, 2),
        ([BEAT, BEAT + TPSL, TPSL + BEAT_OVER, TPSL_OVER], 1, 1),
        ([BEAT + TPSL, TPSL_OVER + BEAT, BEAT + TPSL], 2, 0),
        ([BEAT + TPSL, BEAT + TPSL], 2, 0),
        ([BEAT_OVER], 0, 1),
    ],
)
def test_each_instance_is_told_once(messages: list[str], told: int, over: int) -> None:
    with Receivers() as receivers:
        ledger = Ledger(receivers, lambda _: None)
        for text in messages:
            ledger.note(Message(1, text, silent=False))
    line: Line = ledger.lines["Restarting"]
    assert (line.told, line.over) == (told, over)
    assert ("Restarting" in ledger.open()) is (over == 0 or told > over)
