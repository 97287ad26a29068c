# pragma version ~=0.4.3
"""The rehearsal venue's trading contract, in the on-chain shapes of the live one.

A trader's transaction, or their delegate's, or the operator's with an intent that one of them signed,
registers an order. The operator executes it in another one, at the oracle's price then, or cancels it and
refunds. So an order that is mined is not yet a fill.
"""

import PriceAggregator
import TradingStorage
import intents
import shapes

initializes: intents
exports: intents.nonceBitmap

event MarketOrderInitiated:
    trader: indexed(address)
    pairIndex: uint256
    open: bool
    orderId: uint256
    timestamp: uint256
    isBuy: bool
    isPnl: bool
    initialPosToken: uint256
    leverage: uint256


# `positionSizeUSDC` is the notional. For a close `t` is the trade as it stood before, except that
# `initialPosToken` is the collateral that this execution took out of it.
event MarketExecuted:
    orderId: uint256
    t: shapes.T
    open: bool
    price: uint256
    positionSizeUSDC: uint256
    percentProfit: int256
    usdcSentToTrader: uint256
    isPnl: bool


event MarketOpenCanceled:
    orderId: uint256
    trader: indexed(address)
    pairIndex: uint256


# An order that rests has the number that its execution names, and a slot of the trader's pair, by which it is
# changed and cancelled; slots are given away again.
event OpenLimitPlaced:
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    orderId: uint256
    timestamp: uint256
    isBuy: bool
    initialPosToken: uint256
    leverage: uint256
    openPrice: uint256


event OpenLimitUpdated:
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    orderId: uint256
    newPrice: uint256
    newTp: uint256
    newSl: uint256
    timestamp: uint256


event OpenLimitCanceled:
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    orderId: uint256
    timestamp: uint256


# `orderType` is 0 for a take profit, 1 for a stop loss, 2 for a liquidation, 3 for an order to open. `t` is the trade as it
# is stored; of what ends a trade `initialPosToken` is what was taken out, and `limitIndex` the trade's own index.
event LimitExecuted:
    orderId: uint256
    limitIndex: uint256
    t: shapes.T
    orderType: uint8
    price: uint256
    positionSizeUSDC: uint256
    percentProfit: int256
    usdcSentToTrader: uint256
    isPnl: bool


event IncreasePositionRequested:
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    orderId: uint256
    timestamp: uint256
    isBuy: bool
    initialPosToken: uint256
    leverage: uint256


# `t` is the trade as it is stored from now on; `price`, `collateralAdded`, `leverage` and `coinExposureAdded` are of
# what was added. `openPriceBefore` and `timestampBefore` are the trade's until then: by them one can be followed.
event PositionSizeIncreased:
    orderId: uint256
    trader: indexed(address)
    t: shapes.T
    price: uint256
    collateralAdded: uint256
    leverage: uint256
    coinExposureAdded: uint256
    openPriceBefore: uint256
    timestampBefore: uint256


# `t` is the trade afterwards: its notional is what it was, so that its leverage fell or rose.
event MarginUpdated:
    trader: indexed(address)
    pairIndex: uint256
    index: uint256
    type: uint8
    amount: uint256
    t: shapes.T


event DelegateSet:
    trader: indexed(address)
    delegate: indexed(address)
    expiry: uint256


struct Slot:
    trader: address
    pairIndex: uint256
    index: uint256


struct Delegation:
    delegate: address
    expiry: uint256


struct Limits:
    # Notional in USDC units.
    minPositionUSDC: uint256
    # Trades and orders to open, per trader and pair.
    maxTradesPerPair: uint256
    # Orders of either kind, per trader.
    maxPendingOrders: uint256
    maxLeverage: uint256


struct Costs:
    # Of the notional, in 1e-4. Taken out of the collateral at the open, so that a fee here makes the stored
    # collateral smaller than the order's. It is 0 unless asked for, and closing bears the fee of both: then
    # an order of 5 USDC is a trade of 5 USDC, which is what users compare.
    openFeeBps: uint256
    # Of the notional, in 1e-4. Taken out of the payout.
    closeFeeBps: uint256
    # Of the price, in 1e-10 (1 % is 1e10): buyers fill above the oracle, sellers below.
    spreadP: uint256
    # msg.value of every order, in wei.
    executionFee: uint256


