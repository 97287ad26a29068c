"""The venue's own SDK, unmodified, as the other opinion: what it makes of the same messages."""

from decimal import Decimal
from typing import Any

from veranta_sdk.execution.local_intents import LocalIntentBuilder

from execution_app.venues.messages import (
    CloseMessage,
    DelegateMessage,
    IncreaseMessage,
    LevelsMessage,
    Message,
    OpenMessage,
)
from execution_app.venues.typed_data import Domain


def told(domain: Domain, message: Message) -> dict[str, str]:
    """Digest and encoding as 0x-hex."""
    payload = _payload(LocalIntentBuilder(domain.chain_id, domain.trading_address), message)
    return {"digest": payload.digest, "encoded": payload.encoded_intent}


def _payload(builder: LocalIntentBuilder, message: Message) -> Any:
    when = {"nonce": message.nonce, "deadline_ms": message.deadline_ms}
    match message:
        case OpenMessage(order=order):
            return builder.open_trade(
                trader=order.trader,
                pair_index=order.pair_index,
                is_long=order.is_long,
                collateral_usdc=order.collateral_usdc,  # type: ignore[arg-type]  # it scales by Decimal(str())
                leverage=order.leverage_x,  # type: ignore[arg-type]
                open_price=order.wanted_price,  # type: ignore[arg-type]
                slippage_percent=order.slippage_pct,  # type: ignore[arg-type]
                tp=order.take_profit or Decimal(0),  # type: ignore[arg-type]
                sl=order.stop_loss or Decimal(0),  # type: ignore[arg-type]
                **when,
            )
        case CloseMessage(order=order):
            return builder.close_trade(
                trader=order.trader,
                pair_index=order.pair_index,
                index=order.trade_index,
                open_timestamp=message.opened_at,
                amount_usdc=order.collateral_usdc,  # type: ignore[arg-type]
                wanted_price=order.wanted_price,  # type: ignore[arg-type]
                **when,
            )
        case IncreaseMessage(order=order):
            return builder.increase_position(
                trader=order.trader,
                pair_index=order.pair_index,
                index=order.trade_index,
                additional_collateral_usdc=order.collateral_usdc,  # type: ignore[arg-type]
                leverage=order.leverage_x,  # type: ignore[arg-type]
                open_price=order.wanted_price,  # type: ignore[arg-type]
                slippage_percent=order.slippage_pct,  # type: ignore[arg-type]
                **when,
            )
        case LevelsMessage():
            return builder.update_tp_sl(
                trader=message.trader,
                pair_index=message.pair_index,
                index=message.trade_index,
                tp=message.take_profit or Decimal(0),
                sl=message.stop_loss or Decimal(0),
                **when,
            )
        case DelegateMessage():
            return builder.delegate_req(
                trader=message.trader, delegate=message.delegate, expiry_seconds=message.expiry_s, **when
            )
