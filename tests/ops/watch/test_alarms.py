"""Gauges that alerts stand on: each shows what it is about, and nothing where there is nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from pytest_django.fixtures import Settings

from execution_app.book import delegations
from execution_app.engine import cancels, reserve, rounds
from execution_app.gate import control
from execution_app.models import Heartbeat, IntentTransition, Trader, TxSend, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.watch import gauges
from tests.execution import rows
from tests.guards import without_guards
from tests.integration.tx.test_permissions import STRANGER, delegate
from tests.ops.panel.rows import one_of_each
from tests.ops.watch.test_metrics import scrape, values
from tests.rig import Rig

HOUR = timedelta(hours=1)


def shown(client: Client, name: str, label: str = "") -> dict[str, float]:
    gauges.forget()
    family = scrape(client)[name]
    return values(family, label) if label else {"": family.samples[0].value}


def test_the_requested_mode_is_told_beside_the_effective_one(
    client: Client, database: None, settings: Settings
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"exec_mode": "LIVE"})
    assert shown(client, "vanta_exec_mode", "mode") == {"DRY": 1, "LIVE": 0}
    assert shown(client, "vanta_exec_mode_requested", "mode") == {"DRY": 0, "LIVE": 1}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"exec_mode": "DRY"})
    assert shown(client, "vanta_exec_mode_requested", "mode") == {"DRY": 1, "LIVE": 0}


def test_ages_are_those_of_the_state_and_not_of_the_intent(client: Client, database: None) -> None:
    ages_s = shown(client, "vanta_intent_state_age_seconds", "state")
    assert set(ages_s.values()) == {0}
    assert "pending" in ages_s
    assert "rejected" not in ages_s, "what is final has no age"
    intent = one_of_each()
    with without_guards():
        rows.execute("UPDATE tx_intents SET accepted_at = now() - interval '1 hour'")
        rows.execute(
            "INSERT INTO intent_transitions (intent_id, from_state, to_state, at, why, by)"
            " VALUES (%s, 'ordered', 'filled', now() - interval '5 minutes', '', 'test')",
            intent.pk,
        )
    assert 300 <= shown(client, "vanta_intent_state_age_seconds", "state")["filled"] < 330
    with without_guards():
        rows.execute("UPDATE tx_intents SET settled_at = now()")
    assert shown(client, "vanta_intent_state_age_seconds", "state")["filled"] == 0


def test_a_first_broadcast_after_the_stop_is_seen_while_the_stop_holds(
    client: Client, database: None
) -> None:
    intent = one_of_each()
    name = "vanta_broadcasts_under_stop"

    def broadcast(at: str) -> None:
        with without_guards():
            rows.execute(
                "INSERT INTO intent_transitions (intent_id, from_state, to_state, at, why, by)"
                f" VALUES (%s, 'signed', 'sending', {at}, '', 'test')",
                intent.pk,
            )

    broadcast("now() - interval '1 second'")
    assert shown(client, name) == {"": 0}, "no stop"
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    with without_guards():
        rows.execute("UPDATE mode_changes SET set_at = now() - interval '10 minutes' WHERE lifted_at IS NULL")
    broadcast("now() - interval '11 minutes'")
    broadcast("(SELECT set_at + interval '2 seconds' FROM mode_changes WHERE lifted_at IS NULL)")
    assert shown(client, name) == {"": 1}, "before the stop, and while it took hold"
    broadcast("now()")
    assert shown(client, name) == {"": 2}
    control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill is over")
    assert shown(client, name) == {"": 0}


def test_a_cancel_that_fills_a_slot_under_a_stop_is_no_order_that_left(client: Client, rig: Rig) -> None:
    rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="drill")
    with without_guards():
        rows.execute("UPDATE mode_changes SET set_at = now() - interval '10 minutes' WHERE lifted_at IS NULL")
    assert len(cancels.request(by="test")) == 1
    rig.submit()
    assert TxSend.objects.get(kind="cancel").held_at is not None
    assert IntentTransition.objects.filter(to_state="sending").exists()
    assert shown(client, "vanta_broadcasts_under_stop") == {"": 0}


def test_halted_wallets_are_counted(client: Client, database: None) -> None:
    one_of_each()
    assert shown(client, "vanta_wallets_halted") == {"": 0}
    Wallet.objects.update(halted_reason="drill", halted_at=Now())
    assert shown(client, "vanta_wallets_halted") == {"": 1}


def test_ceilings_and_trades_outside_the_symbols(client: Client, database: None, settings: Settings) -> None:
    limits = shown(client, "vanta_cap_limit", "cap")
    assert limits["notional_usdc"] == float(settings.ENVIRONMENT.max_notional_usdc)
    assert limits["leverage_x"] == float(settings.ENVIRONMENT.max_leverage)
    one_of_each()  # BTC-USD
    assert shown(client, "vanta_trades_outside_symbols") == {"": 0}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"allowed_symbols": "ETH-USD"})
    assert shown(client, "vanta_trades_outside_symbols") == {"": 1}
    with without_guards():
        rows.execute("UPDATE fills SET filled_at = filled_at - interval '61 minutes'")
    assert shown(client, "vanta_trades_outside_symbols") == {"": 0}


def test_a_backup_is_a_time_and_no_process(client: Client, database: None) -> None:
    name = "vanta_backup_timestamp_seconds"
    assert shown(client, name) == {"": 0}
    at = datetime.now(UTC) - HOUR
    Heartbeat.objects.create(component="backup", pid=0, started_at=at, at=at)
    Heartbeat.objects.create(component="beat", pid=1, started_at=at, at=at)
    assert shown(client, name)[""] == pytest.approx(at.timestamp())
    assert set(shown(client, "vanta_heartbeat_timestamp_seconds", "component")) == {"beat"}


def test_a_retention_is_told_once_there_was_one(client: Client, database: None) -> None:
    name = "vanta_retention_timestamp_seconds"
    assert shown(client, name) == {"": 0}
    at = datetime.now(UTC) - HOUR
    Heartbeat.objects.create(component="retention", pid=0, started_at=at, at=at)
    assert shown(client, name)[""] == pytest.approx(at.timestamp())
    assert shown(client, "vanta_heartbeat_timestamp_seconds", "component") == {}, "it is no process"


def test_a_delegation_is_read_from_the_chain(client: Client, rig: Rig, settings: Settings) -> None:
    name, wallet = "vanta_delegate_expiry_timestamp_seconds", rig.wallet.address
    real = settings.ENVIRONMENT
    assert scrape(client)[name].samples == [], "nobody has looked yet"
    delegate(rig, wallet)  # until 4,000,000,000
    rounds.compare_positions()
    assert shown(client, name, "wallet") == {wallet: 4_000_000_000}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"venue_trading_address": STRANGER})
    delegations.keep()
    assert shown(client, name, "wallet") == {wallet: 4_000_000_000}, "an answer that means nothing"
    settings.ENVIRONMENT = real
    delegate(rig, STRANGER)
    rounds.compare_positions()
    assert shown(client, name, "wallet") == {wallet: 0}, "nobody's delegate"


def test_the_delegation_of_every_wallet_is_read_however_many_there_are(rig: Rig) -> None:
    several = 201
    traders = Trader.objects.bulk_create(
        Trader(tg_user_id=1_000 + number, address=f"0x{number + 1:040x}") for number in range(several)
    )
    Wallet.objects.bulk_create(
        Wallet(trader=trader, address=f"0x{10**6 + trader.tg_user_id:040x}", chain_id=rig.wallet.chain_id)
        for trader in traders
    )
    delegations.keep()
    assert Wallet.objects.filter(delegated_until=delegations.NOT_OURS).count() == several
    assert not Wallet.objects.filter(delegated_until=None).exists()