LIMIT: constant(uint256) = 2
TAKE_PROFIT: constant(uint8) = 0
STOP_LOSS: constant(uint8) = 1
LIQUIDATION: constant(uint8) = 2
WITHDRAW: constant(uint8) = 1
MAX_UPDATES: constant(uint256) = 4
TRIGGERED_OPEN: constant(uint8) = 3
UNTRIGGERED: constant(uint8) = 255
INCREASE: constant(uint256) = 3
INCREASE_SIZE: constant(uint8) = 9
ONE: constant(uint256) = 10 ** 10
HUNDRED_P: constant(uint256) = 100 * 10 ** 10
BPS: constant(uint256) = 10_000
MAX_SLIPPAGE_P: constant(uint256) = 80 * 10 ** 10
MAX_SL_P: constant(uint256) = 80 * 10 ** 10
LIQUIDATION_P: constant(int256) = -85 * 10 ** 10
# A gain beyond it is not paid, so that no set price can empty the pool.
MAX_GAIN_P: constant(int256) = 2_500 * 10 ** 10
MAX_ORDERS: constant(uint256) = 128
MAX_CALL: constant(uint256) = 1024

owner: public(immutable(address))
store: immutable(TradingStorage.__interface__)
aggregator: immutable(PriceAggregator.__interface__)

operator: public(address)
paused: public(bool)
limits: public(Limits)
costs: public(Costs)
delegations: public(HashMap[address, Delegation])
# Whom a delegated call acts for, while it runs.
acting_for: transient(address)


@deploy
def __init__(
    storage_: address, aggregator_: address, operator_: address, limits_: Limits, costs_: Costs
):
    owner = msg.sender
    store = TradingStorage.__at__(storage_)
    aggregator = PriceAggregator.__at__(aggregator_)
    self.operator = operator_
    self.limits = limits_
    self.costs = costs_


# Owner.


@external
def setLimits(limits: Limits):
    self._only_owner()
    self.limits = limits


@external
def setCosts(costs: Costs):
    self._only_owner()
    self.costs = costs


@external
def setPaused(paused: bool):
    self._only_owner()
    self.paused = paused


# Trader.


@view
@external
def executionFee() -> uint256:
    """
    @notice The msg.value that an order must bring, in wei.
    """
    return self.costs.executionFee


@payable
@external
def openTrade(t: shapes.T, type: uint8, slippageP: uint256) -> uint256:
    trader: address = self._trader()
    self._accept_order()
    return self._register_open(trader, t, type, slippageP)


@payable
@external
def closeTradeMarket(pairIndex: uint256, index: uint256, amount: uint256, wantedPrice: uint256) -> uint256:
    """
    @notice Close `amount` of a trade's collateral. `wantedPrice` is recorded and binds nothing: an exit fills.
    """
    trader: address = self._trader()
    self._accept_order()
    return self._register_close(trader, pairIndex, index, amount, wantedPrice)


@external
def cancelOpenLimitOrder(pairIndex: uint256, index: uint256):
    """
    @notice Take back an order that rests; its collateral returns to the trader.
    """
    trader: address = self._trader()
    assert not self.paused, "Pausable: paused"
    order_id: uint256 = self._resting(trader, pairIndex, index)
    order: shapes.PendingOrder = staticcall store.pendingOrder(order_id)
    extcall store.dropOrder(order_id)
    extcall store.pay(trader, order.collateral)
    log OpenLimitCanceled(
        trader=trader, pairIndex=pairIndex, index=index, orderId=order_id, timestamp=block.timestamp
    )


@external
def updateOpenLimitOrder(
    pairIndex: uint256, index: uint256, price: uint256, slippageP: uint256, tp: uint256, sl: uint256
):
    trader: address = self._trader()
    assert not self.paused, "Pausable: paused"
    order_id: uint256 = self._resting(trader, pairIndex, index)
    order: shapes.PendingOrder = staticcall store.pendingOrder(order_id)
    self._check_terms(price, slippageP, order.buy, order.leverage, tp, sl)
    extcall store.changeOrder(order_id, price, slippageP, tp, sl)
    log OpenLimitUpdated(
        trader=trader,
        pairIndex=pairIndex,
        index=index,
        orderId=order_id,
        newPrice=price,
        newTp=tp,
        newSl=sl,
        timestamp=block.timestamp,
    )


