"""Drill 6: blocks with our transactions leave the chain; what was provisional is taken back and made again, once."""

import time
from collections.abc import Callable

from django.conf import settings

from execution_app.models import TxReceipt, TxSend
from ops.rehearsal.rpc import Node
from ops.rollout.drills import stand_in, witness
from ops.rollout.drills.report import CannotRun, NotInjected
from ops.rollout.drills.stage import REHEARSAL_CHAIN_ID, Stage
from ops.rollout.drills.traffic import Sender

BURST = 4
TRIES = 5
# The rehearsal chain calls a block final when two are above it: those may not leave.
DEPTH = 2
REORGS = "vanta_reorgs"
LOST = "vanta_nonce_lost"


def run(stage: Stage) -> None:
    if settings.ENVIRONMENT.chain_id != REHEARSAL_CHAIN_ID:
        raise CannotRun("only the rehearsal chain lets its blocks be taken back")
    node = Node(stand_in.node_url())
    sender = stage.sender("reorg")
    open_before = stage.positions_open(stage.requested)
    processes = stage.parts.identities()
    if stage.live:
        _with_ours(stage, node, sender)
    else:
        stage.report.left_out("transactions of ours in blocks that leave: in DRY nothing is on the chain")
        _empty(stage, node, sender)
    found = witness.await_ends(sender.keys, stage.timing.settle_s)
    done = "filled" if stage.live else "simulated"
    stage.report.check("every signal was executed", set(found) == {done}, dict(found))
    stage.check_executed_once(sender)
    lost = witness.counter(stage.health.metrics(), LOST)
    stage.report.check(f"{LOST}_total is 0", lost == 0, lost)
    stage.report.figure(f"until mode {stage.requested} everywhere", stage.await_back(), "s")
    stage.check_processes(processes)
    stage.close_what_was_opened(sender, open_before)


def _with_ours(stage: Stage, node: Node, sender: Sender) -> None:
    report = stage.report
    for _ in range(TRIES):
        sender.burst(BURST)
        block = _await_mined(stage, node, sender)
        mine_again = stand_in.stop_mining(node)
        stage.undo.callback(mine_again)
        if (depth := stand_in.height(node) - block + 1) <= DEPTH:
            break
        mine_again()
        report.step(f"block {block} is {depth} deep already, too deep to leave; again")
    else:
        raise NotInjected(f"in {TRIES} tries no transaction of ours was in the newest {DEPTH} blocks")
    leaving = _await_rows(stage, block)
    before = witness.counter(stage.health.metrics(), REORGS)
    report.step(f"{len(leaving)} transactions of ours in block {block}, which the rows know as mined")
    _take_back(stage, node, depth, leaving)
    began_s = time.monotonic()
    left = TxReceipt.objects.filter(send__tx_hash__in=leaving, block_number=block, canonical=True)
    _until(stage, lambda: not left.filter(block_hash__in=leaving.values()).exists())
    report.check(
        "the rows no longer say that they are mined there",
        not left.filter(block_hash__in=leaving.values()).exists(),
    )
    report.figure("until the rows had noticed", time.monotonic() - began_s, "s")
    mine_again()
    report.step("the node mines again, and has none of them in its pool")
    mined = TxReceipt.objects.filter(send__intent__sends__tx_hash__in=leaving, canonical=True)
    _until(stage, lambda: mined.values("intent").distinct().count() == len(leaving))
    hashes = set(mined.values_list("send__tx_hash", flat=True))
    report.check(
        "each was mined again, under its own hash or a raised fee's",
        len(hashes) == len(leaving),
        f"{len(hashes & leaving.keys())} of {len(leaving)} by the same bytes",
    )
    report.figure("until all were mined again", time.monotonic() - began_s, "s")
    _until(stage, lambda: witness.counter(stage.health.metrics(), REORGS) > before)
    seen = witness.counter(stage.health.metrics(), REORGS) - before
    report.check(f"{REORGS}_total counts them", seen > 0, f"{seen:g} more")


def _empty(stage: Stage, node: Node, sender: Sender) -> None:
    sender.burst(BURST)
    mine_again = stand_in.stop_mining(node)
    stage.undo.callback(mine_again)
    _take_back(stage, node, 1, {})
    mine_again()
    sender.burst(BURST)


def _take_back(stage: Stage, node: Node, depth: int, leaving: dict[str, str]) -> None:
    """Raises NotInjected where the chain is what it was."""
    head = stand_in.height(node)
    former = stand_in.ask(node, "eth_getBlockByNumber", hex(head), False)["hash"]
    stand_in.ask(node, "anvil_reorg", depth, [])
    now = stand_in.ask(node, "eth_getBlockByNumber", hex(head), False)
    if now is not None and now["hash"] == former:
        raise NotInjected(f"block {head} is what it was")
    stays = [tx for tx in leaving if stand_in.ask(node, "eth_getTransactionReceipt", tx) is not None]
    if stays:
        raise NotInjected(f"the chain has {stays} still")
    stage.report.check(
        f"the newest {depth} blocks were replaced by empty ones", True, f"block {head} was {former}"
    )


def _await_mined(stage: Stage, node: Node, sender: Sender) -> int:
    """The block that the first of the newest signals is in. Raises NotInjected."""
    deadline_s = time.monotonic() + stage.timing.settle_s
    while time.monotonic() < deadline_s:
        sends = TxSend.objects.filter(intent__intent_key__in=sender.keys[-BURST:])
        for tx_hash in sends.values_list("tx_hash", flat=True):
            if receipt := stand_in.ask(node, "eth_getTransactionReceipt", tx_hash):
                return int(receipt["blockNumber"], 16)
        time.sleep(0.05)
    raise NotInjected("nothing was mined that could leave again")


def _await_rows(stage: Stage, block: int) -> dict[str, str]:
    """Hash and block of what the rows, too, know to be mined there. Raises NotInjected."""
    rows = TxReceipt.objects.filter(block_number__gte=block, canonical=True)
    _until(stage, rows.exists)
    time.sleep(1.0)  # for the others of the same block
    found = dict(rows.values_list("send__tx_hash", "block_hash"))
    if not found:
        raise NotInjected("the rows did not come to know what was mined")
    return found


def _until(stage: Stage, met: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while not met() and time.monotonic() < deadline_s:
        time.sleep(0.1)
