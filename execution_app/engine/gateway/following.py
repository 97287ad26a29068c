"""What the chain made of messages: registered by whoever submitted them, or unused beyond their deadline.

A spent nonce names its message, whoever submitted it and in whichever bytes: it
is made of the intent's key alone. So the order that a message became is the one
whose transaction carries that nonce, and no word of the gateway is needed.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now

from execution_app import meters
from execution_app.book import absence, orders
from execution_app.engine import exits
from execution_app.engine.gateway import taken
from execution_app.engine.mined import NONSENSE
from execution_app.engine.waiting import database_now
from execution_app.engine.watermark import Head
from execution_app.errors import Stale
from execution_app.models import TxIntent, VenueMessage, VenueOrder
from execution_app.moves import move
from execution_app.node import quorum, rpc
from execution_app.node.rpc import LOG_SPAN
from execution_app.states import UNMINED, Action, IntentState, Reason, Road
from execution_app.venues import events, onchain
from execution_app.venues.events import Registered
from execution_app.venues.increase_events import IncreaseRequested

log = structlog.get_logger(__name__)
BY = "messages"
BATCH = 500
SPANS = 10
STRETCHES = 4  # of that many spans, in one pass
# Blocks before a message was signed that are looked through for a nonce which is spent and not found: a database
# that was restored signs anew what an earlier copy of it has signed.
EARLIER = 5_000

Candidate = tuple[Registered, bytes]


def follow(head: Head) -> None:
    """Register what was executed, end what never will be. Raises RpcFault where no node answers; nothing is guessed."""
    open_ = list(
        VenueMessage.objects.filter(
            intent__settled_at=None, intent__road=Road.GATEWAY, intent__state__in=sorted(UNMINED)
        )
        .select_related("intent__trader", "intent__wallet", "intent__position")
        # First of all what may still be executed: the others wait for finality alone.
        .order_by(F("unused_at_block").asc(nulls_first=True), "id")[:BATCH]
    )
    if not open_:
        return
    block, *words = rpc.read_batch(
        [
            ("eth_getBlockByNumber", (hex(head.number), False)),
            *(taken.question(one, hex(head.number)) for one in open_),
        ]
    )
    unsaid = next((answer for answer in (block, *words) if isinstance(answer, rpc.NodeError)), None)
    if unsaid is not None:
        # Messages stay unknown; everything else is followed.
        log.error("the node does not say which nonces are spent", problem=str(unsaid))
        return
    if block is None or block["hash"] != head.block_hash:
        return  # the head has moved on; the next pass looks again
    now_ms = int(block["timestamp"], 16) * 1000
    spent = [one for one, word in zip(open_, words, strict=True) if taken.is_spent(one, word)]
    for message in filter(taken.is_of_levels, spent):
        taken.take(message, head)
    for some in _stretches([message for message in spent if not taken.is_of_levels(message)], head.number):
        try:
            _register(some, head.number)
        except rpc.NodeError as problem:
            # Such as a provider that has pruned old logs: the rest is followed.
            log.warning("the logs of spent messages cannot be read", problem=str(problem))
    for one, word in zip(open_, words, strict=True):
        if not taken.is_spent(one, word) and now_ms > one.deadline_ms:
            _look_whether_unused(one, head)


def _stretches(spent: Sequence[VenueMessage], head: int) -> list[list[VenueMessage]]:
    """Messages whose orders are looked for together, the newest first: one that is never found must not hide others.

    What a message became stands soon behind its first block, since it has a deadline, however long ago that is. Of more
    stretches than one pass reads all but the newest have their turn, by the head's number.
    """
    found: list[list[VenueMessage]] = []
    for message in sorted(spent, key=lambda one: one.from_block):
        if not found or message.from_block > found[-1][0].from_block + LOG_SPAN * SPANS // 2:
            found.append([])
        found[-1].append(message)
    newest, older = found[:-STRETCHES:-1], found[: 1 - STRETCHES]
    return [*newest, *([older[head % len(older)]] if older else [])]


def _register(spent: Sequence[VenueMessage], head: int) -> None:
    start = max(0, min(message.from_block for message in spent))
    found = _candidates(spent, start, min(head, start + LOG_SPAN * SPANS))
    missing = _assign(spent, found)
    earlier: list[Candidate] = []
    if missing and start > 0:
        earlier = _candidates(missing, max(0, start - EARLIER), start - 1)
        missing = _assign(missing, earlier)
    # Only now, when each order has gone to the message that asked for just that.
    found += earlier
    missing = [message for message in missing if not _take_other(message, found)]
    for message in missing:
        meters.INVARIANT_VIOLATIONS.labels("spent_message_has_order").inc()
        log.error(
            "a nonce is spent and its order is not found", intent=message.intent_id, digest=message.digest
        )


def _assign(messages: Sequence[VenueMessage], found: list[Candidate]) -> list[VenueMessage]:
    """Give messages their orders, and take those out of `found`; returns who has none.

    Call data hold what their transaction did not carry out, too, and another one did: whoever fits the fewest orders
    comes first. Then in the order in which they are carried, which is that of their orders: of two closes of one size
    nothing else tells them apart.
    """
    fits = [(message, _places(message, found)) for message in messages]
    missing, given = list[VenueMessage](), set[int]()
    while fits:
        fits.sort(key=lambda fit: (len(fit[1]), fit[1]))
        message, places = fits.pop(0)
        if not places:
            missing.append(message)
            continue
        at, _ = places[0]
        given.add(at)
        _ordered(message, found[at][0])
        fits = [(one, [place for place in its if place[0] != at]) for one, its in fits]
    found[:] = [candidate for at, candidate in enumerate(found) if at not in given]
    return missing


def _places(
    message: VenueMessage, found: Sequence[Candidate], *, as_asked: bool = True
) -> list[tuple[int, int]]:
    """Which of the found orders the message may be, each with where in its transaction's call data the nonce is."""
    nonce = bytes.fromhex(message.nonce[2:])
    return [
        (at, calldata.find(nonce))
        for at, (event, calldata) in enumerate(found)
        if nonce in calldata and _is_of(message, event, as_asked=as_asked)
    ]


