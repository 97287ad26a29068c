# pragma version ~=0.4.3
"""A plain call with calldata, in the venue's shape: every order is registered, and none is ever executed."""

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


FAR_FUTURE_S: constant(uint256) = 4_000_000_000

delegate: immutable(address)
orders: public(uint256)


@deploy
def __init__(delegate_: address):
    delegate = delegate_


@payable
@external
def delegatedAction(trader: address, data: Bytes[1024]) -> Bytes[32]:
    order_id: uint256 = self.orders + 1
    self.orders = order_id
    log MarketOrderInitiated(
        trader=trader,
        pairIndex=1,
        open=True,
        orderId=order_id,
        timestamp=block.timestamp,
        isBuy=True,
        isPnl=False,
        initialPosToken=5_000_000,
        leverage=20_000_000_000,
    )
    return b""


@view
@external
def executionFee() -> uint256:
    return 0


@view
@external
def delegations(trader: address) -> (address, uint256):
    return delegate, FAR_FUTURE_S


@view
@external
def isPending(order_id: uint256) -> bool:
    return True
