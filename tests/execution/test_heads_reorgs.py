"""What stands in blocks, which of them have left the chain by whose word, and what is taken back with them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execution_app import meters
from execution_app.book import orders
from execution_app.engine import heads
from execution_app.engine.gateway import following
from execution_app.engine.heads import _Mined
from execution_app.errors import Stale
from execution_app.models import TxIntent, TxReceipt, VenueOrder, Wallet
from execution_app.node import quorum, rpc
from execution_app.node.rpc import NodeError
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.slots import two_wallets
from tests.execution.test_heads_mined import A, B, mined, ordered

database = pytest.mark.usefixtures("database")
S = IntentState
FINAL = 20_000
OLD = FINAL - quorum.KEPT_BLOCKS  # below it a node may have forgotten the block


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


# Whose word it is


class Votes:
    """What is taken back, by what endpoints say of blocks; two of three decide."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **votes: str) -> None:
        """By number of a block, one letter for each endpoint: its hash there, or `-` where it has none."""
        self.votes = {int(at[1:]): Counter("" if v == "-" else v for v in told) for at, told in votes.items()}
        self.asked: list[int] = []
        self.back: list[tuple[str, int, heads.Block]] = []
        self.stale: set[int] = set()
        monkeypatch.setattr(heads, "_votes", self.ask)
        monkeypatch.setattr(heads, "_unmine", self.taking("unmined"))
        monkeypatch.setattr(heads, "_unfill", self.taking("unfilled"))
        monkeypatch.setattr(quorum, "needed", lambda: 2)

    def ask(self, numbers: list[int]) -> dict[int, Counter[str]]:
        self.asked += numbers
        return {number: self.votes[number] for number in numbers}

    def taking(self, name: str) -> Callable[[int, heads.Block], None]:
        def take(key: int, block: heads.Block) -> None:
            if key in self.stale:
                raise Stale("another pass was faster")
            self.back.append((name, key, block))

        return take


@pytest.mark.parametrize(
    ("number", "votes", "word"),
    [
        (FINAL + 1, "aab", "stands"),
        (FINAL + 1, "aa", "stands"),
        (FINAL + 1, "abb", "left"),
        (FINAL + 1, "bb", "left"),
        (FINAL + 1, "bc", "left"),
        (FINAL + 1, "a--", "left"),  # the chain is shorter now
        (FINAL + 1, "ab", "unclear"),
        (FINAL + 1, "a", "unclear"),
        (FINAL + 1, "b", "unclear"),
        (FINAL + 1, "a-", "unclear"),
        (FINAL + 1, "", "unclear"),
        # At or below the final block who has none has forgotten it.
        (FINAL, "a--", "unclear"),
        (FINAL, "---", "unclear"),
        (FINAL, "a-", "unclear"),
        (FINAL, "b-", "unclear"),
        (FINAL, "bb", "left"),
        (FINAL, "bb-", "left"),
        (FINAL - 1, "a--", "unclear"),
        # What is older than what nodes keep stands where nobody contradicts.
        (OLD, "a--", "unclear"),
        (OLD - 1, "a--", "stands"),
        (OLD - 1, "a", "stands"),
        (OLD - 1, "ab", "unclear"),
        (OLD - 1, "ab-", "unclear"),
        (OLD - 1, "abb", "left"),
    ],
)
def test_a_block_stands_or_has_left_by_a_majority(
    monkeypatch: pytest.MonkeyPatch, number: int, votes: str, word: str
) -> None:
    for ended in (False, True):
        told = Votes(monkeypatch, **{f"n{number}": votes})
        block = (number, "a")
        one = _Mined(S.FILLED, None, block) if ended else _Mined(S.FILLED, block, None)
        standing, gone = heads._forget_reorganised({7: one}, FINAL)
        assert standing == ({7: S.FILLED} if word == "stands" else {})
        assert gone == [7] * (word == "left")
        assert told.back == [("unfilled" if ended else "unmined", 7, block)] * (word == "left")


STANDS, LEFT, UNCLEAR = (FINAL + 1, "a"), (FINAL + 2, "a"), (FINAL + 3, "a")


@pytest.mark.parametrize(
    ("mined_in", "ended_in", "becomes"),
    [
        (STANDS, None, "standing"),
        (None, STANDS, "standing"),
        (None, None, "standing"),
        (STANDS, STANDS, "standing"),
        (LEFT, None, "unmined"),
        (LEFT, LEFT, "unmined"),
        (LEFT, STANDS, "unmined"),
        (STANDS, LEFT, "unfilled"),
        (UNCLEAR, LEFT, "unfilled"),
        (None, LEFT, "unfilled"),
        (UNCLEAR, STANDS, ""),
        (STANDS, UNCLEAR, ""),
        (UNCLEAR, None, ""),
        (None, UNCLEAR, ""),
    ],
)
def test_an_order_stands_where_all_of_its_blocks_do(
    monkeypatch: pytest.MonkeyPatch, mined_in: heads.Block | None, ended_in: heads.Block | None, becomes: str
) -> None:
    told = Votes(monkeypatch, n20001="aab", n20002="abb", n20003="ab")
    standing, gone = heads._forget_reorganised({7: _Mined(S.FILLED, mined_in, ended_in)}, FINAL)
    assert standing == ({7: S.FILLED} if becomes == "standing" else {})
    assert [name for name, *_ in told.back] == [becomes] * (becomes in ("unmined", "unfilled"))
    assert gone == [7] * len(told.back)
    assert told.asked == sorted({block[0] for block in (mined_in, ended_in) if block})


