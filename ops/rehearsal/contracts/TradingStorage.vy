# pragma version ~=0.4.3
"""What the rehearsal venue holds: the USDC, the trades and the orders that wait for the keeper.

Traders approve this contract. Only the trading contract writes. Records are packed by hand, since a slot a
field would halve the number of orders that fit a block.
"""

from ethereum.ercs import IERC20

import shapes

# Indices that one trader can use on one pair: 64 words of 256 bits.
WORDS: constant(uint256) = 64
SPAN: constant(uint256) = 1000
MASK_1: constant(uint256) = 1
MASK_2: constant(uint256) = 2 ** 2 - 1
MASK_16: constant(uint256) = 2 ** 16 - 1
MASK_40: constant(uint256) = 2 ** 40 - 1
MASK_64: constant(uint256) = 2 ** 64 - 1
MASK_80: constant(uint256) = 2 ** 80 - 1
MASK_128: constant(uint256) = 2 ** 128 - 1
MASK_160: constant(uint256) = 2 ** 160 - 1
ONE: constant(uint256) = 10 ** 10
INCREASE: constant(uint256) = 3


# collateral 80 | leverage 64 | opened 40 | buy 1 | being closed 1; openPrice 80 | tp 80 | sl 80
struct PackedTrade:
    terms: uint256
    levels: uint256


# trader 160 | pair 16 | index 16 | open 1 | buy 1 | type 2; collateral 80 | leverage 64 | slippage 64 | registered 40;
# wantedPrice 80 | tp 80 | sl 80
struct PackedOrder:
    who: uint256
    terms: uint256
    levels: uint256


owner: public(immutable(address))
usdc: public(immutable(address))
trading: public(address)

lastOrderId: public(uint256)
orders: HashMap[uint256, PackedOrder]
pendingOrdersCount: public(HashMap[address, uint256])
trades: HashMap[address, HashMap[uint256, HashMap[uint256, PackedTrade]]]
# trades 128 | orders to open 128
counts: HashMap[address, HashMap[uint256, uint256]]
taken: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
# The order that rests in a slot of a trader's pair, and which of the 256 slots are taken.
resting: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
restingSlots: HashMap[address, HashMap[uint256, uint256]]


@deploy
def __init__(token: address):
    owner = msg.sender
    usdc = token


@external
def setTrading(contract: address):
    assert msg.sender == owner, "NOT_ALLOWED"
    self.trading = contract


# Orders.


@external
def registerOrder(order: shapes.PendingOrder) -> uint256:
    """
    @notice Keep an order for the keeper; one to open or to increase pulls its collateral from the trader.
    """
    self._only_trading()
    assert order.leverage <= MASK_64 and order.slippageP <= MASK_64, "NOT_ALLOWED"
    assert order.collateral <= MASK_80, "INVALID_AMOUNT"
    assert order.wantedPrice <= MASK_80 and order.tp <= MASK_80 and order.sl <= MASK_80, "INVALID_PRICE"
    assert order.pairIndex <= MASK_16, "INVALID_PAIR"
    id: uint256 = self.lastOrderId + 1
    index: uint256 = order.index
    if order.open:
        assert extcall IERC20(usdc).transferFrom(order.trader, self, order.collateral)
        if order.type != INCREASE:
            self.counts[order.trader][order.pairIndex] += 1 << 128
        if order.type not in [0, INCREASE]:
            index = self._rest(order.trader, order.pairIndex, id)
    else:
        terms: uint256 = self.trades[order.trader][order.pairIndex][order.index].terms
        self.trades[order.trader][order.pairIndex][order.index].terms = terms | (1 << 185)
    self.pendingOrdersCount[order.trader] += 1
    self.lastOrderId = id
    self.orders[id] = PackedOrder(
        who=convert(order.trader, uint256)
        | (order.pairIndex << 160)
        | (index << 176)
        | (convert(order.open, uint256) << 192)
        | (convert(order.buy, uint256) << 193)
        | (order.type << 194),
        terms=order.collateral | (order.leverage << 80) | (order.slippageP << 144) | (order.timestamp << 208),
        levels=order.wantedPrice | (order.tp << 80) | (order.sl << 160),
    )
    return id


@external
def nextOrderId() -> uint256:
    """
    @notice A number for what is done without an order.
    """
    self._only_trading()
    id: uint256 = self.lastOrderId + 1
    self.lastOrderId = id
    return id


@external
def changeOrder(id: uint256, wantedPrice: uint256, slippageP: uint256, tp: uint256, sl: uint256):
    """
    @notice Give an order that rests another price and other levels.
    """
    self._only_trading()
    assert slippageP <= MASK_64, "NOT_ALLOWED"
    assert wantedPrice <= MASK_80 and tp <= MASK_80 and sl <= MASK_80, "INVALID_PRICE"
    kept: uint256 = self.orders[id].terms & ~(MASK_64 << 144)
    self.orders[id].terms = kept | (slippageP << 144)
    self.orders[id].levels = wantedPrice | (tp << 80) | (sl << 160)


