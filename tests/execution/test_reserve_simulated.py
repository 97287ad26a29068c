"""What a simulation does to caps, stake and book, and where its keeper takes its time."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app import reservations
from execution_app.book import simulation
from execution_app.engine import reserve as engine
from execution_app.engine.waiting import database_now
from execution_app.gate.caps import Breach
from execution_app.models import Wallet
from execution_app.states import Mode, Reason
from execution_app.venues.costs import Margined
from tests.execution.intents import market, noting, shortly, waiting, waiting_close
from tests.execution.test_reserve import REFUSE, told, wallet

__all__ = ["wallet"]  # the fixture


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[Any]:
    """What was done, in a simulation without delay that refuses nothing."""
    done: list[Any] = []
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"dry_keeper_delay_ms": 0})

    def room(_: object, mode: Mode, __: object) -> None:
        done.append(("room", mode))

    def fill(*_: object, by: str) -> str:
        done.append(f"filled by {by}")
        return ""

    monkeypatch.setattr(engine, "room", room)
    monkeypatch.setattr(simulation, "simulate", fill)
    monkeypatch.setattr(simulation, "register", lambda _, __, due_at: done.append(("registered", due_at)))
    monkeypatch.setattr(simulation, "margined", lambda *_: Margined(Decimal(5), Decimal(9)))
    monkeypatch.setattr(reservations, "take", lambda _, mode: done.append(("taken", mode)))
    monkeypatch.setattr(reservations, "follow", lambda pk, *_: done.append(("followed", pk)))
    return done


def test_an_open_is_filled_with_its_stake(wallet: Wallet, simulated: list[Any]) -> None:
    intent = waiting(wallet)
    engine.simulate(intent, market())
    assert simulated == [("room", Mode.DRY), "filled by engine", ("taken", Mode.DRY), ("followed", intent.pk)]


def test_a_close_has_no_stake(wallet: Wallet, simulated: list[Any]) -> None:
    engine.simulate(waiting_close(wallet), market())
    assert simulated == ["filled by engine"]


def test_what_its_keeper_comes_to_has_its_stake_already(
    settings: Settings, wallet: Wallet, simulated: list[Any]
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"dry_keeper_delay_ms": 700})
    intent = waiting(wallet, mode="DRY", wanted_price=1, keeper_due_at=shortly(-1))
    engine.simulate(intent, market())
    assert simulated == ["filled by engine", ("followed", intent.pk)]


@pytest.mark.parametrize("opens", [True, False])
def test_where_its_keeper_takes_its_time_it_is_registered(
    settings: Settings, wallet: Wallet, simulated: list[Any], opens: bool
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"dry_keeper_delay_ms": 700_000})
    engine.simulate(waiting(wallet) if opens else waiting_close(wallet), market())
    (due_at,) = (step[1] for step in simulated if step[0] == "registered")
    assert timedelta(seconds=670) < due_at - database_now() <= timedelta(seconds=700)
    assert (
        simulated == [("room", Mode.DRY)] * opens + [("registered", due_at)] + [("taken", Mode.DRY)] * opens
    )


def test_a_simulation_without_room_or_that_the_venue_would_refund_is_refused(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, simulated: list[Any]
) -> None:
    monkeypatch.setattr(simulation, "simulate", lambda *_, **__: "beyond its slippage")
    refunded = waiting(wallet)
    engine.simulate(refunded, market())
    assert told(refunded) == ("rejected", "venue_would_cancel", "beyond its slippage")
    monkeypatch.setattr(engine, "room", lambda *_: REFUSE)
    full = waiting(wallet)
    engine.simulate(full, market())
    assert told(full) == ("rejected", "banned", "banned")
    assert ("taken", Mode.DRY) not in simulated


def test_a_change_of_margin_waits_for_no_keeper_and_keeps_its_leverage(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, wallet: Wallet, simulated: list[Any]
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"dry_keeper_delay_ms": 700})
    asked: list[Any] = []
    broken = [Breach(Reason.LEVERAGE_ABOVE_CAP, "too much")]
    intent = waiting(wallet)
    intent.action, intent.margin_usdc = "margin", Decimal(-1)
    monkeypatch.setattr(engine, "leverage_breaches", noting(asked, []))
    engine.simulate(intent, market())
    assert (simulated, asked) == (["filled by engine"], [(intent, Decimal(9))])
    monkeypatch.setattr(engine, "leverage_breaches", lambda *_: broken)
    engine.simulate(intent, market())
    assert told(intent) == ("rejected", "leverage_above_cap", "too much")
    assert simulated == ["filled by engine", ("followed", intent.pk)], "its stake ends with it"
    order = waiting(wallet)
    engine.simulate(order, market())
    assert told(order)[0] == "pending"
