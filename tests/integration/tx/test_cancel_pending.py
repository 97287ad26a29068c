"""Cancels that a person asks for fill the slots of opens, under a stop too, and nothing else leaves."""

import time
from decimal import Decimal

import pytest
from eth_account import Account
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditOrigin
from execution_app.engine import cancels, margin_changes, reserve, rounds
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import AuditEntry, Position, TxIntent, Wallet
from execution_app.node import fees, signers
from execution_app.states import Action, Origin, RestrictionKind
from tests import invariants
from tests.invariants import Stop
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute


def stop() -> None:
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")


def look(rig: Rig, times: int = 3) -> None:
    for _ in range(times):
        pass_a_minute()
        rig.submit()
        rig.track()
        rig.mine()
        rig.track()
    rig.mine(4)
    rig.track()


@pytest.mark.parametrize("broadcast_before", [True, False])
def test_unmined_opens_are_cancelled_under_a_stop(rig: Rig, node: Proxy, *, broadcast_before: bool) -> None:
    opens = [rig.intent() for _ in range(3)]
    node.hold()
    if broadcast_before:
        rig.submit()
    else:
        assert reserve.reserve(rig.wallet.pk) == 3
    stop()
    at_s = time.monotonic()
    assert cancels.request(by="test") == [intent.intent_key for intent in opens]
    rig.submit()
    rig.track()
    node.release("all")
    look(rig)
    for intent in opens:
        intent.refresh_from_db()
    assert {intent.state for intent in opens} == {"final_cancelled"}
    assert invariants.executions(rig.wallet) == []
    fills = {send.tx_hash for intent in opens for send in intent.sends.filter(kind="cancel")}
    invariants.check(node, stops=[Stop(at_s, in_flight=fills)])


def test_a_cancel_that_did_not_arrive_is_offered_again_under_the_stop(rig: Rig, node: Proxy) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    stop()
    cancels.request(by="test")
    node.faults.refuse_next = 1
    rig.track()
    assert intent.sends.get(kind="cancel").held_at is None
    pass_a_minute()
    rig.track()
    assert intent.sends.get(kind="cancel").held_at is not None
    node.release("all")
    look(rig)
    intent.refresh_from_db()
    assert intent.state == "final_cancelled"