@external
def dropOrder(id: uint256):
    """
    @notice Forget an order that was executed or cancelled.
    """
    self._only_trading()
    order: shapes.PendingOrder = self._order(id)
    self.orders[id] = empty(PackedOrder)
    self.pendingOrdersCount[order.trader] -= 1
    if order.type == INCREASE:
        return
    if order.open:
        self.counts[order.trader][order.pairIndex] -= 1 << 128
        if order.type != 0:
            self.resting[order.trader][order.pairIndex][order.index] = 0
            self.restingSlots[order.trader][order.pairIndex] &= ~(1 << order.index)
    else:
        terms: uint256 = self.trades[order.trader][order.pairIndex][order.index].terms
        self.trades[order.trader][order.pairIndex][order.index].terms = terms & ~(1 << 185)


@view
@external
def isPending(id: uint256) -> bool:
    return self.orders[id].who != 0


@view
@external
def pendingOrder(id: uint256) -> shapes.PendingOrder:
    return self._order(id)


@view
@external
def restingOrder(trader: address, pairIndex: uint256, index: uint256) -> uint256:
    """
    @notice The order that rests in a slot; 0 where it is free.
    """
    return self.resting[trader][pairIndex][index]


@view
@external
def pendingOrderIds(start: uint256) -> DynArray[uint256, SPAN]:
    """
    @notice The orders still pending among the 1000 ids from `start` on.
    """
    found: DynArray[uint256, SPAN] = []
    for id: uint256 in range(start, start + SPAN, bound=SPAN):
        if id > self.lastOrderId:
            break
        if self.orders[id].who != 0:
            found.append(id)
    return found


@view
@internal
def _order(id: uint256) -> shapes.PendingOrder:
    packed: PackedOrder = self.orders[id]
    return shapes.PendingOrder(
        trader=convert(packed.who & MASK_160, address),
        pairIndex=(packed.who >> 160) & MASK_16,
        index=(packed.who >> 176) & MASK_16,
        type=(packed.who >> 194) & MASK_2,
        open=(packed.who >> 192) & MASK_1 == 1,
        buy=(packed.who >> 193) & MASK_1 == 1,
        collateral=packed.terms & MASK_80,
        leverage=(packed.terms >> 80) & MASK_64,
        wantedPrice=packed.levels & MASK_80,
        slippageP=(packed.terms >> 144) & MASK_64,
        tp=(packed.levels >> 80) & MASK_80,
        sl=(packed.levels >> 160) & MASK_80,
        timestamp=packed.terms >> 208,
    )


# Trades.


@external
def storeTrade(trade: shapes.T) -> uint256:
    """
    @notice Store a trade under the trader's lowest free index of the pair.
    @return The index.
    """
    self._only_trading()
    index: uint256 = self._take_index(trade.trader, trade.pairIndex)
    self.counts[trade.trader][trade.pairIndex] += 1
    self.trades[trade.trader][trade.pairIndex][index] = PackedTrade(
        terms=trade.initialPosToken
        | (trade.leverage << 80)
        | (trade.timestamp << 144)
        | (convert(trade.buy, uint256) << 184),
        levels=trade.openPrice | (trade.tp << 80) | (trade.sl << 160),
    )
    return index


