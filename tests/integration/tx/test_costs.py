"""What an order may cost: the fee for data on OP chains, a ceiling of its own, and what happens at it."""

from decimal import Decimal
from typing import Any

import pytest
import vyper
from pytest_django.fixtures import Settings

from execution_app.book import prices
from execution_app.engine import reserve
from execution_app.gate import usage
from execution_app.gate.caps import Limit
from execution_app.models import TxReceipt, TxSend
from execution_app.node import gas, rpc
from execution_app.states import Action, CapName, CapScope, Mode
from execution_app.venues import gas_oracle
from tests import invariants
from tests.proxy import Proxy
from tests.rig import ETH, Rig, rpc_call
from tests.timers import pass_a_minute

GWEI = 10**9
FJORD = """
@external
@view
def getL1FeeUpperBound(size: uint256) -> uint256:
    assert size < 131072
    return size * 10**9
"""
ECOTONE = """
@external
@view
def getL1Fee(data: Bytes[8192]) -> uint256:
    return len(data) * 2 * 10**9
"""


def put_oracle(source: str) -> None:
    """The predeploy, as an OP chain has it; taken back with the chain."""
    code = vyper.compile_code(source, output_formats=["bytecode_runtime"])["bytecode_runtime"]
    rpc_call("anvil_setCode", gas_oracle.ADDRESS, code)
    gas.has_oracle.cache_clear()


def look(rig: Rig) -> prices.Market:
    return prices.look(["BTC-USD"], rig.wallet.address)


def settle(settings: Settings, **changes: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=changes)


def test_a_chain_without_the_oracle_charges_nothing_for_data(rig: Rig, node: Proxy) -> None:
    assert gas.has_oracle() is False
    before = node.requests
    assert look(rig).gas.l1_fee_wei == 0
    assert node.requests == before + 1, "one batch for everything"


@pytest.mark.parametrize(("source", "fee_wei"), [(FJORD, 1024 * GWEI), (ECOTONE, 2048 * GWEI)])
def test_the_oracle_is_asked_in_the_same_batch(rig: Rig, node: Proxy, source: str, fee_wei: int) -> None:
    put_oracle(source)
    assert gas.has_oracle() is True
    before = node.requests
    assert look(rig).gas.l1_fee_wei == fee_wei
    assert node.requests == before + 1


def test_an_oracle_that_does_not_answer_makes_everything_wait(rig: Rig, node: Proxy) -> None:
    put_oracle("@external\ndef other():\n    pass\n")
    intent = rig.intent()
    with pytest.raises(rpc.NodeError):
        rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.nonce) == ("pending", None)
    assert not node.log


def test_every_order_fits_the_bytes_that_are_asked_for(rig: Rig, node: Proxy) -> None:
    rig.intent(take_profit=Decimal(110_000), stop_loss=Decimal(95_000))
    rig.submit()
    assert 0 < max(len(bytes(raw)) for raw in TxSend.objects.values_list("raw", flat=True)) < 1024


def test_the_fee_for_data_is_part_of_what_an_order_costs(rig: Rig, node: Proxy) -> None:
    """In the balance that is asked for, in what is owed, and in the gas of the day."""
    plain = rig.intent()
    rig.submit()
    fee_wei = int(plain.sends.get().max_fee_wei)
    plain.refresh_from_db()
    cost_wei = int(plain.value_wei or 0) + int(plain.gas_limit or 0) * fee_wei
    rig.run()
    put_oracle(FJORD.replace("10**9", "10**15"))
    l1_wei = 1024 * 10**15
    rpc_call("anvil_setBalance", rig.wallet.address, hex(4 * cost_wei + l1_wei))
    held = rig.intent(symbol="ETH-USD")
    rig.submit()
    held.refresh_from_db()
    assert (held.state, held.reason, held.nonce) == ("held", "insufficient_gas", None)
    assert str(rig.wallet.address) in held.reason_detail
    rpc_call("anvil_setBalance", rig.wallet.address, hex(10 * ETH))
    pass_a_minute()
    assert reserve.reserve(rig.wallet.pk) == 1
    held.refresh_from_db()
    assert (held.nonce, held.l1_fee_wei) == (1, l1_wei)
    limit = Limit(CapName.GAS_PER_DAY, Decimal(0), CapScope.GLOBAL, "", "")
    used = usage.used(limit, Mode.LIVE, held.accepted_at)
    assert used > l1_wei, "what is under way counts with its fee for data"
    rig.run()
    assert TxReceipt.objects.get(intent=held).l1_fee_wei == 0, "this node writes none into its receipts"
    invariants.check(node)


