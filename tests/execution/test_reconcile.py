"""Whether chain and database describe the same past: who is halted by what, what is written of it, and who trades on."""

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app import audit
from execution_app.engine import reconcile
from execution_app.errors import Disagreement
from execution_app.models import AuditEntry, Chain, Wallet
from execution_app.node import identity, rpc
from execution_app.states import IntentState
from tests.execution import rows

HERE, ELSEWHERE = 31337, 8453
FIRST_BLOCK = "0x" + "a" * 64
VENUE = "0x" + "Ab" * 20

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def venue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose first block the venue was looked at for; its contracts have tests with a real node."""
    looked: list[str] = []
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"chain_id": HERE, "venue_trading_address": VENUE}
    )
    monkeypatch.setattr(reconcile, "_check_venue", looked.append)
    return looked


def chain(pk: int = HERE, **fields: Any) -> Chain:
    defaults: dict[str, Any] = {"genesis_hash": FIRST_BLOCK, "trading_address": VENUE}
    return Chain.objects.create(pk=pk, **(defaults | fields))


def wallet(next_nonce: int = 0, **fields: object) -> Wallet:
    return Wallet.objects.get(pk=rows.wallet(next_nonce=next_nonce, **fields))


def halts() -> dict[int, str]:
    return dict(Wallet.objects.values_list("pk", "halted_reason"))


def said(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("seq"))


def test_a_wallet_is_halted_once_and_alone() -> None:
    mine, other = wallet(7), wallet(3)
    reason = "r" * 300
    reconcile.halt_wallet(mine, reason)
    assert halts() == {mine.pk: "r" * 200, other.pk: ""}
    mine.refresh_from_db()
    assert mine.halted_at is not None
    reconcile.halt_wallet(mine, "another reason")
    assert halts()[mine.pk] == "r" * 200, "the first word stays"
    (entry,) = said("wallet_halted")
    assert (entry.subject, entry.reason) == (f"wallet {mine.address}", reason)
    assert entry.before == {"halted_reason": "", "next_nonce": 7}
    assert entry.after == {"halted_reason": reason}


def test_a_count_above_what_was_signed_halts_that_wallet_alone() -> None:
    ahead, level, behind = wallet(2), wallet(2), wallet(2)
    known = wallet(0, halted_reason="known", halted_at="2026-01-01T00:00:00Z")
    reconcile.check_wallets({ahead.pk: 3, level.pk: 2, behind.pk: 1, known.pk: 5})
    found = halts()
    assert "the chain has 3 transactions of this wallet, this database signed 2" in found[ahead.pk]
    assert (found[level.pk], found[behind.pk], found[known.pk]) == ("", "", "known")
    assert len(said("wallet_halted")) == 1


def test_a_wallet_that_nobody_counted_is_not_compared() -> None:
    one, other = wallet(0), wallet(0)
    reconcile.check_wallets({one.pk: 1})
    assert halts()[other.pk] == ""


@pytest.mark.parametrize(("count", "trades"), [(6, True), (5, False), (0, False)])
def test_a_count_below_what_was_final_halts_everybody(count: int, *, trades: bool) -> None:
    chain()
    pk = rows.intent_in(IntentState.FINAL_REVERTED)
    rows.intent_in(IntentState.PENDING_INCLUSION)
    owner = Wallet.objects.get(pk=rows.one("SELECT wallet_id FROM tx_intents WHERE id = %s", pk))
    nonce = rows.one("SELECT nonce FROM tx_intents WHERE id = %s", pk)
    Wallet.objects.update(next_nonce=nonce + 10)
    (found,) = reconcile.with_settled_nonces("wallets.id = %s", owner.pk)
    assert found.settled_nonce == nonce
    if trades:
        reconcile.check_wallets({owner.pk: nonce + 1})
        assert Chain.objects.get().halted_reason == ""
        return
    with pytest.raises(Disagreement, match=f"but nonce {nonce} was final here"):
        reconcile.check_wallets({owner.pk: nonce - 5 + count})
    assert f"transactions of {owner.address}" in Chain.objects.get().halted_reason
    assert set(halts().values()) == {""}


def test_of_what_is_not_final_no_count_is_too_low() -> None:
    chain()
    pk = rows.intent_in(IntentState.PENDING_INCLUSION)
    owner = rows.one("SELECT wallet_id FROM tx_intents WHERE id = %s", pk)
    (found,) = reconcile.with_settled_nonces("wallets.id = %s", owner)
    assert found.settled_nonce is None
    reconcile.check_wallets({owner: 0})
    assert Chain.objects.get().halted_reason == ""


def test_a_disagreement_is_written_down_once_and_halts_every_chain() -> None:
    chain()
    chain(ELSEWHERE)
    reason = "d" * 500
    for _ in range(2):
        with pytest.raises(Disagreement) as caught:
            reconcile.halt(reason)
        assert str(caught.value) == reason
    assert set(Chain.objects.values_list("halted_reason", flat=True)) == {"d" * 400}
    first, second = said("chain_halted")
    assert (first.subject, second.subject) == (f"chain {ELSEWHERE}", f"chain {HERE}")
    assert reason.startswith(first.reason)
    assert len(first.reason) >= 200
    assert (first.before, first.after) == ({"halted_reason": ""}, {"halted_reason": "d" * 400})
    Chain.objects.filter(pk=HERE).update(halted_reason="other words")
    with pytest.raises(Disagreement):
        reconcile.halt("d" * 400)
    assert [entry.before for entry in said("chain_halted")[2:]] == [{"halted_reason": "other words"}]


def test_trading_is_resumed_where_it_was_halted_and_is_said_once() -> None:
    chain(halted_reason="they differ")
    chain(ELSEWHERE, halted_reason="they differ, too")
    for _ in range(2):
        reconcile.resume(HERE)
    assert dict(Chain.objects.values_list("pk", "halted_reason")) == {HERE: "", ELSEWHERE: "they differ, too"}
    (entry,) = said("chain_resumed")
    assert (entry.subject, entry.before, entry.after) == (
        f"chain {HERE}",
        {"halted_reason": "they differ"},
        {"halted_reason": ""},
    )


def test_what_endpoints_are_held_against_is_the_chain_of_the_environment(venue: list[str]) -> None:
    try:
        assert reconcile.expect_chain() is None
        assert identity._genesis_hash == ""
        chain(ELSEWHERE, genesis_hash="0x" + "e" * 64)
        assert reconcile.expect_chain() is None, "another chain's row says nothing of this one"
        assert identity._genesis_hash == ""
        here = chain(HERE)
        chain(99_999, genesis_hash="0x" + "9" * 64)
        assert reconcile.expect_chain() == here
        assert identity._genesis_hash == FIRST_BLOCK
    finally:
        identity.expect_genesis("")


@pytest.mark.parametrize(
    ("foreign", "halted"), [(["a", "b", "a"], True), (["a", ""], False), (["", ""], False), (["a"], True)]
)
def test_only_where_every_endpoint_is_on_another_chain_nobody_trades(
    monkeypatch: pytest.MonkeyPatch, foreign: list[str], *, halted: bool
) -> None:
    chain()
    endpoints = [SimpleNamespace(identity=SimpleNamespace(foreign=why)) for why in foreign]
    monkeypatch.setattr(rpc, "endpoints", lambda: endpoints)
    if not halted:
        reconcile.halt_on_foreign_endpoints()
        assert Chain.objects.get().halted_reason == ""
        return
    with pytest.raises(Disagreement) as caught:
        reconcile.halt_on_foreign_endpoints()
    assert str(caught.value) == "; ".join(sorted(set(foreign))), "each reason once"


def test_the_first_chain_that_is_seen_is_adopted(venue: list[str]) -> None:
    reconcile.check_identity(HERE, FIRST_BLOCK)
    found = Chain.objects.get()
    assert (found.pk, found.genesis_hash, found.trading_address) == (HERE, FIRST_BLOCK, VENUE)
    (entry,) = said("chain_adopted")
    assert entry.subject == f"chain {HERE}"
    assert entry.after == {"genesis_hash": FIRST_BLOCK, "trading_address": VENUE}
    reconcile.check_identity(HERE, FIRST_BLOCK)
    reconcile.check_identity(HERE, FIRST_BLOCK, found)
    assert len(said("chain_adopted")) == 1
    assert venue == [FIRST_BLOCK] * 3


def test_this_chain_is_adopted_beside_another_one(venue: list[str]) -> None:
    chain(ELSEWHERE, genesis_hash="0x" + "e" * 64)
    reconcile.check_identity(HERE, FIRST_BLOCK)
    assert dict(Chain.objects.values_list("pk", "genesis_hash"))[HERE] == FIRST_BLOCK


@pytest.mark.parametrize("written", [VENUE.lower(), "0x" + VENUE[2:].upper()])
def test_an_address_is_the_same_in_whatever_case_it_is_written(venue: list[str], written: str) -> None:
    reconcile.check_identity(HERE, FIRST_BLOCK, chain(trading_address=written))
    assert Chain.objects.get().halted_reason == ""


@pytest.mark.parametrize(
    ("chain_id", "genesis", "address", "words"),
    [
        (ELSEWHERE, FIRST_BLOCK, VENUE, f"the node is on chain {ELSEWHERE}, CHAIN_ID is {HERE}"),
        (HERE, "0x" + "b" * 64, VENUE, "this database trades on " + FIRST_BLOCK),
        (HERE, FIRST_BLOCK, "0x" + "cd" * 20, "VENUE_TRADING_ADDRESS is not 0x" + "cd" * 20),
    ],
)
def test_another_chain_or_venue_halts(
    venue: list[str], chain_id: int, genesis: str, address: str, words: str
) -> None:
    known = chain(trading_address=address)
    with pytest.raises(Disagreement, match=words):
        reconcile.check_identity(chain_id, genesis, known)
    assert words in Chain.objects.get().halted_reason
    assert venue == [], "it is not asked of what is on a chain that is not ours"


def test_a_row_that_this_pass_has_read_is_not_read_again(venue: list[str]) -> None:
    known = chain()
    with CaptureQueriesContext(connection) as asked:
        reconcile.check_identity(HERE, FIRST_BLOCK, known)
    assert len(asked) == 0


def test_chains_are_halted_and_resumed_under_their_rows_lock() -> None:
    chain()
    with CaptureQueriesContext(connection) as asked, pytest.raises(Disagreement):
        reconcile.halt("they differ")
    with CaptureQueriesContext(connection) as asked_later:
        reconcile.resume(HERE)
    for queries in (asked, asked_later):
        assert any("FOR UPDATE" in query["sql"] and '"chain' in query["sql"] for query in queries)


def test_a_wallets_halt_is_told_once() -> None:
    mine = wallet()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            reconcile.halt_wallet(mine, "a reason")
    assert [(entry["event"], entry["wallet"], entry["reason"]) for entry in logs] == [
        ("wallet halted", mine.address, "a reason")
    ]


def test_a_wallets_halt_and_its_entry_are_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in between")

    mine = wallet()
    monkeypatch.setattr(audit, "try_record", fail)
    with pytest.raises(RuntimeError, match="in between"):
        reconcile.halt_wallet(mine, "a reason")
    assert halts() == {mine.pk: ""}
