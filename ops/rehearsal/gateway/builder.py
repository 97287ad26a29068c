"""The tx-builder's payload routes: an intent to sign, or call data, from an order in people's units.

The stack itself builds what it signs; these are for the venue's SDK, which asks for them.
"""

import secrets
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from eth_utils.address import to_checksum_address

from execution_app.venues import messages, onchain
from execution_app.venues.messages import CloseMessage, IncreaseMessage, Message, OpenMessage
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import CLOSE, INCREASE, OPEN, TYPES, Domain
from ops.rehearsal.gateway.books import Books
from ops.rehearsal.rpc import REHEARSAL_CHAIN_ID

DEADLINE_MS = 60_000
INTENT_WITHIN = {OPEN: ("Trade", OPEN), CLOSE: (CLOSE,), INCREASE: ("UpdatePositionSize", INCREASE)}


def intent(books: Books, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """`/v2/intents/open`, `/close` and `/increase`. Raises ValueError and LookupError for what cannot be one."""
    deadline_ms = int(time.time() * 1000) + DEADLINE_MS
    nonce = secrets.randbits(256)
    if name == "open":
        message: Message = OpenMessage(_open(books, asked), deadline_ms, nonce)
    elif name == "increase":
        message = IncreaseMessage(_increase(books, asked), deadline_ms, nonce)
    else:
        order, opened_at = _close(books, asked)
        message = CloseMessage(order, opened_at, deadline_ms, nonce)
    return _payload(Domain(REHEARSAL_CHAIN_ID, books.deployment.trading), message)


def calldata(books: Books, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """`/v2/trade/open` and `/close`, and `/v2/position/increase`. Raises as `intent` does.

    Of an increase no call is known; its client asks for one beside the intent and has it carried along, unused here.
    """
    if name == "increase":
        data = b""
    elif name == "open":
        data = onchain.encode_open(_open(books, asked))
    else:
        data = onchain.encode_close(_close(books, asked)[0])
    sender = str(asked["trader"])
    if data and (delegate := asked.get("delegate")):
        data, sender = onchain.encode_delegated(sender, data), str(delegate)
    return {
        "to": books.deployment.trading,
        "from": to_checksum_address(sender),
        "data": "0x" + data.hex(),
        "value": "0x0",
        "chainId": REHEARSAL_CHAIN_ID,
        "description": name,
    }


def _open(books: Books, asked: Mapping[str, Any]) -> OpenOrder:
    index = int(_number(asked, "pairIndex"))
    return OpenOrder(
        trader=to_checksum_address(str(asked["trader"])),
        pair_index=index,
        is_long=asked["side"] == "long",
        collateral_usdc=_number(asked, "collateralUsdc"),
        leverage_x=_number(asked, "leverage"),
        wanted_price=_price(books, asked, "openPrice", index),
        slippage_pct=_number(asked, "slippagePercent"),
        take_profit=_level(asked, "takeProfit"),
        stop_loss=_level(asked, "stopLoss"),
    )


def _increase(books: Books, asked: Mapping[str, Any]) -> IncreaseOrder:
    index = int(_number(asked, "pairIndex"))
    return IncreaseOrder(
        trader=to_checksum_address(str(asked["trader"])),
        pair_index=index,
        trade_index=int(_number(asked, "tradeIndex")),
        collateral_usdc=_number(asked, "additionalCollateralUsdc"),
        leverage_x=_number(asked, "leverage"),
        wanted_price=_price(books, asked, "openPrice", index),
        slippage_pct=_number(asked, "slippagePercent"),
    )


def _close(books: Books, asked: Mapping[str, Any]) -> tuple[CloseOrder, int]:
    trader = to_checksum_address(str(asked["trader"]))
    index, slot = int(_number(asked, "pairIndex")), int(_number(asked, "tradeIndex"))
    order = CloseOrder(
        trader=trader,
        pair_index=index,
        trade_index=slot,
        collateral_usdc=_number(asked, "collateralToCloseUsdc"),
        wanted_price=_price(books, asked, "expectedPrice", index),
    )
    opened_at = asked.get("openTimestamp")
    return order, int(opened_at) if opened_at else books.trade(trader, index, slot).opened_at


def _payload(domain: Domain, message: Message) -> dict[str, Any]:
    kind = messages.kind_of(message)
    return {
        "intent": kind,
        "signerRule": "trader-or-delegate",
        "domain": {
            "name": "AvantisTrading",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.trading_address,
        },
        "primaryType": kind,
        "types": {
            name: [{"name": field, "type": type_} for field, type_ in TYPES[name]]
            for name in INTENT_WITHIN[kind]
        },
        "message": _written(messages.values(message)),
        "digest": "0x" + messages.digest(domain, message).hex(),
        "encodedIntent": "0x" + messages.encode(message).hex(),
    }


def _written(value: Any) -> Any:
    """Numbers as decimal strings, as the service writes them."""
    if isinstance(value, Mapping):
        return {name: _written(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _price(books: Books, asked: Mapping[str, Any], name: str, index: int) -> Decimal:
    if asked.get(name) is not None:
        return _number(asked, name)
    return Decimal(books.price_update(index)["core"]["price"])


def _level(asked: Mapping[str, Any], name: str) -> Decimal | None:
    found = asked.get(name)
    return None if found is None or not _number(asked, name) else _number(asked, name)


def _number(asked: Mapping[str, Any], name: str) -> Decimal:
    try:
        return Decimal(str(asked[name]))
    except (InvalidOperation, KeyError) as problem:
        raise ValueError(f"{name} is no number: {asked.get(name)!r}") from problem
