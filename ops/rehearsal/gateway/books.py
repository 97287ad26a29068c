"""What the gateway's reading routes tell, each time anew from the chain, in the shapes of the venue's services."""

import time
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address

from execution_app.venues import events, onchain
from execution_app.venues.costs import read_costs
from execution_app.venues.scales import USDC_DIGITS, VENUE_DIGITS, to_units
from ops.rehearsal.contracts import artefact
from ops.rehearsal.deployment import Deployment
from ops.rehearsal.gateway.operator import executed
from ops.rehearsal.rpc import REHEARSAL_CHAIN_ID, Node, NodeRefusedError

# The venue's groups: FX and metals have market hours, all else trades round the clock.
GROUPS = {"EUR-USD": 2, "USD-JPY": 2, "GBP-USD": 2, "XAG-USD": 3, "XAU-USD": 3}
SLOTS = 2_000  # trade slots of one pair that are looked at
LOG_BLOCKS = 10_000
_ONE = 10**VENUE_DIGITS


class Books:
    """Reads of one deployment. Every method raises NodeUnreachableError and NodeRefusedError."""

    def __init__(self, node: Node, deployment: Deployment) -> None:
        self.node = node
        self.deployment = deployment

    def meta(self) -> dict[str, Any]:
        """The tx-builder's `/v2/meta`."""
        addresses = {
            "tradingRouter": self.deployment.trading,
            "trading": self.deployment.trading,
            "tradingStorage": self.deployment.storage,
            "usdc": self.deployment.usdc,
            "priceAggregator": self.deployment.price_aggregator,
        }
        return {"chainId": REHEARSAL_CHAIN_ID, "addresses": addresses}

    def catalogue(self) -> dict[str, Any]:
        """The data service's `/v2/trading`: every pair that has a price."""
        trading = self.deployment.trading
        limits = self.node.call(trading, artefact("Trading").call("limits"))
        minimum, trades, _, leverage = decode(["uint256"] * 4, limits)
        costs = read_costs(self.node.call(trading, artefact("Trading").call("costs")))
        infos = {}
        for symbol, index in sorted(onchain.PAIRS.items(), key=lambda pair: pair[1]):
            name = self.node.call(self.deployment.price_aggregator, onchain.call_pair_name(index))
            if onchain.read_pair_name(name) != symbol:
                continue  # a pair that this deployment does not list
            base, quote = symbol.split("-")
            closes_only, hours = self._market(index)
            infos[str(index)] = {
                "index": index,
                "from": base,
                "to": quote,
                "groupIndex": GROUPS.get(symbol, 0),
                "isPairListed": True,
                "leverages": {"minLeverage": 1, "maxLeverage": leverage / _ONE},
                "spreadP": costs.spread_units / _ONE,
                "openFeeP": costs.open_fee_bps / 100,
                "closeFeeP": costs.close_fee_bps / 100,
                "minLevPosUSDC": minimum / 10**USDC_DIGITS,
                "feed": {"feedId": None, "attributes": {"symbol": f"{base}/{quote}", **hours}},
                "additionalPairParams2": {"closeOnlyMode": closes_only},
            }
        return {
            "dataVersion": 2,
            "pairCount": len(infos),
            "maxTradesPerPair": trades,
            "pairInfos": infos,
        }

    def _market(self, index: int) -> tuple[bool, dict[str, Any]]:
        """Whether it may be closed only, and its hours as the catalogue has them."""
        raw = self.node.call(
            self.deployment.price_aggregator, artefact("PriceAggregator").call("markets", index)
        )
        closed, closes_only, next_open, next_close = decode(["bool", "bool", "uint256", "uint256"], raw)
        return closes_only, {"isOpen": not closed, "nextOpen": next_open, "nextClose": next_close}

    def price_update(self, index: int) -> dict[str, Any]:
        """The feed's `price-update-data`; both sources are the rehearsal's aggregator. Raises LookupError without a price.

        How old the price is by the chain's clock, which may be ahead of the world's or behind it, is told by the world's.
        """
        try:
            price, at = onchain.read_price(
                self.node.call(self.deployment.price_aggregator, onchain.call_price(index))
            )
        except ValueError as none:
            raise LookupError(str(none)) from none
        head = int(self.node.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        published_ms = int(1000 * (time.time() - max(0, head - at)))
        leg = {"price": f"{price:f}", "priceUpdateData": "0x", "publishTimestampMs": published_ms}
        return {"core": leg, "pro": leg}

    def trades(self, trader: str) -> list[onchain.OpenTrade]:
        """Every open trade of a trader, by pair and slot."""
        found: list[onchain.OpenTrade] = []
        for index in sorted(onchain.PAIRS.values()):
            raw = self.node.call(self.deployment.storage, onchain.call_open_trades_count(trader, index))
            left = onchain.read_uint(raw)
            for slot in range(SLOTS):
                if not left:
                    break
                call = onchain.call_open_trade(trader, index, slot)
                trade = onchain.read_open_trade(self.node.call(self.deployment.storage, call))
                if trade is not None:
                    found.append(trade)
                    left -= 1
        return found

    def trade(self, trader: str, index: int, slot: int) -> onchain.OpenTrade:
        """Raises LookupError for an empty slot."""
        call = onchain.call_open_trade(trader, index, slot)
        found = onchain.read_open_trade(self.node.call(self.deployment.storage, call))
        if found is None:
            raise LookupError(f"no trade of {trader} in slot {slot} of pair {index}")
        return found

    def user_data(self, trader: str) -> dict[str, Any]:
        """The core service's `/user-data`."""
        return {"positions": [_position(trade) for trade in self.trades(trader)], "limitOrders": []}

    def fills(self, trader: str, page: int, limit: int) -> list[dict[str, Any]]:
        """The history's fills of one trader, newest first, those of the venue's own doing, too. The fields are those of the order stream."""
        topics = ["0x" + topic.hex() for topic in events.ending_topics()]
        head = self.node.number("eth_blockNumber")
        found = []
        for low in range(self.deployment.deployed_at_block, head + 1, LOG_BLOCKS):
            span = {
                "address": self.deployment.trading,
                "fromBlock": hex(low),
                "toBlock": hex(min(low + LOG_BLOCKS - 1, head)),
                "topics": [topics],
            }
            for entry in self.node.request("eth_getLogs", span):
                ending = events.decode_ending(entry, trading_address=self.deployment.trading)
                event = ending[1] if ending else events.decode(entry, trading_address=self.deployment.trading)
                if isinstance(event, events.OrderExecuted) and event.trader.lower() == trader.lower():
                    found.append(executed(event))
        found.reverse()
        return found[page * limit : (page + 1) * limit]

    def delegation(self, trader: str, delegate: str) -> dict[str, Any]:
        raw = self.node.call(self.deployment.trading, onchain.call_delegate(trader))
        named, expiry_s = onchain.read_delegate(raw)
        block = self.node.request("eth_getBlockByNumber", "latest", False)
        good = named.lower() == delegate.lower() and expiry_s > int(block["timestamp"], 16)
        return {
            "isEnabled": good,
            "expiry": str(expiry_s),
            "canDelegatedAction": good,
            "canSignIntents": good,
        }

    def allowance(self, trader: str, spender: str = "") -> dict[str, Any]:
        usdc = self.deployment.usdc
        allowed = self.node.call(usdc, onchain.call_allowance(trader, spender or self.deployment.storage))
        balance = self.node.call(usdc, onchain.call_balance(trader))
        return {
            "allowance": str(onchain.read_uint(allowed)),
            "balance": str(onchain.read_uint(balance)),
        }

    def is_spent(self, signer: str, nonce: int) -> bool:
        call = artefact("Trading").call("nonceBitmap", to_checksum_address(signer), nonce // 256)
        word = onchain.read_uint(self.node.call(self.deployment.trading, call))
        return bool(word >> (nonce % 256) & 1)

    def health(self) -> dict[str, Any]:
        """Whether the node answers; raises where it does not."""
        return {"status": "ok", "block": self.node.number("eth_blockNumber"), "at": int(time.time())}


def _position(trade: onchain.OpenTrade) -> dict[str, Any]:
    place = f"{trade.trader}-{trade.pair_index}-{trade.trade_index}"
    levels = {"tp": trade.take_profit, "sl": trade.stop_loss}
    raw = {
        name: str(to_units(level, VENUE_DIGITS, name)) if level is not None else "0"
        for name, level in levels.items()
    }
    return {
        "trader": trade.trader,
        "pairIndex": trade.pair_index,
        "index": trade.trade_index,
        "buy": trade.is_long,
        "isPnl": False,
        "collateral": str(to_units(trade.collateral_usdc, USDC_DIGITS, "collateral_usdc")),
        "leverage": str(to_units(trade.leverage_x, VENUE_DIGITS, "leverage_x")),
        "openPrice": str(to_units(trade.open_price, VENUE_DIGITS, "open_price")),
        **raw,
        "openedAt": trade.opened_at,
        "priceTriggers": [
            {
                "entityId": f"global-{name}-{place}",
                "trader": trade.trader,
                "pairIndex": trade.pair_index,
                "index": trade.trade_index,
                "isGlobal": True,
                "orderType": kind,
                "buy": trade.is_long,
                "price": raw[name],
            }
            for kind, name in enumerate(levels)
            if raw[name] != "0"
        ],
    }


def refused_words(refusal: NodeRefusedError) -> str:
    return onchain.revert_name(refusal.data or refusal.message) or refusal.message
