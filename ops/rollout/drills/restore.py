"""Drill 8: the database is put back to a backup while the chain has moved on, with one execution since, and with many.

The backup, the restore and everything an operator does afterwards are the commands
themselves. What was executed since is known from before the restore, by hashes.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.models import RestorePoint, TxSend, Wallet
from execution_app.states import Reason
from ops.rollout import postgres_tools, reconciling
from ops.rollout.drills import witness
from ops.rollout.drills.operator import manage
from ops.rollout.drills.report import CannotRun, Failed, NotInjected
from ops.rollout.drills.stage import REHEARSAL_CHAIN_ID, Stage
from ops.rollout.drills.traffic import ACCEPTED, OPEN, Sender
from ops.rollout.postgres_tools import Place

REASON = "drill: restore while the chain moved on"
COUNTS = (1, 8)  # where nobody says otherwise
POLL_S = 0.5
ASIDE_LIMIT = 20  # hashes that are named
# How far the time of a signal must be behind the restore before it counts as new, and some more.
PAST_SKEW_S = 6.0


@dataclass(frozen=True)
class Since:
    """What was executed after the backup: the signals, their bodies' times, and the hashes that the chain has."""

    sender: Sender
    bodies: dict[str, str]
    hashes: frozenset[str]


def run(stage: Stage, folder: Path, counts: Sequence[int]) -> None:
    if settings.ENVIRONMENT.chain_id != REHEARSAL_CHAIN_ID:
        raise CannotRun("a drill puts no database back that trades on a real chain")
    if stage.parts.form != "embedded":
        raise CannotRun("the restore is drilled on embedded parts only so far")
    if not stage.live:
        stage.report.left_out("executions that the backup does not know: in DRY nothing is on the chain")
    # As `make run` tells its processes; stack.env, which the drill has, does not.
    for name, part in (("SIGNER_KEY_DIR", "keys"), ("STATE_DIR", "state")):
        os.environ.setdefault(name, str(folder / part))
    for count in counts:
        _drill(stage, folder / "backups", count)


def _drill(stage: Stage, folder: Path, count: int) -> None:
    report = stage.report
    report.step(f"with {count} execution(s) since the backup")
    processes = stage.parts.identities()
    open_before = stage.positions_open(stage.requested)
    sender = stage.sender(f"restore-{count}")
    path = _back_up(stage, folder)
    since = _go_on(stage, sender, count)
    pending = witness.counts("pending")
    began_s = time.monotonic()
    former = _put_back(stage, path)
    stage.undo.callback(_drop, former)
    _check_closed(stage, pending)
    _check_replays(stage, since)
    report.figure(f"{count}: until closed and old signals refused", time.monotonic() - began_s, "s")
    _take_over(stage, since)
    _check_counts(stage, pending, "until a person went on")
    _go_live(stage, since, open_before)
    # Its sessions are cut in the middle of whatever it does, and it may end of that (docs/outages.md).
    stage.check_processes(processes, spared=frozenset({"beat"}))


def _back_up(stage: Stage, folder: Path) -> Path:
    made = manage("backup", "--to", str(folder), "--keep", "4", "--reason", REASON)
    path = Path(str(made["file"]))
    checked = manage("verify-backup", str(path))
    stage.report.check(
        "the backup is whole", bool(checked["ok"]), f"{made['bytes']} bytes, {made['rows']} rows"
    )
    stage.report.step(f"backup {path.name} of {made['taken_at']}")
    return path


def _go_on(stage: Stage, sender: Sender, count: int) -> Since:
    """Signals that the backup does not know are executed. Raises NotInjected where they are not."""
    bodies = {}
    for _ in range(count):
        signal_id, ts = sender.fresh_id(), _now()
        status, key = sender.send(signal_id, **OPEN, ts=ts)
        if status != ACCEPTED:
            raise NotInjected(f"a signal was answered {status}")
        bodies[key] = ts
    found = witness.await_ends(list(bodies), stage.timing.settle_s)
    wanted = "filled" if stage.live else "simulated"
    if dict(found) != {wanted: count}:
        raise NotInjected(f"what the backup should not know was not executed: {dict(found)}")
    sends = TxSend.objects.filter(intent__intent_key__in=bodies, receipt__canonical=True)
    hashes = frozenset(sends.values_list("tx_hash", flat=True))
    stage.report.check(
        "each was executed on the chain", len(hashes) == count * stage.live, f"{len(hashes)} hashes"
    )
    return Since(sender, bodies, hashes)


def _put_back(stage: Stage, path: Path) -> str:
    name = Place.configured().name
    connection.close()
    began_s = time.monotonic()
    said = manage(
        "restore", str(path), "--yes-restore", name, "--terminate", "--reason", REASON, "--by", "drill"
    )
    stage.report.figure("the restore took", time.monotonic() - began_s, "s")
    stage.report.step(f"restored; the former database is {said['former']}, the epoch {said['epoch']}")
    return str(said["former"])


def _check_closed(stage: Stage, pending: dict[str, int]) -> None:
    report = stage.report
    took_s = stage.health.await_mode(
        lambda mode: mode["emergency_stop"] and mode["mode"] == "DRY" and mode["requested"] == "DRY",
        stage.timing.recovery_s,
        "every process sees the closed copy",
    )
    report.figure("until every web worker says stopped and DRY", took_s, "s")
    held = witness.restrictions()
    report.check("stop and DRY hold", {"emergency_stop of command", "dry of command"} <= set(held), held)
    wallets = _wallets()
    halted = [wallet.address for wallet in wallets if wallet.halted_reason]
    report.check("every wallet is halted", len(halted) == len(wallets) > 0, halted)
    _refused_resume(stage)
    _check_counts(stage, pending, "before the chain was read")