@payable
@external
def updateMargin(
    pairIndex: uint256,
    index: uint256,
    type: uint8,
    amount: uint256,
    priceUpdates: DynArray[Bytes[MAX_CALL], MAX_UPDATES],
    sourcing: uint8,
):
    """
    @notice Put collateral into a trade (0) or take some out (1), at once and at the same notional. Prices come from
        the aggregator, as everywhere here.
    """
    trader: address = self._trader()
    assert not self.paused, "Pausable: paused"
    assert type <= WITHDRAW and amount != 0, "INVALID_AMOUNT"
    trade: shapes.T = staticcall store.openTrades(trader, pairIndex, index)
    assert trade.leverage != 0, "NO_TRADE"
    assert not staticcall store.isBeingClosed(trader, pairIndex, index), "ALREADY_BEING_CLOSED"
    assert type != WITHDRAW or amount < trade.initialPosToken, "INVALID_AMOUNT"
    collateral: uint256 = trade.initialPosToken - amount if type == WITHDRAW else trade.initialPosToken + amount
    leverage: uint256 = trade.positionSizeUSDC * ONE // collateral
    assert leverage >= ONE and leverage <= self.limits.maxLeverage, "LEVERAGE_INCORRECT"
    trade.initialPosToken = collateral
    trade.leverage = leverage
    trade.positionSizeUSDC = collateral * leverage // ONE
    trade.timestamp = block.timestamp
    extcall store.setMargin(trader, pairIndex, index, collateral, leverage)
    if type == WITHDRAW:
        price: uint256 = 0
        published_at: uint256 = 0
        price, published_at = staticcall aggregator.price(pairIndex)
        assert price != 0, "INVALID_PRICE"
        exit_price: uint256 = self._fill(price, not trade.buy, self.costs.spreadP)
        assert self._profit(trade, exit_price) > LIQUIDATION_P, "LIQUIDATION_REACHED"
        extcall store.pay(trader, amount)
    else:
        extcall store.pull(trader, amount)
    if msg.value != 0:
        raw_call(self.operator, b"", value=msg.value)
    log MarginUpdated(
        trader=trader, pairIndex=pairIndex, index=index, type=type, amount=amount, t=trade
    )


@external
def setDelegate(delegate: address, expiry: uint256):
    """
    @notice Let `delegate` open and close for the caller until the unix second `expiry`; replaces another.
    """
    self._name_delegate(msg.sender, delegate, expiry)


@external
def removeDelegate(delegate: address):
    assert self.delegations[msg.sender].delegate == delegate, "DELEGATE_NOT_APPROVED"
    self.delegations[msg.sender] = empty(Delegation)
    log DelegateSet(trader=msg.sender, delegate=empty(address), expiry=0)


@payable
@external
def delegatedAction(trader: address, data: Bytes[MAX_CALL]) -> Bytes[32]:
    """
    @notice Make an order for a trader who named the caller as delegate.
    """
    delegation: Delegation = self.delegations[trader]
    assert delegation.delegate == msg.sender and delegation.expiry > block.timestamp, "DELEGATE_NOT_APPROVED"
    # Orders only: setDelegate and the rest read msg.sender, but a list of what may run says it outright.
    assert len(data) >= 4, "NOT_ALLOWED"
    selector: bytes4 = convert(slice(data, 0, 4), bytes4)
    assert selector in [0x19cde9a1, 0xe5a97c92, 0xb9b6573a, 0xc641558e, 0xb9fe2af3], "NOT_ALLOWED"
    self.acting_for = trader
    return raw_call(self, data, max_outsize=32, is_delegate_call=True)


# Operator.


@external
def executeIntent(orderType: uint8, userIntent: Bytes[MAX_CALL], userSignature: Bytes[65]) -> uint256:
    """
    @notice Register what a trader or their delegate signed: 0 an open, 1 a close, 5 new levels, 9 an increase.
    @return The order's id; 0 for new levels, which hold at once.
    """
    assert msg.sender == self.operator, "ONLY_OPERATOR"
    if orderType == 0:
        opens: intents.OpenReq = abi_decode(userIntent, intents.OpenReq, unwrap_tuple=False)
        digest: bytes32 = intents._open_digest(opens)
        self._spend(opens.t.trader, digest, userSignature, opens.nonce, opens.deadline)
        return self._register_open(opens.t.trader, opens.t, convert(opens.type, uint8), opens.slippageP)
    if orderType == 1:
        closes: intents.CloseReq = abi_decode(userIntent, intents.CloseReq, unwrap_tuple=False)
        digest: bytes32 = intents._close_digest(closes)
        self._spend(closes.trader, digest, userSignature, closes.nonce, closes.deadline)
        trade: shapes.T = staticcall store.openTrades(closes.trader, closes.pairIndex, closes.index)
        if trade.leverage != 0 and trade.timestamp != closes.openTimestamp:
            raw_revert(method_id("PositionMismatch()"))
        return self._register_close(
            closes.trader, closes.pairIndex, closes.index, closes.amount, closes.wantedPrice
        )
    if orderType == INCREASE_SIZE:
        increases: intents.IncreaseReq = abi_decode(userIntent, intents.IncreaseReq, unwrap_tuple=False)
        digest: bytes32 = intents._increase_digest(increases)
        self._spend(increases.added.trader, digest, userSignature, increases.nonce, increases.deadline)
        return self._register_increase(increases.added, increases.slippageP)
    assert orderType == 5, "ORDER_TYPE_UNSUPPORTED"
    levels: intents.LevelsReq = abi_decode(userIntent, intents.LevelsReq, unwrap_tuple=False)
    self._spend(
        levels.trader, intents._levels_digest(levels), userSignature, levels.nonce, levels.deadline
    )
    self._change_levels(levels)
    return 0


