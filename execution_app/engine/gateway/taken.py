"""New levels that the venue took: no order, no fill; a spent nonce is all that the chain shows of them.

Seen spent at a block, they hold for the book until that block leaves the chain, and for good once it is final and a
majority of endpoints has them spent.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now

from execution_app.book import positions
from execution_app.engine.watermark import Head
from execution_app.errors import Stale
from execution_app.models import TxIntent, VenueMessage
from execution_app.moves import move
from execution_app.node import quorum, rpc
from execution_app.states import Action, IntentState
from execution_app.venues import onchain

log = structlog.get_logger(__name__)
BY = "messages"
NOT_SEEN: dict[str, Any] = {"spent_at_block": None, "spent_at_hash": ""}


def is_of_levels(message: VenueMessage) -> bool:
    return bool(message.intent.action == Action.LEVELS)


def take(message: VenueMessage, head: Head) -> None:
    """The venue has spent their nonce: the position has them from this block on."""
    intent = message.intent
    assert intent.position is not None
    try:
        with transaction.atomic():
            VenueMessage.objects.filter(pk=message.pk).update(
                held_at=Coalesce("held_at", Now()),
                unused_at_block=None,
                unused_at_hash="",
                spent_at_block=head.number,
                spent_at_hash=head.block_hash,
            )
            why = f"message {message.digest} spent by block {head.number}"
            move(intent, IntentState.MINED, why=why, by=BY)
            move(intent, IntentState.CHANGED, why=why, by=BY)
            positions.fold(intent.position)
    except Stale:
        return  # another pass was faster
    log.info("levels changed at the venue", intent=intent.pk, position=intent.position.pk)


def blocks(keys: Collection[int]) -> dict[int, tuple[int, str]]:
    """By intent among these whose levels are taken: the block at which that was seen, number and hash."""
    seen = VenueMessage.objects.filter(intent__in=keys, intent__state=IntentState.CHANGED)
    return {
        pk: (number, block_hash)
        for pk, number, block_hash in seen.values_list("intent_id", "spent_at_block", "spent_at_hash")
        if number is not None
    }


def take_back(intent: TxIntent, number: int, block_hash: str) -> None:
    """That block left the chain: the position is as before, and the next look says whether they are taken.

    Raises Stale where another pass has seen them at another block.
    """
    with transaction.atomic():
        move(intent, IntentState.PENDING_INCLUSION, why=f"block {number} left the chain", by=BY)
        seen = VenueMessage.objects.filter(intent=intent, spent_at_block=number, spent_at_hash=block_hash)
        if not seen.update(tracking_id="", last_seq=-1, **NOT_SEEN):
            raise Stale(f"the levels of intent {intent.pk} were seen at another block by now")
        assert intent.position is not None
        positions.fold(intent.position)


def settle(standing: Collection[int], finalized: int) -> None:
    """Make final what was seen at final blocks, and most endpoints have so."""
    ended = TxIntent.objects.filter(
        pk__in=standing,
        state=IntentState.CHANGED,
        settled_at=None,
        message__spent_at_block__lte=finalized,
    )
    for intent in ended.select_related("message").annotate(seen=F("message__spent_at_block")).order_by("id"):
        votes = _votes(intent.message, intent.seen)
        if votes[False] >= quorum.needed():
            log.error("most endpoints know nothing of new levels that one showed as taken", intent=intent.pk)
            with suppress(Stale):  # another pass was faster
                take_back(intent, intent.seen, intent.message.spent_at_hash)
        if votes[True] < quorum.needed():
            continue
        settled = TxIntent.objects.filter(pk=intent.pk, state=intent.state, settled_at=None).update(
            settled_at=Now(), updated_at=Now()
        )
        if settled:
            log.info("settled", intent=intent.pk, state=intent.state, block=intent.seen)


def _votes(message: VenueMessage, block_number: int) -> Counter[bool]:
    """How many endpoints that have that block have the nonce spent: now, since a nonce is spent for ever."""
    votes: Counter[bool] = Counter()
    calls: list[rpc.Call] = [("eth_getBlockByNumber", ("latest", False)), question(message, "latest")]
    for _, (block, word) in quorum.ask_each(calls):
        if isinstance(block, dict) and isinstance(word, str) and int(block["number"], 16) >= block_number:
            votes[is_spent(message, word)] += 1
    return votes


def question(message: VenueMessage, block: str) -> rpc.Call:
    """Which nonces around this one its signer has spent, at a block."""
    call = onchain.call_nonce_bitmap(message.signer, int(message.nonce, 16) >> 8)
    to = settings.ENVIRONMENT.venue_trading_address
    return ("eth_call", ({"to": to, "data": "0x" + call.hex()}, block))


def is_spent(message: VenueMessage, word: object) -> bool:
    bit = int(message.nonce, 16) & 0xFF
    return bool(onchain.read_uint(bytes.fromhex(str(word)[2:])) >> bit & 1)
