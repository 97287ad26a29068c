"""What `preflight` says of servers that are there, away, or not what they should be."""

import io
import json
import time
from decimal import Decimal
from typing import Any

import pytest
import redis as redis_py
from django.core.management import CommandError, call_command

from execution_app.models import Wallet
from execution_app.node import feed, rpc
from ops.rollout import preflight
from tests.execution.desks.harness import served
from tests.feeds import served_feed
from tests.rig import Rig, rpc_call


@pytest.fixture(autouse=True)
def endpoints_anew() -> Any:
    rpc.endpoints.cache_clear()
    yield
    rpc.endpoints.cache_clear()


def examine() -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """The checks by name, and the whole answer."""
    out = io.StringIO()
    try:
        call_command("preflight", "--json", stdout=out)
        code = 0
    except CommandError as error:
        code = error.returncode
    found = json.loads(out.getvalue())
    assert code == (0 if found["ok"] else 1)
    return {entry["name"]: entry for entry in found["checks"]}, found


def mine_now() -> None:
    """A head of this very second: after a test takes the chain back, its clock is behind."""
    rpc_call("evm_setNextBlockTimestamp", int(time.time()) + 1)
    rpc_call("anvil_mine", "0x1")


def change(settings: Any, **fields: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=fields)


def test_a_stack_that_can_trade_passes(rig: Rig) -> None:
    mine_now()
    call_command("create_admin", "ann", stdout=io.StringIO())
    checks, found = examine()
    assert found["ok"], found
    assert {entry["status"] for entry in checks.values()} == {"ok"}, checks
    assert set(checks) >= {
        "environment",
        "database",
        "redis",
        "node 0",
        "contracts",
        "pairs",
        "prices",
        "minimum",
    }


def test_it_speaks_to_people_too(rig: Rig) -> None:
    mine_now()
    out = io.StringIO()
    call_command("preflight", stdout=out)
    assert "warn  people: no admin can log in" in out.getvalue()
    assert out.getvalue().endswith("next: manage.py create_admin NAME\n")


def test_a_cap_below_the_venues_minimum_can_never_fill(rig: Rig, settings: Any) -> None:
    mine_now()
    change(settings, max_notional_usdc=Decimal("4.99"))
    checks, found = examine()
    assert checks["minimum"]["status"] == "fail"
    assert "no order can ever fill" in checks["minimum"]["detail"]
    assert "at least 5" in found["next"]


def test_a_canary_of_ten_cannot_fill_on_the_live_venue(settings: Any) -> None:
    change(settings, chain_id=8453, max_notional_usdc=Decimal(10))
    found = preflight._minimum()
    assert found.status == "fail"
    assert "nothing below 100 USDC" in found.detail


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"base_rpc_url": "http://127.0.0.1:1"}, "node 0", "Error"),
        ({"chain_id": 8453}, "node 0", "wrong chain"),
        ({"venue_trading_address": "0x" + "1" * 40}, "contracts", "VENUE_TRADING_ADDRESS"),
        ({"usdc_address": ""}, "contracts", "not set: USDC_ADDRESS"),
        ({"allowed_symbols": ""}, "pairs", "nothing may be opened"),
        ({"max_notional_usdc": None}, "minimum", "not set"),
    ],
)
def test_what_is_wrong_is_named(
    fields: dict[str, Any], name: str, words: str, rig: Rig, settings: Any
) -> None:
    mine_now()
    change(settings, **fields)
    checks, _ = examine()
    assert checks[name]["status"] == "fail"
    assert words in checks[name]["detail"]


def test_the_gateways_road_is_asked_for_where_orders_take_it(rig: Rig, settings: Any) -> None:
    mine_now()
    with served(settings):
        change(settings, venue="gateway")
        assert examine()[0]["gateway"]["status"] == "ok"
    assert examine()[0]["gateway"]["status"] == "fail"
    change(settings, venue="onchain")
    assert "gateway" not in examine()[0]


def test_the_feed_and_the_catalogue_are_asked_where_they_are_named(rig: Rig, settings: Any) -> None:
    mine_now()
    with served_feed(settings) as gateway:
        checks, _ = examine()
        assert (checks["feed"]["status"], checks["market hours"]["status"]) == ("ok", "ok")
        assert "within 1 %" in checks["feed"]["detail"]
        gateway.faults.core_off_pct = 5.0
        assert "differ by 5.0000 %" in examine()[0]["feed"]["detail"]
        gateway.faults.set({"core_late_s": 60.0, "pro_gone": True})
        assert "no fresh price of BTC-USD: core is 6" in examine()[0]["feed"]["detail"]
    feed.breaker.cache_clear()
    checks, _ = examine()
    assert (checks["feed"]["status"], checks["market hours"]["status"]) == ("fail", "fail")


def test_production_wants_a_second_source(rig: Rig, settings: Any) -> None:
    mine_now()
    checks, _ = examine()
    assert "one source only" in checks["feed"]["detail"]
    change(settings, deploy_env="production")
    checks, _ = examine()
    assert (checks["feed"]["status"], checks["market hours"]["status"]) == ("fail", "fail")
    assert checks["feed"]["step"] == "set VERANTA_FEED_URL"


def test_a_redis_that_is_away(database: None, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert examine()[0]["redis"]["status"] == "fail"


def test_a_redis_that_may_forget(database: None, valkey: redis_py.Redis) -> None:
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert examine()[0]["redis"]["status"] == "warn"
    finally:
        valkey.config_set("maxmemory-policy", "noeviction")


def test_a_database_that_is_away(database_away: None) -> None:
    checks, _ = examine()
    assert checks["database"]["status"] == "fail"
    assert "people" not in checks


def test_a_halted_wallet_is_pointed_at(rig: Rig) -> None:
    Wallet.objects.update(halted_reason="for a test")
    assert examine()[0]["wallets"]["status"] == "fail"


def test_a_key_folder_others_may_read(rig: Rig, settings: Any, tmp_path: Any) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    change(settings, signer_key_dir=tmp_path / "keys")
    assert examine()[0]["signer"]["status"] == "fail"
