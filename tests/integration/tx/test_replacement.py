"""A slot with several transactions: whichever is mined decides, and only one ever executes."""

import itertools
import time

import pytest
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import broadcast, cancels, offers, replace, reserve
from execution_app.gate import control
from execution_app.models import TxIntent, TxReceipt, TxSend, Wallet
from execution_app.node import fees
from execution_app.states import Origin, RestrictionKind
from tests import invariants
from tests.proxy import Proxy
from tests.rig import ETH, Rig, rpc_call
from tests.timers import pass_a_minute


def get_stuck(rig: Rig, node: Proxy, bumps: int = 1) -> TxIntent:
    """An open whose bytes a node accepted and keeps to itself, replaced this many times."""
    node.hold()
    intent = rig.intent()
    rig.submit()
    for _ in range(bumps):
        pass_a_minute()
        rig.track()
    assert intent.sends.count() == bumps + 1
    return intent


def finish(rig: Rig) -> None:
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()


@pytest.mark.parametrize(("release", "mined_attempt"), [("first", 0), ("all", 2)])
def test_whichever_is_mined_decides(rig: Rig, node: Proxy, release: str, mined_attempt: int) -> None:
    intent = get_stuck(rig, node, bumps=2)
    assert len(node.first_seen()) == 3
    node.release(release)
    finish(rig)
    intent.refresh_from_db()
    receipt = TxReceipt.objects.get(canonical=True)
    assert (intent.state, receipt.send.attempt, receipt.send.kind) == (
        "filled",
        mined_attempt,
        "bump" if mined_attempt else "exec",
    )
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_a_replacement_satisfies_the_pool_of_geth(rig: Rig, node: Proxy) -> None:
    intent = get_stuck(rig, node, bumps=4)
    sends = list(intent.sends.order_by("attempt"))
    assert {send.outcome for send in sends} == {"accepted"}
    for older, newer in itertools.pairwise(sends):
        assert newer.tip_wei * 1000 >= older.tip_wei * 1125
        assert newer.max_fee_wei * 1000 >= older.max_fee_wei * 1125
        assert newer.raw != older.raw
    node.release()
    finish(rig)
    invariants.check(node)


def test_an_unknown_answer_is_met_with_the_same_bytes(rig: Rig, node: Proxy) -> None:
    node.faults.refuse_next = 2
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.sends.get().outcome) == ("sending", "unknown")
    rig.submit()
    assert len(node.log) == 1, "offered again before its time"
    pass_a_minute()
    rig.submit()
    intent.refresh_from_db()
    assert intent.state == "sending"
    pass_a_minute()
    rig.submit()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    assert len(node.log) == 3
    assert len(node.first_seen()) == 1
    finish(rig)
    invariants.check(node)


def test_a_dropped_transaction_is_offered_again(rig: Rig, node: Proxy) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    node.release("none")
    pass_a_minute()
    broadcast.rebroadcast(rig.wallet.pk)
    assert [offer.tx_hash for offer in node.log] == [intent.sends.get().tx_hash] * 2
    finish(rig)
    invariants.check(node)


def test_only_the_lowest_slot_is_replaced(rig: Rig, node: Proxy) -> None:
    node.hold()
    intents = [rig.intent() for _ in range(3)]
    rig.submit()
    pass_a_minute()
    rig.track()
    assert [intent.sends.count() for intent in intents] == [2, 1, 1]
    node.release()
    finish(rig)
    assert len(invariants.executions(rig.wallet)) == 3
    invariants.check(node)


@pytest.mark.parametrize(("order_wins", "state"), [(True, "filled"), (False, "final_cancelled")])
def test_an_order_against_its_cancel(rig: Rig, node: Proxy, *, order_wins: bool, state: str) -> None:
    """The sender died after the node had the bytes and before it said so; then reduce-only came."""
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    (leased,) = broadcast._lease(rig.wallet.pk, None).sends
    node.hold()
    rig_offers(leased)
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    pass_a_minute()
    rig.submit()
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    node.release("first" if order_wins else "all")
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == state
    assert len(invariants.executions(rig.wallet)) == int(order_wins)
    invariants.check(node)


def rig_offers(send: TxSend) -> None:
    """The bytes leave, and nothing is recorded."""
    offers._ask_endpoints([send], time.monotonic())


