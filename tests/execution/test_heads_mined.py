"""What the chain has of ours and is not final, as a pass finds it in the database."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from execution_app.engine import heads
from execution_app.engine.gateway import taken
from execution_app.engine.heads import _Mined
from execution_app.engine.watermark import Head
from execution_app.models import TxIntent, TxReceipt, Wallet
from execution_app.states import UNMINED, IntentState
from tests.execution import rows
from tests.execution.slots import bytes_of, other_wallet, slot, two_wallets

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
HEAD = Head(105, "0x69", 95, "0x0", 31337, 7, frozenset({0}))
A, B = f"0x{10:064x}", f"0x{11:064x}"


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


def mined(wallet: Wallet, nonce: int, state: IntentState = S.MINED, at: heads.Block = (7, A)) -> TxIntent:
    intent = slot(wallet, nonce, state)
    rows.receipt(send_id=bytes_of(intent).pk, intent_id=intent.pk, block_number=at[0], block_hash=at[1])
    return intent


def ordered(
    intent: TxIntent, at: heads.Block = (7, A), done: heads.Block | None = None, **fields: Any
) -> None:
    ended = {"done_block_number": done[0], "done_block_hash": done[1], "state": "executed"} if done else {}
    rows.order(intent_id=intent.pk, block_number=at[0], block_hash=at[1], **(ended | fields))


def at_most(queries: int) -> Any:
    """Who looks on and on is stopped."""
    seen: list[object] = []

    def count(execute: Callable[..., Any], *told: Any) -> Any:
        seen.append(told)
        assert len(seen) <= queries
        return execute(*told)

    return connection.execute_wrapper(count)


def found() -> dict[int, _Mined]:
    with at_most(6):
        return heads._mined(HEAD)


def test_of_a_slot_its_receipt_says_where_it_stands_and_its_order_where_that_ended(wallet: Wallet) -> None:
    new = mined(wallet, 1)
    rests = mined(wallet, 2, S.ORDERED, (8, B))
    ordered(rests, (8, B))
    filled = mined(wallet, 3, S.FILLED)
    ordered(filled, (7, A), (9, B))
    refunded = mined(wallet, 4, S.VENUE_CANCELLED)
    ordered(refunded, (7, A), (9, B), state="cancelled")
    gone = mined(wallet, 5)
    TxReceipt.objects.filter(intent=gone).update(canonical=False)
    slot(wallet, 6, S.PENDING_INCLUSION)
    slot(wallet, 7, S.FINAL_REVERTED)
    settled = mined(wallet, 8, S.FILLED)
    rows.update("tx_intents", settled.pk, {"settled_at": "2026-01-01T00:00:00Z"})
    assert found() == {
        new.pk: _Mined(S.MINED, (7, A), None),
        rests.pk: _Mined(S.ORDERED, (8, B), None),
        filled.pk: _Mined(S.FILLED, (7, A), (9, B)),
        refunded.pk: _Mined(S.VENUE_CANCELLED, (7, A), (9, B)),
        gone.pk: _Mined(S.MINED, None, None),
    }


def test_of_a_message_its_order_says_so_and_of_levels_the_block_that_showed_them_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled, levels, bare = (rows.intent_in(state, gateway=True) for state in (S.FILLED, S.CHANGED, S.CHANGED))
    ordered(TxIntent.objects.get(pk=filled), (7, A), (9, B))
    asked: list[object] = []

    def blocks(keys: list[int]) -> dict[int, heads.Block]:
        asked.append(keys)
        return {levels: (8, B)}

    monkeypatch.setattr(taken, "blocks", blocks)
    assert found() == {
        filled: _Mined(S.FILLED, (7, A), (9, B)),
        levels: _Mined(S.CHANGED, (8, B), None),
        bare: _Mined(S.CHANGED, None, None),
    }
    assert asked == [[levels, bare]]
    TxIntent.objects.filter(state=S.CHANGED).update(settled_at="2026-01-01T00:00:00Z")
    assert list(found()) == [filled]
    assert len(asked) == 1, "of none it is not asked"


def test_what_rests_for_long_is_looked_at_in_turns(wallet: Wallet) -> None:
    """One in 64 at each head; what rests for short, and all else, at each."""
    long, short = mined(wallet, 1, S.ORDERED), mined(wallet, 2, S.ORDERED)
    ordered(long, rested_to_block=90)
    ordered(short)
    assert heads.REST_TURNS == 64
    for number, looked_at in (
        (long.pk, True),
        (long.pk + 64, True),
        (long.pk + 1, False),
        (long.pk + 63, False),
    ):
        keys = {long.pk, short.pk} if looked_at else {short.pk}
        assert set(heads._mined(replace(HEAD, number=number))) == keys


def test_all_pages_of_them_are_read(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    assert heads.BATCH == 2_000
    keys = [mined(wallet, nonce).pk for nonce in range(4)]
    assert keys[0] == 1, "nothing is left out in front of it"
    for most in (1, 2, 3, 4, 5):
        monkeypatch.setattr(heads, "BATCH", most)
        assert list(found()) == keys
        assert set(found().values()) == {_Mined(S.MINED, (7, A), None)}


def test_taken_are_the_unmined_below_the_chains_count(wallet: Wallet) -> None:
    states = sorted(UNMINED)
    mine = [slot(wallet, nonce, state) for nonce, state in enumerate(states)]
    slot(wallet, 4)
    slot(other_wallet(), 0)
    rows.update("tx_intents", mine[0].pk, {"attempts": 1})  # its row stands behind the others now
    slot(wallet, 5, S.MINED)
    slot(wallet, 6, S.LOST_NONCE)
    counts = {wallet.pk: 4, other_wallet().pk: 0}
    assert heads._taken(counts) == (mine, False, False)
    assert heads._taken({wallet.pk: 1})[0] == mine[:1]
    assert heads._taken({wallet.pk: 0})[0] == []
    assert heads._taken({})[0] == []


@pytest.mark.parametrize(
    ("state", "gateway", "messages", "ordered"),
    [
        (S.PENDING_INCLUSION, True, True, False),
        (S.RESERVED, True, True, False),
        (S.PENDING_INCLUSION, False, False, False),
        (S.ORDERED, False, False, True),
        (S.ORDERED, True, False, True),
        (S.FILLED, True, False, False),
        (S.LAPSED, True, False, False),
        (S.PENDING, False, False, False),
    ],
)
def test_whether_there_are_messages_and_orders_is_said(
    state: IntentState, *, gateway: bool, messages: bool, ordered: bool
) -> None:
    rows.intent_in(state, gateway=gateway)
    assert heads._taken({}) == ([], messages, ordered)
