"""The acceptance of the transaction engine: as many executions as signals, through lost answers and kills.

`make test` runs a slice. The whole is, on anvil and with TEST_NODE=hardhat on Hardhat's EDR:
`ACCEPTANCE_SIGNALS=500 pytest tests/e2e/test_acceptance.py -s`, which prints what was counted and how long it took.
"""

import os
import random
import time
from collections.abc import Iterator

import pytest
import redis as redis_py

from tests import real_parts
from tests.chaos import outages
from tests.chaos.outages import Client
from tests.conftest import empty_database
from tests.e2e import acceptance
from tests.e2e.acceptance import Killer, Stage
from tests.e2e.stack import wait_until
from tests.proxy import Faults
from tests.real_parts import FOLDER

SIGNALS = int(os.environ.get("ACCEPTANCE_SIGNALS", "24"))
SEED = int(os.environ.get("ACCEPTANCE_SEED", "238"))
LOST_SHARE = 0.1 if SIGNALS >= 200 else 0.5  # a slice makes a few requests only
SENDERS = 8
PROMISED_S = 10  # from the last fault until the last slot is mined, on a machine of its own
SETTLED_WITHIN_S = 120 + 3 * SIGNALS

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def shared(django_db_setup: None, django_db_blocker: object) -> Iterator[Stage]:
    """One stack for all of them: the burst comes first, on a wallet that was never used."""
    redis_py.Redis.from_url(real_parts.valkey.url).flushall()
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        empty_database()
        with acceptance.on_stage(FOLDER / "acceptance" / "var") as stage:
            yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """Well, and with a line to its node that loses nothing yet."""
    shared.node.faults = Faults()
    shared.node.lost = shared.node.send_requests = 0
    outages.await_mode(shared.stack, "LIVE", acceptance.LIVE_WITHIN_S)
    yield shared
    shared.node.faults = Faults()


def lose_answers(stage: Stage) -> None:
    """From now on every tenth request with raw transactions does its work, and nobody is told."""
    stage.node.faults.dice = random.Random(SEED)
    stage.node.faults.lose_request_rate = LOST_SHARE


def tell(what: str, began_s: float, stage: Stage, counted: acceptance.Count) -> None:
    print(  # noqa: T201 -- the figures of the acceptance, shown by -s
        f"\n{what}: {SIGNALS} signals, {counted.executed} executions, {len(counted.doubled)} duplicates, "
        f"{len(counted.nonces)} slots, {time.monotonic() - began_s:.0f} s; "
        f"answers lost {stage.node.lost} of {stage.node.send_requests}; {acceptance.load()}"
    )


def test_a_burst_on_a_wallet_never_used_before(stage: Stage) -> None:
    client, began_s = Client(stage.stack, "burst"), time.monotonic()
    stage.post(client, SIGNALS, SENDERS)
    taken_s = time.monotonic() - began_s
    stage.await_settled(client, SETTLED_WITHIN_S)
    counted = acceptance.assert_executed_once(stage, client, SIGNALS)
    assert counted.nonces == list(range(SIGNALS))
    assert acceptance.assert_in_order(stage) == SIGNALS
    tell(f"burst, taken within {taken_s:.1f} s", began_s, stage, counted)


def test_answers_to_raw_transactions_are_lost(stage: Stage) -> None:
    lose_answers(stage)
    client, began_s = Client(stage.stack, "lost"), time.monotonic()
    stage.post(client, SIGNALS, SENDERS)
    stage.await_settled(client, SETTLED_WITHIN_S)
    counted = acceptance.assert_executed_once(stage, client, SIGNALS)
    assert stage.node.lost > 0
    tell("lost answers", began_s, stage, counted)


def test_answers_are_lost_and_processes_are_killed(stage: Stage) -> None:
    lose_answers(stage)
    client, began_s, before = Client(stage.stack, "killed"), time.monotonic(), stage.mined()
    plan = (
        (lambda: len(client.accepted) >= SIGNALS // 4, ("worker", "webhook")),
        (lambda: stage.mined() >= before + SIGNALS // 2, ("worker", "beat")),
        (lambda: stage.mined() >= before + SIGNALS - max(8, SIGNALS // 10), ("worker",)),
    )
    with Killer(stage.stack, plan) as killer:
        stage.post(client, SIGNALS, SENDERS)
        wait_until(lambda: killer.killed["worker"] == 3, SETTLED_WITHIN_S, "three kills")
        mined_s = stage.last_mined_s() - killer.last_s
    stage.await_settled(client, SETTLED_WITHIN_S)
    counted = acceptance.assert_executed_once(stage, client, SIGNALS)
    assert killer.killed == {"worker": 3, "webhook": 1, "beat": 1}
    tell("lost answers and kills", began_s, stage, counted)
    verdict = "within" if mined_s <= PROMISED_S else "NOT WITHIN"
    print(  # noqa: T201
        f"the last slot was mined {mined_s:.1f} s after the last fault: {verdict} {PROMISED_S} s"
    )
