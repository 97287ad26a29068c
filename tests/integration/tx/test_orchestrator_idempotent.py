"""One signal, however often and in whatever order the bells ring, is one execution on the chain."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from execution_app.engine import rounds
from execution_app.models import Fill, IntentTransition, Position, TxIntent, TxReceipt, TxSend, Wallet
from signals_app import decisions, intake, payloads, tasks
from signals_app.models import Signal, SourceGrant
from signals_app.strict_json import canonical, parse
from tests.rig import Rig, rpc_call
from tests.signals.sender import open_body

THREADS = 16  # connections at once; the calls queue behind them


@pytest.fixture
def granted(rig: Rig) -> Rig:
    SourceGrant.objects.create(source="drill", tg_user_id=123)
    return rig


def store(**fields: object) -> Signal:
    payload = payloads.read(parse(canonical(open_body(**fields)).encode()))
    intake.store(payload)
    return Signal.objects.get(source=payload.source, signal_id=payload.signal_id)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run the calls in threads, each call with a database connection of its own; raises what any raised."""

    def run(call: Callable[[], object]) -> object:
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, calls))


def executions(rig: Rig, since: int) -> list[dict[str, Any]]:
    """Successful transactions of the wallet, counted from the chain's blocks and from nothing of ours."""
    found = []
    for number in range(since + 1, int(rpc_call("eth_blockNumber"), 16) + 1):
        for transaction in rpc_call("eth_getBlockByNumber", hex(number), True)["transactions"]:
            if transaction["from"].lower() == rig.wallet.address.lower():
                receipt = rpc_call("eth_getTransactionReceipt", transaction["hash"])
                found += [transaction] if int(receipt["status"], 16) else []
    return found


def head() -> int:
    return int(rpc_call("eth_blockNumber"), 16)


def finish(rig: Rig) -> None:
    """Mine, execute and track until everything is settled, ringing as sweeps would."""
    for _ in range(20):
        rig.submit()
        rig.mine()
        rig.track()
        rig.keep()
        rig.track()
        rig.mine(3)
        rig.track()
        if not TxIntent.objects.filter(settled_at=None).exists():
            return
    raise AssertionError(list(TxIntent.objects.filter(settled_at=None).values("id", "state", "reason")))


def assert_slots_have_no_gap(rig: Rig) -> None:
    nonces = [n for n in TxIntent.objects.values_list("nonce", flat=True) if n is not None]
    wallet = Wallet.objects.get()
    assert sorted(nonces) == list(range(wallet.next_nonce))
    assert int(rpc_call("eth_getTransactionCount", wallet.address, "latest"), 16) == wallet.next_nonce


def duplicates_observed() -> float:
    return REGISTRY.get_sample_value("vanta_intent_duplicate_total") or 0


def test_fifty_deciders_and_submitters_of_one_signal(granted: Rig) -> None:
    since, duplicates = head(), duplicates_observed()
    signal = store()
    calls: list[Callable[[], object]] = [lambda: decisions.decide(signal.pk)] * 50
    decided = at_once(*calls)
    assert len([intent for intent in decided if intent is not None]) == 1
    calls = [lambda: rounds.submit(granted.wallet.pk), lambda: decisions.decide(signal.pk)] * 25
    at_once(*calls)
    intent = TxIntent.objects.get()
    assert (intent.state, intent.nonce) == ("pending_inclusion", 0)
    finish(granted)
    mined = executions(granted, since)
    assert [transaction["hash"] for transaction in mined] == [TxSend.objects.get().tx_hash]
    assert TxReceipt.objects.filter(canonical=True).count() == 1
    assert Fill.objects.count() == Position.objects.count() == 1
    assert duplicates_observed() == duplicates
    assert_slots_have_no_gap(granted)


def test_deciding_and_submitting_race_from_the_start(granted: Rig) -> None:
    """Bells in no order at all: the submit may ring before there is anything decided."""
    since = head()
    signal = store()
    calls: list[Callable[[], object]] = [
        lambda: decisions.decide(signal.pk),
        lambda: rounds.submit(granted.wallet.pk),
        lambda: tasks.decide(signal.pk),
        tasks.sweep_signals,
        rounds.track,
    ] * 10
    random.Random(7).shuffle(calls)
    at_once(*calls)
    finish(granted)
    assert len(executions(granted, since)) == 1
    assert TxIntent.objects.count() == TxSend.objects.count() == Fill.objects.count() == 1
    assert_slots_have_no_gap(granted)


def test_many_signals_with_doubled_and_shuffled_bells(granted: Rig) -> None:
    since = head()
    signals = [store() for _ in range(12)]
    bells: list[Callable[[], object]] = [
        partial(decisions.decide, signal.pk) for signal in signals for _ in range(3)
    ]
    bells += [lambda: rounds.submit(granted.wallet.pk)] * 24
    random.Random(11).shuffle(bells)
    at_once(*bells)
    finish(granted)
    assert len(executions(granted, since)) == 12
    assert set(TxIntent.objects.values_list("intent_key", "state")) == {
        (signal.intent_key, "filled") for signal in signals
    }
    assert TxSend.objects.count() == Fill.objects.count() == 12
    assert_slots_have_no_gap(granted)


def test_two_submits_race_on_one_wallet_with_a_queue(granted: Rig) -> None:
    intents = [granted.intent(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD", "SOL-USD") * 4]
    since = head()
    at_once(*[lambda: rounds.submit(granted.wallet.pk)] * 2)
    finish(granted)
    assert len(executions(granted, since)) == len(intents)
    for intent in intents:
        intent.refresh_from_db()
    # Nonces follow the order of reservation, and that the order of intake.
    assert [intent.nonce for intent in intents] == list(range(len(intents)))
    assert_slots_have_no_gap(granted)


def test_submitters_race_with_followers(granted: Rig) -> None:
    intents = [granted.intent() for _ in range(6)]
    since = head()
    calls: list[Callable[[], object]] = [lambda: rounds.submit(granted.wallet.pk), rounds.track] * 8
    at_once(*calls)
    granted.mine()
    at_once(*calls)
    finish(granted)
    assert len(executions(granted, since)) == len(intents)
    moves = Counter(IntentTransition.objects.values_list("intent_id", "to_state"))
    assert set(moves.values()) == {1}
    assert_slots_have_no_gap(granted)


def test_a_close_rung_fifty_times_closes_once(granted: Rig) -> None:
    granted.intent()
    finish(granted)
    since = head()
    signal = store(side="CLOSE")
    calls: list[Callable[[], object]] = [
        lambda: decisions.decide(signal.pk),
        lambda: rounds.submit(granted.wallet.pk),
    ] * 25
    at_once(*calls)
    finish(granted)
    assert len(executions(granted, since)) == 1
    assert TxIntent.objects.filter(action="close").count() == 1
    assert Position.objects.get().state == "closed"
    assert Fill.objects.filter(action="close").count() == 1


def test_a_settled_signal_rung_again_does_nothing(granted: Rig) -> None:
    signal = store()
    decisions.decide(signal.pk)
    finish(granted)
    since, history = head(), IntentTransition.objects.count()
    for _ in range(3):
        assert decisions.decide(signal.pk) is None
        rounds.submit(granted.wallet.pk)
        granted.mine()
        granted.track()
    assert executions(granted, since) == []
    assert IntentTransition.objects.count() == history
    assert TxSend.objects.count() == 1
