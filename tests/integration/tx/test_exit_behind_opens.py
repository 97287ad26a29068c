"""A close behind hundreds of opens, with busy workers: it takes the next nonce, whether opens wait or a cap is full.

`make test` runs a slice; the whole queue is `OPENS_AHEAD=500 pytest tests/integration/tx/test_exit_behind_opens.py`.
"""

import os
import time
from decimal import Decimal

import pytest

from execution_app import tasks
from execution_app.gate import cap_rows, control
from execution_app.models import IntentTransition, Position, TxIntent, Wallet
from execution_app.states import Action, CapName, CapScope, IntentState, Origin, RestrictionKind
from tests import invariants
from tests.processes import processes
from tests.proxy import Proxy
from tests.rig import Rig

OPENS = int(os.environ.get("OPENS_AHEAD", "100"))
PLACES = 4  # of opens in flight, which a pass that had begun may still fill

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("symbol", ["BTC-USD", "ETH-USD"], ids=["same symbol", "another symbol"])
@pytest.mark.parametrize("full", [True, False], ids=["the cap is full", "opens wait for a place"])
def test_a_close_goes_before_the_opens_that_wait(rig: Rig, node: Proxy, full: bool, symbol: str) -> None:
    rig.intent()
    rig.run()
    position = Position.objects.get()
    # The cap is full after four more; or it never is, and places in flight are what opens wait for.
    cap = Decimal(50 if full else 100_000)
    cap_rows.set_cap(CapName.EXPOSURE, CapScope.GLOBAL, "", cap, by="test", reason="for the test")
    Wallet.objects.update(max_in_flight=PLACES)
    for _ in range(OPENS):
        rig.intent(symbol=symbol)

    def work() -> None:
        tasks.submit(rig.wallet.pk)  # as bells do it: one pass of a wallet at a time

    def follow() -> None:
        rig.mine()
        rig.track()
        rig.keep()
        rig.track()

    with processes(work, work, follow):
        deadline_s = time.monotonic() + 120
        while TxIntent.objects.filter(nonce__isnull=False).count() < 3:
            assert time.monotonic() < deadline_s, "no open was placed"
        close = rig.intent(Action.CLOSE)
        while close.nonce is None:
            assert time.monotonic() < deadline_s, f"{close.state} {close.reason_detail}"
            close.refresh_from_db()
    assert before(close) <= PLACES
    assert waited(close) > OPENS // 4, "too few opens waited to show anything"
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="nothing more is opened")
    rig.open_gate()
    while TxIntent.objects.filter(settled_at=None).exists():
        assert time.monotonic() < deadline_s, list(
            TxIntent.objects.filter(settled_at=None).values("pk", "state")
        )
        rig.finish()
    close.refresh_from_db()
    position.refresh_from_db()
    assert (close.state, position.state) == ("filled", "closed")
    invariants.check(node)


def before(close: TxIntent) -> int:
    """Opens that got their nonce after the close had come and before it got its own."""
    asked = IntentTransition.objects.get(intent=close, to_state=IntentState.PENDING)
    reserved = IntentTransition.objects.get(intent=close, to_state=IntentState.RESERVED)
    between = IntentTransition.objects.filter(
        pk__gt=asked.pk, pk__lt=reserved.pk, to_state=IntentState.RESERVED
    )
    return between.count()


def waited(close: TxIntent) -> int:
    """Opens that were there before the close and had no nonce yet when it came, whatever became of them since."""
    asked = IntentTransition.objects.get(intent=close, to_state=IntentState.PENDING)
    placed = IntentTransition.objects.filter(pk__lt=asked.pk, to_state=IntentState.RESERVED)
    return TxIntent.objects.filter(pk__lt=close.pk).exclude(pk__in=placed.values("intent")).count()
