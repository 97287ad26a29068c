"""Drill 3: the same signal twice, and fifty times at once, is one intent and one send."""

import time

from execution_app.models import TxIntent, TxSend
from ops.rollout.drills import witness
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.traffic import ACCEPTED, BUSY, KNOWN

COPIES = (2, 50)


def run(stage: Stage) -> None:
    report = stage.report
    sender = stage.sender("duplicate-test-001")
    open_before = stage.positions_open(stage.requested)
    processes = stage.parts.identities()
    for count in COPIES:
        sender.answers.clear()
        key = sender.copies(count)
        report.step(f"{key}, {count} times at once")
        told = dict(sender.answers)
        told.pop(BUSY, None)  # nothing was stored, and those copies came again
        wanted = {ACCEPTED: 1, KNOWN: count - 1}
        report.check("one was taken, the others were known", told == wanted, dict(sender.answers))
        began_s = time.monotonic()
        found = witness.await_ends([key], stage.timing.settle_s)
        report.figure(f"{count} copies: until settled", time.monotonic() - began_s, "s")
        done = "filled" if stage.live else "simulated"
        report.check("it was executed", set(found) == {done}, dict(found))
        rows = TxIntent.objects.filter(intent_key__startswith=key).count()
        report.check("one row in tx_intents", rows == 1, rows)
        sends = TxSend.objects.filter(intent__intent_key=key, kind="exec").count()
        report.check("one send" if stage.live else "no send", sends == int(stage.live), sends)
        status, _ = sender.send(key.rpartition(":")[2], side="CLOSE")
        report.check("other content under the same id is refused", status == 409, status)  # noqa: PLR2004
    report.figure("slowest answer", sender.slowest_s, "s")
    stage.check_executed_once(sender)
    stage.check_processes(processes)
    stage.close_what_was_opened(sender, open_before)
