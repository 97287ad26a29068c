"""What is counted and never taken back: each of these alerts looks at an increase over 15 or 30 minutes."""

import time
from typing import Any

from ops.rehearsal import venue
from ops.rehearsal.rpc import Guise, Message, Node
from tests.alerts.ground import Ground
from tests.chaos import outages
from tests.e2e.stack import wait_until
from tests.proxy import Proxy

SEEN_S = 15.0  # longer than two scrapes
TRANSFER_GAS = 21_000
BUMPS = 6


def restarts(ground: Ground) -> None:
    """Beat is killed and started again, as often as it takes to be told."""
    ledger = ground.ledger
    ledger.injected("VantaRestarting", "SIGKILL of beat, twice")
    for _ in range(2):
        pid = ground.stack.pids()["beat"]
        outages.kill(ground.stack, "beat")
        wait_until(lambda: ground.stack.pids().get("beat", pid) != pid, 30, "beat is started again")  # noqa: B023
        outages.await_ok(ground.stack, 60)
        time.sleep(SEEN_S)
    ground.await_told("VantaRestarting")


def replacements(ground: Ground) -> None:
    """A node that takes transactions and mines none, and then tells two receipts for one slot."""
    node, ledger = ground.stack.node, ground.ledger
    ledger.injected(
        "VantaRbfExcess", "the node takes transactions and keeps them; fees are raised again and again"
    )
    node.hold()
    keys = [ground.signal(max_lag_s=900) for _ in range(3)]
    try:
        ground.await_counted("vanta_rbf_attempt_total", BUMPS, within_s=120)
    finally:
        node.faults.tell = _two_receipts(node)
        ledger.injected(
            "VantaDuplicateIntent", "the node tells a receipt for each of two hashes of one nonce"
        )
        node.release("first")
    try:
        ground.await_counted("vanta_intent_duplicate_total")
    finally:
        node.faults.tell = None
    for key in keys:
        ground.await_state(key, "filled", within_s=90)
    ground.await_told("VantaDuplicateIntent", "VantaRbfExcess")


def _two_receipts(node: Proxy) -> Any:
    """Whoever asks for the receipt of a replaced hash is told that of the hash which was mined in its slot."""

    def tell(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getTransactionReceipt" or answer.get("result"):
            return answer
        asked = str(request["params"][0])
        slots = {(offer.sender, offer.nonce) for offer in node.log if offer.tx_hash == asked}
        for offer in {one.tx_hash: one for one in node.log if (one.sender, one.nonce) in slots}.values():
            found = node.forward({**request, "params": [offer.tx_hash]}).get("result")
            if found:
                return {**answer, "result": {**found, "transactionHash": asked}}
        return answer

    return tell


def refusals(ground: Ground) -> None:
    """The venue is paused under a transaction that has left; a node refuses bytes; a node forgets events."""
    node, ledger, url = ground.stack.node, ground.ledger, ground.node_url
    ledger.injected("VantaTransactionsFailing", "the venue pauses while an open is on its way, which reverts")
    node.hold()
    offered = len(node.log)
    ground.signal()
    wait_until(lambda: len(node.log) > offered, 30, "the open has left")
    venue.set_paused(url, ground.deployment, paused=True)
    node.release()
    try:
        ground.await_counted("vanta_tx_mined_total", label="reverted")
    finally:
        venue.set_paused(url, ground.deployment, paused=False)

    ledger.injected("VantaBroadcastsFailing", "the node refuses the bytes of an open as underpriced, once")
    node.faults.refusal, node.faults.refuse_next = "transaction underpriced", 1
    refused = ground.signal()
    ground.await_counted("vanta_tx_submissions_failed_total", label="underpriced")
    ground.await_state(refused, "filled")

    ledger.injected("VantaInvariantViolated", "the node shows no events, so an order ends without one")
    node.faults.hide_logs = True
    eventless = ground.signal()
    try:
        ground.await_counted("vanta_invariant_violations_total")
    finally:
        node.faults.hide_logs = False
    ground.await_state(eventless, "filled")
    ground.await_told("VantaTransactionsFailing", "VantaBroadcastsFailing", "VantaInvariantViolated")


def attempts(ground: Ground) -> None:
    """Our own code is asked for what it refuses, in a process beside the stack's."""
    for alert, verb, fault in (
        (
            "VantaIllegalTransition",
            "illegal_move",
            "the code is asked to move a settled intent back to pending",
        ),
        (
            "VantaSignatureRefused",
            "foreign_signature",
            "the policy is asked to permit a transfer to a stranger",
        ),
    ):
        ground.ledger.injected(alert, fault)
        ground.manage("shell", "-c", f"from tests.alerts import attempts; attempts.{verb}()")
    ground.await_told("VantaIllegalTransition", "VantaSignatureRefused")


def undelivered(ground: Ground) -> None:
    """The dead man's switch answers 404 to one ping."""
    failed = "sum(alertmanager_notifications_failed_total)"
    before = _number(ground, failed)
    ground.ledger.injected("VantaAlertsUndelivered", "the URL of the dead man's switch answers 404")
    ground.receivers.dead_man_status = 404
    try:
        wait_until(lambda: _number(ground, failed) > before, 60, "Alertmanager gives one up")
    finally:
        ground.receivers.dead_man_status = 200
    ground.await_told("VantaAlertsUndelivered")


def _number(ground: Ground, expr: str) -> float:
    return float(ground.tower.query(expr)[0]["value"][1])


def foreign(ground: Ground) -> None:
    """The wallet's key signs elsewhere, at a nonce that one of our orders has."""
    node, ledger = ground.stack.node, ground.ledger
    wallet, trader = ground.stack.env["WALLET_ADDRESS"], ground.stack.env["TRADER_ADDRESS"]
    node.hold()
    offered = len(node.log)
    lost = ground.signal()
    wait_until(lambda: len(node.log) > offered, 30, "the open has left")
    ledger.injected(
        "VantaNonceLost", "a transfer by the wallet's key from elsewhere takes the nonce of an open"
    )
    ledger.injected("VantaWalletHalted", "the same transfer; `wallet adopt` and `wallet resume` end it")
    Guise(Node(ground.node_url), wallet).transact(Message(trader, b"", TRANSFER_GAS))
    ground.await_state(lost, "lost_nonce", within_s=90)
    node.release("none")
    ground.await_told("VantaNonceLost", "VantaWalletHalted")
    why = ("--reason", "a transfer of a rehearsal, looked into")
    ground.manage("wallet", "adopt", "123", "--yes", *why, may_fail=True)
    ground.manage("wallet", "resume", "123", *why)
    ground.await_over(60, but=ledger.open() - {"VantaWalletHalted"})
    ground.await_state(ground.signal(), "filled", within_s=90)
