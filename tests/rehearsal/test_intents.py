"""The rehearsal venue takes what a trader or their delegate signed: once, in time, for the trade that was meant."""

from dataclasses import replace
from decimal import Decimal

import pytest
from eth_account import Account

from execution_app.venues import messages, typed_data
from execution_app.venues.events import OrderExecuted, OrderRegistered
from execution_app.venues.messages import CloseMessage, DelegateMessage, LevelsMessage, OpenMessage
from execution_app.venues.onchain import CloseOrder, call_delegate, read_delegate, read_uint
from execution_app.venues.typed_data import Domain
from ops.rehearsal import venue
from ops.rehearsal.contracts import artefact
from ops.rehearsal.rpc import Message, Sender
from tests.rehearsal.desk import BTC

TRADING = artefact("Trading")
ORDER_TYPES = {typed_data.OPEN: 0, typed_data.CLOSE: 1, typed_data.LEVELS: 5, typed_data.INCREASE: 9}
GAS = 1_000_000


@pytest.fixture
def signed(desk):
    """Sign as the delegate, unless told otherwise, and lay it out as the operator's call."""
    domain = Domain(31337, desk.deployment.trading)

    def call(message, by=None):
        signature = (
            (by or desk.delegate)._account.unsafe_sign_hash(messages.digest(domain, message)).signature
        )
        kind = messages.kind_of(message)
        return TRADING.call("executeIntent", ORDER_TYPES[kind], messages.encode(message), bytes(signature))

    return call


def opening(desk, nonce=7, **changes):
    return OpenMessage(desk.order(**changes), soon_ms(desk), nonce)


def closing(desk, opened_at, nonce=8, usdc=Decimal(5)):
    return CloseMessage(
        CloseOrder(desk.trader.address, BTC, 0, usdc, Decimal(100_000)), opened_at, soon_ms(desk), nonce
    )


def changing(desk, nonce=9, **levels):
    levels = {"take_profit": Decimal(120_000), "stop_loss": Decimal(90_000)} | levels
    return LevelsMessage(desk.trader.address, BTC, 0, **levels, deadline_ms=soon_ms(desk), nonce=nonce)