@external
def setDelegateWithSig(
    trader: address,
    delegate: address,
    expiry: uint256,
    deadline: uint256,
    nonce: uint256,
    signature: Bytes[65],
):
    """
    @notice As setDelegate, for a trader who signed it; a delegate names no delegate.
    """
    digest: bytes32 = intents._delegate_digest(trader, delegate, expiry, deadline, nonce)
    assert intents._signer(digest, signature) == trader, "NOT_ALLOWED"
    intents._spend(trader, nonce, deadline)
    self._name_delegate(trader, delegate, expiry)


@external
def executeMarketOrders(
    orderIds: DynArray[uint256, MAX_ORDERS],
    priceUpdates: DynArray[Bytes[MAX_CALL], MAX_ORDERS],
    sourcing: uint8,
    pnl: int256,
):
    """
    @notice Execute or cancel orders at the oracle's price now. An order no longer pending is passed over, so
        a batch may be sent twice. Only the ids count here: prices come from the aggregator.
    """
    assert msg.sender == self.operator, "ONLY_OPERATOR"
    for order_id: uint256 in orderIds:
        order: shapes.PendingOrder = staticcall store.pendingOrder(order_id)
        if order.trader == empty(address):
            continue
        price: uint256 = 0
        published_at: uint256 = 0
        price, published_at = staticcall aggregator.price(order.pairIndex)
        if order.type == INCREASE:
            self._execute_increase(order_id, order, price)
        elif order.open:
            if self._is_due(order, price):
                self._execute_open(order_id, order, price)
        elif price != 0:
            self._execute_close(order_id, order, price)


@view
@external
def dueOrders(orderIds: DynArray[uint256, MAX_ORDERS]) -> DynArray[uint256, MAX_ORDERS]:
    """
    @notice Those of these orders that would be executed or cancelled now: all but those that rest on.
    """
    due: DynArray[uint256, MAX_ORDERS] = []
    for order_id: uint256 in orderIds:
        order: shapes.PendingOrder = staticcall store.pendingOrder(order_id)
        if order.trader == empty(address):
            continue
        price: uint256 = 0
        published_at: uint256 = 0
        price, published_at = staticcall aggregator.price(order.pairIndex)
        if self._is_due(order, price):
            due.append(order_id)
    return due


@external
def executeTriggers(slots: DynArray[Slot, MAX_ORDERS]):
    """
    @notice End the trades whose own level, or liquidation, the oracle's price has reached. One that is not, is gone or
        is being closed by an order is passed over, so a batch may be sent twice.
    """
    assert msg.sender == self.operator, "ONLY_OPERATOR"
    for slot: Slot in slots:
        kind: uint8 = self._triggered(slot)
        if kind == UNTRIGGERED:
            continue
        trade: shapes.T = staticcall store.openTrades(slot.trader, slot.pairIndex, slot.index)
        price: uint256 = 0
        published_at: uint256 = 0
        price, published_at = staticcall aggregator.price(slot.pairIndex)
        # Numbered as orders are, although nobody placed it.
        self._end(extcall store.nextOrderId(), trade, kind, self._fill(price, not trade.buy, self.costs.spreadP))


@view
@external
def triggered(slots: DynArray[Slot, MAX_ORDERS]) -> DynArray[uint8, MAX_ORDERS]:
    """
    @notice What each of these trades would be ended by now, as in `LimitExecuted`; 255 for nothing.
    """
    kinds: DynArray[uint8, MAX_ORDERS] = []
    for slot: Slot in slots:
        kinds.append(self._triggered(slot))
    return kinds


