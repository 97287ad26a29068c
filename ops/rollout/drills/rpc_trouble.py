"""Drill 2: the node is slow, then refuses connections, then does what it is asked and its answers are lost.

The service stays up, faults are counted under their class, nothing is executed twice. Last the node mines
nothing until a fee is raised.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from execution_app.models import TxSend
from execution_app.states import SendKind
from ops.rehearsal.rpc import Node, NodeUnreachableError
from ops.rollout.drills import stand_in, witness
from ops.rollout.drills.health import HealthWatch
from ops.rollout.drills.parts import NODE, WATCHERS
from ops.rollout.drills.relay import SENDS, Fault
from ops.rollout.drills.report import NotInjected
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.stand_in import StandIn
from ops.rollout.drills.traffic import ACCEPTED, KNOWN, Sender, Traffic

DELAY_S = 1.0
FAULT_OUTCOMES = "vanta_rpc_requests"
FAILED = "vanta_tx_submissions_failed"
RAISED = "replaced by fee"
# Whatever asks the node may end when it is away, and is started again; it is no process of ours that executes.
BYSTANDERS = frozenset({"anvil", "keeper", "gateway"})
RAISED_WITHIN_S = 90.0


@dataclass(frozen=True)
class Counted:
    """What the metrics said at one moment."""

    faults: float
    lost_sends: float

    @classmethod
    def of(cls, metrics: str) -> "Counted":
        return cls(
            labelled(metrics, FAULT_OUTCOMES, outcome="fault"),
            labelled(metrics, FAILED, **{"class": "unknown"}),
        )


def run(stage: Stage, folder: Path) -> None:
    parts = stand_in.require_embedded(stage.parts)
    report = stage.report
    sender = stage.sender("rpc")
    open_before = stage.positions_open(stage.requested)
    mark, processes = stage.parts.mark(), stage.parts.identities()
    watch = stage.watch()
    node = StandIn(parts, folder)
    stage.undo.callback(node.end)
    began_s = time.monotonic()
    node.begin()
    report.step(f"another node stands in the place of the stack's {NODE}, with its chain, behind a relay")
    with Traffic(sender, stage.timing.every_s, insist=True):
        _slow(stage, node)
        _refused(stage, node)
        _lost(stage, node)
        _mend(stage, node)
        if stage.live:
            _stall(stage, node)
    ended_s = time.monotonic()
    _settle(stage, sender)
    node.end()
    report.step("the stack's own node is back, with all that was mined meanwhile")
    stage.await_back()
    _check_served(stage, watch, sender, began_s, ended_s)
    stage.check_processes(processes, spared=BYSTANDERS)
    if stage.live:
        stage.check_said(mark, "worker", RAISED)
    told = {name: stage.parts.log_since(mark, name).count("Traceback") for name in WATCHERS}
    report.figure("tracebacks in the logs", sum(told.values()), "")
    stage.check_executed_once(sender)
    stage.close_what_was_opened(sender, open_before)


def _slow(stage: Stage, node: StandIn) -> None:
    node.relay.inject(Fault.SLOW, delay_s=DELAY_S)
    took_s = _answered_s()
    if took_s < DELAY_S:
        raise NotInjected(f"the node answers within {took_s:.3f} s: what was slowed is not what is asked")
    stage.report.check("every answer of the node is late", True, f"{took_s:.3f} s")
    _last(stage, f"every request takes {DELAY_S:g} s longer")


def _refused(stage: Stage, node: StandIn) -> None:
    before = Counted.of(stage.health.metrics())
    node.relay.inject(Fault.REFUSE)
    try:
        Node(stand_in.node_url()).request("eth_chainId")
    except NodeUnreachableError as error:
        stage.report.check("connections to the node are refused", "refused" in str(error), str(error)[-80:])
    else:
        raise NotInjected("the node answers still")
    _last(stage, "connections are refused")
    _await(
        stage,
        lambda: any(told.startswith("node") for told in stage.health.look().failing),
        "/health names the node",
    )
    _check_grew(stage, "refused connections are counted as faults", lambda now: now.faults - before.faults)


def _lost(stage: Stage, node: StandIn) -> None:
    """In LIVE the answers to broadcasts alone: the bytes arrive and nobody is told. In DRY all of them."""
    before = Counted.of(stage.health.metrics())
    lost = node.relay.lost
    node.relay.inject(Fault.LOSE, losing=SENDS if stage.live else b"")
    _last(stage, f"answers {'to broadcasts ' if stage.live else ''}are lost")
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while node.relay.lost == lost and time.monotonic() < deadline_s:
        time.sleep(0.1)
    if node.relay.lost == lost:
        raise NotInjected("nobody asked anything of which the answer was to be lost")
    stage.report.check(
        "the node did what it was asked and nobody was told", True, f"{node.relay.lost - lost} answers"
    )
    if stage.live:
        _check_grew(
            stage,
            "a broadcast without an answer is counted as unknown, not as failed",
            lambda now: now.lost_sends - before.lost_sends,
        )
    else:
        _check_grew(stage, "lost answers are counted as faults", lambda now: now.faults - before.faults)


def _mend(stage: Stage, node: StandIn) -> None:
    began_s = time.monotonic()
    node.relay.inject(Fault.NONE)
    stage.report.step("the node answers again")
    stage.await_back()
    _await(stage, lambda: stage.health.look().status == "ok", "/health is ok again")
    stage.report.figure("until mode and /health were well again", time.monotonic() - began_s, "s")


def _stall(stage: Stage, node: StandIn) -> None:
    """Slots that nobody mines get a higher fee."""
    with ExitStack() as undo:
        undo.callback(stand_in.stop_mining(node.node))
        began_s, since = time.monotonic(), witness.now()
        stage.report.step("the node takes everything and mines nothing")
        raised = TxSend.objects.filter(kind=SendKind.BUMP, signed_at__gt=since)
        while not raised.exists() and time.monotonic() - began_s < RAISED_WITHIN_S:
            time.sleep(0.2)
        stage.report.check("a stuck slot was signed again with a higher fee", raised.exists(), raised.count())
        stage.report.figure("until a fee was raised", time.monotonic() - began_s, "s")
    stage.report.step("the node mines again")


def _last(stage: Stage, what: str) -> None:
    stage.report.step(f"for {stage.timing.seconds:g} s: {what}")
    time.sleep(stage.timing.seconds)


def _answered_s() -> float:
    began_s = time.monotonic()
    stand_in.ask(Node(stand_in.node_url()), "eth_chainId")
    return time.monotonic() - began_s


def _await(stage: Stage, met: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while not (found := met()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    stage.report.check(what, found, "" if found else f"not within {stage.timing.recovery_s:g} s")


def _check_grew(stage: Stage, what: str, grown: Callable[[Counted], float]) -> None:
    """A worker's number arrives with a later scrape, so it is waited for."""
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while not (more := grown(Counted.of(stage.health.metrics()))) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    stage.report.check(what, more > 0, f"{more:g} more")


