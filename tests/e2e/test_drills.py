"""Drills against one running stack, with short times; and drills whose fault does not come about fail.

`make test` runs three of the eight, SUITE=whole all of them, as does `make drills` on a stack of yours.
"""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.rehearsal.stack_lock import StackLock
from tests.chaos import outages
from tests.e2e.stack import NOT_INHERITED, ROOT, RunningStack, wait_until
from tests.real_parts import FOLDER

pytestmark = pytest.mark.timeout(600)
# Others may run on this machine at the same time; by hand the margin is 0.5 s.
PATIENT = ("--margin-s", "1.5", "--every-s", "0.8")

# `make test` runs one short round; `make drills` and RESTORED_SINCE=1,8 run both.
RESTORED_SINCE = os.environ.get("RESTORED_SINCE", "2")

# A close waits for finality, and the duplicate's shows that closing works.
KEEP = ("--keep-positions",)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    running = RunningStack(
        FOLDER / "drills" / "var",
        EXEC_MODE="LIVE",
        REHEARSAL_MAX_TRADES_PER_PAIR="900",
        REHEARSAL_BLOCK_TIME_S="0.5",
        BUMP_AFTER_S="3",
    )
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def well(stack: RunningStack) -> RunningStack:
    """The shared stack, LIVE and without a complaint."""
    outages.await_mode(stack, "LIVE", 30)
    outages.await_ok(stack, 30)
    return stack


def command(stack: RunningStack, *words: str, folder: Path | None = None) -> list[str]:
    var = str(folder or stack.folder)
    return [sys.executable, str(ROOT / "manage.py"), "drill", *words, "--var", var, *PATIENT, "--json"]


def environment(stack: RunningStack, **changes: str) -> dict[str, str]:
    """What a shell has after `. var/stack.env`."""
    plain = {k: v for k, v in os.environ.items() if k not in {*NOT_INHERITED, "DEPLOY_ENV", "CHAIN_ID"}}
    return {**plain, **stack.env, **changes}


