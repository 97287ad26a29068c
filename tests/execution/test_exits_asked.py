"""Exits that nobody signalled, row by row: which are asked for again, as what, and how often."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import exits, further
from execution_app.models import Position, TxIntent
from execution_app.states import IN_FLIGHT, IntentState
from tests.execution import rows, scenes

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
KEY = "sig:exits:1"


@pytest.fixture
def held() -> Position:
    trader = rows.trader()
    rows.wallet()
    rows.wallet(trader_id=trader)
    return Position.objects.get(pk=rows.position(trader_id=trader))


def wallet_of(position: Position) -> int:
    return int(rows.one("SELECT id FROM wallets WHERE trader_id = %s", position.trader_id))


def failed(held: Position, key: str = KEY, state: IntentState = S.FINAL_REVERTED, **fields: Any) -> TxIntent:
    sound = {"wallet_id": wallet_of(held), "position_id": held.pk, "intent_key": key}
    return scenes.close(state, **(sound | fields))


def keys() -> list[str]:
    return list(TxIntent.objects.order_by("id").values_list("intent_key", flat=True))


# Asked again


def test_a_close_that_failed_is_asked_for_again_as_it_was(held: Position) -> None:
    first = failed(
        held,
        source="desk",
        road="onchain",
        slippage_pct="0.7",
        tg_user_id=77,
        symbol="ETH-USD",
        only_position=True,
        reduce_usdc=3,
        accepted_at="2026-02-03T04:05:06Z",
    )
    again = exits.ask_again(first)
    assert again is not None
    again = TxIntent.objects.get(pk=again.pk)
    assert (again.intent_key, again.state, again.nonce) == (f"{KEY}#2", S.PENDING, None)
    assert (again.trader_id, again.wallet_id, again.position_id) == (
        held.trader_id,
        first.wallet_id,
        held.pk,
    )
    assert (again.tg_user_id, again.source, again.road) == (77, "desk", "onchain")
    assert (again.action, again.symbol, again.slippage_pct) == ("close", "ETH-USD", Decimal("0.7"))
    assert (again.only_position, again.reduce_usdc, again.reduce_pct) == (True, 3, None)
    assert again.accepted_at == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert again.transitions.get().by == "engine"


def test_a_share_is_asked_for_again_as_that_share(held: Position) -> None:
    again = exits.ask_again(failed(held, reduce_pct=40))
    assert again is not None
    again = TxIntent.objects.get(pk=again.pk)
    assert (again.reduce_pct, again.reduce_usdc, again.only_position) == (40, None, False)


@pytest.mark.parametrize("action", ["open", "margin"])
def test_nothing_but_a_close_is_asked_for_again(held: Position, action: str) -> None:
    made = {"margin": scenes.margin, "open": scenes.intent}[action](S.FINAL_REVERTED)
    assert exits.ask_again(made) is None
    assert TxIntent.objects.count() == 1


def test_three_failures_that_cost_gas_are_enough(held: Position) -> None:
    failed(held)
    failed(held, f"{KEY}#2", S.FINAL_CANCELLED)
    third = failed(held, f"{KEY}#3", S.VENUE_CANCELLED)
    assert exits.ask_again(third) is None
    assert keys() == [KEY, f"{KEY}#2", f"{KEY}#3"]


def test_what_lapsed_cost_nothing(held: Position) -> None:
    failed(held)
    failed(held, f"{KEY}#2", S.LAPSED, road="gateway")
    again = exits.ask_again(failed(held, f"{KEY}#3", S.FINAL_CANCELLED))
    assert again is not None
    assert again.intent_key == f"{KEY}#4"


def test_failures_of_others_do_not_count(held: Position) -> None:
    other = Position.objects.get(pk=rows.position(trader_id=held.trader_id, trade_index=1))
    failed(held)
    failed(other, f"{KEY}#7")
    failed(held, f"{KEY}#8", symbol="ETH-USD")
    failed(held, f"{KEY}#9", trader_id=rows.trader(), wallet_id=rows.wallet())
    failed(held, f"{KEY}1")
    last = failed(held, f"{KEY}#2")
    assert exits.ask_again(last) is not None


@pytest.mark.parametrize("state", [S.FINAL_REVERTED, S.FINAL_CANCELLED, S.VENUE_CANCELLED])
def test_each_costly_end_counts(held: Position, state: IntentState) -> None:
    for number in ("", "#2"):
        failed(held, KEY + number, state)
    assert exits.ask_again(failed(held, f"{KEY}#3", state)) is None


# What a close of all has left


def filled(held: Position, **fields: Any) -> TxIntent:
    return failed(held, state=S.FILLED, **fields)


def test_what_a_close_of_all_has_left_is_asked_for(held: Position) -> None:
    """Of the position that was closed, which a reorg may have made another than the close's own."""
    fresh = Position.objects.get(pk=rows.position(trader_id=held.trader_id, trade_index=1))
    rows.update("positions", held.pk, {"state": "void"})
    rest = exits.ask_rest(filled(held), fresh.pk)
    assert rest is not None
    rest = TxIntent.objects.get(pk=rest.pk)
    assert (rest.intent_key, rest.position_id, rest.reduce_usdc) == (f"{KEY}#2", fresh.pk, None)
    assert (rest.action, rest.state) == ("close", S.PENDING)


