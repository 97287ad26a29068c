"""A replacement that a person wants before its time: one step of the fee policy, once, and never past what binds any other."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from execution_app import meters
from execution_app.engine import replace, speedups
from execution_app.errors import Refused, Stale
from execution_app.gate import control
from execution_app.models import AuditEntry, TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.node.fees import Fee
from execution_app.states import Origin, RestrictionKind
from tests import invariants
from tests.proxy import Proxy
from tests.rig import Rig
from tests.timers import pass_a_minute

WHY: dict[str, Any] = {"by": "ann", "reason": "the market runs"}


def in_flight(rig: Rig, node: Proxy) -> TxIntent:
    """An open whose bytes a node accepted just now and keeps to itself."""
    node.hold()
    intent = rig.intent()
    rig.submit()
    intent.refresh_from_db()
    assert intent.state == "pending_inclusion"
    return intent


def kinds(intent: TxIntent) -> list[str]:
    return list(intent.sends.order_by("attempt").values_list("kind", flat=True))


def test_the_next_step_of_the_policy_leaves_at_once_and_only_once(rig: Rig, node: Proxy) -> None:
    intent = in_flight(rig, node)
    stuck = meters.TX_STUCK._value.get()
    rig.track()
    assert kinds(intent) == ["exec"], "its time has not come"
    assert speedups.request(intent.intent_key, 0, **WHY).tx_hash == intent.sends.get().tx_hash
    for _ in range(3):
        rig.track()
    assert kinds(intent) == ["exec", "bump"], "what replaced it used the request up"
    old, new = (Fee(int(send.max_fee_wei), int(send.tip_wei)) for send in intent.sends.order_by("attempt"))
    assert new == fees.raised(old, fees.Market(0, 0), replace.ceiling_wei(intent))
    assert meters.TX_STUCK._value.get() == stuck, "nothing was stuck"
    said = AuditEntry.objects.get(action="speed_up_asked")
    assert (said.actor, said.subject, said.reason) == ("ann", intent.intent_key, WHY["reason"])
    assert (said.before or {})["attempt"] == 0
    node.release("all")
    rig.finish()
    intent.refresh_from_db()
    assert intent.state == "filled"
    assert len(invariants.executions(rig.wallet)) == 1
    invariants.check(node)


def test_what_was_looked_at_and_what_is_replaced_are_the_same(rig: Rig, node: Proxy) -> None:
    intent = in_flight(rig, node)
    speedups.request(intent.intent_key, 0, **WHY)
    with pytest.raises(Refused, match="asked for already"):
        speedups.request(intent.intent_key, 0, **WHY)
    rig.track()
    with pytest.raises(Stale, match="transaction 1 has taken the place"):
        speedups.request(intent.intent_key, 0, **WHY)
    speedups.request(intent.intent_key, 1, **WHY)
    rig.track()
    assert kinds(intent) == ["exec", "bump", "bump"]
    assert AuditEntry.objects.filter(action="speed_up_asked").count() == 2


def test_of_many_at_once_one_is_heard(rig: Rig, node: Proxy) -> None:
    intent = in_flight(rig, node)

    def ask(number: int) -> str:
        try:
            if number % 4 == 0:
                replace.replace(rig.wallet.pk, fees.Market(1, 1), 0)
                return "looked"
            speedups.request(intent.intent_key, 0, **WHY)
        except (Refused, Stale) as problem:
            return type(problem).__name__
        finally:
            connection.close()
        return "asked"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(ask, range(16)))
    assert said.count("asked") == 1, said
    rig.track()
    assert kinds(intent) == ["exec", "bump"]
    assert AuditEntry.objects.filter(action="speed_up_asked").count() == 1


def test_a_fee_ceiling_is_never_passed_and_nothing_is_cancelled_for_it(
    rig: Rig, node: Proxy, settings: Settings
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"at_fee_ceiling": "cancel"})
    intent = in_flight(rig, node)
    last = intent.sends.get()
    speedups.request(intent.intent_key, 0, **WHY)
    room_wei = replace.ceiling_wei(intent)
    assert replace.replace(rig.wallet.pk, fees.Market(room_wei, 1), 0) is None, "the market is above it"
    ceiling = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": int(last.max_fee_wei) / 10**9, "at_fee_ceiling": "cancel"}
    )
    settings.ENVIRONMENT = ceiling
    rig.track()
    assert kinds(intent) == ["exec"]
    TxIntent.objects.filter(pk=intent.pk).update(speed_up_asked_at=None)
    with pytest.raises(Refused, match="fee ceiling leaves no room"):
        speedups.request(intent.intent_key, 0, **WHY)


def test_the_order_behind_another_is_not_the_one_to_raise(rig: Rig, node: Proxy) -> None:
    first = in_flight(rig, node)
    second = rig.intent()
    rig.submit()
    with pytest.raises(Refused, match=f"waits behind {first.intent_key}"):
        speedups.request(second.intent_key, 0, **WHY)
    speedups.request(first.intent_key, 0, **WHY)
    rig.track()
    assert (kinds(first), kinds(second)) == (["exec", "bump"], ["exec"])


def test_under_a_stop_nothing_is_raised(rig: Rig, node: Proxy) -> None:
    intent = in_flight(rig, node)
    control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    speedups.request(intent.intent_key, 0, **WHY)
    rig.track()
    assert kinds(intent) == ["exec"]


def test_what_no_node_is_known_to_hold_is_only_repeated(rig: Rig, node: Proxy) -> None:
    node.faults.refuse_next = 1
    intent = rig.intent()
    rig.submit()
    with pytest.raises(Refused, match="no node is known to hold"):
        speedups.request(intent.intent_key, 0, **WHY)
    pass_a_minute()
    rig.run()
    intent.refresh_from_db()
    with pytest.raises(Refused, match="only what has left and is not mined"):
        speedups.request(intent.intent_key, 0, **WHY)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("rbf", "ENABLE_RBF is false"),
        ("halted", "its wallet is halted"),
        ("unknown", "no intent of that key"),
    ],
)
def test_what_may_not_be_raised_is_refused_and_changes_nothing(
    rig: Rig, node: Proxy, settings: Settings, what: str, why: str
) -> None:
    intent = in_flight(rig, node)
    key = intent.intent_key
    if what == "rbf":
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"enable_rbf": False})
    elif what == "halted":
        Wallet.objects.filter(pk=rig.wallet.pk).update(halted_reason="drill")
    else:
        key = "sig:test:none"
    with pytest.raises(Refused, match=why):
        speedups.request(key, 0, **WHY)
    blanks: tuple[dict[str, Any], ...] = ({"by": " ", "reason": "x"}, {"by": "ann", "reason": " "})
    for blank in blanks:
        with pytest.raises(Refused, match="has to be named"):
            speedups.request(intent.intent_key, 0, **blank)
    intent.refresh_from_db()
    assert intent.speed_up_asked_at is None
    assert TxSend.objects.count() == 1
    assert not AuditEntry.objects.filter(action="speed_up_asked").exists()
