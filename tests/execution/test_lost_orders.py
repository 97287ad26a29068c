"""When an order whose end never comes is shown to be lost, and what ending it writes; the command walks it on a chain."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from pytest_django.fixtures import Settings

from execution_app.engine import lost_orders
from execution_app.engine.lost_orders import Proof
from execution_app.errors import Refused
from execution_app.models import TxIntent, VenueOrder
from execution_app.node import rpc
from execution_app.states import IntentState, OrderState
from execution_app.venues import onchain
from execution_app.venues.logs import topic
from tests.execution import rows

pytestmark = pytest.mark.usefixtures("database")
TRADING, STORAGE = "0x" + "ab" * 20, "0x" + "cd" * 20
FINAL, HEAD = 100, 105
BY, WHY = "ann", "the venue confirms a refund"
REGISTERED = topic("MarketOrderInitiated", "address,uint256,bool,uint256,uint256,bool,bool,uint256,uint256")
CANCELLED = topic("MarketOpenCanceled", "uint256,address,uint256")
Params = tuple[Any, ...]


class Node:
    """An endpoint that answers as it is told to."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.final: int | None = FINAL
        self.head = HEAD
        self.hashes: dict[int, str] = {}  # of blocks that have another hash here
        self.missing: set[int] = set()
        self.pending_at: set[str] = set()
        self.logs: list[dict[str, Any]] = []
        self.trades: dict[int, bool] = {}  # by slot, whether it is long
        self.count: int | None = None  # where it is not that of the trades
        self.asked: list[tuple[str, Params]] = []

    def call(self, method: str, *params: Any) -> Any:
        self.asked.append((method, params))
        answer: Callable[..., Any] = getattr(self, method)
        return answer(*params)

    def eth_getBlockByNumber(self, tag: str, full: bool) -> Any:  # noqa: N802 - the method's own name, as the next ones
        assert not full
        if tag == "finalized":
            return None if self.final is None else {"number": hex(self.final)}
        number = int(tag, 16)
        return None if number in self.missing else {"hash": self.hashes.get(number, f"0x{number:064x}")}

    def eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self.head)

    def eth_getLogs(self, span: dict[str, str]) -> list[dict[str, Any]]:  # noqa: N802
        assert span["address"] == TRADING
        low, high = int(span["fromBlock"], 16), int(span["toBlock"], 16)
        return [log for log in self.logs if low <= int(log["blockNumber"], 16) <= high]

    def eth_call(self, call: dict[str, str], tag: str) -> str:
        assert call["to"] == STORAGE
        data = bytes.fromhex(call["data"][2:])
        kinds = {onchain.call_is_pending(0)[:4]: "pending"}
        kinds |= {onchain.call_open_trades_count(STORAGE, 0)[:4]: "count"}
        kind = kinds.get(data[:4], "trade")
        if kind == "pending":
            return f"0x{tag in self.pending_at:064x}"
        assert tag == "latest"
        assert int.from_bytes(data[36:68], "big") == onchain.PAIRS["BTC-USD"]
        if kind == "count":
            return f"0x{len(self.trades) if self.count is None else self.count:064x}"
        return "0x" + self.trade(int.from_bytes(data[68:100], "big")).hex()

    def trade(self, index: int) -> bytes:
        if index not in self.trades:
            return bytes(11 * 32)
        numbers = (TRADING, 1, index, 0, 5, 6, self.trades[index], 1, 0, 0, 0)
        return abi_encode((onchain.TRADE_TYPE,), [numbers])

    def spans(self) -> list[tuple[int, int]]:
        asked = [params[0] for method, params in self.asked if method == "eth_getLogs"]
        return [(int(span["fromBlock"], 16), int(span["toBlock"], 16)) for span in asked]