def test_a_receipts_fee_for_data_is_stored_and_summed(rig: Rig, node: Proxy) -> None:
    node.faults.l1_fee_wei = 12345
    intent = rig.intent()
    rig.run()
    receipt = TxReceipt.objects.get(intent=intent)
    assert receipt.l1_fee_wei == 12345
    limit = Limit(CapName.GAS_PER_DAY, Decimal(0), CapScope.GLOBAL, "", "")
    intent.refresh_from_db()
    spent = receipt.gas_used * receipt.effective_gas_price_wei + 12345 + int(intent.value_wei or 0)
    assert usage.used(limit, Mode.LIVE, receipt.seen_at) == spent


def test_an_order_above_its_own_ceiling_takes_no_nonce(rig: Rig, node: Proxy) -> None:
    intent = rig.intent(max_cost_wei=10**9)
    rig.submit()
    intent.refresh_from_db()
    assert (intent.state, intent.reason, intent.nonce) == ("held", "fee_above_ceiling", None)
    assert "its own ceiling" in intent.reason_detail
    assert not node.log


@pytest.mark.parametrize(
    ("policy", "kinds"), [("hold", {"exec", "bump"}), ("cancel", {"exec", "bump", "cancel"})]
)
def test_at_its_ceiling_an_order_is_held_or_cancelled(
    rig: Rig, node: Proxy, settings: Settings, policy: str, kinds: set[str]
) -> None:
    settle(settings, at_fee_ceiling=policy)
    market = look(rig)
    first_wei = 2 * market.gas.base_fee_wei + market.gas.tip_wei
    # An open takes about 321,000 gas, so its own ceiling leaves room for two or three bumps.
    settle(settings, max_fee_per_gas_gwei=Decimal(first_wei * 2) / GWEI)
    intent = rig.intent(max_cost_wei=market.execution_fee_wei + 480_000 * first_wei)
    node.hold()
    rig.submit()
    intent.refresh_from_db()
    assert intent.nonce == 0
    for _ in range(8):
        pass_a_minute()
        rig.track()
    sends = list(intent.sends.order_by("attempt"))
    assert {send.kind for send in sends} == kinds
    assert intent.max_cost_wei is not None
    assert intent.gas_limit is not None
    orders = [send for send in sends if send.kind != "cancel"]
    for send in orders:
        assert int(intent.value_wei or 0) + intent.gas_limit * send.max_fee_wei <= intent.max_cost_wei
    assert orders[-1].max_fee_wei * 9 // 8 * intent.gas_limit > intent.max_cost_wei - int(
        intent.value_wei or 0
    )
    assert max(send.max_fee_wei for send in sends) <= first_wei * 2
    assert len([offer for offer in node.log if offer.tx_hash == sends[-1].tx_hash]) > 1, "still offered"
    node.release("all")
    rig.finish()
    intent.refresh_from_db()
    assert intent.state == ("filled" if policy == "hold" else "final_cancelled")
    invariants.check(node)


def test_an_exit_is_never_cancelled_for_its_fee(rig: Rig, node: Proxy, settings: Settings) -> None:
    rig.intent()
    rig.run()
    settle(settings, at_fee_ceiling="cancel")
    market = look(rig)
    settle(
        settings, max_fee_per_gas_gwei=Decimal(2 * market.gas.base_fee_wei + market.gas.tip_wei) * 2 / GWEI
    )
    close = rig.intent(Action.CLOSE)
    node.hold()
    rig.submit()
    for _ in range(9):
        pass_a_minute()
        rig.track()
    assert set(close.sends.values_list("kind", flat=True)) == {"exec", "bump"}
    node.release()
    rig.finish()
    invariants.check(node)


def test_the_tip_is_what_recent_blocks_took(rig: Rig, node: Proxy, settings: Settings) -> None:
    rig.intent()
    rig.run()
    block, suggested, history = rpc.read_batch(gas.calls())
    rewards = [
        int(reward[0], 16)
        for reward, ratio in zip(history["reward"], history["gasUsedRatio"], strict=False)
        if ratio
    ]
    assert rewards
    market = gas.look()
    assert market.tip_wei == max(sorted(rewards)[(len(rewards) - 1) // 2], 10**6)
    assert market.base_fee_wei == int(block["baseFeePerGas"], 16)
    settle(settings, min_tip_gwei=Decimal(7))
    assert gas.look().tip_wei == max(7 * GWEI, market.tip_wei)
    settle(settings, max_fee_per_gas_gwei=Decimal("0.5"))
    assert gas.look().tip_wei == GWEI // 2
    settle(settings, min_tip_gwei=Decimal("0.001"), max_fee_per_gas_gwei=Decimal(50))
    no_history = rpc.NodeError(-32601, "the method eth_feeHistory does not exist")
    assert gas.read([block, suggested, no_history]).tip_wei == max(int(suggested, 16), 10**6)
    assert gas.read([block, no_history, no_history]).tip_wei == 10**6
    assert gas.read([block, "0x5f5e100", {"reward": None}]).tip_wei == 10**8