@internal
def _register_open(trader: address, t: shapes.T, type: uint8, slippageP: uint256) -> uint256:
    assert not self.paused, "Pausable: paused"
    assert type <= 2, "ORDER_TYPE_UNSUPPORTED"
    assert t.trader == trader, "NOT_ALLOWED"
    self._check_open(t, slippageP)
    order_id: uint256 = extcall store.registerOrder(
        shapes.PendingOrder(
            trader=trader,
            pairIndex=t.pairIndex,
            index=0,
            type=convert(type, uint256),
            open=True,
            buy=t.buy,
            collateral=t.positionSizeUSDC,
            leverage=t.leverage,
            wantedPrice=t.openPrice,
            slippageP=slippageP,
            tp=t.tp,
            sl=t.sl,
            timestamp=block.timestamp,
        )
    )
    if type != 0:
        placed: shapes.PendingOrder = staticcall store.pendingOrder(order_id)
        log OpenLimitPlaced(
            trader=trader,
            pairIndex=t.pairIndex,
            index=placed.index,
            orderId=order_id,
            timestamp=block.timestamp,
            isBuy=t.buy,
            initialPosToken=t.positionSizeUSDC,
            leverage=t.leverage,
            openPrice=t.openPrice,
        )
        return order_id
    log MarketOrderInitiated(
        trader=trader,
        pairIndex=t.pairIndex,
        open=True,
        orderId=order_id,
        timestamp=block.timestamp,
        isBuy=t.buy,
        isPnl=False,
        initialPosToken=t.positionSizeUSDC,
        leverage=t.leverage,
    )
    return order_id


@internal
def _register_close(
    trader: address, pairIndex: uint256, index: uint256, amount: uint256, wantedPrice: uint256
) -> uint256:
    assert not self.paused, "Pausable: paused"
    trade: shapes.T = staticcall store.openTrades(trader, pairIndex, index)
    assert trade.leverage != 0, "NO_TRADE"
    assert not staticcall store.isBeingClosed(trader, pairIndex, index), "ALREADY_BEING_CLOSED"
    assert amount != 0 and amount <= trade.initialPosToken, "INVALID_AMOUNT"
    assert staticcall store.pendingOrdersCount(trader) < self.limits.maxPendingOrders, "MAX_PENDING_ORDERS"
    order_id: uint256 = extcall store.registerOrder(
        shapes.PendingOrder(
            trader=trader,
            pairIndex=pairIndex,
            index=index,
            type=0,
            open=False,
            buy=trade.buy,
            collateral=amount,
            leverage=trade.leverage,
            wantedPrice=wantedPrice,
            slippageP=0,
            tp=0,
            sl=0,
            timestamp=block.timestamp,
        )
    )
    log MarketOrderInitiated(
        trader=trader,
        pairIndex=pairIndex,
        open=False,
        orderId=order_id,
        timestamp=block.timestamp,
        isBuy=trade.buy,
        isPnl=False,
        initialPosToken=amount,
        leverage=trade.leverage,
    )
    return order_id


@internal
def _register_increase(added: intents.Added, slippageP: uint256) -> uint256:
    assert not self.paused, "Pausable: paused"
    trade: shapes.T = staticcall store.openTrades(added.trader, added.pairIndex, added.index)
    assert trade.leverage != 0, "NO_TRADE"
    assert not staticcall store.isBeingClosed(added.trader, added.pairIndex, added.index), "ALREADY_BEING_CLOSED"
    assert added.initialPosToken != 0, "INVALID_AMOUNT"
    assert added.leverage >= ONE and added.leverage <= self.limits.maxLeverage, "LEVERAGE_INCORRECT"
    self._check_terms(added.openPrice, slippageP, trade.buy, added.leverage, 0, 0)
    assert staticcall store.pendingOrdersCount(added.trader) < self.limits.maxPendingOrders, "MAX_PENDING_ORDERS"
    order_id: uint256 = extcall store.registerOrder(
        shapes.PendingOrder(
            trader=added.trader,
            pairIndex=added.pairIndex,
            index=added.index,
            type=INCREASE,
            open=True,
            buy=trade.buy,
            collateral=added.initialPosToken,
            leverage=added.leverage,
            wantedPrice=added.openPrice,
            slippageP=slippageP,
            tp=0,
            sl=0,
            timestamp=block.timestamp,
        )
    )
    log IncreasePositionRequested(
        trader=added.trader,
        pairIndex=added.pairIndex,
        index=added.index,
        orderId=order_id,
        timestamp=block.timestamp,
        isBuy=trade.buy,
        initialPosToken=added.initialPosToken,
        leverage=added.leverage,
    )
    return order_id


