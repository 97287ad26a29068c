"""/metrics is right over several processes, and says less rather than something wrong."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import redis as redis_py
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from execution_app import meters
from execution_app.models import Heartbeat, PoolBeat, Price, StackMode
from execution_app.states import TriggerKind
from ops.watch import gauges
from tests.execution import rows
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each

ZERO_BY_DESIGN = (
    "vanta_intent_duplicate",
    "vanta_intent_illegal_transition",
    "vanta_nonce_lost",
    "vanta_invariant_violations",
)
ROWS = (
    "vanta_intents",
    "vanta_oldest_unsettled_age_seconds",
    "vanta_wallet_balance_eth",
    "vanta_position_drift",
    "vanta_price_age_seconds",
)
COUNT = "from execution_app import meters; meters.TX_SUBMISSIONS.inc({}); meters.GAS_USED.inc(21000)"
RENDER = (
    "import django; django.setup(); from ops.watch import exposition;"
    "import sys; sys.stdout.buffer.write(exposition.render())"
)


def scrape(client: Client) -> dict[str, Metric]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(response.content.decode())}


def values(family: Metric, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in family.samples}


def test_zero_by_design_is_shown_before_it_ever_happens(
    client: Client, database: None, valkey: redis_py.Redis
) -> None:
    families = scrape(client)
    for name in ZERO_BY_DESIGN:
        assert families[name].samples, name


def test_rows_and_queues_are_read_at_the_scrape(
    client: Client, database: None, valkey: redis_py.Redis
) -> None:
    one_of_each()
    valkey.rpush("submit", "a", "b")
    families = scrape(client)
    assert values(families["vanta_intents"], "state")["filled"] == 1
    assert values(families["vanta_intents"], "state")["lost_nonce"] == 0
    assert values(families["vanta_queue_depth"], "queue") == {
        "submit": 2,
        "track": 0,
        "tpsl": 0,
        "notify": 0,
        "ops": 0,
    }
    assert values(families["vanta_wallet_balance_eth"], "wallet") == {"0x" + "bb" * 20: 1.5}
    assert values(families["vanta_position_drift"], "symbol")["BTC-USD"] == 1
    assert values(families["vanta_exec_mode"], "mode") == {"DRY": 1, "LIVE": 0}
    assert "worker" in values(families["vanta_heartbeat_timestamp_seconds"], "component")
    assert 0 < families["vanta_oldest_unsettled_age_seconds"].samples[0].value < 60


def test_every_allowed_symbol_has_the_age_of_its_price(
    client: Client, database: None, valkey: redis_py.Redis
) -> None:
    one_of_each()
    Price.objects.update(seen_at=F("seen_at") - timedelta(seconds=40))
    ages_s = values(scrape(client)["vanta_price_age_seconds"], "symbol")
    assert 40 <= ages_s.pop("BTC-USD") < 50
    assert ages_s == {"ETH-USD": float("inf"), "SOL-USD": float("inf")}, "never seen is older than anything"


def test_the_largest_trade_of_the_last_hour(client: Client, database: None, valkey: redis_py.Redis) -> None:
    def largest() -> tuple[float, float]:
        gauges.forget()
        families = scrape(client)
        names = ("vanta_trade_notional_usd", "vanta_trade_leverage_x")
        notional, leverage = (families[name] for name in names)
        assert {family.type for family in (notional, leverage)} == {"gauge"}
        return notional.samples[0].value, leverage.samples[0].value

    assert largest() == (0, 0)
    intent = one_of_each()  # 5 USDC at 2x
    assert largest() == (10, 2)
    position = rows.one("SELECT position_id FROM fills WHERE intent_id = %s", intent.pk)
    sound = {"position_id": position, "leverage_x": 2}
    rows.fill(**sound, collateral_usdc="60.5")
    assert largest() == (121, 2), "a smaller trade afterwards does not hide a larger one"
    rows.fill(**sound, collateral_usdc=900, mode="DRY")
    rows.fill(**sound, collateral_usdc=900, action="close")
    assert largest() == (121, 2), "neither simulated nor closed"
    with without_guards():
        rows.execute("UPDATE fills SET filled_at = filled_at - interval '61 minutes'")
    assert largest() == (0, 0)


def test_starts_are_those_of_main_processes_and_beats_those_of_pools_at_work(
    client: Client, database: None, valkey: redis_py.Redis
) -> None:
    since_s = time.monotonic()
    Heartbeat.objects.create(component="worker", pid=1, started_at=Now() - timedelta(minutes=5))
    PoolBeat.objects.create(process="a", component="worker", pid=2, busy_since=Now() - timedelta(minutes=2))
    families = scrape(client)
    age_s = time.time() - values(families["vanta_heartbeat_timestamp_seconds"], "component")["worker"]
    up_s = time.time() - values(families["vanta_process_start_time_seconds"], "component")["worker"]
    lost_s = time.monotonic() - since_s
    assert 119 < age_s < 121 + lost_s, "its parent beats, its only child hangs"
    assert 299 < up_s < 301 + lost_s


def test_changes_of_the_mode_are_the_stacks(client: Client, database: None, valkey: redis_py.Redis) -> None:
    StackMode.objects.update(changes=7)
    family = scrape(client)["vanta_exec_mode_changes"]
    assert (family.type, family.samples[0].name) == ("counter", "vanta_exec_mode_changes_total")
    assert family.samples[0].value == 7


def test_levels_begin_at_zero(client: Client, database: None) -> None:
    triggers = scrape(client)["vanta_tpsl_triggers"]
    assert (triggers.type, triggers.samples[0].name) == ("counter", "vanta_tpsl_triggers_total")
    assert values(triggers, "type") == dict.fromkeys(TriggerKind, 0)


def test_without_redis_the_queues_are_left_out(client: Client, database: None, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    families = scrape(client)
    assert "vanta_queue_depth" not in families
    assert "vanta_intents" in families


def test_without_the_database_the_rest_is_still_shown(client: Client, database_away: None) -> None:
    families = scrape(client)
    assert not set(ROWS) & set(families)
    assert {"vanta_exec_mode", "vanta_build_info", "vanta_tx_submissions"} <= set(families)


def test_processes_add_up_and_the_dead_still_count(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "vanta.settings",
    }

    def run(program: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, timeout=60
        ).stdout

    def submissions() -> float:
        families = {f.name: f for f in text_string_to_metric_families(run(RENDER).decode())}
        assert families["vanta_intent_duplicate"].samples[0].value == 0
        return families["vanta_tx_submissions"].samples[0].value

    run(COUNT.format(2))
    run(COUNT.format(3))
    assert submissions() == 5
    # What a process leaves that was killed between creating its file and sizing it.
    (tmp_path / "counter_999999.db").touch()
    run(COUNT.format(1))
    assert submissions() == 6


def test_a_counter_of_this_process_is_shown(client: Client, database: None) -> None:
    before = scrape(client)["vanta_tx_stuck"].samples[0].value
    meters.TX_STUCK.inc()
    assert scrape(client)["vanta_tx_stuck"].samples[0].value == before + 1