@pytest.fixture
def nodes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Two endpoints to which the order is unknown, and all else that is not told."""
    both = [Node(0), Node(1)]
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"venue_trading_address": TRADING, "venue_storage_address": STORAGE}
    )
    monkeypatch.setattr(rpc, "endpoints", lambda: tuple(both))
    return both


def ordered(action: str = "open", **fields: object) -> VenueOrder:
    """An order in block 90 that has its end read up to block 95."""
    close: dict[str, Any] = {"action": "close", "is_long": None, "collateral_usdc": None, "leverage_x": None}
    intent = rows.intent_in(IntentState.ORDERED, **(close if action == "close" else {}))
    order = rows.order(intent_id=intent, **({"block_number": 90, "scanned_to_block": 95} | fields))
    return VenueOrder.objects.select_related("intent").get(pk=order)


def examine(order: VenueOrder) -> Proof:
    return lost_orders.examine(order.intent.intent_key)


def log(
    order: VenueOrder, block: int = 100, kind: bytes = CANCELLED, order_id: int | None = None, **fields: Any
) -> dict[str, Any]:
    number = order.order_id if order_id is None else order_id
    words = [number, 1] if kind == CANCELLED else [1, 1, number, 5, 1, 0, 5_000_000, 2]
    sound = {"topics": ["0x" + kind.hex(), f"0x{1:064x}"], "data": "0x" + "".join(f"{w:064x}" for w in words)}
    sound |= {"address": TRADING, "transactionHash": rows.tx_hash(), "logIndex": "0x0"}
    return sound | {"blockNumber": hex(block), "blockHash": rows.tx_hash()} | fields


# What is looked at


@pytest.mark.parametrize("action", ["open", "close"])
def test_an_order_that_nobody_knows_is_lost(nodes: list[Node], action: str) -> None:
    beside, order, _ = ordered(), ordered(action), ordered()
    proof = examine(order)
    assert proof == Proof(order.intent, order, FINAL, f"0x{FINAL:064x}", 2, [])
    assert beside.order_id < order.order_id
    pending = {"to": STORAGE, "data": "0x" + onchain.call_is_pending(order.order_id).hex()}
    for node in nodes:
        for tag in (hex(FINAL), "latest"):
            assert ("eth_call", (pending, tag)) in node.asked
    order.refresh_from_db()
    assert order.scanned_to_block == 95


def test_only_what_waits_for_its_end_can_be_lost(nodes: list[Node]) -> None:
    pk = rows.intent_in(IntentState.FILLED)
    rows.order(intent_id=pk, state="executed")
    filled, mined = TxIntent.objects.get(pk=pk), rows.intent_in(IntentState.ORDERED)
    ordered()
    for key in (filled.intent_key, TxIntent.objects.get(pk=mined).intent_key, "sig:of:nobody"):
        with pytest.raises(Refused, match=f"^{key} has no order that waits for its end$"):
            lost_orders.examine(key)
    assert nodes[0].asked == []


def test_the_block_is_final_for_all_and_the_same_for_all(nodes: list[Node]) -> None:
    order = ordered()
    nodes[1].final = FINAL - 3
    proof = examine(order)
    assert (proof.block_number, proof.block_hash) == (FINAL - 3, f"0x{FINAL - 3:064x}")
    nodes[1].final = None
    with pytest.raises(rpc.RpcFault, match="an endpoint knows no final block"):
        examine(order)
    nodes[1].final = FINAL
    for node in nodes:
        node.missing = {FINAL}
        with pytest.raises(rpc.RpcFault, match=f"the endpoints do not agree on block {FINAL}"):
            examine(order)
        node.missing = set()
    nodes[1].hashes[FINAL] = "0x" + "f" * 64
    with pytest.raises(rpc.RpcFault, match=f"the endpoints do not agree on block {FINAL}"):
        examine(order)


def test_the_orders_own_block_has_to_be_final(nodes: list[Node]) -> None:
    order = ordered(block_number=FINAL + 1)
    words = f"block {FINAL + 1} of the order is not final yet"
    assert examine(order).against == [f"endpoint 0: {words}", f"endpoint 1: {words}"]
    assert examine(ordered(block_number=FINAL)).against == []


@pytest.mark.parametrize("tag", [hex(FINAL), "latest"])
def test_an_order_that_is_pending_for_any_node_is_not_lost(nodes: list[Node], tag: str) -> None:
    order = ordered()
    nodes[1].pending_at = {tag}
    assert examine(order).against == [f"endpoint 1: order {order.order_id} is pending at the venue ({tag})"]


# What logs tell


def test_an_end_that_a_node_shows_is_read_anew(nodes: list[Node]) -> None:
    order, beside = ordered(), ordered()
    nodes[1].logs = [log(order)]
    words = f"the end of order {order.order_id} is in the venue's logs; the next look at the chain reads it"
    assert examine(order).against == [f"endpoint 1: {words}"]
    for one in (order, beside):
        one.refresh_from_db()
    assert (order.scanned_to_block, beside.scanned_to_block) == (None, 95)


def test_an_order_whose_end_was_read_meanwhile_is_left_alone(nodes: list[Node]) -> None:
    order = ordered()
    nodes[0].logs = [log(order)]
    VenueOrder.objects.filter(pk=order.pk).update(state=OrderState.EXECUTED)
    assert len(examine(order).against) == 1
    order.refresh_from_db()
    assert order.scanned_to_block == 95


def test_only_its_own_end_is_its_end(nodes: list[Node]) -> None:
    order = ordered()
    nodes[0].logs = [
        log(order, kind=REGISTERED),
        log(order, order_id=order.order_id + 1),
        log(order, address=STORAGE),
        log(order, removed=True),
        log(order, topics=[]),
    ]
    assert examine(order).against == []
    assert lost_orders._has_event(nodes[0], order) is False  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unreadable",
    [{"data": "0x00"}, {"logIndex": None}, {"transactionHash": ...}],
    ids=["ValueError", "TypeError", "KeyError"],
)
def test_a_log_that_cannot_be_read_may_be_the_one(nodes: list[Node], unreadable: dict[str, Any]) -> None:
    order = ordered()
    strange = log(order, order_id=order.order_id + 1) | unreadable
    nodes[0].logs = [{name: value for name, value in strange.items() if value is not ...}]
    assert lost_orders._has_event(nodes[0], order) is True  # type: ignore[arg-type]


def test_logs_are_read_from_the_orders_block_to_the_head_without_a_gap(nodes: list[Node]) -> None:
    order, node = ordered(), nodes[0]
    for head, spans in (
        (90, [(90, 90)]),
        (1_089, [(90, 1_089)]),
        (1_090, [(90, 1_089), (1_090, 1_090)]),
        (2_100, [(90, 1_089), (1_090, 2_089), (2_090, 2_100)]),
    ):
        node.head = head
        node.asked.clear()
        assert lost_orders._has_event(node, order) is False  # type: ignore[arg-type]
        assert node.spans() == spans


def test_an_order_too_old_to_read_all_its_logs_is_refused(nodes: list[Node]) -> None:
    order = ordered()
    nodes[0].head = 1_000_090
    assert examine(order).against == []
    assert len(nodes[0].spans()) == 1_001
    nodes[0].head = 1_000_091
    with pytest.raises(Refused, match=f"^order {order.order_id} is more than 1000000 blocks old$"):
        examine(order)


# What the venue holds


def of_trader(order: VenueOrder, **fields: object) -> None:
    rows.position(**({"trader_id": order.intent.trader_id} | fields))


def test_a_trade_that_the_book_does_not_know_may_be_the_orders(nodes: list[Node]) -> None:
    order = ordered()
    nodes[0].trades = {0: True, 2: True}
    of_trader(order, trade_index=0)
    words = "the venue holds trade 2 on BTC-USD, which the book does not know"
    assert examine(order).against == [f"endpoint 0: {words}"]
    of_trader(order, trade_index=2)
    assert examine(order).against == []


@pytest.mark.parametrize(
    "fields",
    [
        {"pair_index": 0, "symbol": "ETH-USD"},
        {"mode": "DRY"},
        {"trader_id": None},
        {"state": "closed", "ended_by": "close"},
    ],
)
def test_the_book_knows_a_trade_by_its_open_live_position(nodes: list[Node], fields: dict[str, Any]) -> None:
    order = ordered()
    nodes[0].trades = {2: True}
    of_trader(order, trade_index=2, **fields)
    assert "trade 2 on BTC-USD" in examine(order).against[0]


def test_a_trade_on_the_other_side_is_not_the_orders(nodes: list[Node]) -> None:
    nodes[0].trades = {0: False, 1: False}
    assert examine(ordered()).against == []


def test_a_close_becomes_no_trade(nodes: list[Node]) -> None:
    nodes[0].trades = {0: True}
    assert examine(ordered("close")).against == []
    assert len([call for call in nodes[0].asked if call[0] == "eth_call"]) == 2, "it is not asked for trades"


def test_slots_are_looked_at_until_all_trades_were_seen(nodes: list[Node]) -> None:
    order, node = ordered(), nodes[0]
    node.trades = {1: False, 3: False}
    assert lost_orders._unexplained_trade(node, order.intent) == ""  # type: ignore[arg-type]
    assert len(node.asked) == 1 + 4


def test_trades_that_no_slot_shows_speak_against_it(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onchain, "read_open_trade", lambda _: None)
    nodes[0].count = 2
    words = "the venue counts 2 trades on BTC-USD, more than 2000 slots show"
    assert examine(ordered()).against == [f"endpoint 0: {words}"]
    assert len([call for call in nodes[0].asked if call[0] == "eth_call"]) == 2 + 1 + 2_000