def test_what_another_pass_took_back_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Votes(monkeypatch, n20001="aab", n20002="abb")
    told.stale = {1, 2}
    blocks = ((LEFT, None), (STANDS, LEFT), (LEFT, None), (STANDS, None), (STANDS, LEFT))
    mined = {key: _Mined(S.FILLED, *pair) for key, pair in enumerate(blocks, 1)}
    assert heads._forget_reorganised(mined, FINAL) == ({4: S.FILLED}, [3, 5])
    assert told.asked == [20001, 20002], "each block once"


def test_each_endpoint_has_one_vote_on_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[rpc.Call] = []

    def ask_each(calls: list[rpc.Call]) -> Iterator[tuple[int, list[Any]]]:
        asked.extend(calls)
        yield 0, [{"hash": "a"}, {"hash": "c"}]
        yield 1, [{"hash": "b"}, None]
        yield 2, [{"hash": "a"}, NodeError(-32000, "pruned")]

    monkeypatch.setattr(quorum, "ask_each", ask_each)
    assert heads._votes([7, 16]) == {7: Counter({"a": 2, "b": 1}), 16: Counter({"c": 1, "": 1})}
    assert asked == [("eth_getBlockByNumber", ("0x7", False)), ("eth_getBlockByNumber", ("0x10", False))]
    monkeypatch.setattr(quorum, "ask_each", lambda _: iter([(0, [None])]))
    with pytest.raises(ValueError, match="zip"):
        heads._votes([7, 8])


# Taking back


def reorgs() -> float:
    return float(meters.REORGS._value.get())


def told(intent: TxIntent) -> tuple[str, str, str]:
    last = intent.transitions.latest("id")
    return last.to_state, last.why, last.by


@database
def test_a_block_that_left_takes_the_receipt_and_the_order_with_it(wallet: Wallet) -> None:
    intent, beside = (mined(wallet, nonce, S.ORDERED) for nonce in (1, 2))
    for one in (intent, beside):
        ordered(one)
    before = reorgs()
    heads._unmine(intent.pk, (7, A))
    assert told(intent) == ("pending_inclusion", "block 7 left the chain", "heads")
    assert list(TxReceipt.objects.filter(canonical=True).values_list("intent", flat=True)) == [beside.pk]
    assert list(VenueOrder.objects.values_list("intent", flat=True)) == [beside.pk]
    assert TxIntent.objects.get(pk=beside.pk).state == S.ORDERED
    assert reorgs() == before + 1


@database
@pytest.mark.parametrize(
    "since", [{"block_number": 8}, {"block_hash": B}, {"canonical": False}, {"of_other": True}]
)
def test_what_stands_in_another_block_by_now_stays_there(wallet: Wallet, since: dict[str, Any]) -> None:
    intent = mined(wallet, 1)
    mined(wallet, 2)
    if "of_other" in since:
        TxReceipt.objects.filter(intent=intent).update(block_number=8, block_hash=B)
    else:
        TxReceipt.objects.filter(intent=intent).update(**since)
        TxReceipt.objects.exclude(intent=intent).update(block_number=9, block_hash=f"0x{9:064x}")
    before = reorgs()
    with pytest.raises(Stale, match="it stands in another block by now"):
        heads._unmine(intent.pk, (7, A))
    assert TxIntent.objects.get(pk=intent.pk).state == S.MINED
    assert TxReceipt.objects.filter(canonical=True).count() == 2 - ("canonical" in since)
    assert reorgs() == before


@database
def test_a_message_goes_back_as_messages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(following, "take_back", lambda intent, *block: asked.append((intent.pk, *block)))
    key, _ = (rows.intent_in(S.ORDERED, gateway=True) for _ in range(2))
    before = reorgs()
    heads._unmine(key, (7, A))
    assert (asked, reorgs()) == ([(key, 7, A)], before + 1)


@database
@pytest.mark.parametrize("state", [S.FILLED, S.VENUE_CANCELLED])
def test_where_only_the_end_left_the_order_stands(wallet: Wallet, state: IntentState) -> None:
    intent, beside = (mined(wallet, nonce, state) for nonce in (1, 2))
    for one in (intent, beside):
        ordered(one, (7, A), (9, B))
    before = reorgs()
    heads._unfill(intent.pk, (9, B))
    assert told(intent) == ("ordered", "block 9 left the chain", "heads")
    ended = dict(VenueOrder.objects.values_list("intent", "done_block_number"))
    assert ended == {intent.pk: None, beside.pk: 9}
    assert reorgs() == before + 1


@database
@pytest.mark.parametrize("since", [(8, B), (9, A), "of_other"])
def test_an_end_in_another_block_by_now_stays_there(wallet: Wallet, since: Any) -> None:
    intent, beside = (mined(wallet, nonce, S.FILLED) for nonce in (1, 2))
    ordered(intent, (7, A), (8, A) if since == "of_other" else since)
    ordered(beside, (7, A), (9, B) if since == "of_other" else (4, A))
    before = reorgs()
    with pytest.raises(Stale):
        heads._unfill(intent.pk, (9, B))
    assert TxIntent.objects.get(pk=intent.pk).state == S.FILLED
    assert None not in VenueOrder.objects.values_list("done_block_number", flat=True)
    assert reorgs() == before


@database
def test_an_end_is_taken_back_with_the_move_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    intent = mined(wallet, 1, S.FILLED)
    ordered(intent, (7, A), (9, B))

    def fail(_: TxIntent) -> None:
        raise RuntimeError("the process ends here")

    for name, take, block in (("take_back", heads._unfill, (9, B)), ("unregister", heads._unmine, (7, A))):
        monkeypatch.setattr(orders, name, fail)
        with pytest.raises(RuntimeError, match="ends here"):
            take(intent.pk, block)
        assert TxIntent.objects.get(pk=intent.pk).state == S.FILLED
        assert TxReceipt.objects.get().canonical
