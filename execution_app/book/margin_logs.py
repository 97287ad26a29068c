"""What most endpoints' logs tell of margin: of a trader's trades in a stretch of blocks, or of one transaction where it stands now."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from django.conf import settings

from execution_app import meters
from execution_app.node import quorum, rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.venues import margin_events
from execution_app.venues.margin_events import MarginUpdated

log = structlog.get_logger(__name__)


def of_trader(trader: str, start: int, end: int) -> list[MarginUpdated]:
    """Changes of this trader's margins in these blocks, in the order of the chain. Raises RpcFault."""
    address, topics = settings.ENVIRONMENT.venue_trading_address, margin_events.topics_of(trader)
    calls: list[rpc.Call] = [
        (
            "eth_getLogs",
            (
                {
                    "address": address,
                    "topics": topics,
                    "fromBlock": hex(low),
                    "toBlock": hex(min(low + LOG_SPAN - 1, end)),
                },
            ),
        )
        for low in range(start, end + 1, LOG_SPAN)
    ]
    return _told(calls)


def of_transaction(tx_hash: str) -> list[MarginUpdated]:
    """What this transaction changed, in the block in which most endpoints have it by now; nothing where they have it in none."""
    return _told([("eth_getTransactionReceipt", (tx_hash,))])


def _told(calls: Sequence[rpc.Call]) -> list[MarginUpdated]:
    """What a majority shows, of answers that are logs or a receipt with some."""
    address = settings.ENVIRONMENT.venue_trading_address
    votes: Counter[MarginUpdated] = Counter()
    for _, answers in quorum.ask_each(calls):
        logs = [answer.get("logs") if isinstance(answer, dict) else answer for answer in answers]
        entries = [entry for some in logs if isinstance(some, list) for entry in some]
        votes.update({event for entry in entries if (event := _decoded(entry, address)) is not None})
    told = [event for event, count in votes.items() if count >= quorum.needed()]
    return sorted(told, key=lambda event: (event.block_number, event.log_index))


def _decoded(entry: dict[str, Any], address: str) -> MarginUpdated | None:
    try:
        return margin_events.decode(entry, trading_address=address)
    except (ValueError, KeyError, TypeError, AttributeError):
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.exception("a log of the venue cannot be read", hash=str(entry.get("transactionHash"))[:80])
        return None