@external
def reduceTrade(trader: address, pairIndex: uint256, index: uint256, amount: uint256):
    """
    @notice Take collateral out of a trade: all of it removes the trade, less refreshes its timestamp.
    """
    self._only_trading()
    terms: uint256 = self.trades[trader][pairIndex][index].terms
    collateral: uint256 = terms & MASK_80
    assert amount != 0 and amount <= collateral, "INVALID_AMOUNT"
    if amount == collateral:
        self.trades[trader][pairIndex][index] = empty(PackedTrade)
        self.counts[trader][pairIndex] -= 1
        self.taken[trader][pairIndex][index // 256] &= ~(1 << (index % 256))
        return
    kept: uint256 = terms & ~(MASK_80 | (MASK_40 << 144))
    self.trades[trader][pairIndex][index].terms = kept | (collateral - amount) | (block.timestamp << 144)


@external
def growTrade(
    trader: address, pairIndex: uint256, index: uint256, amount: uint256, openPrice: uint256, leverage: uint256
):
    """
    @notice Put collateral into a trade, which has this opening price and leverage from now on; refreshes its timestamp.
    """
    self._only_trading()
    assert openPrice <= MASK_80, "INVALID_PRICE"
    assert leverage <= MASK_64, "NOT_ALLOWED"
    terms: uint256 = self.trades[trader][pairIndex][index].terms
    collateral: uint256 = (terms & MASK_80) + amount
    assert collateral <= MASK_80, "INVALID_AMOUNT"
    kept: uint256 = terms & ~(MASK_80 | (MASK_64 << 80) | (MASK_40 << 144))
    self.trades[trader][pairIndex][index].terms = kept | collateral | (leverage << 80) | (block.timestamp << 144)
    levels: uint256 = self.trades[trader][pairIndex][index].levels
    self.trades[trader][pairIndex][index].levels = (levels & ~MASK_80) | openPrice


@external
def setMargin(trader: address, pairIndex: uint256, index: uint256, collateral: uint256, leverage: uint256):
    """
    @notice Give a trade another collateral and leverage; its timestamp is refreshed.
    """
    self._only_trading()
    assert collateral != 0 and collateral <= MASK_80, "INVALID_AMOUNT"
    assert leverage != 0 and leverage <= MASK_64, "LEVERAGE_INCORRECT"
    terms: uint256 = self.trades[trader][pairIndex][index].terms
    kept: uint256 = terms & ~(MASK_80 | (MASK_64 << 80) | (MASK_40 << 144))
    self.trades[trader][pairIndex][index].terms = (
        kept | collateral | (leverage << 80) | (block.timestamp << 144)
    )


@external
def setLevels(trader: address, pairIndex: uint256, index: uint256, tp: uint256, sl: uint256):
    self._only_trading()
    assert tp <= MASK_80 and sl <= MASK_80, "INVALID_PRICE"
    levels: uint256 = self.trades[trader][pairIndex][index].levels
    self.trades[trader][pairIndex][index].levels = (levels & MASK_80) | (tp << 80) | (sl << 160)


@view
@external
def openTrades(trader: address, pairIndex: uint256, index: uint256) -> shapes.T:
    """
    @notice A stored trade; leverage 0 means that the slot is empty.
    """
    packed: PackedTrade = self.trades[trader][pairIndex][index]
    if packed.terms == 0:
        return empty(shapes.T)
    collateral: uint256 = packed.terms & MASK_80
    leverage: uint256 = (packed.terms >> 80) & MASK_64
    return shapes.T(
        trader=trader,
        pairIndex=pairIndex,
        index=index,
        initialPosToken=collateral,
        positionSizeUSDC=collateral * leverage // ONE,
        openPrice=packed.levels & MASK_80,
        buy=(packed.terms >> 184) & MASK_1 == 1,
        leverage=leverage,
        tp=(packed.levels >> 80) & MASK_80,
        sl=(packed.levels >> 160) & MASK_80,
        timestamp=(packed.terms >> 144) & MASK_40,
    )


@view
@external
def isBeingClosed(trader: address, pairIndex: uint256, index: uint256) -> bool:
    return (self.trades[trader][pairIndex][index].terms >> 185) & MASK_1 == 1


@view
@external
def openTradesCount(trader: address, pairIndex: uint256) -> uint256:
    return self.counts[trader][pairIndex] & MASK_128


@view
@external
def pendingOpensCount(trader: address, pairIndex: uint256) -> uint256:
    """
    @notice How many orders to open a trader has registered on a pair.
    """
    return self.counts[trader][pairIndex] >> 128


# USDC.


@external
def pay(receiver: address, amount: uint256):
    self._only_trading()
    assert extcall IERC20(usdc).transfer(receiver, amount)


@external
def pull(payer: address, amount: uint256):
    """
    @notice Take USDC of a trader within their allowance.
    """
    self._only_trading()
    assert extcall IERC20(usdc).transferFrom(payer, self, amount)


@internal
def _rest(trader: address, pairIndex: uint256, id: uint256) -> uint256:
    """
    @notice Give an order the lowest free slot of those that rest.
    """
    used: uint256 = self.restingSlots[trader][pairIndex]
    assert used != max_value(uint256), "MAX_PENDING_ORDERS"
    bit: uint256 = ~used & unsafe_add(used, 1)
    self.restingSlots[trader][pairIndex] = used | bit
    slot: uint256 = self._place(bit)
    self.resting[trader][pairIndex][slot] = id
    return slot


@pure
@internal
def _place(single: uint256) -> uint256:
    """
    @notice Where the one bit stands that is set, found by halving.
    """
    bit: uint256 = single
    place: uint256 = 0
    for half: uint256 in [128, 64, 32, 16, 8, 4, 2, 1]:
        if bit >> half != 0:
            bit = bit >> half
            place += half
    return place


@internal
def _take_index(trader: address, pairIndex: uint256) -> uint256:
    for word: uint256 in range(WORDS):
        used: uint256 = self.taken[trader][pairIndex][word]
        if used == max_value(uint256):
            continue
        # The lowest zero bit, isolated.
        bit: uint256 = ~used & unsafe_add(used, 1)
        self.taken[trader][pairIndex][word] = used | bit
        return word * 256 + self._place(bit)
    raise "MAX_TRADES_PER_PAIR"


@view
@internal
def _only_trading():
    assert msg.sender == self.trading, "NOT_ALLOWED"
