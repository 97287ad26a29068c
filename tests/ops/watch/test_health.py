"""/health tells the truth about each part, and always answers within a second."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis as redis_py
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

from execution_app.gate import control, watch
from execution_app.models import (
    Chain,
    FeedPrice,
    Heartbeat,
    MarketState,
    PoolBeat,
    Price,
    Trader,
    Wallet,
)
from execution_app.states import Origin, RestrictionKind
from ops.rehearsal.parts.part import Part
from ops.watch import health, liveness
from tests import ages, real_parts
from tests.guards import without_guards
from tests.redis_outages import eventually
from tests.rig import rpc_call

GENEROUS_S = 15.0
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


@pytest.fixture
def watched(database: None, valkey: redis_py.Redis) -> Iterator[None]:
    """A watched mode, after a first healthy look at Redis."""
    watcher = watch.start("webhook")
    deadline_s = time.monotonic() + 60
    while watch.view().redis_health_streak == 0 and time.monotonic() < deadline_s:
        watcher.look()
    yield
    watch.stop()


@pytest.fixture
def whole(watched: None) -> None:
    """Every part is there."""
    rpc_call("anvil_mine", "0x1")
    genesis = rpc_call("eth_getBlockByNumber", "0x0", False)["hash"]
    now = datetime.now(UTC)
    Chain.objects.create(
        chain_id=31337, genesis_hash=genesis, trading_address="0x1", reconciled_at=now + timedelta(seconds=5)
    )
    for symbol in SYMBOLS:
        Price.objects.create(
            symbol=symbol,
            price=Decimal(100),
            **dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), now),
        )
    for component in health.HEARTBEATS:
        Heartbeat.objects.create(component=component, pid=1, started_at=now, at=now)


@contextmanager
def hanging(part: Part) -> Iterator[None]:
    """The part is there and says nothing."""
    assert part.pid is not None
    os.kill(part.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(part.pid, signal.SIGCONT)


def failed(client: Client) -> dict[str, str]:
    checks = client.get("/health").json()["checks"]
    return {name: check["detail"] for name, check in checks.items() if check["status"] != "ok"}


def test_whole_stack_is_ok_with_exactly_the_promised_keys(client: Client, whole: None) -> None:
    response = client.get("/health")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ok"), body
    assert list(body) == ["status", "service", "version", "execution_mode", "checks"]
    assert set(body["execution_mode"]) == {
        "mode",
        "requested",
        "emergency_stop",
        "reduce_only",
        "redis_health_streak",
        "reason",
    }
    assert body["service"] == "vanta"


def test_a_stop_is_ok_and_visible(client: Client, whole: None) -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    watch.start("webhook").look()
    body = client.get("/health").json()
    assert body["status"] == "ok"
    assert body["execution_mode"]["emergency_stop"] is True


def test_redis_away_is_degraded_and_200(client: Client, whole: None, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = client.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert set(failed(client)) == {"redis"}


@pytest.mark.usefixtures("own_limits")
def test_redis_that_hangs_delays_nobody(client: Client, whole: None) -> None:
    with hanging(real_parts.valkey):
        began_s = time.monotonic()
        response = client.get("/health")
        took_s = time.monotonic() - began_s
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert took_s < GENEROUS_S


def test_redis_whose_key_is_unreadable_is_degraded(
    client: Client, whole: None, valkey: redis_py.Redis
) -> None:
    valkey.set("exec_mode", "{broken")
    watch.start("webhook").look()
    assert failed(client) == {"redis": "the mode key is not believed"}


def test_database_away_is_503(client: Client, whole: None, database_away: None) -> None:
    response = client.get("/health")
    body = response.json()
    assert (response.status_code, body["status"]) == (503, "degraded")
    assert body["checks"]["database"]["status"] == "fail"
    assert body["checks"]["chain"]["detail"] == "unknown while the database is away"
    assert body["execution_mode"]["mode"] == "DRY"


@pytest.mark.usefixtures("own_limits")
def test_database_that_hangs_is_503_within_a_second(client: Client, whole: None) -> None:
    with hanging(real_parts.postgres):
        began_s = time.monotonic()
        response = client.get("/health")
        again = client.get("/health")
        took_s = time.monotonic() - began_s
        looks = [thread.name for thread in threading.enumerate()].count("probe-database")
    assert (response.status_code, again.status_code) == (503, 503)
    assert looks == 1, "what was not answered once is waited for once"
    assert took_s < GENEROUS_S, "a server that hangs ends no statement, and nobody waits for that"
    assert max(health.PATIENCE_S, health.DATABASE_PATIENCE_S) < 1, "all are asked at once"


def test_node_away_and_wrong_chain(client: Client, whole: None, settings: Settings) -> None:
    environment = settings.ENVIRONMENT
    settings.ENVIRONMENT = environment.model_copy(update={"base_rpc_url": "http://127.0.0.1:1"})
    assert set(failed(client)) == {"node"}
    health.forget()
    here, away = real_parts.anvil.url, "http://127.0.0.1:1"
    settings.ENVIRONMENT = environment.model_copy(update={"base_rpc_url": f"{away},{here}"})
    assert set(failed(client)) == {"node"}, "one of two decides nothing that needs a majority"
    health.forget()
    three = f"{here},{here}?2,{away}"
    settings.ENVIRONMENT = environment.model_copy(update={"base_rpc_url": three})
    assert failed(client) == {}, "two of three are enough"
    assert "endpoint 2: " in client.get("/health").json()["checks"]["node"]["detail"]
    health.forget()
    settings.ENVIRONMENT = environment.model_copy(update={"chain_id": 8453})
    assert failed(client)["node"] == "endpoint 0: wrong chain"


def test_another_genesis_is_the_wrong_chain(client: Client, whole: None) -> None:
    """Nodes are judged by what the database said at the look before."""
    with without_guards():
        Chain.objects.update(genesis_hash="0x" + "cd" * 32)
    eventually(lambda: failed(client).get("node") == "endpoint 0: wrong chain")


def test_rows_that_tell_of_trouble(client: Client, whole: None) -> None:
    since_s, old = time.monotonic(), datetime.now(UTC) - timedelta(seconds=60)
    Heartbeat.objects.filter(component="tpsl").update(at=old)
    Heartbeat.objects.filter(component="beat").delete()
    Chain.objects.update(halted_reason="genesis differs")
    trader = Trader.objects.create(tg_user_id=1, address="0x" + "a" * 40)
    Wallet.objects.create(trader=trader, chain_id=31337, address="0x" + "b" * 40, halted_reason="nonce")
    found = failed(client)
    assert found.pop("tpsl") in ages.told("last seen {} s ago", 60, since_s)
    assert found == {
        "beat": "never seen",
        "chain": "halted: chain and database disagree",
        "wallets": "1 halted",
    }


@pytest.fixture
def _stuck_after_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute stands for a second, since this machine may lose some of those."""
    assert liveness.PARAMETERS["stuck_after_s"] == 30
    monkeypatch.setitem(liveness.PARAMETERS, "stuck_after_s", 30 * 60)


