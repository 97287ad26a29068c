"""The gateway's reading routes: a pattern of the path, and what answers it, asked of the gateway and of the query."""

from collections.abc import Callable, Mapping
from typing import Any

from eth_utils.address import is_hex_address


def _trader(asked: Mapping[str, str]) -> str:
    trader = asked.get("trader", "")
    if not is_hex_address(trader):
        raise ValueError("trader must be an address")
    return trader


def ok(data: Any) -> dict[str, Any]:
    """The tx-builder's envelope."""
    return {"ok": True, "data": data}


READS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("/tx-builder/v2/meta", lambda g, _: ok(g.books.meta())),
    ("/tx-builder/v2/positions", lambda g, a: ok(g.books.user_data(_trader(a)))),
    (
        "/tx-builder/v2/delegation",
        lambda g, a: ok(g.books.delegation(_trader(a), a.get("delegate", ""))),
    ),
    ("/tx-builder/v2/allowance", lambda g, a: ok(g.books.allowance(_trader(a), a.get("spender", "")))),
    (
        "/tx-builder/v2/nonce",
        lambda g, a: ok({"isUsed": g.books.is_spent(_trader(a), int(a.get("check", "0")))}),
    ),
    ("/data/v2/trading", lambda g, _: g.books.catalogue()),
    (
        "/feed/v2/pairs/([0-9]{1,4})/price-update-data",
        lambda g, _, index: g.faults.bent(g.books.price_update(int(index))),
    ),
    ("/core/user-data", lambda g, a: g.books.user_data(_trader(a))),
    (
        "/history/v2/history/trade-history/(0x[0-9a-fA-F]{40})/([0-9]{1,6})/([0-9]{1,4})",
        lambda g, _, trader, page, limit: g.books.fills(trader, int(page), int(limit)),
    ),
    (
        "/batched-market/tracking-id/([0-9a-f-]{36})/status",
        lambda g, a, tracking_id: g.status(tracking_id, int(a.get("afterSeq", "-1"))),
    ),
    ("/rehearsal/waiting", lambda g, _: len(g.ledger.under_way())),
    ("/rehearsal/faults", lambda g, _: g.faults.shown()),
    ("/rehearsal/health", lambda g, _: g.books.health()),
)