def _candidates(messages: Sequence[VenueMessage], start: int, end: int) -> list[Candidate]:
    """Orders registered for these traders in these blocks that nobody has, each with its transaction's call data."""
    traders = sorted(
        {_topic(str(message.intent.trader.address)) for message in messages if message.intent.trader}
    )
    found: list[Registered] = []
    for low in range(start, end + 1, LOG_SPAN):
        span = {
            "address": settings.ENVIRONMENT.venue_trading_address,
            "fromBlock": hex(low),
            "toBlock": hex(min(low + LOG_SPAN - 1, end)),
            "topics": [["0x" + topic.hex() for topic in events.registering_topics()], traders],
        }
        for entry in rpc.read("eth_getLogs", span):
            event = _decoded(entry)
            if event is not None:
                found.append(event)
    known = set(
        VenueOrder.objects.filter(order_id__in=[event.order_id for event in found]).values_list(
            "order_id", "block_hash"
        )
    )
    new = [event for event in found if (event.order_id, event.block_hash) not in known]
    answers = rpc.read_batch([("eth_getTransactionByHash", (event.tx_hash,)) for event in new]) if new else []
    return [
        (event, bytes.fromhex(answer["input"][2:]))
        for event, answer in zip(new, answers, strict=True)
        if isinstance(answer, dict) and answer.get("blockHash") == event.block_hash
    ]


def _decoded(entry: dict[str, Any]) -> Registered | None:
    try:
        event = events.decode(entry, trading_address=settings.ENVIRONMENT.venue_trading_address)
    except (ValueError, KeyError, TypeError, AttributeError):
        meters.INVARIANT_VIOLATIONS.labels("event_matches_intent").inc()
        log.exception("a log of the venue cannot be read", hash=str(entry.get("transactionHash"))[:80])
        return None
    return event if isinstance(event, Registered) else None


