"""A message for an intent: built here, signed, and stored in the transaction in which the gate let the intent in."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from execution_app.engine.waiting import BY
from execution_app.models import Position, TxIntent, VenueMessage, Wallet
from execution_app.moves import Step, move_all
from execution_app.node import signers
from execution_app.states import Action, IntentState, Mode, Road
from execution_app.venues import messages, onchain, typed_data
from execution_app.venues.messages import CloseMessage, IncreaseMessage, LevelsMessage, Message, OpenMessage
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import Domain

# By then the venue has executed it or never will: long enough for a busy operator, short enough for a price.
LIFE_S = 60
KINDS = {
    Action.OPEN: typed_data.OPEN,
    Action.CLOSE: typed_data.CLOSE,
    Action.INCREASE: typed_data.INCREASE,
    Action.LEVELS: typed_data.LEVELS,
}


@dataclass(frozen=True)
class Made:
    """A signed message before it is stored; `fields` is what becomes fixed on its intent."""

    intent: TxIntent
    row: VenueMessage
    fields: dict[str, object]


@dataclass(frozen=True)
class Terms:
    """What the chain said when the order was drawn: prices in USD, `at` and `trade_opened_at` in unix seconds."""

    wanted_price: Decimal
    close_usdc: Decimal | None
    trade_opened_at: int
    at: int
    block_number: int


def goes(intent: TxIntent) -> bool:
    """Whether this intent takes the gateway's road: as who asked said, else as VENUE does."""
    return (intent.road or settings.ENVIRONMENT.venue) == Road.GATEWAY


def domain() -> Domain:
    return Domain(settings.ENVIRONMENT.chain_id, settings.ENVIRONMENT.venue_trading_address)


def make(wallet: Wallet, intent: TxIntent, terms: Terms) -> Made:
    """Raises Refused where the signer or its policy says no, ValueError where a number would lose a digit.

    A signer over a network is asked after the commit (`signing.py`); what it will be asked is judged here.
    """
    message = _message(intent, terms)
    assert intent.trader is not None
    letter = signers.Letter(domain(), wallet.address, intent.trader.address, intent.intent_key, message)
    row = VenueMessage(
        intent=intent,
        signer=wallet.address,
        nonce=f"0x{message.nonce:064x}",
        digest="0x" + messages.digest(domain(), message).hex(),
        content=messages.encode(message),
        deadline_ms=message.deadline_ms,
        from_block=terms.block_number,
        signature=_signature(letter),
    )
    fields = {
        "mode": Mode.LIVE.value,
        "road": Road.GATEWAY.value,
        "wanted_price": terms.wanted_price,
        "close_usdc": terms.close_usdc,
        "reason": "",
        "reason_detail": "",
    }
    return Made(intent, row, fields)


def _signature(letter: signers.Letter) -> bytes:
    if not signers.is_remote():
        return signers.sign_letter(letter)
    signers.permit_letter(letter)
    return b""


def _message(intent: TxIntent, terms: Terms) -> Message:
    assert intent.trader is not None
    trader, nonce = intent.trader.address, messages.nonce_of(intent.intent_key, domain())
    deadline_ms = (terms.at + LIFE_S) * 1000
    if intent.action == Action.OPEN:
        assert intent.collateral_usdc is not None
        assert intent.leverage_x is not None
        order = OpenOrder(
            trader=trader,
            pair_index=onchain.PAIRS[intent.symbol],
            is_long=bool(intent.is_long),
            collateral_usdc=intent.collateral_usdc,
            leverage_x=intent.leverage_x,
            wanted_price=terms.wanted_price,
            slippage_pct=intent.slippage_pct,
            take_profit=intent.take_profit,
            stop_loss=intent.stop_loss,
        )
        return OpenMessage(order, deadline_ms, nonce)
    assert intent.position is not None
    if intent.action == Action.LEVELS:
        return LevelsMessage(
            trader=trader,
            pair_index=intent.position.pair_index,
            trade_index=intent.position.trade_index,
            take_profit=intent.take_profit,
            stop_loss=intent.stop_loss,
            deadline_ms=deadline_ms,
            nonce=nonce,
        )
    if intent.action == Action.INCREASE:
        return IncreaseMessage(_added(intent, intent.position, terms), deadline_ms, nonce)
    assert terms.close_usdc is not None
    close = CloseOrder(
        trader=trader,
        pair_index=intent.position.pair_index,
        trade_index=intent.position.trade_index,
        collateral_usdc=terms.close_usdc,
        wanted_price=terms.wanted_price,
    )
    return CloseMessage(close, terms.trade_opened_at, deadline_ms, nonce)


def _added(intent: TxIntent, position: Position, terms: Terms) -> IncreaseOrder:
    assert intent.trader is not None
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    return IncreaseOrder(
        trader=intent.trader.address,
        pair_index=position.pair_index,
        trade_index=position.trade_index,
        collateral_usdc=intent.collateral_usdc,
        leverage_x=intent.leverage_x,
        wanted_price=terms.wanted_price,
        slippage_pct=intent.slippage_pct,
    )


def store(made: Sequence[Made]) -> None:
    """Every message takes its intent for life, in the caller's transaction, which holds the wallet and asked the gate."""
    if not made:
        return
    steps = [Step(one.intent, f"message {one.row.digest}", one.fields) for one in made]
    move_all(steps, IntentState.RESERVED, by=BY)
    VenueMessage.objects.bulk_create(one.row for one in made)
    signed = [Step(one.intent, one.row.digest) for one in made if one.row.signature]
    move_all(signed, IntentState.SIGNED, by=BY)