def test_exits_are_left_as_they_are(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    assert cancels.request(by="test") == []
    node.release("all")
    look(rig)
    rig.keep()
    look(rig)
    close.refresh_from_db()
    assert close.state == "filled"


def kinds(intent: TxIntent) -> list[str]:
    return list(intent.sends.order_by("attempt").values_list("kind", flat=True))


def test_one_is_cancelled_by_its_key_alone_and_once(rig: Rig, node: Proxy) -> None:
    node.hold()
    others, wanted = rig.intent(), rig.intent()
    rig.submit()
    assert cancels.request(by="ann", key=wanted.intent_key, origin=AuditOrigin.ADMIN) == [wanted.intent_key]
    asked_at = TxIntent.objects.get(pk=wanted.pk).cancel_asked_at
    assert cancels.request(by="ann", key=wanted.intent_key) == [], "it is asked for already"
    assert cancels.request(by="ann", key="sig:test:none") == []
    said = AuditEntry.objects.get(action="pending_cancelled")
    assert (said.actor, said.origin, said.subject) == ("ann", "admin", "unmined opens")
    assert said.after == {"count": 1, "first": [wanted.intent_key]}
    rig.track()
    assert (kinds(others), kinds(wanted)) == (["exec"], ["exec", "cancel"])
    node.release("all")
    look(rig)
    rig.keep()
    look(rig)
    for intent in (others, wanted):
        intent.refresh_from_db()
    assert (others.state, wanted.state) == ("filled", "final_cancelled")
    assert wanted.cancel_asked_at == asked_at
    assert cancels.request(by="ann") == [], "what is mined is not cancelled any more"
    assert AuditEntry.objects.filter(action="pending_cancelled").count() == 1
    invariants.check(node)


def test_who_asked_first_stays_and_the_first_keys_are_told(rig: Rig, node: Proxy) -> None:
    node.hold()
    opens = [rig.intent() for _ in range(2)]
    rig.submit()
    cancels.request(by="ann", key=opens[1].intent_key)
    asked_at = TxIntent.objects.get(pk=opens[1].pk).cancel_asked_at
    keys = [intent.intent_key for intent in opens]
    assert cancels.request(by="bob") == keys, "all that is not mined is named, in its order"
    assert TxIntent.objects.get(pk=opens[1].pk).cancel_asked_at == asked_at
    told = AuditEntry.objects.filter(action="pending_cancelled").order_by("seq").last()
    assert told is not None
    assert (told.actor, told.after) == ("bob", {"count": 2, "first": keys})


def test_a_halted_wallet_signs_no_cancel(rig: Rig, node: Proxy) -> None:
    node.hold()
    intent = rig.intent()
    rig.submit()
    cancels.request(by="test")
    Wallet.objects.update(halted_reason="drill")
    assert cancels.sign(rig.wallet.pk, fees.Market(1, 1)) == []
    assert kinds(intent) == ["exec"]
    Wallet.objects.update(halted_reason="")
    (cancel,) = cancels.sign(rig.wallet.pk, fees.Market(1, 1))
    assert (cancel.intent_id, cancel.kind) == (intent.pk, "cancel")
    assert cancels.sign(rig.wallet.pk, fees.Market(1, 1)) == [], "once is enough"


def test_each_wallet_signs_its_own_cancels(rig: Rig, node: Proxy) -> None:
    theirs = rig.equip(Account.create(), tg_user_id=124)
    node.hold()
    mine, others = rig.intent(), rig.intent(trader=theirs.trader, wallet=theirs)
    rig.submit()
    rounds.submit(theirs.pk)
    cancels.request(by="test")
    assert [send.intent_id for send in cancels.sign(theirs.pk, fees.Market(1, 1))] == [others.pk]
    assert (kinds(mine), kinds(others)) == (["exec"], ["exec", "cancel"])


def test_one_at_its_fee_ceiling_keeps_no_other_from_its_cancel(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    node.hold()
    dear, cheap = rig.intent(), rig.intent()
    rig.submit()
    pass_a_minute()
    rig.track()
    assert (kinds(dear), kinds(cheap)) == (["exec", "bump"], ["exec"])
    ceiling_wei = dear.sends.get(kind="bump").max_fee_wei
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": ceiling_wei / 10**9}
    )
    cancels.request(by="test")
    assert [send.intent_id for send in cancels.sign(rig.wallet.pk, fees.Market(1, 1))] == [cheap.pk]
    assert (kinds(dear), kinds(cheap)) == (["exec", "bump"], ["exec", "cancel"])


def test_what_cannot_be_signed_keeps_no_other_from_its_cancel(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.hold()
    opens = [rig.intent() for _ in range(3)]
    rig.submit()
    cancels.request(by="test")
    sign = signers.sign

    def without_the_first(slot: signers.Slot, fee: fees.Fee) -> signers.Signed:
        if slot.nonce == 0:
            raise Refused("no key")
        return sign(slot, fee)

    monkeypatch.setattr(signers, "sign", without_the_first)
    made = cancels.sign(rig.wallet.pk, fees.Market(1, 1))
    assert [send.intent_id for send in made] == [opens[1].pk, opens[2].pk], "by their nonces"
    assert [kinds(intent) for intent in opens] == [["exec"], ["exec", "cancel"], ["exec", "cancel"]]


def test_a_change_of_margin_is_cancelled_as_an_open_is(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.run()
    node.hold()
    change = margin_changes.ask(Position.objects.get(), Decimal(1), key="admin:margin:1", by="test")
    rig.submit()
    change.refresh_from_db()
    assert change.state == "pending_inclusion"
    assert cancels.request(by="test") == [change.intent_key]
    rig.track()
    assert kinds(change) == ["exec", "cancel"]
