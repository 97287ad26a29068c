"""Caps at the gate: every one refuses with its name, its value, its scope and what was asked, and nothing is sent."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from execution_app.engine import broadcast, reserve, rounds
from execution_app.gate import cap_rows, control
from execution_app.models import Cap, Position, Reservation, TxIntent, TxSend
from execution_app.states import Action, CapName, CapScope, Origin, Reason, RestrictionKind
from signals_app import trace
from tests import invariants, stakes
from tests.execution import rows
from tests.execution.test_dry import set_price
from tests.integration.tx.test_reorg import reorganise
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

GLOBAL = (CapScope.GLOBAL, "")
BTC = (CapScope.SYMBOL, "BTC-USD")
OTHERS = [(CapScope.SYMBOL, "ETH-USD"), (CapScope.SOURCE, "other"), (CapScope.TRADER, "9")]
MINE = [GLOBAL, BTC, (CapScope.SOURCE, "drill"), (CapScope.TRADER, "123")]


def cap(name: CapName, value: object, scope: tuple[CapScope, str] = GLOBAL) -> Cap:
    change = cap_rows.set_cap(name, *scope, Decimal(str(value)), by="test", reason="for the test")
    assert change.now is not None
    return change.now


def ask(rig: Rig, **fields: Any) -> TxIntent:
    intent = rig.intent(**{"source": "drill", **fields})
    rig.submit()
    intent.refresh_from_db()
    return intent


def assert_refused(intent: TxIntent, reason: Reason, *words: str) -> None:
    assert (intent.state, intent.reason, intent.nonce) == ("rejected", reason, None), intent.reason_detail
    assert [word for word in words if word not in intent.reason_detail] == [], intent.reason_detail
    assert not intent.sends.exists()
    assert not Reservation.objects.filter(intent=intent).exists()


# One order of 10 USDC is open; the cap, its value, and what the next of 10 USDC is told.
FULL: list[tuple[CapName, object, Reason, list[str]]] = [
    (CapName.BANNED, 0, Reason.BANNED, ["banned"]),
    (CapName.NOTIONAL, "9.999999", Reason.NOTIONAL_ABOVE_CAP, ["10 USDC", "9.999999 USDC"]),
    (CapName.COLLATERAL, "4.999999", Reason.COLLATERAL_ABOVE_CAP, ["5 USDC", "4.999999 USDC"]),
    (CapName.LEVERAGE, "1.9", Reason.LEVERAGE_ABOVE_CAP, ["leverage 2", "1.9"]),
    (CapName.OPEN_POSITIONS, 1, Reason.OPEN_POSITIONS_AT_CAP, ["would be 2", "1 asked", "(1;"]),
    (
        CapName.EXPOSURE,
        "19.999999",
        Reason.EXPOSURE_ABOVE_CAP,
        ["20 USDC", "10 USDC asked", "19.999999 USDC"],
    ),
    (CapName.ORDERS_PER_MINUTE, 1, Reason.ORDERS_PER_MINUTE_AT_CAP, ["would be 2", "(1;"]),
    (CapName.DAILY_LOSS, 0, Reason.DAILY_LOSS_AT_CAP, ["0 USDC already"]),
    (CapName.GAS_PER_DAY, 10**12, Reason.GAS_PER_DAY_ABOVE_CAP, ["wei", "1000000000000"]),
]


@pytest.mark.parametrize(("name", "value", "reason", "words"), FULL, ids=[case[0].value for case in FULL])
def test_each_cap_refuses_in_each_scope_and_says_why(
    rig: Rig, name: CapName, value: object, reason: Reason, words: list[str]
) -> None:
    rig.intent(source="drill")
    rig.run()
    for scope in OTHERS:
        cap(name, 0 if name is CapName.BANNED else value, scope)
    for scope in MINE:
        row = cap(name, value, scope)
        named = f"{scope[0].value} {scope[1]}".strip()
        assert_refused(ask(rig), reason, name.value, named, f"cap {row.pk}", *words)
        cap_rows.lift_cap(name, *scope, by="test", reason="for the test")
    assert TxSend.objects.count() == 1
    rig.run()
    assert ask(rig).state == "pending_inclusion", "the caps of others do not bind"


def test_an_order_that_just_fits_passes(rig: Rig) -> None:
    for name, value in ((CapName.EXPOSURE, 20), (CapName.OPEN_POSITIONS, 2), (CapName.ORDERS_PER_MINUTE, 2)):
        cap(name, value)
    assert ask(rig).state == ask(rig).state == "pending_inclusion"
    assert_refused(
        ask(rig), Reason.EXPOSURE_ABOVE_CAP, "open_positions", "exposure_usdc", "orders_per_minute"
    )


def test_the_environment_is_the_ceiling_whatever_sql_writes(rig: Rig, settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={
            "max_notional_usdc": Decimal(10),
            "max_exposure_usdc": Decimal(10),
            "max_leverage": Decimal(2),
        }
    )
    for name in ("notional_usdc", "exposure_usdc", "leverage_x"):
        rows.cap(name=name, value=10**9)
        rows.cap(name=name, value=10**9, scope="trader", scope_value="123")
    assert_refused(
        ask(rig, leverage_x=Decimal(3)),
        Reason.NOTIONAL_ABOVE_CAP,
        "MAX_NOTIONAL_USDC (10 USDC",
        "MAX_LEVERAGE (2",
    )
    assert ask(rig).state == "pending_inclusion"
    assert_refused(ask(rig), Reason.EXPOSURE_ABOVE_CAP, "MAX_EXPOSURE_USDC (10 USDC", "environment")
    rows.execute("UPDATE caps SET lifted_at = now()")
    rows.cap(name="notional_usdc", value=9)
    assert_refused(ask(rig), Reason.NOTIONAL_ABOVE_CAP, "notional_usdc (9 USDC")


def test_the_trace_shows_the_cap_that_refused(rig: Rig) -> None:
    cap(CapName.EXPOSURE, 9, BTC)
    signal = rows.signal(source="test", signal_id="1")
    assert signal
    ask(rig)
    told = trace.build("test", "1")
    assert told is not None
    assert told["intent"]["reason"] == "exposure_above_cap"
    assert "exposure_usdc (9 USDC; symbol BTC-USD, cap 1)" in told["intent"]["reason_detail"]
    assert told["reservation"] is None


def test_room_that_comes_free_is_for_the_next_signal_not_for_the_refused_one(rig: Rig) -> None:
    cap(CapName.EXPOSURE, 10)
    rig.intent()
    rig.run()
    refused = ask(rig)
    assert_refused(refused, Reason.EXPOSURE_ABOVE_CAP)
    rig.intent(Action.CLOSE)
    rig.run()
    assert not Reservation.objects.filter(released_at=None).exists()
    pass_a_minute()
    rig.submit()
    refused.refresh_from_db()
    assert refused.state == "rejected"
    assert ask(rig).state == "pending_inclusion"


def test_a_partial_close_frees_its_part_once_it_is_final(rig: Rig) -> None:
    cap(CapName.EXPOSURE, 10)
    rig.intent()
    rig.run()
    rig.intent(Action.CLOSE, reduce_usdc=Decimal(3))
    rig.run()
    held = Reservation.objects.get()
    assert (held.state, held.asked_usdc, held.notional_usdc) == ("exposed", 10, 4)
    assert_refused(ask(rig), Reason.EXPOSURE_ABOVE_CAP, "14 USDC")
    assert ask(rig, collateral_usdc=Decimal(3)).state == "pending_inclusion"
    assert stakes.highest() == 10


def test_a_reorg_of_a_close_cannot_lift_the_sum_above_the_cap(rig: Rig, node: Proxy) -> None:
    """What the close took out is free only when the close is final: the chain may take it back."""
    cap(CapName.EXPOSURE, 10)
    rig.intent()
    rig.run()
    close = rig.intent(Action.CLOSE)
    rig.submit()
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    close.refresh_from_db()
    assert (close.state, close.settled_at) == ("filled", None)
    assert Position.objects.get().state == "closed"
    assert_refused(ask(rig), Reason.EXPOSURE_ABOVE_CAP)
    reorganise(1)
    rig.track()
    assert Position.objects.get().state == "open"
    assert Reservation.objects.get().notional_usdc == 10
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    assert Reservation.objects.get().state == "released"
    assert stakes.highest() == 10
    invariants.check(node)


def test_a_reorg_of_a_fill_makes_exposure_a_reservation_again(rig: Rig, node: Proxy) -> None:
    rig.intent()
    rig.submit()
    assert Reservation.objects.get().state == "open"
    rig.mine()
    rig.track()
    rig.keep()
    rig.track()
    assert Reservation.objects.get().state == "exposed"
    reorganise(1)
    rig.track()
    held = Reservation.objects.get()
    assert (held.state, held.notional_usdc, held.released_at) == ("open", 10, None)
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    assert list(Reservation.objects.get().log.order_by("id").values_list("state", flat=True)) == [
        *("open", "exposed", "open", "exposed")
    ]
    invariants.check(node)


def test_a_refund_frees_its_reservation_once_it_is_final(rig: Rig) -> None:
    intent = rig.intent(slippage_pct=Decimal("0.01"))
    rig.submit()
    rig.mine()
    rig.track()
    set_price(Decimal(200_000))
    rig.keep()
    rig.track()
    intent.refresh_from_db()
    assert (intent.state, Reservation.objects.get().state) == ("venue_cancelled", "open")
    rig.mine(4)
    rig.track()
    held = Reservation.objects.get()
    assert (held.state, held.notional_usdc) == ("released", 0)
    invariants.check()


def test_a_cap_tightened_meanwhile_cancels_what_never_left_and_keeps_what_came_first(
    rig: Rig, node: Proxy
) -> None:
    intents = [rig.intent() for _ in range(3)]
    reserve.reserve(rig.wallet.pk)
    cap(CapName.EXPOSURE, 20)
    assert broadcast.broadcast(rig.wallet.pk, rounds._market()) == 3
    kinds = [list(i.sends.order_by("attempt").values_list("kind", flat=True)) for i in intents]
    assert kinds == [["exec"], ["exec"], ["exec", "cancel"]]
    rig.mine()
    rig.track()
    rig.keep()
    rig.mine(4)
    rig.track()
    rig.mine(4)
    rig.track()
    assert [i.state for i in TxIntent.objects.order_by("id")] == ["filled", "filled", "final_cancelled"]
    assert Reservation.objects.get(intent=intents[2]).state == "released"
    invariants.check(node)


@pytest.mark.parametrize("name", [CapName.BANNED, CapName.DAILY_LOSS, CapName.LEVERAGE, CapName.GAS_PER_DAY])
def test_a_ban_or_any_cap_set_meanwhile_cancels_what_never_left(rig: Rig, node: Proxy, name: CapName) -> None:
    rig.intent()
    reserve.reserve(rig.wallet.pk)
    cap(name, 0)
    broadcast.broadcast(rig.wallet.pk, rounds._market())
    assert list(TxSend.objects.order_by("attempt").values_list("kind", flat=True)) == ["exec", "cancel"]
    assert len(node.log) == 1


def test_dry_and_live_are_summed_apart(rig: Rig) -> None:
    cap(CapName.EXPOSURE, 10)
    rig.intent()
    rig.run()
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="drill")
    assert ask(rig).state == "simulated", "LIVE exposure takes no room of DRY"
    assert_refused(ask(rig), Reason.EXPOSURE_ABOVE_CAP, "20 USDC")
    assert [(r.mode, r.state) for r in Reservation.objects.order_by("id")] == [
        ("LIVE", "exposed"),
        ("DRY", "exposed"),
    ]
    rig.intent(Action.CLOSE)
    rig.submit()
    assert Reservation.objects.get(mode="DRY").state == "released"
    assert ask(rig).state == "simulated"
    control.lift(RestrictionKind.DRY, Origin.HTTP, by="test")
    assert_refused(ask(rig), Reason.EXPOSURE_ABOVE_CAP)


def test_caps_never_stand_in_the_way_of_an_exit(rig: Rig) -> None:
    rig.intent()
    rig.run()
    for name in CapName:
        cap(name, 0)
    assert_refused(ask(rig), Reason.BANNED)
    close = rig.intent(Action.CLOSE)
    rig.run()
    close.refresh_from_db()
    assert close.state == "filled"
    assert Reservation.objects.get().state == "released"


@pytest.mark.parametrize("short_of_gas", [False, True])
def test_a_close_sent_behind_500_opens_at_the_cap_goes_first(
    rig: Rig, node: Proxy, short_of_gas: bool
) -> None:
    rig.intent()
    rig.run()
    cap(CapName.EXPOSURE, 50)
    opens = [rig.intent() for _ in range(500)]
    close = rig.intent(Action.CLOSE)
    if short_of_gas:
        send = TxSend.objects.get()
        cost_wei = int(send.intent.value_wei or 0) + int(send.intent.gas_limit or 0) * int(send.max_fee_wei)
        rpc_call("anvil_setBalance", rig.wallet.address, hex(2 * cost_wei))
    sent = len(node.log)
    rig.submit()
    close.refresh_from_db()
    assert (close.nonce, close.state) == (1, "pending_inclusion")
    assert node.log[sent].tx_hash == close.sends.get().tx_hash, "the first to leave"
    placed = TxIntent.objects.filter(pk__in=[i.pk for i in opens], nonce__isnull=False)
    assert placed.count() == (0 if short_of_gas else 4)
    assert all(i.nonce is not None and i.nonce > 1 for i in placed)
    assert stakes.highest() <= 50


def test_a_minute_passes(rig: Rig) -> None:
    cap(CapName.ORDERS_PER_MINUTE, 1)
    assert ask(rig).state == "pending_inclusion"
    assert_refused(ask(rig), Reason.ORDERS_PER_MINUTE_AT_CAP)
    rows.execute("ALTER TABLE risk_reservations DISABLE TRIGGER guard_reservation")
    Reservation.objects.update(reserved_at=Now() - timedelta(seconds=61))
    rows.execute("ALTER TABLE risk_reservations ENABLE TRIGGER guard_reservation")
    assert ask(rig).state == "pending_inclusion"