def _settle(stage: Stage, sender: Sender) -> None:
    began_s = time.monotonic()
    found = witness.await_ends(sender.keys, stage.timing.settle_s)
    stage.report.figure("until all signals were settled", time.monotonic() - began_s, "s")
    done = "filled" if stage.live else "simulated"
    stage.report.check("every signal was executed", set(found) == {done}, dict(found))


def _check_served(stage: Stage, watch: HealthWatch, sender: Sender, began_s: float, ended_s: float) -> None:
    looks = watch.between(began_s, ended_s)
    silent = sum(not look.mode for look in looks)
    stage.report.check(
        "/health answered all the time", bool(looks) and not silent, f"{len(looks)}, {silent} not"
    )
    refused = {status: count for status, count in sender.answers.items() if status not in {ACCEPTED, KNOWN}}
    stage.report.check("every signal was taken at once", not refused, dict(sender.answers))
    stage.report.figure("slowest answer to a signal", sender.slowest_s, "s")


def labelled(metrics: str, family: str, **labels: str) -> float:
    """The sum of a counter's samples that carry these labels; 0 where there is none."""
    for found in text_string_to_metric_families(metrics):
        if found.name == family:
            return float(
                sum(
                    sample.value
                    for sample in found.samples
                    if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
                )
            )
    return 0.0