def _refused_resume(stage: Stage) -> None:
    words = ("resume", "--reason", REASON, "--by", "drill")
    try:
        manage(*words)
    except Failed as refusal:
        stage.report.check("going on at once is refused", "the stop is lifted last" in str(refusal), refusal)
    else:
        stage.report.check("going on at once is refused", False, "it was lifted")


def _check_counts(stage: Stage, pending: dict[str, int], when: str) -> None:
    """The chain has nothing new of our wallets, by its pool and blocks."""
    now = witness.counts("pending")
    stage.report.check(f"nothing was sent {when}", now == pending, f"{pending} then, {now} now")


def _check_replays(stage: Stage, since: Since) -> None:
    """The same bodies again: this database does not know their ids, and refuses them for their time."""
    key, ts = next(iter(since.bodies.items()))
    status, _ = since.sender.send(key.rpartition(":")[2], **OPEN, ts=ts)
    untimed = since.sender.fresh_id()
    untimed_status, untimed_key = since.sender.send(untimed, **OPEN)
    replayed = [key, untimed_key]
    found = witness.await_ends(replayed, stage.timing.settle_s)
    wanted = {f"rejected/{Reason.OLDER_THAN_RESTORE}": 2}
    stage.report.check(
        "what the lost database executed is refused when it comes again, and what tells no time, too",
        dict(found) == wanted and {status, untimed_status} == {ACCEPTED},
        dict(found),
    )


def _take_over(stage: Stage, since: Since) -> None:
    """Adopt what the chain knows, as an operator does; nobody signs meanwhile."""
    report = stage.report
    began_s = time.monotonic()
    operator = ("--reason", REASON, "--by", "drill")
    for wallet in _wallets():
        trader = str(wallet.trader.tg_user_id)
        adopted = _adopt(stage, trader, operator)
        report.step(f"adopted for {trader}: {[use['what'] for use in adopted['nonces']]}")
        manage("wallet", "resume", trader, *operator)
    report.figure("until every wallet was adopted", time.monotonic() - began_s, "s")
    sends = dict(TxSend.objects.filter(tx_hash__in=since.hashes).values_list("tx_hash", "intent__intent_key"))
    missing = sorted(since.hashes - sends.keys())
    report.check(
        "every execution that the backup did not know has its intent again",
        not missing,
        missing[:ASIDE_LIMIT] or f"{len(sends)} of {len(since.hashes)}",
    )
    point = RestorePoint.objects.latest("restored_at")
    signed = set(TxSend.objects.filter(signed_at__gt=point.restored_at).values_list("tx_hash", flat=True))
    report.check(
        "nothing was signed but what the chain had", signed <= since.hashes, sorted(signed - since.hashes)
    )
    _await_agreement(stage, point, list(sends.values()))


def _adopt(stage: Stage, trader: str, operator: tuple[str, ...]) -> dict[str, Any]:
    """Again until what was mined last is final, as the refusal says. Raises Failed."""
    deadline_s = time.monotonic() + stage.timing.settle_s
    while True:
        try:
            return manage("wallet", "adopt", trader, "--yes", *operator)
        except Failed as refusal:
            if time.monotonic() > deadline_s:
                raise Failed(f"not adopted within {stage.timing.settle_s:g} s: {refusal}") from refusal
            time.sleep(POLL_S)


def _await_agreement(stage: Stage, point: RestorePoint, keys: list[str]) -> None:
    found = witness.await_ends(keys, stage.timing.settle_s) if keys else {}
    stage.report.check("each of them is filled in the book", set(found) <= {"filled"}, dict(found))
    deadline_s = time.monotonic() + stage.timing.settle_s
    while left := _left(point):
        if time.monotonic() > deadline_s:
            raise Failed(f"chain and database did not come to agree: {left[:3]}")
        time.sleep(POLL_S)
    missing, unknown = reconciling.differences()
    stage.report.check(
        "positions equal the venue's", not (missing or unknown), [*missing, *unknown] or "equal"
    )


def _left(point: RestorePoint) -> list[str]:
    try:
        return reconciling.objections(point, accept_unknown_trades=False)
    except (Refused, Retryable) as problem:
        return [str(problem)]


def _go_live(stage: Stage, since: Since, open_before: int) -> None:
    """A person goes on: last the stop; and the stack trades as before."""
    report = stage.report
    operator = ("--reason", REASON, "--by", "drill")
    manage("mode", "LIVE", *operator)
    manage("resume", *operator)
    manage("restore", "--accept-untimed", *operator)
    report.step("resumed, and signals without a time accepted, by a person's word")
    report.figure(f"until mode {stage.requested} again", stage.await_back(), "s")
    point = RestorePoint.objects.latest("restored_at")
    time.sleep(max(0.0, PAST_SKEW_S - (database_now() - point.restored_at).total_seconds()))
    status, key = since.sender.send(since.sender.fresh_id(), **OPEN, ts=_now())
    found = witness.await_ends([key], stage.timing.settle_s)
    wanted = "filled" if stage.live else "simulated"
    report.check("a new signal is executed", dict(found) == {wanted: 1}, f"{status}, {dict(found)}")
    since.sender.keys[:] = [key]
    stage.check_executed_once(since.sender)
    stage.close_what_was_opened(since.sender, open_before)


def _wallets() -> list[Wallet]:
    own = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id)
    return list(own.select_related("trader").order_by("pk"))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _drop(former: str) -> None:
    """The drill's own former database; nobody needs it."""
    with Place.configured().connected() as session:
        postgres_tools.drop(session, former)
