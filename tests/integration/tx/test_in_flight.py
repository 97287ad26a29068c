"""Slots of one wallet side by side: no gap, only the lowest is bumped, and never more in flight than permitted."""

from collections.abc import Callable

import pytest

from execution_app.engine import placing, rounds
from execution_app.errors import Retryable
from execution_app.models import IntentTransition, TxIntent, Wallet
from execution_app.states import UNMINED, Action
from tests import invariants
from tests.integration.tx.test_orchestrator_idempotent import at_once
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

LIMIT = 3
FOR_GOOD = "exceeds block gas limit"


def kinds(intent: TxIntent) -> list[str]:
    return list(intent.sends.order_by("attempt").values_list("kind", flat=True))


def most_in_flight(since: int) -> int:
    """The greatest number of unmined slots that the history ever shows at once after this line of it."""
    held: set[int] = set()
    most = 0
    moves = IntentTransition.objects.filter(pk__gt=since).order_by("id")
    for intent_id, state in moves.values_list("intent_id", "to_state"):
        (held.add if state in UNMINED else held.discard)(intent_id)
        most = max(most, len(held))
    return most


@pytest.mark.parametrize("hopeless", [0, 1, 2])
def test_a_slot_that_all_nodes_refuse_for_good_leaves_no_gap(rig: Rig, node: Proxy, hopeless: int) -> None:
    """It is filled by a cancel as soon as it is the lowest, so that what is behind it passes."""
    intents = [rig.intent(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD", "SOL-USD")]
    node.faults.refuse_nonce, node.faults.refusal = hopeless, FOR_GOOD
    rig.submit()
    assert intents[hopeless].sends.get().outcome == "invalid_permanent"
    rig.finish(3)
    for at, intent in enumerate(intents):
        intent.refresh_from_db()
        assert intent.state == ("final_cancelled" if at == hopeless else "filled")
        assert kinds(intent) == (["exec", "cancel"] if at == hopeless else ["exec"])
    assert len(invariants.executions(rig.wallet)) == 2
    invariants.check(node)


def test_the_next_is_bumped_only_once_the_one_before_it_is_mined(rig: Rig, node: Proxy) -> None:
    node.hold()
    first, second, third = (rig.intent(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"))
    rig.submit()
    for bumps in (1, 2):
        pass_a_minute()
        rig.track()
        assert [len(kinds(intent)) for intent in (first, second, third)] == [1 + bumps, 1, 1]
    rpc_call("eth_sendRawTransaction", "0x" + bytes(first.sends.get(attempt=2).raw).hex())
    rig.mine()
    rig.track()  # the first is mined now, and the next, whose timer ran out long ago, has become the lowest
    assert [len(kinds(intent)) for intent in (first, second, third)] == [3, 2, 1]
    node.release()
    rig.finish(2)
    invariants.check(node)


def submits(rig: Rig, times: int) -> list[Callable[[], object]]:
    def submit() -> None:
        try:
            rounds.submit(rig.wallet.pk)
        except Retryable:
            return  # its bell rings again

    return [submit] * times


def test_two_workers_never_have_more_in_flight_than_permitted(rig: Rig, node: Proxy) -> None:
    """Opens within the limit, exits within their own places beyond it."""
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        for _ in range(2):
            rig.intent(symbol=symbol)
    rig.run()
    Wallet.objects.update(max_in_flight=LIMIT)
    begun = IntentTransition.objects.latest("id").pk
    node.hold()
    opens = [rig.intent(symbol=symbol) for symbol in ("BTC-USD", "ETH-USD", "SOL-USD") for _ in range(3)]
    at_once(*submits(rig, 8))
    assert TxIntent.objects.filter(state__in=sorted(UNMINED)).count() == LIMIT
    exits = [rig.intent(Action.CLOSE, symbol=symbol) for symbol in ("BTC-USD", "ETH-USD", "SOL-USD")]
    for _ in range(4):
        pass_a_minute()
        at_once(*submits(rig, 8))
    in_flight = TxIntent.objects.filter(state__in=sorted(UNMINED))
    assert in_flight.filter(action=Action.OPEN).count() == LIMIT
    assert in_flight.count() == LIMIT + placing.EXIT_PLACES, "six positions to close, four places for exits"
    node.release()
    for _ in range(6):
        rig.finish()
    for intent in [*opens, *exits]:
        intent.refresh_from_db()
        assert intent.settled_at is not None
    assert most_in_flight(begun) == LIMIT + placing.EXIT_PLACES
    assert len({i.nonce for i in TxIntent.objects.exclude(nonce=None)}) == Wallet.objects.get().next_nonce
    invariants.check(node)
