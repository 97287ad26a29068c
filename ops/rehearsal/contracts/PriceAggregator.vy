# pragma version ~=0.4.3
"""Pairs and prices of the rehearsal venue, set by its owner."""

event PriceSet:
    pairIndex: indexed(uint256)
    price: uint256
    timestamp: uint256


struct Pair:
    base: String[16]
    quote: String[16]


struct Quote:
    price: uint256
    timestamp: uint256


# Zeros are a market that is open for ever. The times are unix seconds, 0 where the venue tells none.
struct Market:
    closed: bool
    closeOnly: bool
    nextOpen: uint256
    nextClose: uint256


owner: public(immutable(address))
pairs: public(HashMap[uint256, Pair])
markets: public(HashMap[uint256, Market])
quotes: HashMap[uint256, Quote]


@deploy
def __init__():
    owner = msg.sender


@external
def addPair(pairIndex: uint256, base: String[16], quote: String[16]):
    assert msg.sender == owner, "NOT_ALLOWED"
    self.pairs[pairIndex] = Pair(base=base, quote=quote)


@external
def setPrice(pairIndex: uint256, price: uint256, timestamp: uint256):
    """
    @notice Price in 1e-10. Timestamp 0 keeps the price for ever fresh; another lets it age.
    """
    assert msg.sender == owner, "NOT_ALLOWED"
    # Above this the storage could not pack it; 1e12 USD is out of any rehearsal's way.
    assert price < 2 ** 80, "INVALID_PRICE"
    self.quotes[pairIndex] = Quote(price=price, timestamp=timestamp)
    log PriceSet(pairIndex=pairIndex, price=price, timestamp=timestamp)


@external
def setMarket(pairIndex: uint256, market: Market):
    """
    @notice What the venue's catalogue says of a pair. The trading contract does not look at it.
    """
    assert msg.sender == owner, "NOT_ALLOWED"
    self.markets[pairIndex] = market


@view
@external
def price(pairIndex: uint256) -> (uint256, uint256):
    """
    @return The price in 1e-10, 0 for none, and the unix second of its publication.
    """
    quote: Quote = self.quotes[pairIndex]
    if quote.timestamp == 0:
        return quote.price, block.timestamp
    return quote.price, quote.timestamp
