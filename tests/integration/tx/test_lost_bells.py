"""Nobody hears a bell: the sweep does the work itself, and leaves alone what others are at."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from execution_app import tasks
from execution_app.engine import rounds
from execution_app.models import TxIntent
from execution_app.states import Action
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig


@pytest.fixture(autouse=True)
def _unheard_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the product's, since this machine may stand still for some seconds."""
    assert rounds.UNHEARD_S == 5
    monkeypatch.setattr(rounds, "UNHEARD_S", 50)


def test_the_sweep_places_what_no_bell_was_heard_for(rig: Rig, node: Proxy) -> None:
    """As in a worker whose publishing hangs: the queue has no other reader in this test."""
    intent = rig.intent()
    tasks.sweep()
    intent.refresh_from_db()
    assert intent.state == "pending", "young work is left to its bell"
    TxIntent.objects.update(updated_at=Now() - timedelta(seconds=60))
    tasks.sweep()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    rig.finish()
    invariants.check(node)


def test_the_sweep_leaves_a_close_that_waits_as_it_should(rig: Rig, node: Proxy) -> None:
    """It was looked at a moment ago, and waits for the open before it."""
    node.hold()
    rig.intent()
    rig.submit()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    close.refresh_from_db()
    assert close.reason == "waits_for_earlier_order"
    looked_at = close.updated_at
    tasks.sweep()
    close.refresh_from_db()
    assert close.updated_at == looked_at