@pytest.mark.parametrize("state", ["open", "closed"])
def test_nobody_asked_for_the_rest_of_another_trade(held: Position, state: str) -> None:
    """It had come into the slot of the one that was meant, and that one is no void row."""
    other = rows.position(trader_id=held.trader_id, trade_index=1)
    rows.update("positions", held.pk, {"state": state, "ended_by": "close" if state == "closed" else ""})
    assert exits.ask_rest(filled(held), other) is None
    assert TxIntent.objects.count() == 1


@pytest.mark.parametrize("part", [{}, {"reduce_usdc": 3}, {"reduce_pct": 50}])
@pytest.mark.parametrize("left", ["open", "closed"])
def test_what_a_close_missed_is_asked_for_again(held: Position, left: str, part: dict[str, int]) -> None:
    """A reorg dealt the slots out anew, and the close took another trade in the one that it named."""
    opener = scenes.intent(S.FILLED)
    rows.update("positions", held.pk, {"state": "void", "opened_by_id": opener.pk})
    ended_by = "close" if left == "closed" else ""
    place = {"trader_id": held.trader_id, "trade_index": 1}
    other = rows.position(**place, state=left, ended_by=ended_by)
    rows.fill(position_id=other)
    again = exits.ask_rest(filled(held, **part), other)
    assert again is not None
    again = TxIntent.objects.get(pk=again.pk)
    assert (again.position_id, again.reduce_usdc) == (held.pk, part.get("reduce_usdc"))
    assert again.reduce_pct == part.get("reduce_pct")
    rows.fill(intent_id=opener.pk, position_id=other)
    if left == "closed" or part:
        close = filled(held, intent_key="sig:exits:2", **part)
        assert exits.ask_rest(close, other) is None, "it is what was meant"


@pytest.mark.parametrize("part", [{"reduce_usdc": 3}, {"reduce_pct": 50}])
def test_who_closed_a_part_wanted_the_rest_to_stay(held: Position, part: dict[str, int]) -> None:
    assert exits.ask_rest(filled(held, **part), held.pk) is None


@pytest.mark.parametrize("state", ["closed", "void"])
def test_a_close_that_left_nothing_is_done(held: Position, state: str) -> None:
    rows.position(trader_id=held.trader_id, trade_index=1)
    rows.update("positions", held.pk, {"state": state, "ended_by": "close" if state == "closed" else ""})
    assert exits.ask_rest(filled(held), held.pk) is None
    assert TxIntent.objects.count() == 1


def test_an_open_has_no_rest(held: Position) -> None:
    assert exits.ask_rest(scenes.intent(S.FILLED), held.pk) is None


# Asked by a person


