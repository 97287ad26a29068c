"""What the venue holds otherwise than the book: each divergence is told, and repaired by writing down what is there."""

import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from execution_app import meters
from execution_app.book import absence
from execution_app.engine import rounds
from execution_app.models import AuditEntry, ExternalTrade, Position, Reservation, TxIntent, TxSend
from execution_app.node import rpc
from execution_app.states import Action
from execution_app.venues import onchain
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units
from tests import invariants, real_parts
from tests.execution import rows
from tests.guarded import closes, look
from tests.guards import without_guards
from tests.rig import ETH, Rig, rpc_call

BTC = onchain.PAIRS["BTC-USD"]
LEVELS: dict[str, Any] = {"take_profit": Decimal(120_000), "stop_loss": Decimal(80_000)}


def call(function: str, *arguments: Any) -> str:
    types = function.partition("(")[2][:-1].split(",")
    return "0x" + (keccak(text=function)[:4] + encode(types, arguments)).hex()


def send(sender: str, to: str, data: str, wei: int = 0) -> None:
    rpc_call("anvil_impersonateAccount", sender)
    rpc_call("anvil_setBalance", sender, hex(10 * ETH))
    rpc_call("evm_setAutomine", True)
    request = {"from": sender, "to": to, "data": data, "value": hex(wei), "gas": hex(2_000_000)}
    sent, deadline_s = rpc_call("eth_sendTransaction", request), time.monotonic() + 60
    while (receipt := rpc_call("eth_getTransactionReceipt", sent)) is None:
        assert time.monotonic() < deadline_s, "the node mines no block"
        time.sleep(0.01)
    assert receipt["status"] == "0x1"
    rpc_call("evm_setAutomine", False)


def venue_does(function: str, *arguments: Any) -> None:
    """The trading contract changes its storage, as by orders that are not ours."""
    send(real_parts.deployment.trading, real_parts.deployment.storage, call(function, *arguments))


def reduce(rig: Rig, amount_usdc: int) -> None:
    trader = to_canonical_address(rig.trader.address)
    units = to_units(Decimal(amount_usdc), USDC_DIGITS, "amount_usdc")
    venue_does("reduceTrade(address,uint256,uint256,uint256)", trader, BTC, 0, units)


def move_levels(rig: Rig) -> None:
    trader = to_canonical_address(rig.trader.address)
    levels = [to_units(Decimal(level), VENUE_DIGITS, "level") for level in (115_000, 85_000)]
    venue_does("setLevels(address,uint256,uint256,uint256,uint256)", trader, BTC, 0, *levels)


def store_anew(rig: Rig, **changes: Decimal) -> None:
    """Margin was added or taken, or the leverage changed: the trade is what it was but for that."""
    position = Position.objects.get()
    collateral = changes.get("collateral_usdc", position.collateral_usdc)
    leverage = changes.get("leverage_x", position.leverage_x)
    reduce(rig, int(position.collateral_usdc))
    trade = (
        to_canonical_address(rig.trader.address),
        *(BTC, 0, to_units(collateral, USDC_DIGITS, "collateral_usdc"), 0),
        to_units(position.open_price, VENUE_DIGITS, "open_price"),
        *(position.is_long, to_units(leverage, VENUE_DIGITS, "leverage_x")),
        *(to_units(level, VENUE_DIGITS, "level") for level in LEVELS.values()),
        int(position.opened_at.timestamp()),
    )
    types = f"({onchain.TRADE_TYPE})"
    data = keccak(text=f"storeTrade{types}")[:4] + encode([onchain.TRADE_TYPE], [trade])
    send(real_parts.deployment.trading, real_parts.deployment.storage, "0x" + data.hex())


def damage(**fields: object) -> None:
    with without_guards():
        columns = ", ".join(f"{name} = %s" for name in fields)
        rows.execute(f"UPDATE positions SET {columns}", *fields.values())


def owner_sends(rig: Rig, order: bytes) -> None:
    trading = real_parts.deployment.trading
    fee = rpc_call("eth_call", {"to": trading, "data": "0x" + onchain.call_execution_fee().hex()}, "latest")
    send(rig.trader.address, trading, "0x" + order.hex(), int(fee, 16))
    rig.keep()


def owner_closes(rig: Rig, amount_usdc: int) -> None:
    order = onchain.CloseOrder(rig.trader.address, BTC, 0, Decimal(amount_usdc), Decimal(1))
    owner_sends(rig, onchain.encode_close(order))


def compared() -> Position:
    """The comparison on this block, and again when it is final."""
    rounds.compare_positions()
    rpc_call("anvil_mine", hex(5))
    rounds.compare_positions()
    return Position.objects.get()


def opened(rig: Rig) -> Position:
    rig.intent(**LEVELS)
    rig.run()
    rounds.compare_positions()
    position = Position.objects.get()
    assert (position.state, position.drift) == ("open", "")
    rpc_call("evm_increaseTime", 30)
    return position


