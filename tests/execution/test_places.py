"""A place for an intent: who gets the next nonce at which fee, what keeps one from it, and what is stored together."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.book import shadow
from execution_app.book.prices import Market
from execution_app.engine import placing
from execution_app.engine.gateway import making
from execution_app.engine.placing import Asked, Placement, Round, place, store
from execution_app.engine.plans import Plan
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Stale
from execution_app.gate.admission import Admission, Verdict
from execution_app.gate.caps import Breach
from execution_app.models import Position, Reservation, Shadow, SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import fees, signers
from execution_app.node.fees import Fee
from execution_app.states import Mode, Reason
from tests.execution import rows
from tests.execution.intents import again, market, noting, opened, ruling, waiting, waiting_close

pytestmark = pytest.mark.usefixtures("database", "signed")
GWEI = 10**9
FEE = Fee(2_001_000_000, 10**6)
GAS, VALUE, L1 = 100_000, 7, 11
COST = VALUE + GAS * FEE.max_fee_wei + L1
PLAN = Plan(Decimal(60_000), b"\x01\x02", VALUE, GAS, close_usdc=Decimal(5))
FULL = Admission(Verdict.REFUSE, Reason.EXPOSURE_ABOVE_CAP, "full")


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[Any]:
    """A local key that signs whatever it is given, and what that was."""
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": 5, "at_fee_ceiling": "wait"}
    )
    asked: list[Any] = []

    def sign(slot: signers.Slot, fee: Fee) -> signers.Signed:
        asked.append((slot, fee))
        return signers.Signed(b"\x02raw", rows.tx_hash())

    monkeypatch.setattr(signers, "is_remote", lambda: False)
    monkeypatch.setattr(signers, "sign", sign)
    return asked


@pytest.fixture
def wallet() -> Wallet:
    rows.wallet(next_nonce=5)
    return Wallet.objects.get(pk=rows.wallet(next_nonce=5, max_in_flight=3))


def look() -> Market:
    return market(gas=fees.Market(GWEI, 10**6, L1), block_number=70)


def round_of(wallet: Wallet, problem: tuple[Reason, str] | None = None, **fields: Any) -> Round:
    asked = Asked(look(), {}, problem)
    sound: dict[str, Any] = {"in_flight": 0, "messages": 0, "spendable_wei": 10**18, "now": database_now()}
    return Round(wallet, ruling(), asked, **(sound | fields))


def close_of(wallet: Wallet) -> TxIntent:
    position = opened(wallet)
    return waiting_close(wallet, position_id=position.pk, holds_position=True)


def told(intent: TxIntent) -> tuple[str, str, str]:
    intent = again(intent)
    return intent.state, intent.reason, intent.reason_detail


def is_untouched(round_: Round) -> bool:
    return (round_.placed, round_.made, round_.shadows, round_.wallet.next_nonce) == ([], [], [], 5)


# Who gets the next nonce


def test_a_place_is_a_nonce_a_fee_and_a_signature(
    settings: Settings, wallet: Wallet, signed: list[Any]
) -> None:
    intent, round_ = waiting(wallet), round_of(wallet, in_flight=1, messages=2)
    assert intent.trader is not None
    assert place(round_, intent, PLAN)
    to = settings.ENVIRONMENT.venue_trading_address
    order = signers.order_of(intent.intent_key, to, VALUE, GAS, b"\x01\x02")
    trader = intent.trader.address
    slot = signers.Slot(31337, wallet.address, 5, to, VALUE, GAS, b"\x01\x02", trader, order)
    (placed,) = round_.placed
    assert placed == Placement(intent, slot, PLAN, FEE, placed.signed)
    assert signed == [(slot, FEE)]
    assert (wallet.next_nonce, round_.in_flight, round_.messages) == (6, 2, 2)
    assert round_.spendable_wei == 10**18 - COST
    assert (intent.value_wei, intent.gas_limit, intent.l1_fee_wei) == (VALUE, GAS, L1)
    assert [row.intent for row in round_.shadows] == [intent]
    assert told(intent) == ("pending", "", "")


def test_what_the_signer_says_holds_everything(wallet: Wallet) -> None:
    intent, round_ = waiting(wallet), round_of(wallet, (Reason.SIGNER_AWAY, "no answer"))
    assert place(round_, intent, PLAN) is False
    assert told(intent) == ("held", "signer_away", "no answer")
    assert is_untouched(round_)


@pytest.mark.parametrize(
    ("action", "in_flight", "placed"),
    [
        ("open", 2, True),
        ("open", 3, False),
        ("close", 3, True),
        ("close", 6, True),
        ("close", 7, False),
        ("cancel_order", 2, True),
        ("cancel_order", 3, False),
    ],
)
def test_the_last_places_are_for_closes_alone(
    wallet: Wallet, action: str, in_flight: int, placed: bool
) -> None:
    intent = close_of(wallet) if action == "close" else waiting(wallet)
    intent.action = action
    round_ = round_of(wallet, in_flight=in_flight)
    assert place(round_, intent, PLAN) is placed
    assert is_untouched(round_) is not placed
    assert told(intent) == ("pending", "", "")


def test_the_fee_of_an_open_leaves_room_to_replace_it_twice_and_an_exits_does_not(
    settings: Settings, wallet: Wallet
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_fee_per_gas_gwei": 2})
    intent, round_ = waiting(wallet), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    words = f"base fee {GWEI} wei is too near to MAX_FEE_PER_GAS_GWEI"
    assert told(intent) == ("held", "fee_above_ceiling", words)
    assert is_untouched(round_)
    taking_back = waiting_close(wallet)
    taking_back.action = "cancel_order"
    for exit_ in (close_of(wallet), taking_back):
        assert place(round_, exit_, PLAN)
    assert [placed.fee for placed in round_.placed] == [Fee(2 * GWEI, 10**6)] * 2


def test_an_order_has_a_ceiling_of_its_own(wallet: Wallet) -> None:
    most_wei = 2 * GWEI * GAS + VALUE + L1
    intent, round_ = waiting(wallet, max_cost_wei=most_wei), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    words = f"base fee {GWEI} wei is too near to {2 * GWEI} wei, its own ceiling"
    assert told(intent) == ("held", "fee_above_ceiling", words)
    assert place(round_, waiting(wallet, max_cost_wei=3 * most_wei), PLAN)


@pytest.mark.parametrize(("action", "times"), [("open", 3), ("close", 1)])
def test_opens_leave_gas_for_exits(wallet: Wallet, action: str, times: int) -> None:
    intent = waiting(wallet) if action == "open" else close_of(wallet)
    short = round_of(wallet, spendable_wei=times * COST - 1)
    assert place(short, intent, PLAN) is False
    kept = (times - 1) * COST
    words = f"wallet {wallet.address} can spend {times * COST - 1} wei, this needs {COST} and keeps {kept}"
    assert told(intent) == ("held", "insufficient_gas", words)
    assert is_untouched(short)
    assert place(round_of(wallet, spendable_wei=times * COST), intent, PLAN)


def test_a_key_that_is_lost_holds_the_intent(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    def refuse(*_: object) -> None:
        raise Refused("the keystore is missing")

    monkeypatch.setattr(signers, "sign", refuse)
    intent, round_ = waiting(wallet), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    assert told(intent) == ("held", "no_wallet", "the keystore is missing")
    assert is_untouched(round_)


def test_what_a_remote_signer_will_be_asked_is_judged_before_the_nonce_is_taken(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, signed: list[Any]
) -> None:
    judged: list[Any] = []
    monkeypatch.setattr(signers, "is_remote", lambda: True)
    monkeypatch.setattr(signers, "permit", lambda slot, fee: judged.append((slot, fee)))
    monkeypatch.setattr(signers, "check_nonce", judged.append)
    round_ = round_of(wallet)
    assert place(round_, waiting(wallet), PLAN)
    (placed,) = round_.placed
    assert judged == [(placed.slot, FEE), placed.slot]
    assert (placed.signed, signed) == (None, [])


# Whether there is room


def has_room(round_: Round, intent: TxIntent, cost_wei: int = 3) -> bool:
    return placing._has_room(round_, intent, replace(PLAN, leverage_x=Decimal(9)), cost_wei)


def test_an_open_for_which_there_is_no_room_is_refused(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(placing, "room", noting(asked, FULL))
    intent, round_ = waiting(wallet), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    assert asked == [(intent, Mode.LIVE, round_.now, COST)]
    assert told(intent) == ("rejected", "exposure_above_cap", "full")
    assert is_untouched(round_)
    assert has_room(round_, close_of(wallet)), "exits always have room"


@pytest.mark.parametrize("counts", [True, False])
def test_what_was_placed_is_stored_before_it_is_counted(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, counts: bool
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(placing, "counts_rows", lambda _: counts)
    monkeypatch.setattr(placing, "store", lambda _: seen.append("stored"))
    monkeypatch.setattr(placing, "room", lambda *_: seen.append("asked"))
    assert has_room(round_of(wallet), waiting(wallet))
    assert seen == ["stored"] * counts + ["asked"]


def test_a_change_of_margin_may_break_a_cap_on_leverage(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    asked: list[Any] = []
    broken = Breach(Reason.LEVERAGE_ABOVE_CAP, "too much")

    def breaches(*about: Any) -> list[Breach]:
        asked.append(about)
        return [broken]

    monkeypatch.setattr(placing, "leverage_breaches", breaches)
    monkeypatch.setattr(placing, "room", lambda *_: pytest.fail("it is refused already"))
    intent = waiting(wallet)
    assert has_room(round_of(wallet), intent) is False
    assert asked == [(intent, Decimal(9))]
    assert told(intent) == ("rejected", "leverage_above_cap", "too much")


# Messages


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def make(*about: Any) -> Any:
        asked.append(about)
        return "made"

    monkeypatch.setattr(making, "make", make)
    return asked


def test_a_message_takes_no_place_of_a_slot(wallet: Wallet, letters: list[Any]) -> None:
    intent = waiting(wallet, road="gateway")
    round_ = round_of(wallet, in_flight=9, messages=2, spendable_wei=0)
    plan, begun_s = replace(PLAN, trade_opened_at=8), int(database_now().timestamp())
    assert place(round_, intent, plan)
    ((of, about, terms),) = letters
    assert (of, about) == (wallet, intent)
    assert begun_s <= terms.at <= int(database_now().timestamp())
    assert terms == making.Terms(plan.wanted_price, Decimal(5), 8, terms.at, 70)
    assert [str(made) for made in round_.made] == ["made"]
    assert (round_.placed, round_.messages, round_.in_flight) == ([], 3, 9)
    assert (wallet.next_nonce, len(round_.shadows)) == (5, 1)
    assert not place(round_, intent, plan), "there are as many as may be"


def test_a_message_is_of_the_chains_time_where_that_is_ahead(wallet: Wallet, letters: list[Any]) -> None:
    ahead = int(database_now().timestamp()) + 90
    round_ = round_of(wallet)
    round_.asked = replace(round_.asked, market=market(at=ahead))
    assert place(round_, waiting(wallet, road="gateway"), PLAN)
    assert letters[0][2].at == ahead


def test_a_message_costs_no_gas_and_needs_room(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, letters: list[Any]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(placing, "room", noting(asked, FULL))
    intent, round_ = waiting(wallet, road="gateway"), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    assert asked == [(intent, Mode.LIVE, round_.now, 0)]
    assert told(intent)[0] == "rejected"
    assert letters == []


def test_a_message_that_is_not_signed_is_held(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    def refuse(*_: object) -> None:
        raise Refused("another chain")

    monkeypatch.setattr(making, "make", refuse)
    intent, round_ = waiting(wallet, road="gateway"), round_of(wallet)
    assert place(round_, intent, PLAN) is False
    assert told(intent) == ("held", "signer_refused", "another chain")
    assert (is_untouched(round_), round_.messages) == (True, 0)


@pytest.mark.parametrize(
    ("action", "order_type", "estimated"),
    [("open", "market", 1), ("close", "market", 1), ("increase", "market", 1), ("open", "limit", 0), ("margin", "market", 0),
     ("levels", "market", 0), ("cancel_order", "market", 0)],
)  # fmt: skip
def test_what_fills_at_once_is_estimated(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, action: str, order_type: str, estimated: int
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(shadow, "cast", lambda *about: asked.append(about))
    intent, round_ = TxIntent(action=action, order_type=order_type), round_of(wallet)
    placing._cast_shadow(round_, intent, PLAN)
    assert asked == [(intent, round_.market, Decimal(5))] * estimated
    assert round_.shadows == [], "there was no estimate"


# What is stored together


def test_all_that_were_placed_take_their_slots_for_life(wallet: Wallet) -> None:
    intent, close, round_ = (
        waiting(wallet, reason="no_wallet", reason_detail="old"),
        close_of(wallet),
        round_of(wallet),
    )
    assert place(round_, intent, replace(PLAN, close_usdc=None))
    assert place(round_, close, replace(PLAN, wanted_price=Decimal(0)))
    placed = list(round_.placed)
    store(round_)
    assert (round_.placed, round_.shadows, round_.made) == ([], [], [])
    for at, (one, slot) in enumerate(zip((intent, close), placed, strict=True)):
        stored = again(one)
        assert (stored.state, stored.mode, stored.nonce) == ("signed", "LIVE", 5 + at)
        assert (stored.to_address, bytes(stored.calldata or b"")) == (slot.slot.to, b"\x01\x02")
        assert (stored.value_wei, stored.gas_limit, stored.l1_fee_wei) == (VALUE, GAS, L1)
        assert (stored.reason, stored.reason_detail) == ("", "")
        send = TxSend.objects.get(intent=one)
        assert slot.signed is not None
        assert (send.tx_hash, int(send.max_fee_wei), send.leased_at) == (
            slot.signed.tx_hash,
            FEE.max_fee_wei,
            None,
        )
        moved = one.transitions.order_by("id")
        assert [(step.to_state, step.why, step.by) for step in moved] == [
            ("reserved", f"nonce {5 + at}", "engine"),
            ("signed", send.tx_hash, "engine"),
        ]
    assert (again(intent).wanted_price, again(intent).close_usdc) == (60_000, None)
    assert (again(close).wanted_price, again(close).close_usdc) == (None, 5)
    held = Reservation.objects.get()
    assert (held.intent, held.mode, held.notional_usdc) == (intent, "LIVE", 10)
    assert Shadow.objects.count() == 2
    assert list(Wallet.objects.order_by("id").values_list("next_nonce", flat=True)) == [5, 7]
    assert not SignRequest.objects.exists()
    store(round_)
    assert Shadow.objects.count() == 2


def test_a_nonce_that_was_given_away_is_not_given_again(wallet: Wallet) -> None:
    round_ = round_of(wallet)
    assert place(round_, waiting(wallet), PLAN)
    Wallet.objects.filter(pk=wallet.pk).update(next_nonce=6)
    with pytest.raises(Stale, match=f"^nonce 5 of wallet {wallet.pk} is given away already$"):
        store(round_)


def test_a_remote_signer_is_asked_for_each(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    monkeypatch.setattr(signers, "is_remote", lambda: True)
    for name in ("permit", "check_nonce"):
        monkeypatch.setattr(signers, name, lambda *_: None)
    intents, round_ = [waiting(wallet), close_of(wallet)], round_of(wallet)
    assert all(place(round_, intent, PLAN) for intent in intents)
    store(round_)
    requests = SignRequest.objects.order_by("intent")
    assert [(one.intent, one.attempt, one.kind, int(one.max_fee_wei)) for one in requests] == [
        (intent, 0, "exec", FEE.max_fee_wei) for intent in intents
    ]
    assert [again(intent).state for intent in intents] == ["reserved", "reserved"]
    assert not TxSend.objects.exists()


def test_what_a_message_puts_in_has_its_stake(monkeypatch: pytest.MonkeyPatch, wallet: Wallet) -> None:
    stored: list[Any] = []
    monkeypatch.setattr(making, "store", stored.extend)
    intent, close, round_ = waiting(wallet), close_of(wallet), round_of(wallet)
    round_.made = [making.Made(one, None, {}) for one in (intent, close)]  # type: ignore[arg-type]
    store(round_)
    assert [one.intent for one in stored] == [intent, close]
    assert (Reservation.objects.get().intent, Reservation.objects.get().mode) == (intent, "LIVE")
    assert (round_.made, Position.objects.count()) == ([], 1)