def test_a_close_of_one_position_is_asked_for_once(held: Position) -> None:
    close = exits.ask_intent(held, key="flatten:1", by="ann", reduce_usdc=Decimal(2))
    assert close is not None
    close = TxIntent.objects.get(pk=close.pk)
    assert (close.intent_key, close.state, close.action) == ("flatten:1", S.PENDING, "close")
    assert (close.trader_id, close.wallet_id) == (held.trader_id, wallet_of(held))
    assert close.tg_user_id == held.trader.tg_user_id
    assert (close.symbol, close.slippage_pct) == (held.symbol, Decimal("0.5"))
    assert (close.position_id, close.only_position) == (held.pk, True)
    assert (close.reduce_usdc, close.reduce_pct) == (2, None)
    assert close.transitions.get().by == "ann"
    assert exits.ask_intent(held, key="flatten:1", by="bob") == close
    assert exits.ask_intent(held, key="flatten:2", by="bob") != close


def test_who_asks_is_told_the_wallet(held: Position) -> None:
    assert exits.ask(held, key="flatten:1", by="ann", reduce_pct=Decimal(30)) == wallet_of(held)
    close = TxIntent.objects.get()
    assert (close.reduce_pct, close.reduce_usdc, close.position_id) == (30, None, held.pk)
    assert close.transitions.get().by == "ann"


def test_without_a_wallet_nothing_is_asked_for(held: Position) -> None:
    bare = Position.objects.get(pk=rows.position())
    assert exits.ask_intent(bare, key="flatten:1", by="ann") is None
    assert exits.ask(bare, key="flatten:1", by="ann") is None
    assert not TxIntent.objects.exists()


# What may still become a position


@pytest.mark.parametrize("state", sorted(S))
def test_an_open_in_flight_may_still_become_a_position(state: IntentState) -> None:
    if state in (S.CHANGED, S.SIMULATED, S.LAPSED):
        return  # no end of an open's on-chain
    scenes.intent(state)
    assert exits.opens_under_way() == (state in IN_FLIGHT)


def test_an_increase_makes_a_position_larger(held: Position) -> None:
    sized = {"is_long": True, "collateral_usdc": 5, "leverage_x": 2, "road": "gateway"}
    scenes.intent(S.SENDING, action="increase", position_id=held.pk, **sized)
    scenes.close(S.SENDING)
    scenes.margin(S.SENDING)
    scenes.intent(S.SENDING, settled_at="2026-01-01T00:00:00Z")
    scenes.intent(S.PENDING)
    assert exits.opens_under_way() == 1


# Further intents of one request


def test_further_intents_are_counted_within_their_request(held: Position) -> None:
    """Beside it: one from before it, another trader's, another symbol's and another request's."""
    failed(held, f"{KEY}#90")
    first = failed(held)
    failed(held, f"{KEY}#91", symbol="ETH-USD")
    failed(held, f"{KEY}#92", trader_id=rows.trader(), wallet_id=rows.wallet())
    failed(held, f"{KEY}1#93")
    second = further.ask_further(first, held, Decimal(4))
    assert (second.intent_key, second.reduce_usdc) == (f"{KEY}#2", 4)
    third = further.ask_further(second, None, None)
    assert (third.intent_key, third.position_id, third.reduce_usdc) == (f"{KEY}#3", None, None)


def test_a_number_that_is_taken_is_another_shares(held: Position) -> None:
    first = failed(held)
    for number in (2, 3):
        failed(held, f"{KEY}#{number}", trader_id=rows.trader(), wallet_id=rows.wallet())
    assert further.ask_further(first, held, None).intent_key == f"{KEY}#4"
    assert TxIntent.objects.count() == 4


def test_the_next_number_is_tried_until_one_is_free(monkeypatch: pytest.MonkeyPatch, held: Position) -> None:
    first, tried = failed(held), list[str]()

    def taken_but_the_third(_intent: TxIntent, key: str, *_: Any) -> tuple[TxIntent, bool]:
        tried.append(key.removeprefix(KEY))
        assert len(tried) <= 3
        return first, len(tried) == 3

    monkeypatch.setattr(further, "_open_further", taken_but_the_third)
    assert further.ask_further(first, held, None) is first
    assert tried == ["#2", "#3", "#4"]
