"""Stops without end, raced against processes that sign and send: after the answer no node sees a new hash.

`make test` runs a slice; the whole race is
`STOPS=10000 pytest tests/integration/tx/test_stop_race.py -s`, which prints what was raced.
"""

import bisect
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import Max

from execution_app.engine import rounds
from execution_app.gate import control
from execution_app.models import IntentTransition, TxIntent, TxSend, Wallet
from execution_app.states import WAITING, Action, IntentState, Origin, RestrictionKind
from tests import invariants
from tests.integration.tx.test_caps_race import traders
from tests.invariants import Stop
from tests.processes import processes
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

STOPS = int(os.environ.get("STOPS", "60"))
SEED = int(os.environ.get("STOP_SEED", "1"))
WAITING_AT_ONCE = 4  # intents a feeder keeps before the workers
OPEN_LIMIT = 900  # trades a wallet may have open before only closes are fed
STANDING_S, RUNNING_S = 0.01, 0.08  # at most; a slot needs some 40 ms from its nonce to the node
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")

pytestmark = pytest.mark.timeout(3600)


def feed(rig: Rig, wallets: list[Wallet], numbers: Iterator[int]) -> None:
    """Opens, and every fifth a close, so that something always waits for a worker."""
    waiting = TxIntent.objects.filter(state__in=sorted(WAITING)).count()
    for number in itertools.islice(numbers, max(0, WAITING_AT_ONCE - waiting)):
        wallet = wallets[number % len(wallets)]
        whose: dict[str, Any] = {
            "trader": wallet.trader,
            "wallet": wallet,
            "tg_user_id": wallet.trader.tg_user_id,
        }
        full = (
            wallet.trader.positions.filter(state="open").count() > OPEN_LIMIT if number % 50 == 0 else False
        )
        closes = full or number % 5 == 4
        rig.intent(Action.CLOSE if closes else Action.OPEN, SYMBOLS[number % len(SYMBOLS)], **whose)


def stop_and_go(dice: random.Random, pause: threading.Event) -> tuple[Stop, bool]:
    """One stop, from when it had answered until just before it was lifted; and whether it caught signed slots."""
    imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="race")
    at_s = time.monotonic()
    assert imposed.changed
    parked = TxIntent.objects.filter(state=IntentState.SIGNED).exists()
    pause.wait(dice.uniform(0, STANDING_S))
    lifted_at_s = time.monotonic()
    assert control.lift(RestrictionKind.STOP, Origin.COMMAND, by="test")
    pause.wait(dice.uniform(0, RUNNING_S))
    return Stop(at_s, lifted_at_s, imposed.in_flight), parked


def test_no_node_sees_a_new_hash_after_a_stop_has_answered(rig: Rig, node: Proxy) -> None:
    wallets = traders(rig, 2)
    dice, pause, numbers = random.Random(SEED), threading.Event(), itertools.count()
    stops: list[Stop] = []
    parking = 0

    def work() -> None:
        for wallet in wallets:
            rounds.submit(wallet.pk)

    def follow() -> None:
        rig.mine()
        rig.track()
        rig.keep()
        rig.track()

    begun_s = time.monotonic()
    with processes(work, work, follow):
        while len(stops) < STOPS:
            feed(rig, wallets, numbers)
            stop, parked = stop_and_go(dice, pause)
            stops.append(stop)
            parking += parked
            if len(stops) % 1000 == 0:
                said = f"{len(stops)} stops, {len(node.first_seen())} hashes"
                print(f"{said}, {time.monotonic() - begun_s:.0f} s")  # noqa: T201
    _check_parked_slots_went_on(rig, wallets)
    told = report(node, stops, parking)
    print(told)  # noqa: T201  (what was raced, shown by -s)
    assert told["hashes"] >= STOPS // 4, f"workers were not busy: {told}"
    assert told["refused by a stop"], f"no stop came before a worker: {told}"
    met = told["left within 30 ms before a stop answered"] + told["came between signature and broadcast"]
    assert met, f"no stop met a worker at work: {told}"
    invariants.check(node, stops=stops)


def _check_parked_slots_went_on(rig: Rig, wallets: list[Wallet]) -> None:
    """Everything that was pending goes on or is cancelled in its slot; that no slot is a gap is checked by all."""
    rig.open_gate()
    deadline_s = time.monotonic() + 300
    while TxIntent.objects.filter(settled_at=None).exists():
        assert time.monotonic() < deadline_s, list(
            TxIntent.objects.filter(settled_at=None).values("pk", "state")
        )
        pass_a_minute()
        for wallet in wallets:
            rounds.submit(wallet.pk)
        rig.run()
    ended = set(TxIntent.objects.values_list("state", flat=True))
    assert ended <= {"filled", "rejected", "final_cancelled", "venue_cancelled", "no_op"}, ended


def report(node: Proxy, stops: list[Stop], parking: int) -> dict[str, float]:
    """How close the race was: what left just before stops, what they refused, what they parked."""
    first = sorted(node.first_seen().values())
    close = sum(
        bisect.bisect(first, stop.imposed_at_s) > bisect.bisect(first, stop.imposed_at_s - 0.03)
        for stop in stops
    )
    signed = (
        IntentTransition.objects.filter(to_state=IntentState.SIGNED).values("intent").annotate(at=Max("at"))
    )
    return {
        "stops": len(stops),
        "hashes": len(first),
        "refused by a stop": TxIntent.objects.filter(reason="emergency_stop").count(),
        "left within 30 ms before a stop answered": close,
        "came between signature and broadcast": parking,
        "named as possibly leaving": sum(bool(stop.in_flight) for stop in stops),
        "signed": signed.count(),
        "sends": TxSend.objects.count(),
        "longest stand, s": round(max(stop.lifted_at_s - stop.imposed_at_s for stop in stops), 3),
    }
