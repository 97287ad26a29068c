"""What adopting a chain's word draws, refuses and writes, row by row; the command's own tests walk it on a chain."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from execution_app import meters
from execution_app.engine import adoption, consumed
from execution_app.engine.adoption import Plan
from execution_app.engine.consumed import Use, Uses, What
from execution_app.errors import Refused, Stale
from execution_app.models import AuditEntry, SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import signers
from execution_app.node.history import Counts, Found
from execution_app.states import IntentState, Reason, SendKind, SendOutcome
from execution_app.venues.orders import CloseOrder, OpenOrder
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
BY, WHY = "ann", "checked by two people"
HALTED = "a nonce is not accounted for"
BLOCK_HASH = f"0x{7:064x}"


@pytest.fixture
def wallet() -> Wallet:
    """Halted at nonce 3, beside another that is halted for the same reason."""
    for _ in range(2):
        rows.wallet(next_nonce=3, halted_reason=HALTED, halted_at="2026-01-01T00:00:00Z")
    return Wallet.objects.order_by("id")[0]


def other() -> Wallet:
    return Wallet.objects.order_by("id")[1]


def counts(final: int = 3, latest: int = 0, pending: int = 0, endpoints: int = 2) -> Counts:
    return Counts(90, BLOCK_HASH, final, max(final, latest), max(final, pending), endpoints)


def plan(monkeypatch: pytest.MonkeyPatch, wallet: Wallet, counted: Counts, *uses: Use, **more: bool) -> Plan:
    """As drawn from what a look at the chain would find."""
    monkeypatch.setattr(consumed, "look", lambda _: Uses(counted, wallet.next_nonce, list(uses)))
    return adoption.plan(wallet, **more)


def drawn(wallet: Wallet, *uses: Use, next_nonce: int = 5, refused: tuple[TxIntent, ...] = ()) -> Plan:
    return Plan(Uses(counts(next_nonce), wallet.next_nonce, list(uses)), next_nonce, list(refused))


def waiting(wallet: Wallet, **fields: object) -> TxIntent:
    return TxIntent.objects.get(pk=rows.intent(wallet_id=wallet.pk, trader_id=wallet.trader_id, **fields))


def waiting_close(wallet: Wallet, **fields: object) -> TxIntent:
    return waiting(
        wallet, **{"action": "close", "is_long": None, "collateral_usdc": None, "leverage_x": None, **fields}
    )


def slot(wallet: Wallet, nonce: int) -> TxIntent:
    intent = waiting(wallet)
    owned = rows.slot(nonce=nonce) | {"mode": "LIVE", "state": "reserved"}
    rows.update("tx_intents", intent.pk, owned)
    return TxIntent.objects.get(pk=intent.pk)


def found(nonce: int) -> Found:
    return Found(rows.tx_hash(), nonce, rows.address(), 7, 100_000, b"\x01\x02", 30, 2, b"\x02raw")


def open_order(**fields: Any) -> OpenOrder:
    sound: dict[str, Any] = {
        "trader": rows.address(),
        "pair_index": 1,
        "is_long": True,
        "collateral_usdc": Decimal(5),
        "leverage_x": Decimal(2),
        "wanted_price": Decimal(100_000),
        "slippage_pct": Decimal("0.5"),
    }
    return OpenOrder(**(sound | fields))


# What is drawn


def test_a_wallet_that_signs_is_not_adopted(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    wallet.halted_reason = ""
    assert plan(monkeypatch, wallet, counts()).problem == "the wallet is not halted"


def test_what_one_command_explains_has_a_limit(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    assert plan(monkeypatch, wallet, counts(3 + consumed.LIMIT)).problem == ""
    problem = plan(monkeypatch, wallet, counts(3 + consumed.LIMIT + 1)).problem
    assert problem == "1001 nonces to explain, 1000 at once at most"


@pytest.mark.parametrize("under_way", [{"latest": 5}, {"pending": 5}])
def test_what_is_under_way_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, under_way: dict[str, int]
) -> None:
    assert "once they are final" in plan(monkeypatch, wallet, counts(4, **under_way)).problem
    settled = plan(monkeypatch, wallet, counts(5, **under_way))
    assert (settled.problem, settled.next_nonce, settled.changes) == ("", 5, True)


def test_a_chain_that_knows_less_takes_no_nonce_back(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    found = plan(monkeypatch, wallet, counts(1))
    assert (found.next_nonce, found.problem, found.changes) == (3, "", False)


@pytest.mark.parametrize(
    ("seen", "final", "refused"),
    [(None, 3, False), (3, 3, False), (5, 3, True), (5, 5, False), (3, 1, False)],
)
def test_what_a_lost_copy_signed_above_the_chains_count_may_be_mined_yet(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, seen: int | None, final: int, refused: bool
) -> None:
    waits = waiting(wallet)
    wallet.seen_next_nonce = seen
    assert plan(monkeypatch, wallet, counts(final)).refused == [waits] * refused


def test_a_wallet_that_never_signed_has_nothing_unmined(monkeypatch: pytest.MonkeyPatch) -> None:
    unused = Wallet.objects.get(pk=rows.wallet(halted_reason=HALTED, halted_at="2026-01-01T00:00:00Z"))
    waiting(unused)
    assert plan(monkeypatch, unused, counts(0)).refused == []


def test_a_slot_of_ours_that_nobody_explains_refuses_nothing_that_waits(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    """Its order is known. What took another nonce may have been any of those that wait."""
    waits, mine = waiting(wallet), slot(wallet, 2)
    shown = plan(monkeypatch, wallet, counts(), Use(2, What.UNSEEN, mine))
    assert (shown.refused, "no node shows what took nonces [2] of ours" in shown.problem) == ([], True)
    given_up = plan(monkeypatch, wallet, counts(), Use(2, What.UNSEEN, mine), unseen_is_lost=True)
    assert (given_up.refused, given_up.problem, given_up.changes) == ([], "", True)
    unknown = plan(monkeypatch, wallet, counts(4), Use(3, What.UNSEEN))
    assert (unknown.refused, unknown.problem) == ([waits], "")


def test_only_what_would_do_harm_twice_is_refused(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    """To close all of a position twice does none, and what was recognised on the chain has not to be guessed."""
    matched = waiting(wallet)
    harmful = [
        waiting(wallet),
        waiting_close(wallet, reduce_usdc=3),
        waiting_close(wallet, reduce_pct=50),
        waiting(wallet),
    ]
    rows.update("tx_intents", harmful[-1].pk, {"state": "held", "reason": "degraded"})
    waiting_close(wallet)
    waiting(other())
    slot(wallet, 1)
    told = plan(
        monkeypatch,
        wallet,
        counts(5),
        Use(3, What.UNSEEN),
        Use(4, What.WAITED, matched, found(4), open_order()),
    )
    assert told.refused == harmful


def test_a_plan_changes_something_where_any_part_of_it_does(wallet: Wallet) -> None:
    still = drawn(wallet, next_nonce=3)
    assert not still.changes
    assert not drawn(wallet, Use(2, What.OURS, waiting(wallet)), next_nonce=3).changes
    assert drawn(wallet, Use(2, What.LOST, waiting(wallet)), next_nonce=3).changes
    assert drawn(wallet, next_nonce=3, refused=(waiting(wallet),)).changes
    assert drawn(wallet, next_nonce=4).changes


# What is written


def adopt(wallet: Wallet, plan: Plan, reason: str = WHY) -> None:
    adoption.adopt(wallet, plan, by=BY, reason=reason)
    wallet.refresh_from_db()


def test_a_plan_with_a_problem_is_not_carried_out(wallet: Wallet) -> None:
    with pytest.raises(Refused, match=r"^under way$"):
        adopt(wallet, replace(drawn(wallet), problem="under way"))
    assert Wallet.objects.get(pk=wallet.pk).next_nonce == 3


@pytest.mark.parametrize("moved", [{"next_nonce": 4}, {"halted_reason": "", "halted_at": None}])
def test_a_wallet_that_has_moved_on_is_looked_at_again(wallet: Wallet, moved: dict[str, Any]) -> None:
    plan = drawn(wallet)
    Wallet.objects.filter(pk=wallet.pk).update(**moved)
    with pytest.raises(Stale, match="moved on since this was drawn"):
        adopt(wallet, plan)
    assert not AuditEntry.objects.exists()


def test_adopting_is_one_commit_under_the_wallets_lock_and_the_caps(wallet: Wallet) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        adopt(wallet, drawn(wallet))
    with CaptureQueriesContext(connection) as asked:
        adopt(wallet, drawn(wallet))
    statements = [query["sql"] for query in asked]
    assert any("FOR NO KEY UPDATE" in statement for statement in statements)
    assert any("pg_advisory_xact_lock" in statement for statement in statements)


def test_the_nonce_goes_on_behind_the_chain_and_the_halt_stays(wallet: Wallet) -> None:
    Wallet.objects.filter(pk=wallet.pk).update(seen_next_nonce=5)
    intents = [waiting(wallet) for _ in range(2)]
    adopt(wallet, drawn(wallet, Use(3, What.FOREIGN), Use(4, What.UNSEEN), refused=tuple(intents)))
    assert (wallet.next_nonce, wallet.seen_next_nonce, wallet.halted_reason) == (5, None, HALTED)
    assert (other().next_nonce, other().halted_reason) == (3, HALTED)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.subject, entry.reason) == (
        "wallet_adopted", BY, f"wallet {wallet.address}", WHY,
    )  # fmt: skip
    assert entry.before == {"next_nonce": 3, "halted_reason": HALTED}
    assert entry.after == {
        "next_nonce": 5,
        "final_block": 90,
        "final_hash": BLOCK_HASH,
        "endpoints": 2,
        "nonces": ["3 foreign", "4 unseen"],
        "of": 2,
        "refused": [intent.intent_key for intent in intents],
    }


def test_what_may_be_executed_is_refused_in_words(wallet: Wallet) -> None:
    intent, words = waiting(wallet), "x" * 400
    adopt(wallet, drawn(wallet, refused=(intent,)), reason=words)
    intent.refresh_from_db()
    detail = "a database that is gone may have executed it; ask for it again once that is known"
    assert (intent.state, intent.reason) == (IntentState.REJECTED, Reason.MAY_BE_EXECUTED)
    assert intent.reason_detail == f"{detail}: {words}"[:400]
    assert intent.transitions.latest("id").why == detail


@pytest.mark.parametrize(
    ("what", "seen"),
    [(What.LOST, True), (What.UNSEEN, False)],
)
def test_a_slot_that_was_taken_is_lost_and_counted(wallet: Wallet, what: What, seen: bool) -> None:
    intent, taker = slot(wallet, 2), found(2) if seen else None
    before = meters.NONCE_LOST._value.get()
    adopt(wallet, drawn(wallet, Use(2, what, intent, taker)))
    intent.refresh_from_db()
    assert (intent.state, meters.NONCE_LOST._value.get()) == (IntentState.LOST_NONCE, before + 1)
    by = f"by {taker.tx_hash}" if taker else "by a transaction that no node can still show"
    assert intent.transitions.latest("id").why == f"nonce 2 was consumed {by}; {WHY}"


def test_a_nonce_of_nobody_loses_nothing(wallet: Wallet) -> None:
    before = meters.NONCE_LOST._value.get()
    adopt(wallet, drawn(wallet, Use(3, What.FOREIGN, None, found(3)), Use(4, What.UNSEEN)))
    assert (TxIntent.objects.count(), meters.NONCE_LOST._value.get()) == (0, before)


@pytest.mark.parametrize(
    ("what", "kind"), [(What.REPLACED, SendKind.EXEC), (What.CANCELLED, SendKind.CANCEL)]
)
def test_bytes_of_the_chain_are_kept_as_they_are(wallet: Wallet, what: What, kind: SendKind) -> None:
    """A remote signer was to sign in that slot: nothing is to be signed there any more, and in others all the same."""
    intent, beside = slot(wallet, 2), slot(wallet, 1)
    for one in (intent, beside):
        SignRequest.objects.create(intent=one, attempt=0, kind=SendKind.EXEC, max_fee_wei=9, tip_wei=1)
    mined = found(2)
    adopt(wallet, drawn(wallet, Use(2, what, intent, mined)))
    send = TxSend.objects.get()
    assert (send.intent_id, send.attempt, send.kind, send.tx_hash) == (intent.pk, 0, kind, mined.tx_hash)
    assert (bytes(send.raw), send.max_fee_wei, send.tip_wei) == (mined.raw, mined.max_fee_wei, mined.tip_wei)
    assert send.held_at is not None
    assert send.outcome == SendOutcome.ALREADY_KNOWN
    assert SignRequest.objects.get().intent_id == beside.pk
    intent.refresh_from_db()
    assert intent.state == IntentState.SIGNED
    assert intent.transitions.latest("id").why == f"{mined.tx_hash} is on the chain"


def test_bytes_beside_others_are_a_bump(wallet: Wallet) -> None:
    intent = slot(wallet, 2)
    use = Use(2, What.REPLACED, intent, found(2))
    adoption._store(use, BY)
    adoption._store(replace(use, found=found(2)), BY)
    sends = TxSend.objects.filter(intent=intent).order_by("attempt")
    assert list(sends.values_list("attempt", "kind")) == [(0, SendKind.EXEC), (1, SendKind.BUMP)]


def test_an_order_that_waited_owns_the_nonce_under_which_it_was_executed(wallet: Wallet) -> None:
    intent, mined, order = waiting(wallet, reason="price_stale", reason_detail="old"), found(3), open_order()
    adopt(wallet, drawn(wallet, Use(3, What.WAITED, intent, mined, order), next_nonce=4))
    intent.refresh_from_db()
    assert (intent.state, intent.mode, intent.nonce) == (IntentState.SIGNED, "LIVE", 3)
    assert (intent.to_address, bytes(intent.calldata or b""), intent.value_wei) == (
        mined.to,
        mined.data,
        mined.value_wei,
    )
    assert (intent.gas_limit, intent.wanted_price) == (mined.gas_limit, order.wanted_price)
    assert (intent.reason, intent.reason_detail) == ("", "")
    assert intent.reservation.notional_usdc == 10
    moved = intent.transitions.get(to_state=IntentState.RESERVED)
    assert moved.why == "nonce 3, found on the chain"


@pytest.mark.parametrize("taken", [False, True])
def test_a_close_whose_position_has_moved_on_is_looked_at_again(wallet: Wallet, taken: bool) -> None:
    if taken:
        position = rows.position(trader_id=wallet.trader_id)
        rows.update("tx_intents", waiting_close(wallet).pk, {"position_id": position, "holds_position": True})
        at = dict(zip(("pair_index", "trade_index"), _slot_of(position), strict=True))
    else:
        at = {"pair_index": 1, "trade_index": 0}
    intent = waiting_close(wallet)
    order = CloseOrder(trader=rows.address(), collateral_usdc=Decimal(5), wanted_price=Decimal(1), **at)
    with pytest.raises(Stale, match=f"the position of {intent.intent_key} has moved on"):
        adopt(wallet, drawn(wallet, Use(3, What.WAITED, intent, found(3), order), next_nonce=4))
    assert not TxSend.objects.exists()


def _slot_of(position: int) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pair_index, trade_index FROM positions WHERE id = %s", [position])
        pair_index, trade_index = cursor.fetchone()
    return pair_index, trade_index


# Going on


@pytest.fixture
def nothing_unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "plan", lambda wallet: drawn(wallet, next_nonce=wallet.next_nonce))
    monkeypatch.setattr(signers, "has_key", lambda _: True)


def resume(wallet: Wallet) -> None:
    adoption.resume(wallet, by=BY, reason=WHY)


@pytest.mark.usefixtures("nothing_unclear")
def test_the_halt_of_one_wallet_is_lifted(wallet: Wallet) -> None:
    Wallet.objects.filter(pk=wallet.pk).update(seen_next_nonce=3)
    wallet.refresh_from_db()
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        resume(wallet)
    with CaptureQueriesContext(connection) as asked:
        resume(wallet)
    assert any("FOR NO KEY UPDATE" in query["sql"] for query in asked)
    wallet.refresh_from_db()
    assert (wallet.halted_reason, wallet.halted_at, wallet.seen_next_nonce) == ("", None, None)
    assert other().halted_reason == HALTED
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.subject) == ("wallet_resumed", BY, f"wallet {wallet.address}")
    assert entry.before == {"halted_reason": HALTED, "next_nonce": 3}
    assert entry.after == {"halted_reason": "", "next_nonce": 3}
    with pytest.raises(Refused, match=r"^the wallet is not halted$"):
        resume(wallet)


@pytest.mark.usefixtures("nothing_unclear")
@pytest.mark.parametrize("moved", [{"next_nonce": 4}, {"halted_reason": "for another reason"}])
def test_what_halted_it_anew_meanwhile_is_not_lifted(wallet: Wallet, moved: dict[str, Any]) -> None:
    Wallet.objects.filter(pk=wallet.pk).update(**moved)
    with pytest.raises(Stale, match="moved on since it was looked at"):
        resume(wallet)
    assert Wallet.objects.get(pk=wallet.pk).halted_reason
    assert not AuditEntry.objects.exists()


def test_what_speaks_against_going_on_is_told_together(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    clear = drawn(wallet, next_nonce=3)
    monkeypatch.setattr(signers, "has_key", lambda _: True)
    assert adoption.objections(wallet, clear) == []
    behind = "the chain knows more of this wallet than this database: adopt comes first"
    assert adoption.objections(wallet, drawn(wallet, next_nonce=4)) == [behind]
    for seen, against in ((3, []), (4, [behind])):
        wallet.seen_next_nonce = seen
        assert adoption.objections(wallet, clear) == against
    unused = Wallet.objects.get(pk=rows.wallet())
    assert adoption.objections(unused, drawn(unused, next_nonce=0)) == []
    monkeypatch.setattr(signers, "has_key", lambda _: False)
    told = adoption.objections(wallet, replace(drawn(wallet, next_nonce=1), problem="under way"))
    assert told == ["under way", behind, f"the keystore of {wallet.address} is missing"]
