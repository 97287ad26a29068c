# pragma version ~=0.4.3
"""What the rehearsal contracts hand to each other: the venue's trade tuple and a registered order."""


# USDC in 1e-6; prices, leverage and percentages in 1e-10 (1 % is 1e10).
struct T:
    trader: address
    pairIndex: uint256
    index: uint256
    # The collateral of a stored trade; zero in an order to open.
    initialPosToken: uint256
    # The collateral in an order to open; the notional of a stored trade.
    positionSizeUSDC: uint256
    openPrice: uint256
    buy: bool
    leverage: uint256
    tp: uint256
    sl: uint256
    timestamp: uint256


struct PendingOrder:
    trader: address
    pairIndex: uint256
    # Of the trade to close or to increase, or the slot of an order that rests; zero in a market order to open.
    index: uint256
    # 0 market, 1 stop-limit, 2 limit: the last two rest until their price comes. 3 an increase of the trade in `index`.
    type: uint256
    open: bool
    buy: bool
    # To put in, or to take out.
    collateral: uint256
    leverage: uint256
    wantedPrice: uint256
    slippageP: uint256
    tp: uint256
    sl: uint256
    timestamp: uint256
