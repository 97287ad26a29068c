"""What rests at the venue and is asked to be taken back or changed: once for each who asks, in one commit with its entry."""

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from execution_app.audit_words import AuditOrigin
from execution_app.engine import resting
from execution_app.errors import Refused
from execution_app.models import AuditEntry, TxIntent, Wallet
from execution_app.states import Action
from tests.execution import rows, staged
from tests.execution.staged import wallet, wallets
from tests.guards import without_guards

__all__ = ["wallet", "wallets"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
BY, WHY = "ann", "the market turned"
CANCEL, UPDATE = Action.CANCEL_ORDER, Action.UPDATE_ORDER


@pytest.fixture
def order(wallet: Wallet) -> TxIntent:
    """Beside others that rest."""
    return [limit(wallet, slippage_pct="0.7", symbol="ETH-USD", source="drill") for _ in range(3)][1]


def limit(of: Wallet, state: str = "ordered", **fields: object) -> TxIntent:
    sound: dict[str, object] = {"order_type": "limit", "limit_price": 5, "road": "onchain"}
    return staged.intent(of, Action.OPEN, state, **(sound | fields))


def asked_of(order: TxIntent, action: Action = CANCEL, state: str = "pending", **fields: object) -> TxIntent:
    assert order.wallet is not None
    return staged.intent(order.wallet, action, state, target_id=order.pk, **fields)


def close(of: Wallet, key: str = "sig:out") -> TxIntent:
    return staged.intent(of, Action.CLOSE, intent_key=key)


def cancels() -> list[str]:
    return list(TxIntent.objects.filter(action=CANCEL).order_by("pk").values_list("intent_key", flat=True))


def stir(order: TxIntent) -> None:
    """Its row, and what indexes say of it, are written anew behind the others: read as they lie they are in another order."""
    with without_guards():
        for state in ("filled", order.state):
            rows.update("tx_intents", order.pk, {"state": state})


# Taking back, whoever asks


def test_a_cancel_names_its_order_and_is_said_once(
    wallet: Wallet, order: TxIntent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        cancel = resting.ask_to_take_back(order, key="back:1", by=BY)
        assert resting.ask_to_take_back(order, key="back:1", by="bob") == cancel
    cancel = TxIntent.objects.get(action=CANCEL)
    assert (cancel.intent_key, cancel.target, cancel.road) == ("back:1", order, "onchain")
    assert (cancel.trader, cancel.wallet, cancel.tg_user_id) == (wallet.trader, wallet, order.tg_user_id)
    assert (cancel.symbol, cancel.source, cancel.slippage_pct) == ("ETH-USD", "drill", Decimal("0.7"))
    assert (cancel.state, cancel.transitions.get().by) == ("pending", BY)
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [one["by"] for one in told if one["event"] == "an order is to be taken back"] == [BY]


# Before a close


def test_who_wants_to_be_out_takes_back_what_rests_oldest_first(wallet: Wallet) -> None:
    first, second = limit(wallet), limit(wallet, order_type="stop_limit")
    stir(first)
    out = close(wallet)
    resting.take_back_before(out)
    assert cancels() == [f"sig:out@{first.pk}.1", f"sig:out@{second.pk}.1"]
    assert TxIntent.objects.filter(action=CANCEL)[0].transitions.get().by == "engine"
    resting.take_back_before(out)
    assert len(cancels()) == 2, "what is under way is not asked for again"


def test_what_is_of_others_or_does_not_rest_is_left_there(wallets: list[Wallet], wallet: Wallet) -> None:
    limit(wallets[0])
    limit(wallets[2])
    limit(wallet, symbol="ETH-USD")
    for state in ("pending", "held", "signed", "mined", "filled", "venue_cancelled"):
        limit(wallet, state)
    staged.intent(wallet, Action.OPEN, "ordered")
    out = close(wallet)
    limit(wallet)  # asked for after it
    resting.take_back_before(out)
    assert cancels() == []


def test_a_further_close_stands_where_its_request_does(wallet: Wallet) -> None:
    before = limit(wallet)
    close(wallet)
    limit(wallet)
    resting.take_back_before(close(wallet, "sig:out#2"))
    assert cancels() == [f"sig:out#2@{before.pk}.1"]


def test_a_change_of_it_or_a_cancel_of_another_takes_it_back_not(wallet: Wallet) -> None:
    order = limit(wallet)
    asked_of(order, UPDATE)
    asked_of(limit(wallet, symbol="ETH-USD"), intent_key="another's")
    resting.take_back_before(close(wallet))
    assert cancels() == ["another's", f"sig:out@{order.pk}.1"]


@pytest.mark.parametrize(
    ("earlier", "number"),
    [
        (("final_reverted", "final_reverted"), 3),
        (("final_reverted", "final_reverted", "final_reverted"), None),
        (("final_reverted", "final_cancelled", "final_cancelled"), None),
        (("rejected", "rejected", "rejected", "lost_nonce"), 5),
        (("rejected", "final_reverted", "no_op", "final_cancelled"), 5),
    ],
)
def test_what_failed_three_times_needs_a_person(
    wallet: Wallet, earlier: tuple[str, ...], number: int | None
) -> None:
    order = limit(wallet)
    for state in earlier:
        asked_of(order, CANCEL, state)
    asked_of(order, UPDATE, "final_reverted")
    resting.take_back_before(close(wallet))
    assert cancels()[len(earlier) :] == ([f"sig:out@{order.pk}.{number}"] if number else [])


# Under a stop


def test_all_that_rests_is_told_oldest_first(wallets: list[Wallet]) -> None:
    found = [limit(one) for one in (wallets[2], wallets[0], wallets[1])]
    stir(found[0])
    limit(wallets[0], "filled")
    staged.intent(wallets[1], Action.OPEN, "ordered")
    assert resting.all_live() == found
    assert resting.keys_under_stop() == [order.intent_key for order in found]


def test_a_stop_holds_although_nobody_says_what_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise DatabaseError("the server is gone")

    monkeypatch.setattr(resting, "all_live", gone)
    assert resting.keys_under_stop() is None


# What speaks against it


def test_only_what_rests_is_taken_back(wallet: Wallet, order: TxIntent) -> None:
    no_order = "it is no order that rests at the venue"
    assert resting.obstacle(staged.intent(wallet, Action.OPEN, "ordered")) == no_order
    assert resting.obstacle(asked_of(order, UPDATE)) == no_order
    for state in ("filled", "pending"):
        told = f"it does not rest at the venue: it is {state}"
        assert resting.obstacle(limit(wallet, state)) == told
    assert resting.obstacle(order) == ""
    assert resting.obstacle(limit(wallet, order_type="stop_limit")) == ""


def test_one_that_takes_it_back_is_enough(wallet: Wallet, order: TxIntent) -> None:
    asked_of(order, CANCEL, "final_reverted")
    asked_of(order, UPDATE)
    asked_of(limit(wallet))
    assert resting.obstacle(order) == ""
    asked_of(order, intent_key="back:1")
    asked_of(order, intent_key="back:2")
    assert resting.obstacle(order) == "back:1 is taking it back already"


# A person's wish to take back


def take_back(order: TxIntent, key: str = "back:1", **more: Any) -> TxIntent:
    return resting.take_back(order.intent_key, key=key, by=BY, reason=WHY, **more)


def test_a_wish_leaves_an_entry_in_its_own_commit(order: TxIntent) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        take_back(order)
    cancel = take_back(order)
    assert cancel == TxIntent.objects.get(action=CANCEL)
    assert (cancel.target, cancel.intent_key, cancel.transitions.get().by) == (order, "back:1", BY)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("pending_cancelled", BY, "command")
    assert (entry.subject, entry.reason) == (order.intent_key, WHY)
    assert (entry.before, entry.after) == (None, {"taken_back_by": "back:1"})


def test_the_same_key_again_is_the_same_wish(order: TxIntent) -> None:
    done: list[int] = []
    first = take_back(order, also=lambda: done.append(1))
    with without_guards():
        rows.update("tx_intents", first.pk, {"state": "rejected", "settled_at": staged.SETTLED})
    second = take_back(order, "back:2", origin=AuditOrigin.TELEGRAM)
    assert take_back(order, also=lambda: done.append(2)) == first
    assert take_back(order, "back:2") == second != first
    assert (done, AuditEntry.objects.count()) == ([1], 2)
    assert AuditEntry.objects.latest("seq").origin == "telegram"


def test_what_is_done_with_it_is_done_in_its_transaction(order: TxIntent) -> None:
    def refuse() -> None:
        assert connection.in_atomic_block
        assert cancels() == []
        TxIntent.objects.filter(pk=order.pk).update(reason_detail="begun")
        raise Refused("the caller has moved on")

    with pytest.raises(Refused, match="the caller has moved on"):
        take_back(order, also=refuse)
    assert staged.told(order) == ("ordered", "", "")
    assert not AuditEntry.objects.exists()


def test_what_cannot_be_taken_back_is_refused(wallet: Wallet, order: TxIntent) -> None:
    with pytest.raises(Refused, match=r"^no intent is called sig:rows:none$"):
        resting.take_back("sig:rows:none", key="back:1", by=BY, reason=WHY)
    asked_of(order, intent_key="back:0")
    filled = limit(wallet, "filled")
    does_not_rest = f"^{filled.intent_key}: it does not rest at the venue: it is filled$"
    for key in ("back:1", "back:0"):  # the second is another order's
        with pytest.raises(Refused, match=does_not_rest):
            take_back(filled, key, also=lambda: pytest.fail("done for nothing"))
    assert cancels() == ["back:0"]
    assert not AuditEntry.objects.exists()


# A person's wish to change


def change(order: TxIntent, key: str = "change:1", *, terms: dict[str, Any], **more: Any) -> TxIntent:
    return resting.change(order.intent_key, terms, key=key, by=BY, reason=WHY, **more)


PRICE = {"limit_price": Decimal("4.50")}


def test_a_change_names_what_it_changes_and_ends_with_its_minute(
    wallet: Wallet, order: TxIntent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        resting.ask_to_change(order, PRICE, key="change:1", by=BY)
        asked = resting.ask_to_change(order, {"stop_loss": Decimal(3)}, key="change:1", by="bob")
    assert asked == TxIntent.objects.get(action=UPDATE)
    assert (asked.intent_key, asked.target, asked.road) == ("change:1", order, "onchain")
    assert (asked.trader, asked.wallet, asked.tg_user_id) == (wallet.trader, wallet, order.tg_user_id)
    assert (asked.symbol, asked.source, asked.slippage_pct) == ("ETH-USD", "drill", Decimal("0.7"))
    assert (asked.limit_price, asked.new_slippage_pct) == (Decimal("4.5"), None)
    assert (asked.take_profit, asked.stop_loss, asked.transitions.get().by) == (None, None, BY)
    assert asked.expires_at is not None
    assert asked.expires_at - asked.accepted_at == timedelta(seconds=60)
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [one["by"] for one in told if one["event"] == "an order is to be changed"] == [BY]


def test_a_change_leaves_an_entry_in_its_own_commit(order: TxIntent) -> None:
    terms = {**PRICE, "new_slippage_pct": Decimal(1), "take_profit": Decimal("1E+5"), "stop_loss": Decimal(0)}
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        change(order, terms=terms)
    asked = change(order, terms=terms)
    assert asked == TxIntent.objects.get(action=UPDATE)
    assert {name: getattr(asked, name) for name in terms} == terms
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("order_changed", BY, "command")
    assert (entry.subject, entry.reason, entry.before) == (order.intent_key, WHY, None)
    assert entry.after == {
        "changed_by": "change:1",
        "limit_price": "4.50",
        "new_slippage_pct": "1",
        "take_profit": "100000",
        "stop_loss": "0",
    }


def test_what_is_not_given_stays_and_is_not_told(order: TxIntent) -> None:
    asked = change(order, terms={"take_profit": None, "stop_loss": Decimal(3)}, origin=AuditOrigin.ADMIN)
    assert (asked.limit_price, asked.take_profit, asked.stop_loss) == (None, None, Decimal(3))
    entry = AuditEntry.objects.get()
    assert (entry.after, entry.origin) == ({"changed_by": "change:1", "stop_loss": "3"}, "admin")


def test_the_same_key_again_is_the_same_change(order: TxIntent) -> None:
    first, second = change(order, terms=PRICE), change(order, "change:2", terms=PRICE)
    assert first != second
    with without_guards():
        rows.update("tx_intents", order.pk, {"state": "filled"})
    assert change(order, "change:2", terms=PRICE) == second
    assert change(order, terms=PRICE) == first
    assert AuditEntry.objects.count() == 2


def test_what_cannot_be_changed_is_refused(wallet: Wallet, order: TxIntent) -> None:
    with pytest.raises(Refused, match=r"^no intent is called sig:rows:none$"):
        resting.change("sig:rows:none", PRICE, key="change:1", by=BY, reason=WHY)
    with pytest.raises(Refused, match=r"^a change names a price, a slippage or a level$"):
        change(order, terms={"limit_price": None})
    change(order, "change:0", terms=PRICE)
    filled = limit(wallet, "filled")
    for key in ("change:1", "change:0"):  # the second is another order's
        with pytest.raises(
            Refused, match=f"^{filled.intent_key}: it does not rest at the venue: it is filled$"
        ):
            change(filled, key, terms=PRICE)
    assert (TxIntent.objects.filter(action=UPDATE).count(), AuditEntry.objects.count()) == (1, 1)


MOST, MOST_PCT = "1000000000000", "80"
TERMS = [
    ("limit_price", MOST, ""),
    ("limit_price", "0.0000000001", ""),
    ("limit_price", "0", f"limit_price must be above 0 and at most {MOST}"),
    ("limit_price", "-1", f"limit_price must be above 0 and at most {MOST}"),
    ("limit_price", "NaN", f"limit_price must be above 0 and at most {MOST}"),
    ("limit_price", "Infinity", f"limit_price must be above 0 and at most {MOST}"),
    ("limit_price", "1000000000000.1", f"limit_price must be above 0 and at most {MOST}"),
    ("limit_price", "0.00000000001", "limit_price has at most 10 decimals"),
    ("new_slippage_pct", MOST_PCT, ""),
    ("new_slippage_pct", "0.0001", ""),
    ("new_slippage_pct", "0", f"new_slippage_pct must be above 0 and at most {MOST_PCT}"),
    ("new_slippage_pct", "80.0001", f"new_slippage_pct must be above 0 and at most {MOST_PCT}"),
    ("new_slippage_pct", "0.00001", "new_slippage_pct has at most 4 decimals"),
    *((level, fine, "") for level in ("take_profit", "stop_loss") for fine in ("0", "0.0000000001", MOST)),
    *(
        (level, wrong, f"{level} must be above 0 and at most {MOST}")
        for level in ("take_profit", "stop_loss")
        for wrong in ("-1", "NaN", "1000000000001")
    ),
    ("take_profit", "0.00000000001", "take_profit has at most 10 decimals"),
    ("stop_loss", "0.00000000001", "stop_loss has at most 10 decimals"),
]


@pytest.mark.parametrize(("name", "value", "problem"), TERMS)
def test_terms_are_what_an_order_can_have(name: str, value: str, problem: str) -> None:
    terms = {"limit_price": Decimal(5), name: Decimal(value)}
    if not problem:
        resting.check_terms(terms)
        return
    with pytest.raises(Refused, match=f"^{problem}$"):
        resting.check_terms(terms)