@pytest.mark.usefixtures("_stuck_after_minutes")
@pytest.mark.parametrize(
    ("beat_s", "busy_s", "lives"),
    [(1, None, True), (1, 29, True), (1, 31, False), (60, None, False), (None, None, False)],
)
def test_a_pool_that_does_no_work_is_not_alive_although_its_parent_beats(
    client: Client,
    whole: None,
    beat_s: int | None,
    busy_s: int | None,
    lives: bool,
) -> None:
    busy_s = None if busy_s is None else busy_s * 60
    Heartbeat.objects.update(started_at=F("started_at") - timedelta(hours=5))
    for component in ("worker", "tpsl"):
        at = Now() - timedelta(seconds=1 if component == "tpsl" else beat_s or 0)
        busy_since = None if busy_s is None or component == "tpsl" else Now() - timedelta(seconds=busy_s)
        if component == "tpsl" or beat_s is not None:
            PoolBeat.objects.create(
                process=component, component=component, pid=1, busy_since=busy_since, at=at
            )
    found = failed(client)
    assert set(found) == (set() if lives else {"worker"})
    assert lives or re.fullmatch(r"last seen working \d+ s ago", found["worker"])


def test_one_child_at_work_is_enough(client: Client, whole: None) -> None:
    Heartbeat.objects.update(started_at=F("started_at") - timedelta(minutes=5))
    minute = timedelta(minutes=1)
    PoolBeat.objects.create(process="a", component="tpsl", pid=1)
    PoolBeat.objects.create(process="b", component="worker", pid=2, busy_since=Now() - minute)
    PoolBeat.objects.create(process="c", component="worker", pid=3, at=Now() - minute)
    assert set(failed(client)) == {"worker"}
    health.forget()
    PoolBeat.objects.create(process="d", component="worker", pid=4)
    assert failed(client) == {}


