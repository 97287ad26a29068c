"""The first of three endpoints follows the chain no more, and answers as well as any: nothing is decided by what it says."""

from execution_app.book import drift
from execution_app.engine import rounds
from execution_app.models import Position, TxIntent
from execution_app.states import Action
from tests.chaos.lagging_node import LaggingNode
from tests.guarded import closes, look, move_price, open_guarded
from tests.integration.tx.test_nodes_that_lie import nodes, settle, state
from tests.rig import Rig
from tests.timers import pass_a_minute

__all__ = ["nodes"]  # the fixture


def test_an_exit_of_what_was_opened_since_leaves(rig: Rig, nodes: list[LaggingNode]) -> None:
    with nodes[0].behind(0):
        intent = rig.intent()
        rig.run()
        assert state(intent) == "filled"
        close = rig.intent(Action.CLOSE)
        rig.run()
        assert state(close) == "filled"
    settle(rig, nodes, intent, close)


def test_a_level_fires_by_the_newest_price(rig: Rig, nodes: list[LaggingNode]) -> None:
    position = open_guarded(rig, trailing_stop_pct="5")
    with nodes[0].behind(0):
        move_price(90_000)
        rig.track()
        assert look().fired == 1
        assert [close.position for close in closes()] == [position]


def test_no_level_fires_and_no_best_price_follows_by_an_old_one(rig: Rig, nodes: list[LaggingNode]) -> None:
    """As where it stood still while the price was elsewhere, and is the one that is asked now."""
    both = [open_guarded(rig, is_long=is_long, trailing_stop_pct="5") for is_long in (True, False)]
    best = {position: position.protections.get().watermark for position in both}
    move_price(90_000)
    with nodes[0].behind(0):
        move_price(100_000)
        rig.track()
        assert look().fired == 0
        rounds.compare_positions()
        assert look().fired == 0
        assert {position: position.protections.get().watermark for position in both} == best
    assert not closes()


def test_a_level_that_the_venue_misses_closes_the_position(rig: Rig, nodes: list[LaggingNode]) -> None:
    """The trade is no miss of the venue's where one endpoint is of before it was opened."""
    with nodes[0].behind(0):
        position = open_guarded(rig, stop_loss="95000")
        rounds.compare_positions()
        drift.compare()  # whoever it is that answers
        assert Position.objects.get(pk=position.pk).missed_at_block is None
        assert look(90_000).fired == 0, "its level is the venue's first"
        rig.track()
        pass_a_minute()
        assert look().fired == 1


def test_a_close_is_not_called_off_for_a_trade_that_was_in_its_slot_before(
    rig: Rig, nodes: list[LaggingNode]
) -> None:
    rig.intent()
    rig.run()
    with nodes[0].behind(0):
        rig.intent(Action.CLOSE)
        rig.run()
        move_price(101_000)
        rig.intent()
        rig.run()
        close = rig.intent(Action.CLOSE)
        rig.submit()
        assert state(close) == "pending_inclusion"
        for look_anew in (rounds.compare_positions, drift.compare):
            look_anew()
            assert TxIntent.objects.get(pk=close.pk).cancel_asked_at is None
    settle(rig, nodes, close)