def drill(
    stack: RunningStack, *words: str, folder: Path | None = None, **changes: str
) -> tuple[int, dict[str, Any]]:
    """Exit code and report of one drill."""
    done = subprocess.run(
        command(stack, *words, folder=folder),
        env=environment(stack, **changes),
        cwd=folder or stack.folder,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    return done.returncode, report


def failures(report: dict[str, Any]) -> str:
    failed = [e for e in report["entries"] if e.get("ok") is False]
    return f"{json.dumps(failed, indent=1)} {report['could_not_run']}"


def evidence(report: dict[str, Any], text: str) -> str:
    return next(str(e["evidence"]) for e in report["entries"] if e["text"] == text)


def of(stack: RunningStack, name: str, words: str) -> list[str]:
    """The lines of a process that have these words."""
    return [line for line in stack.log(name).splitlines() if words in line]


def checked(report: dict[str, Any]) -> list[str]:
    return [e["text"] for e in report["entries"] if e["kind"] == "check"]


@pytest.mark.whole
def test_redis_outage_by_every_fault(well: RunningStack) -> None:
    code, report = drill(well, "redis-outage", "--fault", "all", "--seconds", "4", *KEEP)
    assert code == 0, failures(report)
    assert checked(report).count("nothing was signed or first broadcast while DRY") == 2
    assert "the old LIVE brought neither LIVE nor an end of the stop" in checked(report)
    assert report["figures"]["pause: until mode LIVE again"]["value"] < 30
    assert [Path(path).suffix for path in report["files"]] == [".md", ".json"]
    assert json.loads(Path(report["files"][1]).read_text())["verdict"] == "passed"
    assert "# Drill redis-outage: passed" in Path(report["files"][0]).read_text()


@pytest.mark.whole
def test_emergency_stop_through_every_surface_and_redis_fault(well: RunningStack) -> None:
    sent = len(well.sent())
    code, report = drill(well, "emergency-stop", "--seconds", "1", "--redis", "each", *KEEP)
    assert code == 0, failures(report)
    assert checked(report).count("slots were in flight when the stop came") == 6
    assert checked(report).count("nothing was broadcast for the first time after it") == 6
    # Without a token's right, without CSRF token, without a code (three times).
    assert checked(report).count("resuming without right is refused") == 5
    assert len(well.sent()) > sent
    assert well.sql("SELECT count(*) FROM mode_changes WHERE lifted_at IS NULL") == [(0,)]
    assert well.sql("SELECT username FROM auth_user") == [("admin",)], "the drill's operator is left"
    assert not (well.folder / "FORCE_DRY").exists()
    assert well.sql("SELECT tg_user_id FROM telegram_users") == [], "the drill's person is left"


@pytest.mark.whole
def test_the_bot_is_not_drilled_where_people_use_it(well: RunningStack) -> None:
    let_in = (
        "INSERT INTO telegram_users (tg_user_id, role, allowed_by) VALUES (501, 'viewer', 'test') RETURNING 1"
    )
    well.sql(let_in)
    try:
        code, report = drill(well, "emergency-stop", "--through", "telegram", "--seconds", "1", *KEEP)
    finally:
        well.sql("DELETE FROM telegram_users RETURNING 1")
    assert code == 2
    assert "people are let in already" in report["could_not_run"]


def test_one_key_runs_through_all_logs_and_an_incident_keeps_them(well: RunningStack) -> None:
    key = "sig:drill:followed-1"
    well.post(signal_id="followed-1", **outages.OPEN)
    wait_until(
        lambda: f"key={key} " in well.log("worker") and well.states().get("filled", 0) > 0, 60, "it is filled"
    )
    wait_until(lambda: ">filled" in "".join(of(well, "worker", key)), 60, "the log says so")
    (asked,) = of(well, "webhook", f"intent_key={key}")
    assert "request_id=" in asked
    told = " ".join(of(well, "worker", f"key={key} "))
    (sent,) = well.sql(
        "SELECT tx_hash FROM tx_sends JOIN tx_intents i ON i.id = intent_id WHERE intent_key = %s", key
    )
    assert sent[0] in told
    for step in ("new>", ">signed", ">sending", ">mined", ">filled"):
        assert f"{step}" in told, step
    words = [
        sys.executable,
        str(ROOT / "manage.py"),
        "incident",
        "capture",
        "--var",
        str(well.folder),
        "--json",
    ]
    done = subprocess.run(
        [*words, "--to", str(well.folder / "incidents")],
        env=environment(well),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    with tarfile.open(json.loads(done.stdout)["file"]) as archive:
        kept = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive.getmembers()}
        everything = "".join(file.read().decode() for file in kept.values() if file is not None)
    assert key in everything
    assert {"health.json", "metrics.txt", "chain.json", "redis.json", "logs/worker.log"} <= set(kept)
    for name in ("WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN", "ADMIN_PASSWORD"):
        assert well.env[name] not in everything, name


@pytest.mark.whole
def test_a_duplicate_and_a_crash(well: RunningStack) -> None:
    for words in (("duplicate-signal",), ("crash", "--seconds", "1", *KEEP)):
        code, report = drill(well, *words)
        assert code == 0, failures(report)


@pytest.mark.whole
def test_trouble_with_the_node(well: RunningStack) -> None:
    code, report = drill(well, "rpc-trouble", "--seconds", "2", *KEEP)
    assert code == 0, failures(report)
    assert "a broadcast without an answer is counted as unknown, not as failed" in checked(report)
    assert "a stuck slot was signed again with a higher fee" in checked(report)
    assert not (well.folder / "drill-chain").exists()


def test_blocks_that_leave(well: RunningStack) -> None:
    code, report = drill(well, "reorg", *KEEP)
    assert code == 0, failures(report)
    assert "each was mined again, under its own hash or a raised fee's" in checked(report)


@pytest.mark.whole
def test_a_database_that_is_restarted_killed_and_away(well: RunningStack) -> None:
    code, report = drill(well, "database", "--seconds", "4", *KEEP)
    assert code == 0, failures(report)
    assert checked(report).count("every signal was executed") == 3
    assert checked(report).count("nothing was sent while it was away") == 1


def test_a_restore_while_the_chain_moved_on(well: RunningStack) -> None:
    """Nothing is sent before a person goes on, and whatever was executed since the backup is in the book again."""
    rounds = len(RESTORED_SINCE.split(","))
    code, report = drill(well, "restore", "--since", RESTORED_SINCE)
    assert code == 0, failures(report)
    assert (
        checked(report).count("every execution that the backup did not know has its intent again") == rounds
    )
    assert checked(report).count("nothing was sent until a person went on") == rounds
    assert checked(report).count("positions equal the venue's") == rounds
    assert well.sql("SELECT count(*) FROM pg_database WHERE starts_with(datname, 'vanta_')") == [(0,)]


def test_a_dry_stack_is_drilled_too_and_says_what_it_does_not_show(well: RunningStack) -> None:
    """The file takes LIVE back from the request, so that the stack is one in DRY."""
    switch = well.folder / "FORCE_DRY"
    switch.touch()
    try:
        outages.await_mode(well, "DRY", 5)
        code, report = drill(well, "emergency-stop", "--through", "http", "--seconds", "1", *KEEP)
    finally:
        switch.unlink()
    assert code == 0, failures(report)
    assert "the log of worker says `emergency stop`" in checked(report)
    assert "slots in flight and first broadcasts: there are none in DRY" in report["not_exercised"]


def test_another_redis_than_the_stacks_is_noticed(well: RunningStack, valkey: redis_py.Redis) -> None:
    """What is paused is not what is asked: nothing was shown, so the drill fails; the pause is undone."""
    valkey.set("exec_mode", "{}")
    other = str(valkey.get_connection_kwargs()["port"])
    code, report = drill(well, "redis-outage", REDIS_URL=f"redis://127.0.0.1:{other}/0")
    assert code == 1
    assert "still answers" in evidence(report, "the fault was brought about")
    outages.await_mode(well, "LIVE", 30)


def test_a_stop_that_is_refused_fails_the_drill(well: RunningStack) -> None:
    code, report = drill(well, "emergency-stop", "--through", "http", ADMIN_TOKEN="not-the-token-of-it" * 2)
    assert code == 1
    assert "401" in evidence(report, "the fault was brought about")
    assert well.sql("SELECT count(*) FROM mode_changes WHERE lifted_at IS NULL") == [(0,)]
    assert well.sql("SELECT username FROM auth_user") == [("admin",)], "the drill's operator is left"


def test_ctrl_c_undoes_the_fault(well: RunningStack) -> None:
    words = command(well, "redis-outage", "--seconds", "300")
    running = subprocess.Popen(
        words, env=environment(well), cwd=well.folder, stdout=subprocess.PIPE, text=True
    )
    outages.await_mode(well, "DRY", 60)
    running.send_signal(signal.SIGINT)
    told, _ = running.communicate(timeout=60)
    report = json.loads(told)
    assert running.returncode == 1
    assert "interrupted" in evidence(report, "the drill went on to its end")
    outages.await_mode(well, "LIVE", 30)
    wait_until(lambda: well.get("/health")["status"] == "ok", 30, "health is ok again")


def test_what_cannot_run_says_so(well: RunningStack, tmp_path: Path) -> None:
    code, report = drill(well, "crash", folder=tmp_path)
    assert code == 2
    assert "pids.json" in report["could_not_run"]
    lock = StackLock(well.folder / "drill.lock", "drills")
    lock.acquire()
    try:
        code, report = drill(well, "crash")
    finally:
        lock.release()
    assert code == 2
    assert "already running here" in report["could_not_run"]
    well.redis_cli("SET", "exec_mode", '{"mode":"DRY","emergency_stop":true}')
    wait_until(lambda: well.get("/health")["execution_mode"]["emergency_stop"], 60, "the stop shows")
    code, report = drill(well, "crash")
    assert code == 2
    assert "emergency_stop of redis" in report["could_not_run"]
    well.redis_cli("SET", "exec_mode", '{"mode":"LIVE","emergency_stop":false}')