DIVERGENCES: dict[str, tuple[Callable[[Rig], None], dict[str, object]]] = {
    "its owner took a part": (lambda rig: owner_closes(rig, 2), {"collateral_usdc": 3}),
    "a level of the venue's took a part": (lambda rig: reduce(rig, 1), {"collateral_usdc": 4}),
    "levels were moved": (move_levels, {"take_profit": 115_000, "stop_loss": 85_000}),
    "margin was added": (
        lambda rig: store_anew(rig, collateral_usdc=Decimal(8)),
        {"collateral_usdc": 8, "leverage_x": 2},
    ),
    "the leverage changed": (lambda rig: store_anew(rig, leverage_x=Decimal(3)), {"leverage_x": 3}),
    "a row's collateral was damaged": (lambda _: damage(collateral_usdc=50), {"collateral_usdc": 5}),
    "a row's leverage and level were damaged": (
        lambda _: damage(leverage_x=9, stop_loss=None),
        {"leverage_x": 2, "stop_loss": 80_000},
    ),
    "a row was ended though the trade is there": (
        lambda _: damage(state="closed", ended_by="closed_elsewhere", absent_at_block=1),
        {"collateral_usdc": 5},
    ),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_told_and_repaired(rig: Rig, name: str) -> None:
    opened(rig)
    plant, wanted = DIVERGENCES[name]
    sends, counted = TxSend.objects.count(), meters.POSITIONS_CORRECTED.labels("BTC-USD")
    before = counted._value.get()
    plant(rig)
    rounds.compare_positions()
    shown = Position.objects.get()
    assert shown.drift or shown.state == "closed", "told before it is final"
    position = compared()
    assert (position.state, position.drift, position.differs_as) == ("open", "", "")
    assert {name: getattr(position, name) for name in wanted} == wanted
    assert counted._value.get() == before + 1
    entry = AuditEntry.objects.get(action="position_corrected")
    assert entry.subject == f"position {position.pk}"
    assert TxSend.objects.count() == sends, "nothing is traded"
    invariants.check()
    rig.intent(Action.CLOSE)
    rig.run()
    assert Position.objects.get().ended_by == "close", "what is left is closed by the next signal, all of it"
    invariants.check()


@pytest.mark.parametrize("amount", [5], ids=["all of it"])
def test_a_trade_that_ended_elsewhere(rig: Rig, amount: int) -> None:
    opened(rig)
    owner_closes(rig, amount)
    position = compared()
    assert (position.state, position.ended_by) == ("closed", "owner")
    assert position.paid_out_usdc == position.fills.get(intent=None).sent_to_trader_usdc > 0
    invariants.check()


def test_a_trade_that_is_gone_without_an_event(rig: Rig) -> None:
    opened(rig)
    reduce(rig, 5)
    assert compared().ended_by == "closed_elsewhere"


def test_a_level_that_the_venue_has_no_more_is_watched_by_us_alone(rig: Rig) -> None:
    """The venue is left no time for a level that it does not know."""
    opened(rig)
    venue_does(
        "setLevels(address,uint256,uint256,uint256,uint256)",
        to_canonical_address(rig.trader.address),
        BTC,
        0,
        0,
        0,
    )
    position = compared()
    assert (position.take_profit, position.stop_loss) == (None, None)
    assert look(80_001).fired == 0
    assert look(80_000).fired == 1
    assert [close.intent_key for close in closes()] == [f"tpsl:{position.pk}:1:stop_loss"]


def test_a_trade_by_its_owners_own_hand_is_shown_and_left_alone(rig: Rig) -> None:
    opened(rig)
    order = onchain.OpenOrder(
        rig.trader.address, BTC, False, Decimal(7), Decimal(3), price("BTC-USD"), Decimal(1)
    )
    owner_sends(rig, onchain.encode_open(order))
    assert compared().drift == ""
    seen = ExternalTrade.objects.get()
    assert (seen.trade_index, seen.is_long, seen.collateral_usdc, seen.gone_at) == (1, False, 7, None)
    rig.intent(Action.CLOSE)
    rig.run()
    assert Position.objects.get().state == "closed"
    rounds.compare_positions()
    assert ExternalTrade.objects.get().gone_at is None, "a signal's close does not touch it"
    owner_sends(
        rig, onchain.encode_close(onchain.CloseOrder(rig.trader.address, BTC, 1, Decimal(7), Decimal(1)))
    )
    rounds.compare_positions()
    assert ExternalTrade.objects.get().gone_at is not None


def price(symbol: str) -> Decimal:
    aggregator = real_parts.deployment.price_aggregator
    raw = rpc_call(
        "eth_call",
        {"to": aggregator, "data": "0x" + onchain.call_price(onchain.PAIRS[symbol]).hex()},
        "latest",
    )
    return onchain.read_price(bytes.fromhex(raw[2:]))[0]


def test_nothing_is_corrected_while_a_close_of_ours_is_under_way(rig: Rig) -> None:
    """Its fill is about to say the same; both together would take the part twice."""
    opened(rig)
    rig.intent(Action.CLOSE, reduce_usdc=Decimal(2))
    rig.submit()
    rig.mine()
    rig.keep()  # the venue has executed it, and the book has not heard
    assert rounds.compare_positions() == 0, "what is under way is no drift"
    position = compared()
    assert (position.collateral_usdc, position.corrections.count(), position.drift) == (5, 0, "")
    rig.track()
    rig.mine(4)
    rig.track()
    position = compared()
    assert (position.collateral_usdc, position.corrections.count(), position.drift) == (3, 0, "")
    invariants.check()


def test_a_drift_from_before_a_close_is_shown_until_the_close_is_through(rig: Rig) -> None:
    opened(rig)
    owner_closes(rig, 1)
    assert rounds.compare_positions() == 1
    rig.intent(Action.CLOSE)
    rig.submit()
    assert rounds.compare_positions() == 1
    assert Position.objects.get().drift


def test_the_same_trade_twice_within_a_second_is_one_of_them_and_audited_never(rig: Rig) -> None:
    """The venue knows no later time than the second: the one that ended and the one that stands look alike."""
    standing = opened(rig)
    damage(opened_at=standing.opened_at + timedelta(microseconds=1))
    ended = Position.objects.get()
    ended.pk, ended.opened_at = None, standing.opened_at
    ended.state, ended.ended_by, ended.absent_at_block = "closed", "closed_elsewhere", 1
    ended.save(force_insert=True)
    for _ in range(3):
        rounds.compare_positions()
        rpc_call("anvil_mine", hex(5))
    assert not AuditEntry.objects.filter(action="position_corrected").exists()
    states = Position.objects.order_by("opened_at").values_list("state", "differs_as")
    assert list(states) == [("closed", ""), ("open", "")]


def test_what_left_the_chain_is_not_taken_over(rig: Rig) -> None:
    opened(rig)
    snapshot = rpc_call("evm_snapshot")
    reduce(rig, 1)
    rounds.compare_positions()
    assert Position.objects.get().differs_as
    rpc_call("evm_revert", snapshot)
    rpc_call("evm_setAutomine", False)
    rpc_call("anvil_mine", hex(6))
    position = compared()
    assert (position.collateral_usdc, position.corrections.count(), position.drift) == (5, 0, "")


def test_a_partial_close_after_a_correction_counts_from_it(rig: Rig) -> None:
    opened(rig)
    owner_closes(rig, 1)
    assert compared().collateral_usdc == 4
    rpc_call("evm_increaseTime", 30)
    rig.intent(Action.CLOSE, reduce_pct=Decimal(50))
    rig.run()
    position = compared()
    assert (position.collateral_usdc, position.drift, position.corrections.count()) == (2, "", 1)
    assert set(TxIntent.objects.values_list("state", flat=True)) == {"filled"}
    invariants.check()


@pytest.mark.parametrize(
    ("asked", "left_usdc"),
    [({"reduce_usdc": Decimal(3)}, None), ({"reduce_pct": Decimal(50)}, Decimal(1))],
    ids=["an amount", "a percentage"],
)
def test_a_part_is_never_more_than_its_owner_has_left(
    rig: Rig, asked: dict[str, Any], left_usdc: Decimal | None
) -> None:
    """The book hears of it once it is final, and no exit waits for that."""
    opened(rig)
    owner_closes(rig, 3)
    close = rig.intent(Action.CLOSE, **asked)
    rig.run()
    close.refresh_from_db()
    assert close.state == "filled"
    position = compared()
    if left_usdc is None:
        assert (position.state, position.ended_by) == ("closed", "closed_elsewhere")
    else:
        assert (position.state, position.collateral_usdc) == ("open", left_usdc)
    invariants.check()


def test_all_that_the_book_has_is_all_that_is_there(rig: Rig) -> None:
    """Their margin goes back to them; else the book would end a trade that nobody watches any more."""
    opened(rig)
    store_anew(rig, collateral_usdc=Decimal(8))
    close = rig.intent(Action.CLOSE, reduce_usdc=Decimal(5))
    rig.run()
    close.refresh_from_db()
    assert (close.state, close.close_usdc) == ("filled", 8)
    assert compared().ended_by == "close"
    compare = real_parts.deployment.storage, onchain.call_open_trades_count(rig.trader.address, BTC)
    assert onchain.read_uint(rpc.read_views([compare])[0]) == 0


def test_what_is_there_all_the_same_is_at_stake_again(rig: Rig) -> None:
    """Most endpoints were wrong about a final block: then the caps had room that there was not."""
    position = opened(rig)
    assert absence.end(position, 10**9)
    assert Reservation.objects.get().state == "released"
    assert compared().state == "open"
    held = Reservation.objects.get()
    assert (held.state, held.notional_usdc, held.released_at) == ("exposed", 10, None)
    invariants.check()
    rig.intent(Action.CLOSE)
    rig.run()
    assert Reservation.objects.get().state == "released"
    invariants.check()
