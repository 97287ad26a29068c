"""A long outage in which one part after another is missing; what began first stands longest."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from tests.alerts.ground import Ground
from tests.e2e.stack import wait_until

DAY_S = 86_400
SIGNALS = 620
BEYOND_CAP_X = 100  # refused by the decision, so that nothing is traded when all are looked at
# Longer than the alerts are kept that cannot be read, so that they end meanwhile, and are there again afterwards.
LONG_S = 45.0
PATIENT_S = 1_500  # max_lag of what is to be held, and then executed after all


def play(ground: Ground) -> None:
    ledger = ground.ledger
    with ground.hanging("keeper"):
        ledger.injected("VantaIntentStuck", "the venue's keeper hangs, so an order stays `ordered`")
        ground.await_state(ground.signal(symbol="ETH-USD", max_lag_s=PATIENT_S), "ordered")
        try:
            _money_and_permission_run_out(ground)
            with ExitStack() as redis:
                with ground.cut("rpc"):
                    _without_a_node(ground)
                    # Before the node is back, so that the mode goes down once and comes back once.
                    redis.enter_context(ground.cut("redis"))
                    ledger.injected("VantaRedisAway", "connections of all processes to Redis are refused")
                _without_redis(ground)
            ground.await_told("VantaIntentStuck", "VantaHeldTooLong", within_s=240)
        finally:
            ground.set_balance(100)
            ground.delegate()
    ground.await_live()
    ground.await_told("VantaModeFlapping", within_s=120)


def _without_a_node(ground: Ground) -> None:
    ledger = ground.ledger
    ledger.injected("VantaNodeFailing", "connections of all processes to the node are refused")
    ledger.injected("VantaPriceStale", "the same: prices get older")
    ledger.injected(
        "VantaStuckInDry", "the same: a chain that nobody follows means DRY, and LIVE is asked for"
    )
    ledger.injected("VantaModeFlapping", "the same: the mode goes down, and comes back within 10 minutes")
    names = ("VantaNodeFailing", "VantaTpslFailing", "VantaPriceStale", "VantaStuckInDry")
    ground.await_told(*names, within_s=240)
    _processes_hang(ground)
    _without_a_database(ground)


def _money_and_permission_run_out(ground: Ground) -> None:
    ledger = ground.ledger
    ledger.injected("VantaWalletLow", "the wallet has 0.0015 ETH")
    ground.set_balance(0.0015)
    ledger.injected("VantaDelegateExpiring", "the trader delegates for 6 days only")
    ground.delegate(6 * DAY_S)
    wait_until(lambda: _wallet_wei(ground) < 10**16, 60, "the stack knows how little the wallet has")
    ledger.injected("VantaHeldTooLong", "an open waits for gas money for more than 5 minutes")
    ground.await_state(ground.signal(max_lag_s=PATIENT_S), "held")
    ledger.injected("VantaHeldExpired", "an open waits for gas money longer than its max lag of 5 s")
    ground.await_state(ground.signal(max_lag_s=5), "expired")
    ground.await_told("VantaWalletLow", "VantaDelegateExpiring", "VantaHeldExpired")
    ledger.injected("VantaWalletEmpty", "the wallet has 0.0001 ETH")
    ground.set_balance(0.0001)
    ledger.injected("VantaDelegateEnding", "the trader delegates for an hour only")
    ground.delegate(3600)
    # Before the table is away: who looks at prices looks at delegations next.
    ground.await_told("VantaWalletEmpty", "VantaDelegateEnding")
    with _without_prices(ground):
        ledger.injected(
            "VantaMetricsIncomplete", "the table `prices` has another name, as after half a migration"
        )
        ledger.injected("VantaTpslFailing", "the same, and then a node that is away: looks at prices fail")
        ground.await_told("VantaMetricsIncomplete")


def _wallet_wei(ground: Ground) -> int:
    return int(ground.stack.sql("SELECT balance_wei FROM wallets")[0][0])


@contextmanager
def _without_prices(ground: Ground) -> Iterator[None]:
    with psycopg.connect(ground.stack.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("ALTER TABLE prices RENAME TO prices_away")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE prices_away RENAME TO prices")


def _processes_hang(ground: Ground) -> None:
    ledger = ground.ledger
    silent = {"VantaWorkerSilent": "worker", "VantaTpslSilent": "tpsl", "VantaBeatSilent": "beat"}
    with ground.hanging(*silent.values()):
        for alert, name in silent.items():
            ledger.injected(alert, f"SIGSTOP of {name} and its children")
        ledger.injected("VantaQueueBacklog", f"{SIGNALS} signals while no worker takes their bells")
        for _ in range(SIGNALS):
            ground.signal(leverage_x=BEYOND_CAP_X)
        ground.await_told(*silent, "VantaQueueBacklog", within_s=180)
    ground.await_over(120, but=ledger.open() - {*silent, "VantaQueueBacklog"})


def _without_a_database(ground: Ground) -> None:
    """Nobody can read of the wallet, the delegation, the prices; none of them is told to be over, and none again."""
    ledger = ground.ledger
    with ground.cut("postgres", "webhook"):
        ledger.injected("VantaDatabaseAway", "connections of the webhook to PostgreSQL are refused")
        time.sleep(LONG_S)
        ground.await_told("VantaDatabaseAway")
    # What ends before this is not told to be over.
    ground.await_over(120, but=ledger.open() - {"VantaDatabaseAway"})


def _without_redis(ground: Ground) -> None:
    """Redis is away for everybody; meanwhile the webhook cannot write its heartbeat."""
    ledger = ground.ledger
    ground.await_told("VantaRedisAway")
    with psycopg.connect(ground.stack.env["DATABASE_URL"]) as session:
        session.execute("SELECT 1 FROM heartbeats WHERE component = 'webhook' FOR UPDATE")
        ledger.injected(
            "VantaWebhookSilent", "a session holds the webhook's row, so its heartbeat is not written"
        )
        ground.await_told("VantaWebhookSilent", within_s=150)
    ground.await_over(60, but=ledger.open() - {"VantaWebhookSilent"})
