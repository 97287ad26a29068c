"""Blocks leave the chain: what was provisional is taken back and made again, what is final stays."""

from collections import Counter
from collections.abc import Callable

import pytest

from execution_app.engine import heads
from execution_app.errors import Disagreement
from execution_app.gate import watch
from execution_app.models import Fill, Position, TxIntent, TxReceipt
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute


def reorganise(depth: int) -> None:
    """Replace the newest blocks by empty ones; their transactions do not return to the pool."""
    rpc_call("anvil_reorg", depth, [])


def finish(rig: Rig) -> None:
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()


def path(intent: TxIntent) -> list[str]:
    return list(intent.transitions.order_by("id").values_list("to_state", flat=True))


def test_an_order_whose_block_left_is_mined_again(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    first_block = TxReceipt.objects.get().block_hash
    reorganise(1)
    node.reset_pool()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    assert not hasattr(TxIntent.objects.get(pk=intent.pk), "venue_order")
    pass_a_minute()
    rig.track()
    finish(rig)
    intent.refresh_from_db()
    assert intent.state == "filled"
    assert path(intent)[4:] == ["pending_inclusion", "mined", "ordered"] * 2 + ["filled"]
    assert TxReceipt.objects.get(canonical=True).block_hash != first_block
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def meanwhile(monkeypatch: pytest.MonkeyPatch, others: Callable[[], None]) -> None:
    """Let others work once, after a pass has read the book and before it hears which blocks stand."""
    votes, done = heads._votes, list[bool]()

    def late(numbers: list[int]) -> dict[int, Counter[str]]:
        if not done:
            done.append(True)
            others()
        return votes(numbers)

    monkeypatch.setattr(heads, "_votes", late)


def test_what_another_pass_has_found_in_another_block_is_not_taken_back(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    left = TxReceipt.objects.get().block_hash

    def others() -> None:
        reorganise(1)
        node.reset_pool()
        rig.track()
        pass_a_minute()
        rig.track()
        rig.mine()
        rig.track()

    meanwhile(monkeypatch, others)
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "ordered"
    assert path(intent).count("pending_inclusion") == 2  # the first, and the one reorg's
    assert TxReceipt.objects.get(canonical=True).block_hash != left
    finish(rig)
    invariants.check(node)


def test_a_fill_that_another_pass_has_found_in_another_block_stays(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    left = Fill.objects.get().block_hash

    def others() -> None:
        reorganise(1)
        rig.track()
        rig.keep()
        rig.track()

    meanwhile(monkeypatch, others)
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "filled"
    assert Fill.objects.get().block_hash != left
    rig.mine(4)
    rig.track()
    invariants.check(node)


def test_a_fill_whose_block_left_is_taken_back_and_made_again(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    intent.refresh_from_db()
    assert (intent.state, intent.settled_at) == ("filled", None)
    assert Position.objects.get().state == "open"
    reorganise(1)
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "ordered"
    assert not Fill.objects.exists()
    assert Position.objects.get().state == "void"
    rig.keep()
    rig.track()
    assert Position.objects.filter(state="open").count() == 1
    rig.mine(4)
    rig.track()
    intent.refresh_from_db()
    assert path(intent)[-3:] == ["filled", "ordered", "filled"]
    assert intent.settled_at is not None
    invariants.check(node)


def test_order_and_fill_leave_together(rig: Rig, node: Proxy) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    reorganise(2)
    node.reset_pool()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    assert not Fill.objects.exists()
    assert not Position.objects.filter(state="open").exists()
    pass_a_minute()
    rig.track()
    finish(rig)
    intent.refresh_from_db()
    assert intent.settled_at is not None
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_what_is_settled_never_moves(rig: Rig, node: Proxy) -> None:
    """A chain that takes back final blocks is not believed, and nobody trades on it."""
    intent = rig.intent()
    rig.run()
    intent.refresh_from_db()
    assert intent.settled_at is not None
    before = path(intent)
    reorganise(6)
    offered = len(node.log)
    with pytest.raises(Disagreement):
        heads.follow()
    waiting = rig.intent()
    rig.submit()
    waiting.refresh_from_db()
    intent.refresh_from_db()
    assert (intent.state, path(intent)) == ("filled", before)
    assert Position.objects.get().state == "open"
    assert (waiting.state, waiting.nonce) == ("held", None)
    assert len(node.log) == offered
    assert "was final here" in watch.chain_problem()
