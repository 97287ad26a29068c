"""What is not there: asked of every endpoint, and believed of a majority of those that are configured.

A node that lags, prunes, indexes late or lies says "no" as well as one that
knows. So these decisions need a quorum, each on the votes of one look:

- a nonce is consumed by none of our hashes (engine/receipts.py); lost it is to what is shown in its place (engine/lost_nonces.py);
- what a nonce was used for, where endpoints show different transactions (node/history.py);
- a block of ours has left the chain, so what stood in it is taken back (engine/heads.py);
- a transaction reverted, or was a cancel, or did neither although one says so (engine/receipt_votes.py);
- a block is canonical, so what stands in it may become final (engine/heads.py);
- how far the chain is, how far it is final, with which hash, and that it went back (engine/watermark.py);
- the chain counts fewer transactions of a wallet than were final here (engine/heads.py);
- the venue dropped an order without an event (engine/venue_events.py);
- the venue has a trade no more, at one block (book/absence.py);
- what ended it, and what that paid: an event in a block that the quorum has there (book/endings.py);
- the venue has a trade otherwise than the book, at one block (book/corrections.py);
- an owner put margin in or took some out by hand (book/margins.py): no receipt of ours is followed up there;
- no node will ever take an order's bytes, so its slot is cancelled (engine/offers.py);
- a contract takes a signature for its own (node/ownership.py): a yes, which one liar could give to anybody.

What is there needs none: a receipt, a log or a trade that any node shows is taken
as provisional, and becomes final only on a block that the quorum calls canonical.
What halts needs none either.

An endpoint that rests, is on another chain or is behind the pass has no vote, and
counts all the same among those configured: fewer votes delay, they never decide.
With one endpoint it alone is the quorum, and finality is all that protects.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import structlog

from execution_app.node import rpc
from execution_app.node.wire import Call

log = structlog.get_logger(__name__)
KEPT_BLOCKS = 10_000  # that any node can still show


def needed() -> int:
    """How many votes decide."""
    configured = len(rpc.endpoints())
    if configured == 1:
        _say_once()
    return configured // 2 + 1


def ask_each(calls: Sequence[Call]) -> Iterator[tuple[int, list[Any]]]:
    """Position and answers of every endpoint that has any, NodeErrors in place; one batch each, one after another."""
    if not calls:
        return
    for endpoint in rpc.awake():
        try:
            answers = rpc.ask(endpoint, calls)
        except rpc.RpcFault as fault:
            log.warning("endpoint has no vote", endpoint=endpoint.position, fault=str(fault))
            continue
        yield endpoint.position, answers


def not_behind(number: int) -> frozenset[int]:
    """Positions of all endpoints but those that are found behind this block before the first that has it.

    Who does not answer is left to whoever asks; who does not say where it is counts as behind.
    """
    behind = set()
    for position, (block,) in ask_each([("eth_getBlockByNumber", ("latest", False))]):
        try:
            at = int(block["number"], 16)
        except (KeyError, TypeError, ValueError):
            at = -1
        if at >= number:
            break
        log.info("endpoint is behind", endpoint=position, block=at, wanted=number)
        behind.add(position)
    return frozenset(endpoint.position for endpoint in rpc.endpoints()) - behind


@lru_cache(maxsize=1)
def _say_once() -> None:
    log.warning("one endpoint only: nobody can confirm what it does not show; finality alone is waited for")
