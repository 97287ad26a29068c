"""Drill 7: PostgreSQL is restarted, killed, and away for a while, under traffic; nothing is lost and nothing sent."""

import time
from collections import Counter

import psycopg
from django.conf import settings
from django.db import connection

from ops.rollout.drills import witness
from ops.rollout.drills.health import HealthWatch, Look
from ops.rollout.drills.parts import DATABASE
from ops.rollout.drills.report import Failed, NotInjected
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.traffic import ACCEPTED, BUSY, KNOWN, Sender, Traffic

FAULTS = ("restart", "kill", "away")
# Its sessions are cut in the middle of whatever it does, and it may end of that (docs/outages.md).
SPARED = frozenset({"beat", "postgres", DATABASE})
ANSWERED_WITHIN_S = 5.0
SERVER = "SELECT pg_postmaster_start_time()::text"
CONNECT_S = 2


def run(stage: Stage, faults: list[str]) -> None:
    watch = stage.watch()
    for fault in faults:
        _drill(stage, fault, watch)


def _drill(stage: Stage, fault: str, watch: HealthWatch) -> None:
    report = stage.report
    report.step(f"fault: {fault}")
    sender = stage.sender(f"database-{fault}")
    open_before = stage.positions_open(stage.requested)
    processes, began = stage.parts.identities(), _server()
    wallets = sorted(witness.next_nonces())
    stage.undo.callback(_bring_back, stage)
    with Traffic(sender, stage.timing.every_s, insist=True):
        _flow(stage, sender)
        connection.close()
        began_s = time.monotonic()
        if fault == "away":
            _stay_away(stage, watch, sender, wallets)
        elif fault == "kill":
            stage.parts.kill(DATABASE)
        else:
            stage.parts.restart(DATABASE)
        _await_another(stage, began)
        report.figure(f"{fault}: until PostgreSQL answered again", time.monotonic() - began_s, "s")
        stage.await_back()
        report.figure(f"{fault}: until mode {stage.requested} everywhere", time.monotonic() - began_s, "s")
        _flow(stage, sender)
    _check_afterwards(stage, sender, fault)
    stage.check_processes(processes, spared=SPARED)
    stage.close_what_was_opened(sender, open_before)


def _stay_away(stage: Stage, watch: HealthWatch, sender: Sender, wallets: list[str]) -> None:
    stage.parts.take_down(DATABASE)
    if _server():
        raise NotInjected("PostgreSQL answers still: what was ended is not the server of DATABASE_URL")
    began_s = time.monotonic() + stage.timing.follow_s
    stage.report.step(f"PostgreSQL is away for {stage.timing.seconds:g} s")
    time.sleep(min(stage.timing.follow_s, stage.timing.seconds))
    pending, answers = witness.counts_of(wallets, "pending"), Counter(sender.answers)
    time.sleep(max(0.0, stage.timing.seconds - stage.timing.follow_s))
    ended_s, now = time.monotonic(), witness.counts_of(wallets, "pending")
    told = Counter(sender.answers) - answers
    stage.report.check(
        "nothing was sent while it was away", now == pending, f"{pending} then, {now} at its end"
    )
    stage.report.check(
        "senders were told to come again",
        bool(told) and set(told) == {BUSY},
        dict(told) or "nobody was answered",
    )
    _check_health(stage, watch.between(began_s, ended_s))
    stage.parts.bring_back(DATABASE)


def _check_health(stage: Stage, looks: list[Look]) -> None:
    """It answers, and says that signals cannot be stored and that nothing is executed."""
    wrong = [
        f"{look.status} {look.mode.get('mode')} {look.failing}"
        for look in looks
        if look.status != "degraded"
        or look.mode["mode"] != "DRY"
        or not any(told.startswith("database") for told in look.failing)
    ]
    stage.report.check(
        "/health answered all the time, degraded, in DRY, naming the database",
        bool(looks) and not wrong,
        wrong[:2] or f"{len(looks)} answers",
    )
    slowest_s = max((look.answered_at_s - look.asked_at_s for look in looks), default=0.0)
    stage.report.figure("slowest answer of /health meanwhile", slowest_s, "s")


def _check_afterwards(stage: Stage, sender: Sender, fault: str) -> None:
    report = stage.report
    strange = {k: n for k, n in sender.answers.items() if k not in {ACCEPTED, KNOWN, BUSY}}
    report.check(
        "every signal was taken, some after a 503 and coming again", not strange, dict(sender.answers)
    )
    report.check(
        f"no answer took longer than {ANSWERED_WITHIN_S:g} s",
        sender.slowest_s < ANSWERED_WITHIN_S,
        f"{sender.slowest_s:.3f} s",
    )
    began_s = time.monotonic()
    found = witness.await_ends(sender.keys, stage.timing.settle_s)
    report.figure(f"{fault}: until all signals were settled", time.monotonic() - began_s, "s")
    done = "filled" if stage.live else "simulated"
    report.check("every signal was executed", set(found) == {done}, dict(found))
    stage.check_executed_once(sender)


def _flow(stage: Stage, sender: Sender) -> None:
    """Until two more signals were taken. Raises Failed."""
    wanted = len(sender.keys) + 2
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while len(sender.keys) < wanted:
        if time.monotonic() > deadline_s:
            raise Failed(f"signals do not flow: {dict(sender.answers)}")
        time.sleep(0.05)


def _server() -> str:
    """When the server of DATABASE_URL was started, by its own word; blank where nobody answers."""
    try:
        url = settings.ENVIRONMENT.database_url.get_secret_value()
        with psycopg.connect(url, connect_timeout=CONNECT_S) as session:
            row = session.execute(SERVER).fetchone()
    except psycopg.OperationalError:
        return ""
    return str(row[0]) if row else ""


def _await_another(stage: Stage, former: str) -> None:
    """Raises NotInjected where it is the same server still, Failed where there is none."""
    deadline_s = time.monotonic() + stage.timing.recovery_s
    while (now := _server()) in {"", former}:
        if time.monotonic() > deadline_s:
            if now:
                raise NotInjected(
                    "PostgreSQL was not started anew: what was harmed is not the server of DATABASE_URL"
                )
            raise Failed(f"PostgreSQL does not answer {stage.timing.recovery_s:g} s after the fault")
        time.sleep(0.1)


def _bring_back(stage: Stage) -> None:
    stage.parts.bring_back(DATABASE)
    connection.close()
