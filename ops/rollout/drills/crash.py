"""Drill 5: worker, webhook and beat are killed under load; nothing is lost, nothing happens twice."""

import time

from ops.rollout.drills import witness
from ops.rollout.drills.report import Failed
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.traffic import Traffic

VICTIMS = ("worker", "webhook", "beat")
POLL_S = 0.05


def run(stage: Stage) -> None:
    report = stage.report
    sender = stage.sender("crash")
    open_before = stage.positions_open(stage.requested)
    pause_s = min(stage.timing.seconds, 5.0)
    with Traffic(sender, stage.timing.every_s, insist=True):
        time.sleep(pause_s)
        for name in VICTIMS:
            before = stage.parts.identities()[name]
            stage.parts.kill(name)
            killed_s = time.monotonic()
            report.step(f"SIGKILL to {name} ({before})")
            _await_another(stage, name, before)
            report.figure(f"{name}: until it was started again", time.monotonic() - killed_s, "s")
            stage.await_back()
            report.figure(
                f"{name}: until mode {stage.requested} everywhere", time.monotonic() - killed_s, "s"
            )
            time.sleep(pause_s)
    began_s = time.monotonic()
    found = witness.await_ends(sender.keys, stage.timing.settle_s)
    report.figure("until all signals were settled", time.monotonic() - began_s, "s")
    done = "filled" if stage.live else "simulated"
    report.check("nothing was lost: every signal was executed", set(found) == {done}, dict(found))
    report.step(f"answers: {dict(sender.answers)}; 0 is no answer")
    stage.check_executed_once(sender)
    stage.close_what_was_opened(sender, open_before)


def _await_another(stage: Stage, name: str, before: str) -> None:
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while stage.parts.identities().get(name, before) == before:
        if time.monotonic() > deadline_s:
            raise Failed(f"{name} was not started again within {stage.timing.recovery_s:g} s")
        time.sleep(POLL_S)