def now_s(desk):
    return int(desk.node.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def soon_ms(desk):
    return (now_s(desk) + 100) * 1000


def is_spent(desk, signer, nonce):
    call = TRADING.call("nonceBitmap", signer, nonce // 256)
    return bool(read_uint(desk.node.call(desk.deployment.trading, call)) >> (nonce % 256) & 1)


def carry_out(desk, call):
    (receipt,) = desk.operator.transact(Message(desk.deployment.trading, call, GAS))
    return desk.events_of(receipt)


def test_a_delegates_open_is_registered_for_the_trader_and_executed(desk, signed):
    before = desk.usdc(desk.trader.address)
    (registered,) = carry_out(desk, signed(opening(desk)))
    assert isinstance(registered, OrderRegistered)
    assert (registered.trader, registered.collateral_usdc) == (desk.trader.address, Decimal(5))
    assert desk.usdc(desk.trader.address) == before - 5_000_000
    (executed,) = desk.execute(registered.order_id)
    assert isinstance(executed, OrderExecuted)
    assert (executed.trade_index, executed.is_long) == (0, True)


def test_a_trader_signs_for_themselves(desk, signed):
    assert carry_out(desk, signed(opening(desk), by=desk.trader))
    assert is_spent(desk, desk.trader.address, 7)
    assert not is_spent(desk, desk.delegate.address, 7)


@pytest.mark.parametrize("nonce", [0, 255, 256, 2**256 - 1])
def test_a_nonce_is_spent_once_whatever_it_is_for(desk, signed, nonce):
    assert not is_spent(desk, desk.delegate.address, nonce)
    first = signed(opening(desk, nonce))
    carry_out(desk, first)
    assert is_spent(desk, desk.delegate.address, nonce)
    assert desk.revert(desk.operator, first, 0) == "InvalidNonce"
    other = signed(opening(desk, nonce, collateral_usdc=Decimal(6)))
    assert desk.revert(desk.operator, other, 0) == "InvalidNonce"
    assert carry_out(desk, signed(opening(desk, nonce ^ 1)))


def test_a_refused_intent_spends_nothing(desk, signed):
    call = signed(opening(desk, collateral_usdc=Decimal(1)))
    assert desk.revert(desk.operator, call, 0) == "BELOW_MIN_POS"
    assert not is_spent(desk, desk.delegate.address, 7)


def test_a_deadline_is_in_milliseconds_and_ends(desk, signed):
    call = signed(opening(desk))
    desk.node.request("evm_setNextBlockTimestamp", now_s(desk) + 101)
    desk.node.request("anvil_mine", "0x1")
    assert desk.revert(desk.operator, call, 0) == "InvalidDeadline"


def test_another_signer_or_another_word_is_refused(desk, signed):
    stranger = Sender(desk.node, Account.create().key)
    assert desk.revert(desk.operator, signed(opening(desk), by=stranger), 0) == "DELEGATE_NOT_APPROVED"
    good = opening(desk)
    domain = Domain(31337, desk.deployment.trading)
    signature = bytes(desk.delegate._account.unsafe_sign_hash(messages.digest(domain, good)).signature)
    for other in (replace(good, nonce=1), replace(good, order=desk.order(leverage_x=Decimal(75)))):
        call = TRADING.call("executeIntent", 0, messages.encode(other), signature)
        assert desk.revert(desk.operator, call, 0) == "DELEGATE_NOT_APPROVED"
    elsewhere = messages.digest(replace(domain, chain_id=8453), good)
    foreign = bytes(desk.delegate._account.unsafe_sign_hash(elsewhere).signature)
    call = TRADING.call("executeIntent", 0, messages.encode(good), foreign)
    assert desk.revert(desk.operator, call, 0) == "DELEGATE_NOT_APPROVED"
    for broken in (b"", signature[:64], bytes(65)):
        call = TRADING.call("executeIntent", 0, messages.encode(good), broken)
        assert desk.revert(desk.operator, call, 0) == "NOT_ALLOWED"


def test_only_the_operator_carries_out(desk, signed):
    call = signed(opening(desk))
    for sender in (desk.trader, desk.delegate):
        assert desk.revert(sender, call, 0) == "ONLY_OPERATOR"


def test_a_revoked_delegate_is_refused_although_they_signed_before(desk, signed):
    call = signed(opening(desk))
    desk.transact(desk.trader, TRADING.call("removeDelegate", desk.delegate.address), 0)
    assert desk.revert(desk.operator, call, 0) == "DELEGATE_NOT_APPROVED"


def test_a_close_is_for_the_trade_as_it_was(desk, signed):
    opened = desk.fill()
    desk.node.request("evm_increaseTime", 60)
    (closed,) = carry_out(desk, signed(closing(desk, opened.opened_at, usdc=Decimal(2))))
    desk.execute(closed.order_id)
    stale = signed(closing(desk, opened.opened_at, nonce=10, usdc=Decimal(3)))
    assert desk.revert(desk.operator, stale, 0) == "PositionMismatch"
    refreshed = desk.trade(0).opened_at
    assert refreshed > opened.opened_at
    (rest,) = carry_out(desk, signed(closing(desk, refreshed, nonce=10, usdc=Decimal(3))))
    desk.execute(rest.order_id)
    assert desk.trade(0) is None
    gone = signed(closing(desk, refreshed, nonce=11))
    assert desk.revert(desk.operator, gone, 0) == "NO_TRADE"


def test_levels_change_at_once(desk, signed):
    desk.fill(take_profit=Decimal(150_000))
    assert carry_out(desk, signed(changing(desk))) == []
    trade = desk.trade(0)
    assert (trade.take_profit, trade.stop_loss) == (120_000, 90_000)
    assert (trade.open_price, trade.collateral_usdc) == (Decimal(100_010), 5)
    carry_out(desk, signed(changing(desk, 10, take_profit=None, stop_loss=None)))
    trade = desk.trade(0)
    assert (trade.take_profit, trade.stop_loss) == (None, None)


@pytest.mark.parametrize(
    ("is_long", "levels", "reason"),
    [
        (True, {"take_profit": Decimal(99_999)}, "WRONG_TP"),
        (True, {"stop_loss": Decimal(100_001)}, "WrongSl"),
        (False, {"take_profit": Decimal(100_001), "stop_loss": None}, "WRONG_TP"),
        (False, {"take_profit": None, "stop_loss": Decimal(99_999)}, "WrongSl"),
        (True, {"stop_loss": Decimal(100_000)}, "WrongSl"),
    ],
)
def test_levels_on_the_wrong_side_are_refused(desk, signed, is_long, levels, reason):
    desk.fill(is_long=is_long)
    assert desk.revert(desk.operator, signed(changing(desk, **levels)), 0) == reason


def test_levels_of_no_trade_are_refused(desk, signed):
    assert desk.revert(desk.operator, signed(changing(desk)), 0) == "NO_TRADE"


def test_a_paused_venue_takes_no_intents(desk, signed):
    venue.set_paused(desk.url, desk.deployment, paused=True)
    assert desk.revert(desk.operator, signed(opening(desk)), 0) == "Pausable: paused"


def test_what_is_no_message_is_refused(desk, signed):
    call = TRADING.call("executeIntent", 4, messages.encode(opening(desk)), bytes(65))
    assert desk.revert(desk.operator, call, 0) == "ORDER_TYPE_UNSUPPORTED"
    short = TRADING.call("executeIntent", 0, messages.encode(opening(desk))[:-32], bytes(65))
    assert desk.revert(desk.operator, short, 0) == "unknown_revert"


def test_a_trader_names_a_delegate_by_signature_and_nobody_else_does(desk):
    domain = Domain(31337, desk.deployment.trading)
    wanted = DelegateMessage(desk.trader.address, desk.operator.address, 4 * 10**9, soon_ms(desk), 77)

    def call(by):
        signature = bytes(by._account.unsafe_sign_hash(messages.digest(domain, wanted)).signature)
        terms = (wanted.trader, wanted.delegate, wanted.expiry_s, wanted.deadline_ms, wanted.nonce)
        return TRADING.call("setDelegateWithSig", *terms, signature)

    assert desk.revert(desk.operator, call(desk.delegate), 0) == "NOT_ALLOWED"
    desk.transact(desk.operator, call(desk.trader), 0)
    named = read_delegate(desk.node.call(desk.deployment.trading, call_delegate(desk.trader.address)))
    assert named == (desk.operator.address, 4 * 10**9)
    assert desk.revert(desk.operator, call(desk.trader), 0) == "InvalidNonce"
