"""What is held is counted once, has an age, is told by /health and in the log, and is found on the admin site."""

import json
import logging

import pytest
import redis as redis_py
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from prometheus_client import REGISTRY

from execution_app import meters
from execution_app.engine.waiting import hold, sort
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent, Wallet
from execution_app.moves import move, open_intent
from execution_app.states import HOLDING, OTHER_REASON, IntentState, Mode, Reason
from ops.watch import exposition, gauges, health
from tests.execution import rows
from tests.execution.test_meters import value
from tests.guards import without_guards
from tests.ops.watch.test_health import watched, whole
from tests.ops.watch.test_metrics import scrape

__all__ = ["watched", "whole"]  # fixtures
HELD, EXPIRED = "vanta_intents_held_total", "vanta_held_expired_total"
DEGRADED = Ruling(Mode.LIVE, Mode.DRY, emergency_stop=False, reduce_only=False, reason="redis: away")


@pytest.fixture
def waiting(database: None) -> TxIntent:
    """A close that nobody has looked at; every series is there."""
    exposition.begin_at_zero()
    wallet = Wallet.objects.get(pk=rows.wallet())
    intent, _ = open_intent(
        key="sig:drill:held-1",
        by="test",
        trader=wallet.trader,
        wallet=wallet,
        tg_user_id=wallet.trader.tg_user_id,
        action="close",
        symbol="BTC-USD",
        slippage_pct=1,
    )
    return intent


def sweep(intent: TxIntent) -> None:
    assert intent.wallet is not None
    TxIntent.objects.update(next_try_at=None)
    with transaction.atomic():
        sort(intent.wallet, DEGRADED, rows.one("SELECT clock_timestamp()"), [intent.pk])


def said(caplog: pytest.LogCaptureFixture, phrase: str) -> list[dict[str, object]]:
    found = [record.msg for record in caplog.records if record.levelno == logging.WARNING]
    return [message for message in found if isinstance(message, dict) and message["event"] == phrase]


def test_a_hold_is_counted_and_said_once_however_many_sweeps_find_it(
    waiting: TxIntent, caplog: pytest.LogCaptureFixture
) -> None:
    before = value(HELD, reason="mode_degraded")
    for _ in range(4):
        sweep(waiting)
    assert value(HELD, reason="mode_degraded") == before + 1
    (message,) = said(caplog, "intent held")
    assert (message["key"], message["reason"]) == ("sig:drill:held-1", "mode_degraded")
    assert said(caplog, "held intent ended") == []


def test_its_end_is_said_once_and_an_expiry_is_counted_by_what_it_waited_for(
    waiting: TxIntent, caplog: pytest.LogCaptureFixture
) -> None:
    sweep(waiting)
    before = value(EXPIRED, reason="mode_degraded")
    TxIntent.objects.update(expires_at="2026-01-01T00:00:00Z")
    for _ in range(2):
        sweep(waiting)
    (message,) = said(caplog, "held intent ended")
    assert (message["became"], message["waited_for"]) == ("expired", "mode_degraded")
    assert value(EXPIRED, reason="mode_degraded") == before + 1


def test_what_is_rolled_back_is_neither_counted_nor_said(
    waiting: TxIntent, caplog: pytest.LogCaptureFixture
) -> None:
    before = value(HELD, reason="mode_degraded")
    with transaction.atomic():
        hold(waiting, Reason.MODE_DEGRADED, "x")
        transaction.set_rollback(True)
    assert value(HELD, reason="mode_degraded") == before
    assert said(caplog, "intent held") == []


def test_labels_are_bounded_and_shown_before_anything_is_held(waiting: TxIntent) -> None:
    before = value(HELD, reason=OTHER_REASON)
    move(waiting, IntentState.HELD, why="x", by="test", reason="some free text")
    assert value(HELD, reason=OTHER_REASON) == before + 1
    for counter in (meters.INTENTS_HELD, meters.HELD_EXPIRED):
        labels = {sample.labels["reason"] for family in counter.collect() for sample in family.samples}
        assert labels == {*(reason.value for reason in HOLDING), OTHER_REASON}
    assert REGISTRY.get_sample_value(HELD, {"reason": "some free text"}) is None


@pytest.mark.parametrize(
    "reason",
    [
        *("insufficient_usdc", "insufficient_allowance", "no_delegation"),
        *("signer_away", "signer_refused", "venue_revert"),
    ],
)
def test_what_a_person_has_to_mend_is_counted_by_name(waiting: TxIntent, reason: str) -> None:
    before = value(HELD, reason=reason)
    hold(waiting, Reason(reason), "x")
    assert value(HELD, reason=reason) == before + 1


def test_the_oldest_has_an_age(client: Client, waiting: TxIntent, valkey: redis_py.Redis) -> None:
    assert scrape(client)["vanta_oldest_held_age_seconds"].samples[0].value == 0
    sweep(waiting)
    with without_guards():
        rows.execute("UPDATE intent_transitions SET at = at - interval '90 seconds' WHERE to_state = 'held'")
    gauges.forget()
    assert 90 <= scrape(client)["vanta_oldest_held_age_seconds"].samples[0].value < 120


def test_health_tells_what_waits_and_stays_ok(client: Client, whole: None, waiting: TxIntent) -> None:
    def told() -> tuple[int, str, dict[str, str]]:
        health.forget()
        response = client.get("/health")
        return response.status_code, response.json()["status"], response.json()["checks"]["held"]

    assert told() == (200, "ok", {"status": "ok", "detail": ""})
    sweep(waiting)
    with without_guards():
        rows.execute("UPDATE intent_transitions SET at = at - interval '90 seconds' WHERE to_state = 'held'")
    status, word, check = told()
    assert (status, word, check["status"]) == (200, "ok", "ok")
    assert check["detail"].startswith("1 mode_degraded for up to 9")
    assert "redis" not in json.dumps(check), "reason codes only: the page is public"


def test_the_admin_site_finds_them_by_their_state(waiting: TxIntent) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="not-used-here"))
    address = reverse("admin:execution_app_txintent_changelist")
    for state, shows in (("held", False), ("pending", True)):
        assert ("held-1" in client.get(address, {"state__exact": state}).content.decode()) is shows
    sweep(waiting)
    page = client.get(address, {"state__exact": "held"}).content.decode()
    assert "held-1" in page
    assert "mode_degraded" in page
