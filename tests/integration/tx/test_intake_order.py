"""A close ends what was open when it was sent, whatever the bells did: no less, and no more."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models.functions import Now

from execution_app.engine.waiting import hold
from execution_app.models import TxIntent
from execution_app.states import Action, Reason
from signals_app import decisions
from signals_app.models import Signal, SourceGrant
from tests import invariants
from tests.rig import Rig
from tests.timers import pass_a_minute


@pytest.fixture
def signals(rig: Rig) -> list[Signal]:
    """LONG, then CLOSE, stored and not decided."""
    SourceGrant.objects.create(source="drill", tg_user_id=rig.trader.tg_user_id)
    return [stored(rig, "LONG"), stored(rig, "CLOSE")]


def stored(rig: Rig, side: str) -> Signal:
    size = {} if side == "CLOSE" else {"collateral_usdc": Decimal(5), "leverage_x": Decimal(2)}
    return Signal.objects.create(
        source="drill",
        signal_id=f"intake-{Signal.objects.count()}",
        tg_user_id=rig.trader.tg_user_id,
        symbol="BTC-USD",
        side=side,
        slippage_pct=Decimal("0.5"),
        **size,
    )


def finish(rig: Rig) -> None:
    for _ in range(2):
        pass_a_minute()
        rig.run()


def test_a_close_decided_before_the_open_that_was_sent_before_it(rig: Rig, signals: list[Signal]) -> None:
    """The bell of the open was lost, or its worker died."""
    _long, close = signals
    decided = decisions.decide(close.pk)
    assert decided is not None
    assert decided.action == "close"
    finish(rig)
    assert list(TxIntent.objects.order_by("id").values_list("action", "state")) == [
        ("open", "filled"),
        ("close", "filled"),
    ]
    assert not invariants.open_trades(rig.trader.address)
    invariants.check()


def test_a_close_leaves_alone_what_was_opened_after_it(rig: Rig) -> None:
    """LONG, CLOSE, SHORT in one breath: the close waits for the first, and both opens fill meanwhile."""
    rig.intent()
    rig.submit()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    rig.intent(is_long=False)
    rig.submit()
    finish(rig)
    close.refresh_from_db()
    assert (close.state, TxIntent.objects.count()) == ("filled", 3)
    (held,) = invariants.open_trades(rig.trader.address)
    assert not held.is_long
    invariants.check()


def test_a_held_open_that_expires_as_a_close_supersedes_it(rig: Rig) -> None:
    """Both are due in one pass, which must not trip over the row that it has just refused."""
    rig.intent()
    rig.run()
    held = rig.intent()
    hold(held, Reason.MODE_DEGRADED, "test")
    close = rig.intent(Action.CLOSE)
    pass_a_minute()
    TxIntent.objects.filter(pk=held.pk).update(expires_at=Now() - timedelta(seconds=1))
    finish(rig)
    held.refresh_from_db()
    close.refresh_from_db()
    assert (held.state, close.state) == ("rejected", "filled")
    invariants.check()


def test_a_close_does_not_wait_behind_an_open_that_nobody_executes(rig: Rig) -> None:
    """What is open ends at once; what may still open is closed when it does."""
    rig.intent()
    rig.run()
    rig.intent()
    rig.submit()
    rig.mine()
    rig.track()  # the keeper is away
    close = rig.intent(Action.CLOSE)
    rig.intent(is_long=False)  # sent after the close
    rig.submit()
    close.refresh_from_db()
    assert (close.state, close.nonce) == ("pending_inclusion", 2)
    waiting = TxIntent.objects.get(intent_key=f"{close.intent_key}#2")
    assert (waiting.state, waiting.position) == ("pending", None)
    for _ in range(3):
        finish(rig)
    waiting.refresh_from_db()
    assert (waiting.state, TxIntent.objects.count()) == ("filled", 5)
    (held,) = invariants.open_trades(rig.trader.address)
    assert not held.is_long
    invariants.check()
