"""A burst on one wallet: many nonces and signatures in one commit, at a bounded number of queries each."""

import os
import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.engine import heads, reserve
from execution_app.gate import control
from execution_app.models import IntentTransition, Reservation, TxIntent, TxSend, Wallet
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig

# `make test` runs a slice; the whole load is PLACED_AT_ONCE=500.
MANY = int(os.environ.get("PLACED_AT_ONCE", "64"))
QUERIES_EACH = 4
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")

pytestmark = pytest.mark.timeout(600)


def test_a_burst_is_placed_at_a_bounded_cost(rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        control, "TURN_S", 60
    )  # a turn that is over stores what it has, and fewer share the queries
    Wallet.objects.update(max_in_flight=512)
    intents = [rig.intent(symbol=SYMBOLS[at % 3]) for at in range(MANY)]
    rig.track()  # the gate closes where chain and database were compared long ago
    begun_s = time.monotonic()
    placed = []
    with CaptureQueriesContext(connection) as captured:
        connection.queries_log = type(connection.queries_log)(maxlen=200_000)
        while count := reserve.reserve(rig.wallet.pk):
            placed.append(count)
            heads.follow()
    took_s = time.monotonic() - begun_s
    print(f"{MANY} in {took_s:.2f} s, {len(captured) / MANY:.1f} queries each, rounds {placed}")  # noqa: T201
    assert sum(placed) == MANY
    assert len(captured) / MANY <= QUERIES_EACH
    for nonce, intent in enumerate(intents):
        intent.refresh_from_db()
        assert (intent.state, intent.nonce) == ("signed", nonce), "in the order in which they came"
    assert [
        list(
            IntentTransition.objects.filter(intent=intents[-1])
            .order_by("id")
            .values_list("to_state", flat=True)
        )
    ] == [["pending", "reserved", "signed"]]
    assert TxSend.objects.count() == Reservation.objects.count() == MANY
    assert Wallet.objects.get().next_nonce == MANY
    assert not TxIntent.objects.exclude(state="signed").exists()
    assert not node.log
    invariants.check(node, drained=False)