@internal
def _change_levels(req: intents.LevelsReq):
    trade: shapes.T = staticcall store.openTrades(req.trader, req.pairIndex, req.index)
    assert trade.leverage != 0, "NO_TRADE"
    price: uint256 = 0
    published_at: uint256 = 0
    price, published_at = staticcall aggregator.price(req.pairIndex)
    assert req.newTp == 0 or (req.newTp > price) == trade.buy and req.newTp != price, "WRONG_TP"
    if req.newSl != 0 and ((req.newSl < price) != trade.buy or req.newSl == price):
        raw_revert(method_id("WrongSl()"))
    extcall store.setLevels(req.trader, req.pairIndex, req.index, req.newTp, req.newSl)


@internal
def _spend(trader: address, digest: bytes32, signature: Bytes[65], nonce: uint256, deadline: uint256):
    """
    @notice Take an intent for its trader's or their delegate's; what they signed is good once.
    """
    signer: address = intents._signer(digest, signature)
    assert signer != empty(address), "NOT_ALLOWED"
    if signer != trader:
        delegation: Delegation = self.delegations[trader]
        assert (
            delegation.delegate == signer and delegation.expiry > block.timestamp
        ), "DELEGATE_NOT_APPROVED"
    intents._spend(signer, nonce, deadline)


@internal
def _execute_open(order_id: uint256, order: shapes.PendingOrder, oracle_price: uint256):
    costs: Costs = self.costs
    price: uint256 = self._fill(oracle_price, order.buy, costs.spreadP)
    extcall store.dropOrder(order_id)
    if not self._is_acceptable(order, price):
        extcall store.pay(order.trader, order.collateral)
        log MarketOpenCanceled(orderId=order_id, trader=order.trader, pairIndex=order.pairIndex)
        return
    fee: uint256 = order.collateral * order.leverage // ONE * costs.openFeeBps // BPS
    collateral: uint256 = order.collateral - fee
    trade: shapes.T = shapes.T(
        trader=order.trader,
        pairIndex=order.pairIndex,
        index=0,
        initialPosToken=collateral,
        positionSizeUSDC=collateral * order.leverage // ONE,
        openPrice=price,
        buy=order.buy,
        leverage=order.leverage,
        tp=order.tp,
        sl=order.sl,
        timestamp=block.timestamp,
    )
    trade.index = extcall store.storeTrade(trade)
    if order.type != 0:
        log LimitExecuted(
            orderId=order_id,
            limitIndex=order.index,
            t=trade,
            orderType=TRIGGERED_OPEN,
            price=price,
            positionSizeUSDC=trade.positionSizeUSDC,
            percentProfit=0,
            usdcSentToTrader=0,
            isPnl=False,
        )
        return
    log MarketExecuted(
        orderId=order_id,
        t=trade,
        open=True,
        price=price,
        positionSizeUSDC=trade.positionSizeUSDC,
        percentProfit=0,
        usdcSentToTrader=0,
        isPnl=False,
    )


@internal
def _execute_increase(order_id: uint256, asked: shapes.PendingOrder, oracle_price: uint256):
    """
    @notice Add to the trade as it stood when that was registered; refund where it changed since, or its levels are crossed.
    """
    costs: Costs = self.costs
    order: shapes.PendingOrder = asked
    price: uint256 = self._fill(oracle_price, order.buy, costs.spreadP)
    before: shapes.T = staticcall store.openTrades(order.trader, order.pairIndex, order.index)
    order.tp = before.tp
    order.sl = before.sl
    stands: bool = before.leverage != 0 and before.buy == order.buy and before.timestamp <= order.timestamp
    extcall store.dropOrder(order_id)
    if not stands or not self._is_acceptable(order, price):
        extcall store.pay(order.trader, order.collateral)
        log MarketOpenCanceled(orderId=order_id, trader=order.trader, pairIndex=order.pairIndex)
        return
    collateral: uint256 = order.collateral - order.collateral * order.leverage // ONE * costs.openFeeBps // BPS
    held: uint256 = before.initialPosToken * before.leverage // ONE
    size: uint256 = collateral * order.leverage // ONE
    # The price at which both together gain and lose what each does by itself: by coins, not by notional.
    blended: uint256 = (held + size) * before.openPrice * price // (held * price + size * before.openPrice)
    leverage: uint256 = before.leverage
    if order.leverage != leverage:
        leverage = (held + size) * ONE // (before.initialPosToken + collateral)
    extcall store.growTrade(order.trader, order.pairIndex, order.index, collateral, blended, leverage)
    log PositionSizeIncreased(
        orderId=order_id,
        trader=order.trader,
        t=staticcall store.openTrades(order.trader, order.pairIndex, order.index),
        price=price,
        collateralAdded=collateral,
        leverage=order.leverage,
        coinExposureAdded=size * ONE * ONE // price // 10 ** 6,
        openPriceBefore=before.openPrice,
        timestampBefore=before.timestamp,
    )


