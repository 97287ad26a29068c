# pragma version ~=0.4.3
"""Signed intents in the live venue's EIP-712 shapes: their hashes, their signers, their nonces.

A nonce is any 256-bit number and is spent once per signer, in no order: bit `nonce % 256` of word
`nonce // 256`. Deadlines are unix milliseconds, the expiry of a delegation is unix seconds.
"""

import shapes

struct OpenReq:
    t: shapes.T
    type: uint256
    slippageP: uint256
    deadline: uint256
    nonce: uint256


struct CloseReq:
    trader: address
    pairIndex: uint256
    index: uint256
    openTimestamp: uint256
    amount: uint256
    wantedPrice: uint256
    deadline: uint256
    nonce: uint256


struct Added:
    trader: address
    pairIndex: uint256
    index: uint256
    openPrice: uint256
    initialPosToken: uint256
    leverage: uint256


struct IncreaseReq:
    added: Added
    slippageP: uint256
    deadline: uint256
    nonce: uint256


struct LevelsReq:
    trader: address
    pairIndex: uint256
    index: uint256
    newTp: uint256
    newSl: uint256
    deadline: uint256
    nonce: uint256


DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME: constant(bytes32) = keccak256("AvantisTrading")
VERSION: constant(bytes32) = keccak256("1")
TRADE_TYPE: constant(bytes32) = keccak256(
    "Trade(address trader,uint256 pairIndex,uint256 index,uint256 initialPosToken,uint256 positionSizeUSDC,uint256 openPrice,bool buy,uint256 leverage,uint256 tp,uint256 sl,uint256 timestamp)"
)
OPEN_TYPE: constant(bytes32) = keccak256(
    "OpenTradeReq(Trade _t,uint8 _type,uint256 _slippageP,uint256 _deadline,uint256 _nonce)Trade(address trader,uint256 pairIndex,uint256 index,uint256 initialPosToken,uint256 positionSizeUSDC,uint256 openPrice,bool buy,uint256 leverage,uint256 tp,uint256 sl,uint256 timestamp)"
)
CLOSE_TYPE: constant(bytes32) = keccak256(
    "CloseTradeReq(address _trader,uint256 _pairIndex,uint256 _index,uint256 _openTimestamp,uint256 _amount,uint256 _wantedPrice,uint256 _deadline,uint256 _nonce)"
)
ADDED_TYPE: constant(bytes32) = keccak256(
    "UpdatePositionSize(address trader,uint256 pairIndex,uint256 index,uint256 openPrice,uint256 initialPosToken,uint256 leverage)"
)
INCREASE_TYPE: constant(bytes32) = keccak256(
    "IncreasePositionSizeReq(UpdatePositionSize _updateInfo,uint256 _slippageP,uint256 _deadline,uint256 _nonce)UpdatePositionSize(address trader,uint256 pairIndex,uint256 index,uint256 openPrice,uint256 initialPosToken,uint256 leverage)"
)
LEVELS_TYPE: constant(bytes32) = keccak256(
    "UpdateTpSlReq(address trader,uint256 _pairIndex,uint256 _index,uint256 _newTp,uint256 _newSl,uint256 _deadline,uint256 _nonce)"
)
DELEGATE_TYPE: constant(bytes32) = keccak256(
    "DelegateReq(address trader,address delegate,uint256 expiry,uint256 deadline,string tnc,uint256 nonce)"
)
# What a trader who names a delegate signs beside it.
TERMS: constant(bytes32) = keccak256(
    "I accept the Veranta Terms of Service: https://www.veranta.xyz/docs/tos. I confirm that I am not a resident of any of the following countries/regions: Belarus, Cuba, Iran, North Korea, Russia, Syria, Crimea, United Kingdom, United States of America."
)

nonceBitmap: public(HashMap[address, HashMap[uint256, uint256]])


@view
@internal
def _open_digest(req: OpenReq) -> bytes32:
    trade: bytes32 = keccak256(abi_encode(TRADE_TYPE, req.t))
    return self._digest(
        keccak256(abi_encode(OPEN_TYPE, trade, req.type, req.slippageP, req.deadline, req.nonce))
    )


@view
@internal
def _close_digest(req: CloseReq) -> bytes32:
    return self._digest(keccak256(abi_encode(CLOSE_TYPE, req)))


@view
@internal
def _increase_digest(req: IncreaseReq) -> bytes32:
    added: bytes32 = keccak256(abi_encode(ADDED_TYPE, req.added))
    return self._digest(
        keccak256(abi_encode(INCREASE_TYPE, added, req.slippageP, req.deadline, req.nonce))
    )


@view
@internal
def _levels_digest(req: LevelsReq) -> bytes32:
    return self._digest(keccak256(abi_encode(LEVELS_TYPE, req)))


@view
@internal
def _delegate_digest(
    trader: address, delegate: address, expiry: uint256, deadline: uint256, nonce: uint256
) -> bytes32:
    return self._digest(
        keccak256(abi_encode(DELEGATE_TYPE, trader, delegate, expiry, deadline, TERMS, nonce))
    )


@view
@internal
def _digest(struct_hash: bytes32) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, self))
    return keccak256(concat(b"\x19\x01", domain, struct_hash))


@pure
@internal
def _signer(digest: bytes32, signature: Bytes[65]) -> address:
    """
    @notice Who signed; the empty address for what is no signature.
    """
    if len(signature) != 65:
        return empty(address)
    r: uint256 = convert(slice(signature, 0, 32), uint256)
    s: uint256 = convert(slice(signature, 32, 32), uint256)
    return ecrecover(digest, convert(slice(signature, 64, 1), uint256), r, s)


@internal
def _spend(signer: address, nonce: uint256, deadline: uint256):
    if block.timestamp * 1000 > deadline:
        raw_revert(method_id("InvalidDeadline()"))
    bit: uint256 = 1 << (nonce % 256)
    if self.nonceBitmap[signer][nonce // 256] & bit != 0:
        raw_revert(method_id("InvalidNonce()"))
    self.nonceBitmap[signer][nonce // 256] |= bit
