"""How a close finds what it closes: one position for each intent, and what it waits for."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app.book import growth, positions
from execution_app.engine import resting, waiting
from execution_app.models import Position, TxIntent, Wallet
from execution_app.states import IntentState, Mode
from tests.execution import rows
from tests.execution.intents import again, in_slot, opened, shortly, waiting_close
from tests.execution.intents import waiting as asked_for

pytestmark = pytest.mark.usefixtures("database")
NOT_FILLED = "an earlier open on this symbol is not filled yet"
NEVER = "a live position is never closed by a simulated fill"
SETTLED = "2026-01-01T00:00:00Z"
RESTS: rows.Row = {"order_type": "limit", "limit_price": 50_000, "road": "onchain"}


@pytest.fixture
def wallet() -> Wallet:
    """With a position and an open of another trader beside it."""
    beside = Wallet.objects.get(pk=rows.wallet())
    opened(beside)
    asked_for(beside, state="held")
    return Wallet.objects.get(pk=rows.wallet())


def bind(close: TxIntent, mode: Mode = Mode.LIVE) -> bool:
    with transaction.atomic():
        return waiting._bind(close, mode)


def told(intent: TxIntent) -> tuple[str, str, str]:
    intent = again(intent)
    return intent.state, intent.reason, intent.reason_detail


def shares(close: TxIntent) -> list[tuple[Any, ...]]:
    """Of each intent of the request, oldest first."""
    mine = TxIntent.objects.filter(intent_key__startswith=close.intent_key).order_by("id")
    return list(mine.values_list("position_id", "reduce_usdc"))


def resting_order(wallet: Wallet, nonce: int = 1, **fields: Any) -> TxIntent:
    return in_slot(wallet, nonce, IntentState.ORDERED, **{**RESTS, **fields})


# A position that was named


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.DRY])
def test_a_close_takes_the_position_it_names(wallet: Wallet, mode: Mode) -> None:
    position = opened(wallet, mode=mode.value)
    opened(wallet, mode=mode.value)
    close = waiting_close(wallet, position_id=position.pk)
    assert bind(close, mode)
    assert shares(close) == [(position.pk, None)]
    assert again(close).holds_position


@pytest.mark.parametrize(
    ("mode", "settled", "ends"), [("LIVE", None, False), ("LIVE", SETTLED, True), ("DRY", None, True)]
)
def test_what_is_closed_has_to_be_so_finally(
    wallet: Wallet, mode: str, settled: str | None, ends: bool
) -> None:
    position = opened(wallet, mode=mode, state="closed", settled_at=settled)
    close = waiting_close(wallet, position_id=position.pk)
    assert bind(close, Mode(mode)) is False
    if ends:
        assert told(close) == ("no_op", "no_position", f"position {position.pk} is closed already")
    else:
        words = f"position {position.pk} is closed, not finally yet"
        assert told(close) == ("pending", "waits_for_earlier_close", words)


@pytest.mark.parametrize("only", [True, False])
def test_what_was_asked_for_while_live_is_not_used_up_by_a_simulation(wallet: Wallet, only: bool) -> None:
    position = opened(wallet)
    opened(wallet, mode="DRY")
    close = waiting_close(wallet, position_id=position.pk, only_position=only)
    assert bind(close, Mode.DRY) is False
    assert told(close) == ("held", "live_position_in_dry", NEVER)
    assert shares(close) == [(position.pk, None)]


@pytest.mark.parametrize("named", [{"state": "void"}, {"mode": "DRY"}, {"mode": "DRY", "state": "void"}])
def test_who_named_what_is_not_there_looks_for_another(wallet: Wallet, named: dict[str, Any]) -> None:
    position = opened(wallet)
    close = waiting_close(wallet, position_id=opened(wallet, **named).pk)
    assert bind(close)
    assert shares(close) == [(position.pk, None)]


def test_who_finds_no_other_yet_lets_the_one_go(wallet: Wallet) -> None:
    asked_for(wallet)
    void = opened(wallet, state="void")
    close = waiting_close(wallet, position_id=void.pk, close_usdc=5, holds_position=True)
    assert bind(close) is False
    stored = again(close)
    assert (stored.position, stored.holds_position, stored.close_usdc) == (None, False, None)
    assert stored.reason == "waits_for_earlier_order"


def test_who_wants_this_very_one_takes_no_other(wallet: Wallet) -> None:
    position = opened(wallet, state="void")
    opened(wallet)
    close = waiting_close(wallet, position_id=position.pk, only_position=True)
    assert bind(close) is False
    assert told(close) == ("no_op", "no_position", f"position {position.pk} was never opened")


def test_what_was_opened_anew_in_its_own_row_meanwhile_is_not_given_up(wallet: Wallet) -> None:
    """The row was read with all others of the turn; the fill was stored behind that."""
    position = opened(wallet, state="void")
    close = waiting_close(wallet, position_id=position.pk, only_position=True)
    assert close.position is not None
    assert close.position.state == "void"
    rows.update("positions", position.pk, {"state": "open"})
    assert bind(close) is False
    anew = f"position {position.pk} is opened anew after a reorg"
    assert told(close) == ("pending", "waits_for_earlier_order", anew)
    assert bind(again(close))
    assert again(close).holds_position


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_reorg_between_two_questions_takes_no_exit_away(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, *, comes_again: bool
) -> None:
    """The open was filled when it was asked for, and its position is void when that is; then it may be filled again."""
    order = in_slot(wallet, 1, IntentState.FILLED)
    position = Position.objects.get(pk=rows.position(trader_id=wallet.trader_id))
    rows.fill(intent_id=order.pk, position_id=position.pk)
    close = waiting_close(wallet)
    asked = positions.closable

    def in_between(*words: Any) -> Any:
        monkeypatch.setattr(positions, "closable", asked)
        rows.update("positions", position.pk, {"state": "void"})
        rows.update("tx_intents", order.pk, {"state": "ordered"})
        found = list(asked(*words))
        if comes_again:
            rows.update("positions", position.pk, {"state": "open"})
            rows.update("tx_intents", order.pk, {"state": "filled"})
        return found

    monkeypatch.setattr(positions, "closable", in_between)
    assert bind(close) is comes_again
    assert told(close)[:2] == (("pending", "") if comes_again else ("pending", "waits_for_earlier_order"))


# What is looked for


def test_what_was_held_is_not_opened_after_somebody_asked_to_be_out(wallet: Wallet) -> None:
    pending, held = asked_for(wallet), asked_for(wallet, state="held")
    elsewhere = asked_for(wallet, state="held", symbol="ETH-USD")
    close = waiting_close(wallet)
    later = asked_for(wallet, state="held")
    with CaptureQueriesContext(connection) as asked:
        assert bind(close) is False
    assert told(held) == ("rejected", "superseded_by_close", f"{close.intent_key} closes BTC-USD")
    assert [again(one).state for one in (pending, elsewhere, later)] == ["pending", "held", "held"]
    assert told(close) == ("pending", "waits_for_earlier_order", NOT_FILLED)
    locks = [query["sql"] for query in asked if "FOR UPDATE" in query["sql"]]
    assert any('FROM "tx_intents"' in lock for lock in locks)


def test_no_live_exit_waits_for_a_simulation(wallet: Wallet) -> None:
    asked_for(wallet, mode="DRY", wanted_price=1, keeper_due_at=shortly(30))
    close, simulated = waiting_close(wallet), waiting_close(wallet)
    assert bind(close) is False
    assert told(close) == ("no_op", "no_position", "no open LIVE position on BTC-USD")
    assert bind(simulated, Mode.DRY) is False
    assert told(simulated) == ("pending", "waits_for_earlier_order", NOT_FILLED)


@pytest.mark.parametrize(
    ("part", "mode", "taken_back"),
    [
        ({}, Mode.LIVE, True),
        ({"reduce_pct": 50}, Mode.LIVE, False),
        ({"reduce_usdc": 1}, Mode.LIVE, False),
        ({}, Mode.DRY, False),
    ],
)
def test_what_rests_is_taken_back_and_waited_for_by_who_leaves_all(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, part: dict[str, Any], mode: Mode, taken_back: bool
) -> None:
    asked: list[TxIntent] = []
    monkeypatch.setattr(resting, "take_back_before", asked.append)
    resting_order(wallet)
    close = waiting_close(wallet, **part)
    assert bind(close, mode) is False
    assert asked == [close] * taken_back
    assert told(close)[0] == ("pending" if taken_back else "no_op")


def test_a_close_in_dry_of_what_is_live_waits_for_live(wallet: Wallet) -> None:
    opened(wallet)
    close = waiting_close(wallet)
    assert bind(close, Mode.DRY) is False
    assert told(close) == ("held", "live_position_in_dry", NEVER)


def test_a_close_in_live_of_what_is_simulated_finds_nothing(wallet: Wallet) -> None:
    opened(wallet, mode="DRY")
    close = waiting_close(wallet)
    assert bind(close) is False
    assert told(close) == ("no_op", "no_position", "no open LIVE position on BTC-USD")
    nothing = waiting_close(wallet, symbol="ETH-USD")
    assert bind(nothing, Mode.DRY) is False
    assert told(nothing) == ("no_op", "no_position", "no open DRY position on ETH-USD")


# Shares


def test_each_position_has_an_intent_of_its_own_and_what_is_not_filled_yet_another(wallet: Wallet) -> None:
    first, second = opened(wallet), opened(wallet)
    asked_for(wallet)
    close = waiting_close(wallet)
    assert bind(close)
    assert close.position == first
    assert shares(close) == [(first.pk, None), (second.pk, None), (None, None)]
    assert again(close).holds_position
    assert told(close) == ("pending", "", "")


@pytest.mark.parametrize(
    ("usdc", "waits", "parts"),
    [
        (3, True, [3]),
        (5, True, [5]),
        (7, True, [5, 2]),
        (10, True, [5, 5]),
        (12, True, [5, 5, 2]),
        (12, False, [5, 5]),
    ],
)
def test_an_amount_is_taken_from_the_oldest_first(
    wallet: Wallet, usdc: int, waits: bool, parts: list[int]
) -> None:
    found: list[int | None] = [opened(wallet).pk, opened(wallet).pk, None]
    if waits:
        asked_for(wallet)
    close = waiting_close(wallet, reduce_usdc=usdc)
    assert bind(close)
    assert shares(close) == list(zip(found, parts, strict=False))
    assert (close.reduce_usdc, again(close).close_usdc) == (parts[0], parts[0])


@pytest.mark.parametrize("taken", [True, False])
def test_an_amount_waits_until_it_is_known_what_each_position_has(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, taken: bool
) -> None:
    _, second = opened(wallet), opened(wallet)
    place, name = (positions, "is_taken") if taken else (growth, "is_under_way")
    monkeypatch.setattr(place, name, lambda position, *_: position == second)
    close, all_of_it = waiting_close(wallet, reduce_usdc=7), waiting_close(wallet)
    assert bind(close) is False
    words = "an earlier close on this symbol is not finished"
    assert told(close) == ("pending", "waits_for_earlier_close", words)
    assert shares(close) == [(None, 7)]
    assert bind(all_of_it)


def test_only_a_row_that_is_where_it_was_seen_is_bound(wallet: Wallet) -> None:
    position, close = opened(wallet), waiting_close(wallet)
    other = waiting_close(wallet)
    rows.update("tx_intents", close.pk, {"state": "held"})
    bind(close)
    assert shares(close) == [(None, None)]
    assert shares(other) == [(None, None)]
    assert close.position == position


def test_what_is_written_with_a_share_is_of_now(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    opened(wallet)
    close = waiting_close(wallet)
    monkeypatch.setattr(waiting, "_hold_position", lambda *_: True)
    TxIntent.objects.update(updated_at=SETTLED)
    assert bind(close)
    assert again(close).updated_at.isoformat() != "2026-01-01T00:00:00+00:00"


# The position for itself


@pytest.mark.parametrize(
    ("place", "name", "reason", "words"),
    [
        (
            positions,
            "is_taken",
            "waits_for_earlier_close",
            "an earlier close of this position is not finished",
        ),
        (growth, "is_under_way", "waits_for_earlier_order", "an increase of this position is under way"),
    ],
)
def test_a_position_that_changes_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, *, place: Any, name: str, reason: str, words: str
) -> None:
    position = opened(wallet)
    close = waiting_close(wallet, position_id=position.pk)
    monkeypatch.setattr(place, name, lambda *_: True)
    assert bind(close) is False
    assert told(close) == ("pending", reason, words)
    assert not again(close).holds_position


def test_who_holds_it_already_goes_on_with_the_same_part(wallet: Wallet) -> None:
    position = opened(wallet)
    close = waiting_close(wallet, position_id=position.pk, reduce_pct=50)
    assert bind(close)
    assert again(close).close_usdc == Decimal("2.5")
    rows.update("positions", position.pk, {"collateral_usdc": 4})
    assert bind(again(close))
    assert again(close).close_usdc == Decimal("2.5")


def test_a_part_that_is_nothing_is_refused_in_words(wallet: Wallet) -> None:
    position = opened(wallet, collateral_usdc="0.000001")
    close = waiting_close(wallet, position_id=position.pk, reduce_pct=1)
    assert bind(close) is False
    words = "1.0000 % of 0.000001 USDC is less than 0.000001 USDC"
    assert told(close) == ("rejected", "not_representable", words)
