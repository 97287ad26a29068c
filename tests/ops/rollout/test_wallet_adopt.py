"""`wallet status|adopt|resume`: the chain's word is taken over, and nothing is ever executed twice."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from execution_app.book.drift import compare
from execution_app.engine import heads, margin_changes, reconcile, reserve
from execution_app.models import AuditEntry, Position, Reservation, SignRequest, TxIntent, TxSend, Wallet
from execution_app.states import Action, Reason
from tests import database_copies, invariants
from tests.integration.tx.conftest import node
from tests.integration.tx.remote import finish, signing_remotely
from tests.integration.tx.test_nonce_watch import hide, spend_elsewhere
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

__all__ = ["node"]  # the fixture
WHY = ("--reason", "checked by two people", "--by", "ann")


def wallet(capsys: pytest.CaptureFixture[str], verb: str, *words: str) -> Any:
    """The command's JSON; its refusal is raised."""
    capsys.readouterr()
    call_command("wallet", verb, *words, "--json")
    return json.loads(capsys.readouterr().out)


def whats(said: dict[str, Any]) -> dict[int, str]:
    return {use["nonce"]: use["what"] for use in said["nonces"]}


def test_status_tells_slots_and_counts(rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    (said,) = wallet(capsys, "status")
    assert (said["address"], said["next_nonce"], said["chain_latest"], said["in_flight"]) == (
        rig.wallet.address, 1, 0, 1,
    )  # fmt: skip
    assert (said["key"], said["halted_reason"], said["problem"]) == (True, "", "")
    assert int(said["balance_wei"]) > int(said["reserve_wei"]) > 0
    (slot,) = said["slots"]
    assert (slot["nonce"], slot["key"], slot["state"]) == (0, intent.intent_key, "pending_inclusion")
    assert slot["sends"][0]["hash"] == intent.sends.get().tx_hash
    call_command("wallet", "status", "123")
    assert f"slot 0  {slot['state']}" in capsys.readouterr().out
    node.release()


def test_a_key_that_was_used_elsewhere(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    """Shown, refused until it is final, adopted with reason and code, resumed; nonces go on behind it."""
    foreign = [spend_elsewhere(rig, nonce) for nonce in range(2)]
    rig.mine()
    rig.track()
    with pytest.raises(CommandError, match="once they are final"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    rig.mine(4)
    said = wallet(capsys, "adopt", "123")
    assert (said["adopted"], said["becomes"], whats(said)) == (False, 2, {0: "foreign", 1: "foreign"})
    with pytest.raises(CommandError, match="reason of at least"):
        wallet(capsys, "adopt", "123", "--yes")
    with pytest.raises(CommandError, match="adopt comes first"):
        wallet(capsys, "resume", "123", *WHY)
    settings.REHEARSAL = False
    with pytest.raises(CommandError, match="no second factor"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    settings.REHEARSAL = True
    rig.wallet.refresh_from_db()
    assert (rig.wallet.next_nonce, bool(rig.wallet.halted_reason)) == (0, True)
    assert wallet(capsys, "adopt", "123", "--yes", *WHY)["adopted"]
    rig.wallet.refresh_from_db()
    assert (rig.wallet.next_nonce, bool(rig.wallet.halted_reason)) == (2, True)
    assert wallet(capsys, "resume", "123", *WHY)["resumed"]
    intent = rig.intent()
    rig.finish()
    intent.refresh_from_db()
    assert (intent.state, intent.nonce) == ("filled", 2)
    kinds = AuditEntry.objects.filter(action__in=["wallet_halted", "wallet_adopted", "wallet_resumed"])
    assert list(kinds.order_by("seq").values_list("action", "actor"))[1:] == [
        ("wallet_adopted", "ann"),
        ("wallet_resumed", "ann"),
    ]
    invariants.check(node, foreign=foreign)


def test_what_is_not_halted_is_not_adopted(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("adopt", "resume"):
        with pytest.raises(CommandError, match="not halted"):
            wallet(capsys, verb, "123", *WHY)


def test_an_endpoint_that_is_away_proves_nothing(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = spend_elsewhere(rig, 0)
    rig.mine(5)
    rig.track()
    node.faults.http_5xx_next = 1
    with pytest.raises(CommandError, match="every endpoint must answer"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    rig.wallet.refresh_from_db()
    assert rig.wallet.next_nonce == 0
    invariants.check(node, foreign=[foreign], drained=False)


def test_a_slot_that_a_foreign_transaction_took_is_lost_by_the_operators_word(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wallet is halted already, so that the engine leaves the decision to the operator."""
    node.hold()
    intent, behind = rig.intent(), rig.intent()
    rig.submit()
    foreign = [spend_elsewhere(rig, nonce) for nonce in range(3)]
    rig.mine(5)
    rig.track()
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert whats(said) == {0: "lost", 1: "lost", 2: "foreign"}
    node.release("none")
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    for lost in (intent, behind):
        lost.refresh_from_db()
        assert lost.state == "lost_nonce"
        assert "checked by two people" in lost.transitions.get(to_state="lost_nonce").why
    assert not invariants.executions(rig.wallet)
    assert not Reservation.objects.exclude(state="released").exists()
    assert TxIntent.objects.count() == 2, "what was lost is never asked for again"
    invariants.check(node, foreign=foreign)


def test_an_old_copy_of_the_database(rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does not know was executed meanwhile is found on the chain, and executed by nobody again."""
    known = rig.intent()
    rig.run()
    asked = rig.intent(symbol="ETH-USD")
    database_copies.take()
    bumped = rig.intent()  # in no copy
    rig.run()
    database_copies.give_back()
    assert not TxIntent.objects.filter(pk=bumped.pk).exists()
    rig.track()
    rig.wallet.refresh_from_db()
    assert (rig.wallet.next_nonce, bool(rig.wallet.halted_reason)) == (1, True)
    pass_a_minute()
    rig.submit()
    asked.refresh_from_db()
    assert (asked.state, asked.nonce) == ("held", None)
    rig.mine(4)
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert whats(said) == {1: "waited", 2: "unasked"}
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    asked.refresh_from_db()
    assert (known.pk, asked.state, asked.nonce) == (known.pk, "filled", 1)
    adopted = TxIntent.objects.get(intent_key__startswith="adopted:")
    assert (adopted.state, adopted.nonce, adopted.symbol) == ("filled", 2, "BTC-USD")
    assert Position.objects.filter(state="open").count() == 3
    assert len(invariants.executions(rig.wallet)) == 3
    invariants.check(node)


def test_a_close_that_an_old_copy_still_waits_for(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    database_copies.take()
    rig.run()
    database_copies.give_back()
    rig.track()
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert whats(said) == {1: "waited"}
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    close.refresh_from_db()
    assert (close.state, close.nonce) == ("filled", 1)
    assert not Position.objects.filter(state="open").exists()
    invariants.check(node)


def test_margin_that_an_old_copy_still_waits_for(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """It went in once: the book follows the venue, and who asked is told that it may have been done."""
    rig.intent()
    rig.run()
    position = Position.objects.get()
    margin_changes.change(position.pk, Decimal("2.5"), key="admin:margin", by="ann", reason="more room")
    database_copies.take()
    rig.run()
    mined = TxSend.objects.get(intent__intent_key="admin:margin").tx_hash
    database_copies.give_back()
    rig.track()
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert (whats(said), said["refused"]) == ({1: "foreign"}, ["admin:margin"])
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    for _ in range(2):
        compare()
        rig.mine(4)
    asked = TxIntent.objects.get(intent_key="admin:margin")
    assert (asked.state, asked.reason) == ("rejected", Reason.MAY_BE_EXECUTED)
    position.refresh_from_db()
    assert position.collateral_usdc == Decimal("7.5")
    invariants.check(node, foreign=[mined])


def test_a_bump_that_an_old_copy_does_not_know(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    database_copies.take()
    pass_a_minute()
    rig.track()
    assert intent.sends.count() == 2
    node.release("all")
    behind = rig.intent()
    rig.submit()
    rig.mine(5)
    database_copies.give_back()
    rig.track()
    intent.refresh_from_db()
    assert (intent.state, intent.sends.count()) == ("pending_inclusion", 1)
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert whats(said) == {0: "replaced", 1: "unasked"}
    wallet(capsys, "resume", "123", *WHY)
    rig.finish(2)
    intent.refresh_from_db()
    assert intent.state == "filled"
    assert intent.sends.get(attempt=1).kind == "bump"
    assert not TxIntent.objects.filter(intent_key=behind.intent_key).exists()
    invariants.check(node)


def test_what_no_node_can_tell_is_not_executed_again(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that has forgotten old state: who waits may have been executed, so opens are refused."""
    rig.intent()
    waits, exit_ = rig.intent(symbol="ETH-USD"), rig.intent(Action.CLOSE, symbol="SOL-USD")
    database_copies.take()
    rig.run()
    database_copies.give_back()
    rig.track()
    node.faults.forget_state = True
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert set(whats(said).values()) == {"unseen"}
    for intent, state in ((waits, "rejected"), (exit_, "pending")):
        intent.refresh_from_db()
        assert intent.state == state
    assert waits.reason == Reason.MAY_BE_EXECUTED
    node.faults.forget_state = False
    assert TxSend.objects.count() == 0
    assert Wallet.objects.get().next_nonce == 2
    heads.follow()


def test_a_slot_that_an_old_copy_had_not_signed_yet(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    """A remote signer's answer came after the copy was made: the slot has no bytes here, and the chain has executed it."""
    with signing_remotely(rig, settings) as signer:
        intent = rig.intent()
        assert reserve.reserve(rig.wallet.pk) == 1
        database_copies.take()
        rig.submit()
        behind = rig.intent(symbol="ETH-USD")
        rig.submit()
        rig.mine(5)
        database_copies.give_back()
        rig.track()
        intent.refresh_from_db()
        assert (intent.state, intent.sends.count(), len(signer.signed)) == ("reserved", 0, 2)
        said = wallet(capsys, "adopt", "123", "--yes", *WHY)
        assert whats(said) == {0: "replaced", 1: "unasked"}
        wallet(capsys, "resume", "123", *WHY)
        finish(rig)
        intent.refresh_from_db()
        assert intent.state == "filled"
        assert not SignRequest.objects.exists()
        assert not TxIntent.objects.filter(intent_key=behind.intent_key).exists()
        assert len(signer.signed) == 2, "nothing is signed again"
        invariants.check(node)


def unexplained(rig: Rig, node: Proxy, *, without_blocks: bool) -> TxIntent:
    """An order of ours that was mined, of which the node has no receipt any more; and no transactions either, where told."""
    intent = rig.intent()
    rig.submit()
    rig.mine(6)
    hide(node, blocks=without_blocks)
    if not without_blocks:
        reconcile.halt_wallet(rig.wallet, "for some other reason")
    rig.track()
    rig.track()
    rig.wallet.refresh_from_db()
    assert rig.wallet.halted_reason
    return intent


def test_a_slot_that_no_node_explains_is_given_up_by_a_word_of_its_own(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    intent = unexplained(rig, node, without_blocks=True)
    with pytest.raises(CommandError, match=r"no node shows what took nonces \[0\] of ours"):
        wallet(capsys, "adopt", "123", "--yes", *WHY)
    with pytest.raises(CommandError, match="adopt comes first"):
        wallet(capsys, "resume", "123", *WHY)
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    said = wallet(capsys, "adopt", "123", "--unseen-is-lost", "--yes", *WHY)
    assert (said["adopted"], whats(said)) == (True, {0: "unseen"})
    intent.refresh_from_db()
    assert intent.state == "lost_nonce"
    assert "no node can still show" in intent.transitions.get(to_state="lost_nonce").why
    wallet(capsys, "resume", "123", *WHY)


def test_a_slot_whose_own_bytes_are_in_a_block_is_ours_without_a_receipt(
    rig: Rig, node: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    intent = unexplained(rig, node, without_blocks=False)
    said = wallet(capsys, "adopt", "123", "--yes", *WHY)
    assert whats(said) == {0: "ours"}
    wallet(capsys, "resume", "123", *WHY)
    node.faults.hide_receipts = False
    pass_a_minute()
    rig.run()
    intent.refresh_from_db()
    assert intent.state == "filled"
    invariants.check(node)