def test_a_stuck_send_is_counted_once(rig: Rig, node: Proxy, settings: Settings) -> None:
    """At the fee ceiling every look finds it stuck again; the operator's counter must not run away."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"enable_rbf": False})
    before = meters.TX_STUCK._value.get()
    intent = get_stuck(rig, node, bumps=0)
    pass_a_minute()
    for _ in range(5):
        rig.track()
    assert intent.sends.count() == 1
    assert meters.TX_STUCK._value.get() == before + 1
    node.release()
    finish(rig)
    invariants.check(node)


def test_without_replacement_a_hopeless_slot_is_cancelled_all_the_same(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    """Otherwise bytes that no node will ever take would block every exit behind them."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"enable_rbf": False})
    intent = get_stuck(rig, node, bumps=0)
    node.release("none")
    intent.sends.update(outcome="invalid_permanent")
    pass_a_minute()
    rig.track()
    assert list(intent.sends.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert invariants.executions(rig.wallet) == []
    invariants.check(node)


def test_a_higher_fee_that_cannot_be_paid_keeps_nobody_from_the_older_bytes(rig: Rig, node: Proxy) -> None:
    """The node was restarted and has forgotten them, and the wallet can pay the lower fee alone."""
    intent = get_stuck(rig, node, bumps=0)
    intent.refresh_from_db()
    assert intent.value_wei is not None
    assert intent.gas_limit is not None
    cost_wei = int(intent.value_wei) + intent.gas_limit * int(intent.sends.get().max_fee_wei)
    node.release("none")
    rpc_call("anvil_setBalance", rig.wallet.address, hex(cost_wei))
    pass_a_minute()
    rig.track()
    assert list(intent.sends.order_by("attempt").values_list("kind", "outcome")) == [
        ("exec", "accepted"),
        ("bump", "insufficient_funds"),
    ]
    finish(rig)
    intent.refresh_from_db()
    assert (intent.state, TxReceipt.objects.get().send.attempt) == ("filled", 0)
    invariants.check(node)


def test_what_is_to_be_cancelled_is_not_offered_behind_its_cancel(rig: Rig, node: Proxy) -> None:
    intent = get_stuck(rig, node, bumps=0)
    node.release("none")
    cancels.request(by="test")
    rpc_call("anvil_setBalance", rig.wallet.address, hex(1))
    sent = len(node.log)
    for _ in range(2):
        pass_a_minute()
        rig.track()
    kinds = dict(intent.sends.values_list("tx_hash", "kind"))
    assert {kinds[offer.tx_hash] for offer in node.log[sent:]} == {"cancel"}
    rpc_call("anvil_setBalance", rig.wallet.address, hex(ETH))
    pass_a_minute()
    rig.track()
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    invariants.check(node)


def test_a_fee_is_raised_ten_times_and_no_more(rig: Rig, node: Proxy) -> None:
    intent = get_stuck(rig, node, bumps=10)
    for _ in range(2):
        pass_a_minute()
        rig.track()
    assert intent.sends.count() == 11
    node.release()
    finish(rig)
    invariants.check(node)


def test_bytes_that_nobody_has_seen_are_cancelled_at_the_ceiling_itself(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    """There is no room for an eighth more, and none is needed: no node compares it with anything."""
    intent = rig.intent()
    assert reserve.reserve(rig.wallet.pk) == 1
    order = intent.sends.get()
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": order.max_fee_wei / 10**9}
    )
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="")
    rig.submit()
    cancel = intent.sends.get(kind="cancel")
    assert (cancel.max_fee_wei, cancel.tip_wei) == (order.max_fee_wei, order.tip_wei + 1)
    assert cancel.attempt == 1
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"
    assert [offer.tx_hash for offer in node.log] == [cancel.tx_hash]
    invariants.check(node)


@pytest.mark.parametrize("why", ["halted", "dry", "behind"])
def test_what_is_not_to_be_raised_stays_as_it_is(rig: Rig, node: Proxy, why: str) -> None:
    intent = get_stuck(rig, node, bumps=0)
    nonce = 0
    if why == "halted":
        Wallet.objects.update(halted_reason="drill")
    elif why == "dry":
        control.impose(RestrictionKind.DRY, Origin.COMMAND, by="test", reason="")
    else:
        nonce = 1  # the chain has taken it meanwhile, and what is behind it is nobody's yet
    pass_a_minute()
    assert replace.replace(rig.wallet.pk, fees.Market(1, 1), nonce) is None
    assert intent.sends.count() == 1
    if why == "behind":
        raised = replace.replace(rig.wallet.pk, fees.Market(1, 1), 0)
        assert raised is not None
        assert (raised.attempt, raised.kind, raised.leased_at is None) == (1, "bump", False)


def test_the_counters_of_replacements_count_each_once(rig: Rig, node: Proxy) -> None:
    stuck, raised = meters.TX_STUCK._value.get(), meters.RBF_ATTEMPT._value.get()
    intent = get_stuck(rig, node, bumps=2)
    assert (meters.TX_STUCK._value.get(), meters.RBF_ATTEMPT._value.get()) == (stuck + 2, raised + 2)
    assert [send.stuck_at is None for send in intent.sends.order_by("attempt")] == [False, False, True]
