"""What consumed a wallet's nonces, told from rows and a transaction each; the nodes' part has tests of its own."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from execution_app.engine import consumed
from execution_app.engine.consumed import Use, What
from execution_app.models import TxIntent, Wallet
from execution_app.node import history, signers
from execution_app.node.history import Counts, Found
from execution_app.states import SendKind
from execution_app.venues import onchain
from execution_app.venues.orders import CloseOrder, OpenOrder
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
TRADER = "0x00000000000000000000000000000000000AbCdE"
BLOCK_HASH = f"0x{7:064x}"
Chain = dict[int, Found]


@pytest.fixture
def wallet() -> Wallet:
    """At nonce 3, beside another one."""
    mine = rows.wallet(
        next_nonce=3, trader_id=rows.trader(address=TRADER), address=TRADER.replace("0xA", "0xB")
    )
    rows.wallet(next_nonce=3)
    return Wallet.objects.get(pk=mine)


def other() -> Wallet:
    return Wallet.objects.order_by("id")[1]


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    """What the nodes show of each nonce; none has a receipt."""
    shown: Chain = {}
    monkeypatch.setattr(history, "find", lambda _address, nonce, _block: shown.get(nonce))
    monkeypatch.setattr(history, "has_receipt", lambda _hashes: "")
    return shown


def counted(monkeypatch: pytest.MonkeyPatch, final: int) -> Counts:
    counts = Counts(90, BLOCK_HASH, final, final, final, 2)
    monkeypatch.setattr(history, "counts", lambda _: counts)
    return counts


def waiting(wallet: Wallet, **fields: object) -> TxIntent:
    return TxIntent.objects.get(pk=rows.intent(wallet_id=wallet.pk, trader_id=wallet.trader_id, **fields))


def waiting_close(wallet: Wallet, **fields: object) -> TxIntent:
    return waiting(
        wallet, **{"action": "close", "is_long": None, "collateral_usdc": None, "leverage_x": None, **fields}
    )


def slot(wallet: Wallet, nonce: int, *states: str, **fields: object) -> TxIntent:
    """An open that owns this nonce, led on through these states."""
    intent = waiting(wallet)
    rows.update(
        "tx_intents", intent.pk, rows.slot(nonce=nonce) | {"mode": "LIVE", "state": "reserved"} | fields
    )
    for state in states:
        rows.update("tx_intents", intent.pk, {"state": state})
    intent.refresh_from_db()
    return intent


def found(nonce: int = 3, **fields: Any) -> Found:
    return replace(
        Found(rows.tx_hash(), nonce, rows.address(), 7, 100_000, b"\x01\x02", 30, 2, b"\x02raw"), **fields
    )


def own(intent: TxIntent, **fields: Any) -> Found:
    """The intent's own order, under a hash that is not known here."""
    same: dict[str, Any] = {
        "to": intent.to_address,
        "data": bytes(intent.calldata or b""),
        "value_wei": int(intent.value_wei or 0),
    }
    return found(int(intent.nonce or 0), **(same | fields))


def cancel(wallet: Wallet, **fields: Any) -> Found:
    empty: dict[str, Any] = {
        "to": wallet.address,
        "data": b"",
        "value_wei": 0,
        "gas_limit": signers.CANCEL_GAS,
    }
    return found(**(empty | fields))


def open_order(**fields: Any) -> OpenOrder:
    """As `waiting` asks for it."""
    sound: dict[str, Any] = {
        "trader": TRADER,
        "pair_index": 1,
        "is_long": True,
        "collateral_usdc": Decimal(5),
    }
    sound |= {"leverage_x": Decimal(2), "wanted_price": Decimal(60_000), "slippage_pct": Decimal("0.5")}
    return OpenOrder(**(sound | fields))


def close_order(**fields: Any) -> CloseOrder:
    sound: dict[str, Any] = {
        "trader": TRADER,
        "pair_index": 1,
        "trade_index": 0,
        "collateral_usdc": Decimal(5),
    }
    return CloseOrder(**(sound | {"wanted_price": Decimal(60_000)} | fields))


def carrying(order: OpenOrder | CloseOrder, nonce: int = 3, **fields: Any) -> Found:
    inner = onchain.encode_open(order) if isinstance(order, OpenOrder) else onchain.encode_close(order)
    return found(nonce, data=onchain.encode_delegated(order.trader, inner), **fields)


# Which nonces are explained


