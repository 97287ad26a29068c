"""What `wallet check` says of a wallet on a real chain, and the next step it names."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from eth_account import Account

from execution_app.models import Trader, Wallet
from execution_app.node import rpc
from ops.rehearsal import venue
from tests import real_parts
from tests.guards import without_guards
from tests.rig import ETH, USDC, Rig, rpc_call


def check() -> tuple[dict[str, Any], bool]:
    """The command's JSON, and whether its exit code was 0."""
    out = io.StringIO()
    try:
        call_command("wallet", "check", "123", "--json", stdout=out)
        code = 0
    except CommandError as error:
        code = error.returncode
    found: dict[str, Any] = json.loads(out.getvalue())
    assert code == (0 if found["ok"] else 1)
    return found, code == 0


def statuses(found: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["status"] for entry in found["checks"]}


def test_a_wallet_that_can_trade(rig: Rig) -> None:
    found, passed = check()
    assert passed
    # The rig delegates for decades, which is longer than wise.
    assert statuses(found) == dict.fromkeys(
        ("trader", "key", "halt", "nonce", "gas", "usdc", "allowance"), "ok"
    ) | {"delegation": "warn"}
    assert found["wallet"] == rig.wallet.address


def test_a_new_wallet_is_led_to_its_first_trade_step_by_step(rig: Rig) -> None:
    """Each step that is named is taken, until nothing is left."""
    person = Account.create()
    with without_guards():
        rig.wallet.delete()
        Trader.objects.update(address=person.address)
    call_command("wallet", "create", "123", stdout=io.StringIO())
    wallet = Wallet.objects.get().address
    url, deployed = real_parts.anvil.url, real_parts.deployment
    rpc_call("evm_setAutomine", True)

    def next_step() -> str:
        found, passed = check()
        assert not passed
        return str(found["next"])

    assert next_step().startswith("send ")
    assert f"ETH to {wallet}" in next_step()
    venue.fund(url, deployed, wallet, ETH, 0)
    assert next_step() == f"the trader funds {person.address} with USDC"
    venue.fund(url, deployed, person.address, ETH, 50 * USDC)
    assert "approve(" in next_step()
    now_s = int(rpc.read("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    venue.delegate(url, deployed, person.key, deployed.owner, now_s + 30 * 86_400, 50 * USDC)
    assert f"setDelegate({wallet}" in next_step()
    venue.delegate(url, deployed, person.key, wallet, now_s + 30 * 86_400, 50 * USDC)
    found, passed = check()
    assert passed, found
    assert found["next"] == ""


def test_a_key_used_elsewhere_fails(rig: Rig) -> None:
    Wallet.objects.update(next_nonce=0)
    rpc_call("anvil_setNonce", rig.wallet.address, hex(3))
    found, passed = check()
    assert not passed
    assert statuses(found)["nonce"] == "fail"
    assert "elsewhere" in found["next"]


def test_disabled_halted_and_keyless_come_first(rig: Rig, settings: Any, tmp_path: Path) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"signer_key_dir": tmp_path})
    Trader.objects.update(enabled=False)
    Wallet.objects.update(halted_reason="for a test")
    found, passed = check()
    assert not passed
    assert [statuses(found)[name] for name in ("trader", "key", "halt")] == ["fail"] * 3
    assert found["next"] == "manage.py trader enable 123"


def test_a_node_that_is_away_is_said_so(rig: Rig, settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": "http://127.0.0.1:1"})
    rpc.endpoints.cache_clear()
    try:
        with pytest.raises(CommandError, match="the chain does not answer"):
            call_command("wallet", "check", "123")
    finally:
        rpc.endpoints.cache_clear()
