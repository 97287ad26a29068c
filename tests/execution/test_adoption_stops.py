"""Plans that stop before the chain's count: what they draw and write, and what the last one of them has to judge."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import adoption, consumed
from execution_app.engine.adoption import Plan
from execution_app.engine.consumed import Use, Uses, What
from execution_app.errors import Refused
from execution_app.models import TxIntent, Wallet
from execution_app.node import signers
from execution_app.venues.orders import CloseOrder
from tests.execution import rows, staged
from tests.execution.test_adoption import BY, WHY, counts, found, open_order, waiting, waiting_close, wallet

__all__ = ["wallet"]  # the fixture
pytestmark = pytest.mark.usefixtures("database")
STOPS = "nonce 4 is a close that cannot be told before the book has followed what came before it: adopt again then"
Drawing = Callable[..., Plan]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> Drawing:
    """As drawn from what a look at a chain would find that has six transactions, and stops there."""

    def draw(*uses: Use, stops_at: int | None, **more: bool) -> Plan:
        monkeypatch.setattr(consumed, "look", lambda _: Uses(counts(6), 3, list(uses), stops_at))
        return adoption.plan(wallet, **more)

    return draw


def test_the_nonce_goes_on_as_far_as_is_told(plan: Drawing) -> None:
    drawn = plan(Use(3, What.FOREIGN, None, found(3)), stops_at=4)
    assert (drawn.next_nonce, drawn.stops, drawn.problem, drawn.changes) == (4, STOPS, "", True)
    drawn = plan(Use(3, What.FOREIGN, None, found(3)), stops_at=None)
    assert (drawn.next_nonce, drawn.stops, drawn.problem, drawn.changes) == (6, "", "", True)


def test_where_nothing_is_told_yet_there_is_nothing_to_adopt(plan: Drawing, wallet: Wallet) -> None:
    ours = Use(2, What.OURS, waiting(wallet))
    drawn = plan(ours, stops_at=3)
    why = f"{STOPS.replace('4', '3', 1)}; wallet status shows what is under way"
    assert (drawn.problem, drawn.next_nonce, drawn.changes) == (why, 3, True)
    with pytest.raises(Refused, match="cannot be told"):
        adoption.adopt(wallet, drawn, by=BY, reason=WHY)
    lost = plan(ours, Use(2, What.LOST, waiting(wallet)), stops_at=3)
    assert (lost.problem, lost.next_nonce) == ("", 3)


def test_what_speaks_against_any_plan_is_said_first(plan: Drawing, wallet: Wallet) -> None:
    mine = Use(2, What.UNSEEN, waiting(wallet))
    assert "no node shows what took nonces [2] of ours" in plan(mine, stops_at=3).problem
    assert plan(mine, stops_at=3, unseen_is_lost=True).problem == ""
    wallet.halted_reason = ""
    assert plan(stops_at=3).problem == "the wallet is not halted"


def test_what_was_given_away_above_the_chains_count_is_judged_by_the_last_plan(
    plan: Drawing, wallet: Wallet
) -> None:
    waits = waiting(wallet)
    Wallet.objects.filter(pk=wallet.pk).update(seen_next_nonce=9)
    wallet.refresh_from_db()
    drawn = plan(Use(3, What.FOREIGN, None, found(3)), stops_at=4)
    assert drawn.refused == []
    adoption.adopt(wallet, drawn, by=BY, reason=WHY)
    wallet.refresh_from_db()
    assert (wallet.next_nonce, wallet.seen_next_nonce) == (4, 9)
    assert plan(stops_at=None).refused == [waits]


def test_what_no_node_shows_refuses_in_its_own_plan(plan: Drawing, wallet: Wallet) -> None:
    waits = waiting(wallet)
    assert plan(Use(3, What.UNSEEN), stops_at=4).refused == [waits]


def test_no_wallet_goes_on_before_the_last_plan(
    monkeypatch: pytest.MonkeyPatch, plan: Drawing, wallet: Wallet
) -> None:
    monkeypatch.setattr(signers, "has_key", lambda _: True)
    behind = "the chain knows more of this wallet than this database: adopt comes first"
    drawn = plan(stops_at=3)
    assert adoption.objections(wallet, drawn) == [drawn.problem, behind]


# Closes that the book heard of from the venue before they were adopted


def closed(wallet: Wallet, ended_by: str = "owner", **fields: Any) -> None:
    ended = {"state": "closed", "ended_by": ended_by, "opened_at": "2025-06-01T00:00:00Z"}
    staged.trade(wallet, **(ended | fields))


def close_use(nonce: int = 3, **fields: Any) -> Use:
    order: dict[str, Any] = {"trader": rows.address(), "pair_index": 1, "trade_index": 0}
    order |= {"collateral_usdc": Decimal(5), "wanted_price": Decimal(1)} | fields
    return Use(nonce, What.FOREIGN, None, found(nonce), CloseOrder(**order))


@pytest.mark.parametrize("ended_by", ["owner", "closed_elsewhere"])
def test_a_part_of_what_has_ended_may_be_what_ended_it(plan: Drawing, wallet: Wallet, ended_by: str) -> None:
    closed(wallet, ended_by)
    other = staged.trade(wallet, trade_index=1)
    parts = [waiting_close(wallet, reduce_usdc=3), waiting_close(wallet, reduce_pct=50)]
    waiting_close(wallet)
    waiting_close(wallet, reduce_usdc=3, position_id=other.pk)
    waiting_close(wallet, reduce_usdc=3, symbol="ETH-USD")
    ended = waiting_close(wallet, reduce_usdc=3)
    rows.update("tx_intents", ended.pk, {"state": "rejected", "settled_at": staged.SETTLED})
    rows.update("tx_intents", parts[0].pk, {"state": "held", "reason": "degraded"})  # stored last by now
    parts[0].refresh_from_db()
    waiting_close(Wallet.objects.exclude(pk=wallet.pk).get(), reduce_usdc=3)
    waiting(wallet)
    assert plan(close_use(), stops_at=None).refused == parts
    matched = Use(4, What.WAITED, parts[0], found(4), close_use().order)
    assert plan(close_use(), matched, stops_at=None).refused == parts[1:]
    opened = Use(3, What.FOREIGN, None, found(3), open_order())
    assert plan(opened, matched, stops_at=None).refused == []


@pytest.mark.parametrize("ended_by", ["close", "take_profit", "stop_loss", "liquidation"])
def test_what_is_known_to_have_ended_otherwise_was_not_ended_so(
    plan: Drawing, wallet: Wallet, ended_by: str
) -> None:
    closed(wallet, ended_by)
    waiting_close(wallet, reduce_usdc=3)
    assert plan(close_use(), stops_at=None).refused == []


@pytest.mark.parametrize(
    "later",
    [
        {"state": "open", "ended_by": ""},
        {"ended_by": "close"},
    ],
)
def test_the_last_trade_of_the_slot_counts(plan: Drawing, wallet: Wallet, later: dict[str, Any]) -> None:
    part: TxIntent = waiting_close(wallet, reduce_usdc=3)
    closed(wallet)
    closed(wallet, "close", opened_at="2025-05-01T00:00:00Z")
    closed(wallet, state="void", ended_by="", opened_at="2025-07-01T00:00:00Z")
    assert plan(close_use(), stops_at=None).refused == [part]
    assert plan(close_use(trade_index=1), stops_at=None).refused == []
    closed(wallet, **{"opened_at": "2025-08-01T00:00:00Z", **later})
    assert plan(close_use(), stops_at=None).refused == []
