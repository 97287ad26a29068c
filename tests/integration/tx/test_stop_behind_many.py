"""A stop does not wait for whoever has many intents to ask the caps for: they let go of the line in between."""

import threading
import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection

from execution_app.engine import rounds
from execution_app.gate import cap_rows, control
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.states import Action, CapName, CapScope, IntentState
from tests import invariants
from tests.integration.tx.test_stop import finish, impose_stop, lift_stop
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

pytestmark = pytest.mark.timeout(400)
OPENS = 32
# Most of the ways in which a cap is counted, so that each intent asks as much as one may.
CAPS: tuple[tuple[CapName, CapScope, str], ...] = (
    (CapName.EXPOSURE, CapScope.GLOBAL, ""),
    (CapName.EXPOSURE, CapScope.TRADER, "123"),
    (CapName.EXPOSURE, CapScope.SYMBOL, "BTC-USD"),
    (CapName.OPEN_POSITIONS, CapScope.GLOBAL, ""),
    (CapName.ORDERS_PER_MINUTE, CapScope.GLOBAL, ""),
    (CapName.DAILY_LOSS, CapScope.GLOBAL, ""),
    (CapName.DAILY_LOSS, CapScope.TRADER, "123"),
    (CapName.GAS_PER_DAY, CapScope.GLOBAL, ""),
)


def signed() -> int:
    return TxSend.objects.count()


def leased() -> int:
    return TxSend.objects.filter(leased_at__isnull=False).count()


def line_is_held() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted)",
            [control.LINE_LOCK],
        )
        return bool(cursor.fetchone()[0])


def await_moment(reached: Callable[[], bool], thread: threading.Thread) -> None:
    """Until it is reached and somebody has the line; or everything is done."""
    deadline_s, pause = time.monotonic() + 60, threading.Event()
    while thread.is_alive() and not (reached() and line_is_held()):
        assert time.monotonic() < deadline_s
        pause.wait(0.005)  # whoever is watched runs in this process, too


def submitting(rig: Rig) -> threading.Thread:
    def submit() -> None:
        try:
            rounds.submit(rig.wallet.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=submit)
    thread.start()
    return thread


def test_a_stop_gets_its_turn_among_many_waiting_and_signed_opens(rig: Rig, node: Proxy) -> None:
    for name, scope, value in CAPS:
        cap_rows.set_cap(name, scope, value, Decimal(10**20), by="test", reason="for the test")
    rig.intent(symbol="ETH-USD")
    rig.run()
    Wallet.objects.update(max_in_flight=OPENS)
    opens = [rig.intent() for _ in range(OPENS)]
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("all are sorted", lambda: True),
        ("the exit is signed", lambda: signed() >= 2),
        ("opens are signed", lambda: signed() >= 3),
        ("half is signed", lambda: signed() >= OPENS // 2),
        ("all are offered", lambda: leased() >= OPENS // 2),
    ]
    stops: list[Stop] = []
    took_s: dict[str, float] = {}
    signed_ahead: dict[str, int] = {}
    for moment, reached in moments:
        rig.track()  # on a busy machine the last comparison is soon too old
        # What a stop refuses has no nonce; what it parks goes on.
        thread = submitting(rig)
        await_moment(reached, thread)
        asked_s, ahead = time.monotonic(), signed()
        imposed, at_s = impose_stop()
        took_s[moment] = at_s - asked_s
        before = signed()
        signed_ahead[moment] = before - ahead
        thread.join()
        assert signed() == before, "something was signed after a stop had returned"
        stops.append(Stop(at_s, time.monotonic(), imposed.in_flight))
        lift_stop()
        opens += [rig.intent() for _ in range(OPENS - TxIntent.objects.filter(state__in=["pending"]).count())]
        if moment == moments[0][0]:
            exits = rig.intent(Action.CLOSE, symbol="ETH-USD")  # the youngest of all
        pass_a_minute()
    print("seconds that a stop took:", {name: round(seconds, 2) for name, seconds in took_s.items()})  # noqa: T201
    print("signed meanwhile:", signed_ahead)  # noqa: T201
    assert max(signed_ahead.values()) <= OPENS // 4, "the others' turn was not over when it ought to be"
    exits.refresh_from_db()
    assert exits.nonce == 1, "exits first"
    placed = TxIntent.objects.filter(nonce__isnull=False, action=Action.OPEN).order_by("nonce")
    keys = list(placed.values_list("pk", flat=True))
    assert len(keys) > OPENS // 2
    assert keys == sorted(keys), "in the order they came"
    for _ in range(3):
        finish(rig)
    assert not TxIntent.objects.filter(state=IntentState.SIGNED).exists()
    invariants.check(node, stops=stops)