def test_slots_below_the_chains_count_are_explained_in_their_order(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    second, first = slot(wallet, 2, "signed", "sending", "pending_inclusion"), slot(wallet, 1)
    slot(wallet, 3)
    slot(wallet, 0, "signed", "sending", "pending_inclusion", "mined")
    slot(other(), 1)
    counts = counted(monkeypatch, 3)
    told = consumed.look(wallet)
    assert (told.counts, told.next_nonce) == (counts, 3)
    assert told.uses == [Use(1, What.UNSEEN, first), Use(2, What.UNSEEN, second)]


def test_of_nonces_that_nobody_signed_here_all_up_to_the_chains_count_are_explained(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    asked: list[tuple[str, int, int]] = []
    monkeypatch.setattr(history, "find", lambda *about: asked.append(about))
    counted(monkeypatch, 5)
    slot(wallet, 2)
    told = consumed.look(wallet)
    assert [(use.nonce, use.what) for use in told.uses] == [
        (2, What.UNSEEN), (3, What.UNSEEN), (4, What.UNSEEN),
    ]  # fmt: skip
    assert asked == [(wallet.address, nonce, 90) for nonce in (2, 3, 4)]
    counted(monkeypatch, 3)
    assert [use.nonce for use in consumed.look(wallet).uses] == [2]


def test_what_is_explained_at_once_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    monkeypatch.setattr(consumed, "LIMIT", 2)
    for nonce in range(3):
        slot(wallet, nonce)
    counted(monkeypatch, 9)
    assert [use.nonce for use in consumed.look(wallet).uses] == [0, 1, 3, 4]


def test_two_orders_that_are_alike_are_of_two_intents_the_older_first(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    first, second = waiting(wallet), waiting(wallet)
    chain |= {nonce: carrying(open_order(), nonce) for nonce in (3, 4, 5)}
    counted(monkeypatch, 6)
    told = consumed.look(wallet)
    assert [(use.what, use.intent) for use in told.uses] == [
        (What.WAITED, first), (What.WAITED, second), (What.UNASKED, None),
    ]  # fmt: skip
    assert [use.nonce for use in told.of(What.UNASKED)] == [5]
    assert [use.nonce for use in told.of(What.WAITED, What.UNASKED)] == [3, 4, 5]
    assert told.of(What.LOST) == []


# What took a slot of ours


def test_a_receipt_of_any_hash_of_the_slot_says_that_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    """Whatever the chain shows of its nonce."""
    mine, beside = slot(wallet, 2), slot(wallet, 1)
    newer = rows.send(intent_id=mine.pk, attempt=1, kind="bump", tx_hash="0x" + "b" * 64)
    older = rows.send(intent_id=mine.pk, attempt=0, tx_hash="0x" + "a" * 64)
    assert newer < older
    rows.send(intent_id=beside.pk, tx_hash="0x" + "c" * 64)
    chain[2] = found(2)
    asked: list[list[str]] = []

    def has_receipt(hashes: list[str]) -> str:
        asked.append(hashes)
        return hashes[0] if len(hashes) == 2 else ""

    monkeypatch.setattr(history, "has_receipt", has_receipt)
    counted(monkeypatch, 3)
    told = consumed.look(wallet)
    assert asked == [["0x" + "c" * 64], ["0x" + "a" * 64, "0x" + "b" * 64]]
    assert told.uses == [Use(1, What.UNSEEN, beside), Use(2, What.OURS, mine)]


def test_what_took_a_slot_is_shown_with_it(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: Chain
) -> None:
    first, second = slot(wallet, 1), slot(wallet, 2)
    chain |= {1: own(first), 2: found(2)}
    counted(monkeypatch, 3)
    assert consumed.look(wallet).uses == [
        Use(1, What.REPLACED, first, chain[1]), Use(2, What.LOST, second, chain[2]),
    ]  # fmt: skip


def test_bytes_that_were_sent_for_it_are_ours(wallet: Wallet) -> None:
    """Even where they cannot be made anew; those of another intent are not."""
    mine, beside = slot(wallet, 2), slot(wallet, 1)
    sent = found(2, raw=b"")
    rows.send(intent_id=beside.pk, tx_hash=sent.tx_hash)
    assert consumed.taken_by(wallet, mine, sent) is What.LOST
    assert consumed.taken_by(wallet, beside, sent) is What.OURS


def test_the_same_order_under_another_hash_replaces_it(wallet: Wallet) -> None:
    mine = slot(wallet, 2, to_address="0x" + "aB" * 20, value_wei=4)
    assert consumed.taken_by(wallet, mine, own(mine)) is What.REPLACED
    assert consumed.taken_by(wallet, mine, own(mine, to="0x" + "Ab" * 20)) is What.REPLACED
    others: list[dict[str, Any]] = [{"to": rows.address()}, {"data": b"\x02"}, {"value_wei": 5}, {"raw": b""}]
    for another in others:
        assert consumed.taken_by(wallet, mine, own(mine, **another)) is What.LOST, another


def test_an_intent_that_carries_nothing_is_an_empty_transfer(wallet: Wallet) -> None:
    mine = slot(wallet, 2)
    same = own(mine, data=b"", value_wei=0)
    mine.calldata, mine.value_wei = None, None
    assert consumed.taken_by(wallet, mine, same) is What.REPLACED


def test_an_empty_transfer_to_itself_is_a_cancel(wallet: Wallet) -> None:
    mine = slot(wallet, 2)
    wallet.address = "0x" + "aB" * 20
    for to in ("0x" + "aB" * 20, "0x" + "Ab" * 20):
        assert consumed.taken_by(wallet, mine, cancel(wallet, to=to)) is What.CANCELLED
        assert consumed.is_cancel(wallet, cancel(wallet, to=to)) is True
    others: list[dict[str, Any]] = [{"to": rows.address()}, {"data": b"\x01"}, {"value_wei": 1}]
    for another in [*others, {"gas_limit": signers.CANCEL_GAS + 1}, {"raw": b""}]:
        assert consumed.taken_by(wallet, mine, cancel(wallet, **another)) is What.LOST, another


# What took a nonce of nobody


def use_of(wallet: Wallet, shown: Found | None, chain: Chain, *taken: int) -> Use:
    chain.clear()
    if shown is not None:
        chain[3] = shown
    counts = Counts(90, BLOCK_HASH, 4, 4, 4, 2)
    return consumed._of_unknown(wallet, 3, counts, set(taken))


def test_what_is_no_order_of_this_trader_is_foreign(wallet: Wallet, chain: Chain) -> None:
    waiting(wallet)
    strangers = [found(), cancel(wallet), carrying(open_order(trader=rows.address()))]
    strangers += [carrying(open_order(), raw=b"")]
    for stranger in strangers:
        assert use_of(wallet, stranger, chain) == Use(3, What.FOREIGN, found=stranger)
    assert use_of(wallet, None, chain) == Use(3, What.UNSEEN)


@pytest.mark.parametrize("written", [TRADER, TRADER.lower(), "0x" + TRADER[2:].upper()])
def test_the_trader_is_the_same_in_whatever_case_it_is_written(
    wallet: Wallet, chain: Chain, written: str
) -> None:
    wallet.trader.address = written
    shown = carrying(open_order())
    use = use_of(wallet, shown, chain)
    assert (use.what, use.intent, use.found) == (What.UNASKED, None, shown)
    assert isinstance(use.order, OpenOrder)
    assert use.order.trader.lower() == TRADER.lower()
    waits = waiting(wallet)
    asked = use_of(wallet, shown, chain)
    assert (asked.nonce, asked.what, asked.intent, asked.found, asked.order) == (
        3, What.WAITED, waits, shown, use.order,
    )  # fmt: skip


@pytest.mark.parametrize(
    "unsound",
    [
        open_order(pair_index=4),
        open_order(leverage_x=Decimal("2.00001")),
        open_order(slippage_pct=Decimal("0.50001")),
        close_order(),
    ],
)
def test_an_order_that_the_book_cannot_hold_is_foreign(
    wallet: Wallet, chain: Chain, unsound: OpenOrder | CloseOrder
) -> None:
    use = use_of(wallet, carrying(unsound), chain)
    assert (use.what, use.intent, use.found) == (What.FOREIGN, None, chain[3])
    assert isinstance(use.order, type(unsound))


def test_the_books_columns_hold_four_digits_of_a_factor_and_six_of_an_amount() -> None:
    fitting = open_order(leverage_x=Decimal("2.0001"), slippage_pct=Decimal("0.5001"))
    assert consumed._fits(replace(fitting, collateral_usdc=Decimal("5.000001"))) is True
    assert consumed._fits(replace(fitting, collateral_usdc=Decimal("5.0000001"))) is False
    assert consumed._fits(replace(fitting, pair_index=4)) is False


# What bytes are to their slot


@pytest.mark.parametrize(
    ("what", "first", "kind"),
    [
        (What.CANCELLED, True, SendKind.CANCEL),
        (What.CANCELLED, False, SendKind.CANCEL),
        (What.REPLACED, True, SendKind.EXEC),
        (What.REPLACED, False, SendKind.BUMP),
        (What.WAITED, True, SendKind.EXEC),
        (What.WAITED, False, SendKind.EXEC),
    ],
)
def test_bytes_are_the_order_a_bump_of_it_or_a_cancel(what: What, first: bool, kind: SendKind) -> None:
    assert consumed.kind_of(Use(3, what), first=first) is kind


def test_what_took_a_nonce_is_written_down_in_these_words() -> None:
    """The audit log keeps them, and the command's JSON has them."""
    assert [str(what) for what in What] == [
        *("ours", "replaced", "cancelled", "lost", "waited", "unasked", "foreign", "unseen"),
    ]  # fmt: skip