@internal
def _execute_close(order_id: uint256, order: shapes.PendingOrder, oracle_price: uint256):
    costs: Costs = self.costs
    price: uint256 = self._fill(oracle_price, not order.buy, costs.spreadP)
    trade: shapes.T = staticcall store.openTrades(order.trader, order.pairIndex, order.index)
    profit: int256 = self._profit(trade, price)
    notional: uint256 = order.collateral * trade.leverage // ONE
    payout: uint256 = self._payout(order.collateral, notional, profit)
    extcall store.dropOrder(order_id)
    extcall store.reduceTrade(order.trader, order.pairIndex, order.index, order.collateral)
    if payout != 0:
        extcall store.pay(order.trader, payout)
    trade.initialPosToken = order.collateral
    trade.positionSizeUSDC = notional
    log MarketExecuted(
        orderId=order_id,
        t=trade,
        open=False,
        price=price,
        positionSizeUSDC=notional,
        percentProfit=profit,
        usdcSentToTrader=payout,
        isPnl=False,
    )


@internal
def _end(order_id: uint256, trade: shapes.T, kind: uint8, price: uint256):
    """
    @notice Close all of a trade for its own level or for its loss, which pays nothing.
    """
    profit: int256 = self._profit(trade, price)
    payout: uint256 = 0
    if kind != LIQUIDATION:
        payout = self._payout(trade.initialPosToken, trade.positionSizeUSDC, profit)
    extcall store.reduceTrade(trade.trader, trade.pairIndex, trade.index, trade.initialPosToken)
    if payout != 0:
        extcall store.pay(trade.trader, payout)
    log LimitExecuted(
        orderId=order_id,
        limitIndex=trade.index,
        t=trade,
        orderType=kind,
        price=price,
        positionSizeUSDC=trade.positionSizeUSDC,
        percentProfit=profit,
        usdcSentToTrader=payout,
        isPnl=False,
    )


@view
@internal
def _triggered(slot: Slot) -> uint8:
    trade: shapes.T = staticcall store.openTrades(slot.trader, slot.pairIndex, slot.index)
    if trade.leverage == 0 or staticcall store.isBeingClosed(slot.trader, slot.pairIndex, slot.index):
        return UNTRIGGERED
    price: uint256 = 0
    published_at: uint256 = 0
    price, published_at = staticcall aggregator.price(slot.pairIndex)
    if price == 0:
        return UNTRIGGERED
    if self._profit(trade, price) <= LIQUIDATION_P:
        return LIQUIDATION
    if trade.sl != 0 and (price <= trade.sl if trade.buy else price >= trade.sl):
        return STOP_LOSS
    if trade.tp != 0 and (price >= trade.tp if trade.buy else price <= trade.tp):
        return TAKE_PROFIT
    return UNTRIGGERED


@view
@internal
def _payout(collateral: uint256, notional: uint256, profit: int256) -> uint256:
    """
    @notice What closing this much pays: nothing at the loss at which a trade is liquidated.
    """
    if profit <= LIQUIDATION_P:
        return 0
    gross: uint256 = collateral * convert(profit + 100 * 10 ** 10, uint256) // HUNDRED_P
    fee: uint256 = notional * self.costs.closeFeeBps // BPS
    return gross - min(gross, fee)


@internal
def _name_delegate(trader: address, delegate: address, expiry: uint256):
    assert delegate != empty(address) and expiry > block.timestamp, "NOT_ALLOWED"
    self.delegations[trader] = Delegation(delegate=delegate, expiry=expiry)
    log DelegateSet(trader=trader, delegate=delegate, expiry=expiry)


@payable
@internal
def _accept_order():
    assert msg.value >= self.costs.executionFee, "EXECUTION_FEE_NOT_SENT"
    # It pays for the operator's transaction, so it is the operator's.
    raw_call(self.operator, b"", value=msg.value)