def _topic(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def _take_other(message: VenueMessage, found: list[Candidate]) -> bool:
    """Give a message the order of a close of another size, where it can be no other; says whether there was one.

    An earlier copy of the database may have signed it when more or less was there, and else nobody would get out of
    its position any more.
    """
    places = _places(message, found, as_asked=False)
    if len(places) != 1:
        return False
    event, _ = found.pop(places[0][0])
    _ordered(message, event)
    return True


def _is_of(message: VenueMessage, event: Registered, *, as_asked: bool) -> bool:
    """Whether the order is of this intent's trader, pair and kind, and `as_asked` of its size, which tells orders of one transaction apart."""
    intent = message.intent
    assert intent.trader is not None
    theirs = event.trader.lower() == intent.trader.address.lower()
    theirs = theirs and event.pair_index == onchain.PAIRS[intent.symbol]
    if isinstance(event, IncreaseRequested) or intent.action == Action.INCREASE:
        return theirs and _is_increase_of(intent, event)
    if intent.action != Action.OPEN:
        return theirs and not event.is_open and (not as_asked or event.collateral_usdc == intent.close_usdc)
    return (
        theirs
        and event.is_open
        and event.collateral_usdc == intent.collateral_usdc
        and event.is_long == intent.is_long
    )


def _is_increase_of(intent: TxIntent, event: Registered) -> bool:
    if (
        not isinstance(event, IncreaseRequested)
        or intent.action != Action.INCREASE
        or intent.position is None
    ):
        return False
    asked = intent.position.trade_index, intent.collateral_usdc, intent.leverage_x
    return (event.trade_index, event.collateral_usdc, event.leverage_x) == asked


def _ordered(message: VenueMessage, event: Registered) -> None:
    intent = message.intent
    first = not intent.transitions.filter(to_state=IntentState.MINED).exists()
    try:
        with transaction.atomic():
            VenueMessage.objects.filter(pk=message.pk).update(
                held_at=Coalesce("held_at", Now()), unused_at_block=None, unused_at_hash=""
            )
            why = f"message {message.digest} in block {event.block_number}"
            move(intent, IntentState.MINED, why=why, by=BY)
            orders.register(intent, event)
    except Stale:
        return  # another pass was faster
    except (IntegrityError, *NONSENSE):
        meters.INVARIANT_VIOLATIONS.labels("one_order_per_receipt").inc()
        log.exception("the book refuses an order", intent=intent.pk, order=event.order_id)
        return
    if first:
        meters.SIGNAL_TO_MINED.observe((database_now() - intent.accepted_at).total_seconds())


def _look_whether_unused(message: VenueMessage, head: Head) -> None:
    """Remember the block behind the deadline at which most endpoints show it unused; end it when that block is final."""
    seen_at, seen_hash = message.unused_at_block, message.unused_at_hash
    if seen_at is not None and seen_at <= head.finalized:
        votes = absence.finality(seen_at, seen_hash)
        if votes[True] >= quorum.needed():
            _lapse(message, seen_at)
            return
        if votes[False] >= quorum.needed():
            seen_at = None
    if seen_at is None and _most_show_it_unused(message, head):
        VenueMessage.objects.filter(pk=message.pk).update(
            unused_at_block=head.number, unused_at_hash=head.block_hash
        )


def _most_show_it_unused(message: VenueMessage, head: Head) -> bool:
    votes = 0
    calls = [("eth_getBlockByNumber", (hex(head.number), False)), taken.question(message, hex(head.number))]
    for _, (block, word) in quorum.ask_each(calls):
        if isinstance(block, dict) and block["hash"] == head.block_hash and isinstance(word, str):
            late = int(block["timestamp"], 16) * 1000 > message.deadline_ms
            votes += late and not taken.is_spent(message, word)
    return votes >= quorum.needed()


def _lapse(message: VenueMessage, block_number: int) -> None:
    """No later block can execute it: the venue takes nothing behind its deadline, and no reorg goes below a final one."""
    intent = message.intent
    detail = f"unused at final block {block_number}, behind its deadline; the gateway said: {message.said or 'nothing'}"
    try:
        with transaction.atomic():
            told = {"reason": Reason.LAG_EXCEEDED.value, "reason_detail": detail[:400]}
            move(intent, IntentState.LAPSED, why=detail, by=BY, **told)
            exits.ask_again(intent)
    except Stale:
        return
    meters.MESSAGES_LAPSED.inc()
    log.warning("a message lapsed", intent=intent.pk, digest=message.digest, said=message.said)


def take_back(intent: TxIntent, number: int, block_hash: str) -> None:
    """The block that registered a message's order left the chain: unmined again, and posted again with the gate's leave.

    Raises Stale where the order stands in another block by now.
    """
    if intent.action == Action.LEVELS:
        taken.take_back(intent, number, block_hash)
        return
    with transaction.atomic():
        move(intent, IntentState.PENDING_INCLUSION, why=f"block {number} left the chain", by=BY)
        standing = VenueOrder.objects.filter(intent=intent, block_number=number, block_hash=block_hash)
        if not standing.exists():
            raise Stale(f"the order of intent {intent.pk} stands in another block by now")
        orders.unregister(intent)
        VenueMessage.objects.filter(intent=intent).update(tracking_id="", last_seq=-1)