def test_chain_compared_too_long_ago(client: Client, whole: None) -> None:
    Chain.objects.update(reconciled_at=datetime.now(UTC) - timedelta(seconds=health.RECONCILED_WITHIN_S + 5))
    assert set(failed(client)) == {"chain"}


def test_prices_that_are_old_or_were_never_seen(client: Client, whole: None) -> None:
    minute = timedelta(seconds=60)
    Price.objects.filter(symbol="BTC-USD").update(seen_at=F("seen_at") - minute)
    Price.objects.filter(symbol="ETH-USD").delete()
    response = client.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    (check,) = failed(client).items()
    assert re.fullmatch(r"BTC-USD 6\d s old, ETH-USD never seen", check[1])
    assert check[0] == "prices"


def test_one_source_only_is_told_and_is_no_fault_where_no_other_is_named(client: Client, whole: None) -> None:
    assert client.get("/health").json()["checks"]["prices"] == {
        "status": "ok",
        "detail": "one source only: VERANTA_FEED_URL is blank",
    }


def test_a_second_source_that_is_named_and_away(client: Client, whole: None, settings: Settings) -> None:
    urls = {"veranta_feed_url": "http://127.0.0.1:1", "veranta_data_api_url": "http://127.0.0.1:1"}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=urls)
    now = datetime.now(UTC)
    # The first a little ahead, as of a clock that is: this machine may lose some of the seconds that it is good for.
    for symbol, published_at in (
        ("BTC-USD", now + timedelta(seconds=4)),
        ("ETH-USD", now - timedelta(seconds=60)),
    ):
        FeedPrice.objects.create(symbol=symbol, source="core", price=100, published_at=published_at)
    assert failed(client) == {"prices": "ETH-USD by one source only, SOL-USD by one source only"}


def test_a_market_that_is_closed_has_no_price_and_that_is_no_fault(
    client: Client, whole: None, settings: Settings
) -> None:
    urls = {"veranta_feed_url": "http://127.0.0.1:1", "veranta_data_api_url": "http://127.0.0.1:1"}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=urls | {"allowed_symbols": "BTC-USD"})
    Price.objects.update(seen_at=F("seen_at") - timedelta(seconds=600))
    row = MarketState.objects.create(
        symbol="BTC-USD",
        pair_name="BTC-USD",
        is_listed=True,
        is_open=False,
        closes_only=False,
        seen_at=datetime.now(UTC),
    )
    assert failed(client) == {}
    MarketState.objects.filter(pk=row.pk).update(seen_at=row.seen_at - timedelta(seconds=120))
    health.forget()
    assert set(failed(client)) == {"prices"}, "an old word is none"


def test_a_long_list_of_symbols_is_not_all_named(client: Client, whole: None, settings: Settings) -> None:
    many = ",".join(f"A{number}-USD" for number in range(20))
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"allowed_symbols": many})
    assert failed(client)["prices"].endswith(" never seen and 15 more")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_other_methods_are_405_in_json(path: str, database: None) -> None:
    response = Client(enforce_csrf_checks=True).post(path)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert response.json() == {"status": "error", "error": "method not allowed", "mode": "DRY"}


def test_live_asks_nobody(client: Client, database_away: None) -> None:
    response = client.get("/health/live")
    assert (response.status_code, response.json()["mode"]) == (200, "DRY")


def test_ready_with_the_database(client: Client, database: None) -> None:
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["mode"]) == (200, "DRY")


def test_not_ready_without_the_database(client: Client, database_away: None) -> None:
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["mode"]) == (503, "DRY")


def test_not_ready_while_a_migration_is_missing(client: Client, database: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'signals_app' AND name LIKE '0002%' RETURNING name"
        )
        name = cursor.fetchone()[0]
    try:
        response = client.get("/health/ready")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('signals_app', %s, now())", [name]
            )
    assert response.status_code == 503
    assert response.json()["detail"] == "1 migration(s) not applied"