@internal
def _trader() -> address:
    """
    @notice Whose order this is. A delegated call's trader is good for one order.
    """
    trader: address = self.acting_for
    if trader == empty(address):
        return msg.sender
    self.acting_for = empty(address)
    return trader


@view
@internal
def _check_open(t: shapes.T, slippageP: uint256):
    limits: Limits = self.limits
    price: uint256 = 0
    published_at: uint256 = 0
    price, published_at = staticcall aggregator.price(t.pairIndex)
    assert price != 0, "INVALID_PAIR"
    self._check_terms(t.openPrice, slippageP, t.buy, t.leverage, t.tp, t.sl)
    assert t.leverage >= ONE and t.leverage <= limits.maxLeverage, "LEVERAGE_INCORRECT"
    assert t.positionSizeUSDC * t.leverage // ONE >= limits.minPositionUSDC, "BELOW_MIN_POS"
    assert staticcall store.pendingOrdersCount(t.trader) < limits.maxPendingOrders, "MAX_PENDING_ORDERS"
    held: uint256 = staticcall store.openTradesCount(t.trader, t.pairIndex)
    waiting: uint256 = staticcall store.pendingOpensCount(t.trader, t.pairIndex)
    assert held + waiting < limits.maxTradesPerPair, "MAX_TRADES_PER_PAIR"


@pure
@internal
def _check_terms(
    price: uint256, slippageP: uint256, buy: bool, leverage: uint256, tp: uint256, sl: uint256
):
    assert price != 0, "INVALID_PRICE"
    assert slippageP != 0 and slippageP <= MAX_SLIPPAGE_P, "INVALID_SLIPPAGE"
    assert tp == 0 or (tp > price) == buy and tp != price, "WRONG_TP"
    if sl != 0:
        assert (sl < price) == buy and sl != price, "WRONG_SL"
        distance: uint256 = max(sl, price) - min(sl, price)
        assert distance * 100 * leverage // price <= MAX_SL_P, "SL_TOO_BIG"


@view
@internal
def _resting(trader: address, pairIndex: uint256, index: uint256) -> uint256:
    order_id: uint256 = staticcall store.restingOrder(trader, pairIndex, index)
    assert order_id != 0, "NO_LIMIT"
    return order_id


@view
@internal
def _is_due(order: shapes.PendingOrder, oracle_price: uint256) -> bool:
    """
    @notice Whether the keeper has to do with it now. One that rests waits until its price came and its fill is
        within the slippage and beyond no level; all others are executed or cancelled at once.
    """
    if order.type in [0, INCREASE]:
        return True
    # A limit order buys at its price or below, a stop-limit order at its price or above; sellers the other way.
    if oracle_price == 0:
        return False
    came: bool = oracle_price <= order.wantedPrice
    if order.buy != (order.type == LIMIT):
        came = oracle_price >= order.wantedPrice
    return came and self._is_acceptable(order, self._fill(oracle_price, order.buy, self.costs.spreadP))


@pure
@internal
def _fill(oracle_price: uint256, buy: bool, spreadP: uint256) -> uint256:
    spread: uint256 = oracle_price * spreadP // HUNDRED_P
    return oracle_price + spread if buy else oracle_price - spread


@pure
@internal
def _is_acceptable(order: shapes.PendingOrder, price: uint256) -> bool:
    """
    @notice Within the slippage, and no level crossed already.
    """
    slack: uint256 = order.wantedPrice * order.slippageP // HUNDRED_P
    if price == 0:
        return False
    if order.buy:
        return (
            price <= order.wantedPrice + slack
            and (order.tp == 0 or price < order.tp)
            and price > order.sl
        )
    return (
        price + slack >= order.wantedPrice and price > order.tp and (order.sl == 0 or price < order.sl)
    )


@pure
@internal
def _profit(t: shapes.T, price: uint256) -> int256:
    """
    @notice Percent of the collateral in 1e-10, fees not counted, from -100 % to the largest gain.
    """
    opened: int256 = convert(t.openPrice, int256)
    moved: int256 = convert(price, int256) - opened
    if not t.buy:
        moved = -moved
    profit: int256 = moved * 100 * convert(t.leverage, int256) // opened
    return max(-100 * 10 ** 10, min(MAX_GAIN_P, profit))


@view
@internal
def _only_owner():
    assert msg.sender == owner, "NOT_ALLOWED"
