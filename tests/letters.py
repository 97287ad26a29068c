"""What must hold of signed messages, read from the chain and from what a gateway received: once each, and the same bytes.

L1 a message's nonce registered at most one order in canonical blocks; L2 what is
filled registered one, what ended otherwise none; L3 whatever the gateway received
is a stored message, byte for byte, so nothing was signed twice; L4 a message whose
nonce is spent is not called unused; L5 levels that are said to hold have theirs spent, and registered no order.
"""

import json
from collections import defaultdict
from collections.abc import Iterable

from execution_app.models import TxIntent, VenueMessage, VenueOrder
from execution_app.states import TERMINAL, Action, IntentState, Road
from execution_app.venues import events, gateway, onchain
from tests import real_parts
from tests.rig import endpoint, rpc_call


def check(posts: Iterable[bytes], *, first_block: int | None = None, drained: bool = True) -> None:
    """`drained` says that all work is done, so every intent of the road is settled."""
    messages = list(VenueMessage.objects.select_related("intent"))
    orders = executions(messages, first_block)
    for message in messages:
        intent, mine = message.intent, orders[message.pk]
        assert len(mine) <= 1, f"L1: intent {intent.pk} registered orders {mine}"
        if intent.state in (IntentState.FILLED, IntentState.VENUE_CANCELLED):
            assert mine or (not drained and is_unnoticed(message)), (
                f"L2: intent {intent.pk} is {intent.state} and registered nothing"
            )
        if intent.action == Action.LEVELS:
            assert not mine, f"L5: the levels of intent {intent.pk} registered orders {mine}"
        if intent.action == Action.LEVELS and intent.state == IntentState.CHANGED:
            taken = is_spent(message) or (not drained and is_unnoticed(message))
            assert taken, f"L5: the levels of intent {intent.pk} are not taken"
        if intent.state in TERMINAL:
            assert not mine, f"L2: intent {intent.pk} ended as {intent.state} and registered order {mine}"
            assert not is_spent(message), (
                f"L4: intent {intent.pk} ended as {intent.state}, its nonce is spent"
            )
    stored = {_body(Action(m.intent.action), bytes(m.content), bytes(m.signature)) for m in messages}
    unknown = [json.loads(post) for post in posts if post not in stored]
    assert not unknown, f"L3: the gateway received what is not stored: {unknown}"
    if drained:
        open_ = list(
            TxIntent.objects.filter(road=Road.GATEWAY, settled_at=None).values_list("pk", "state", "reason")
        )
        assert not open_, f"L2: unsettled {open_}"


def _body(action: Action, content: bytes, signature: bytes) -> bytes:
    if action is Action.LEVELS:
        return gateway.levels_body(content, signature)
    kinds = {Action.OPEN: 0, Action.CLOSE: 1, Action.INCREASE: 9}
    return gateway.body(kinds[action], content, signature)


def executions(messages: Iterable[VenueMessage], first_block: int | None = None) -> dict[int, list[int]]:
    """Order ids that canonical transactions with a message's nonce registered, by message."""
    by_nonce = {message.nonce[2:]: message.pk for message in messages}
    found: dict[int, list[int]] = defaultdict(list)
    if not by_nonce:
        return found
    node = endpoint()
    head = int(rpc_call("eth_blockNumber"), 16)
    first = real_parts.deployment.deployed_at_block if first_block is None else first_block
    blocks = node.batch([("eth_getBlockByNumber", (hex(n), True)) for n in range(first, head + 1)])
    for block in blocks:
        for transaction in block["transactions"]:
            keys = [key for nonce, key in by_nonce.items() if nonce in transaction["input"]]
            for key in keys:
                receipt = node.call("eth_getTransactionReceipt", transaction["hash"])
                for entry in receipt["logs"]:
                    event = events.decode(entry, trading_address=real_parts.deployment.trading)
                    if isinstance(event, events.Registered):
                        found[key].append(event.order_id)
    return found


def is_unnoticed(message: VenueMessage) -> bool:
    """Whether the block of which the book has it left the chain, which no pass may know yet."""
    if message.intent.action == Action.LEVELS:
        number, block_hash = message.spent_at_block, message.spent_at_hash
    else:
        order = VenueOrder.objects.get(intent=message.intent)
        number, block_hash = order.block_number, order.block_hash
    assert number is not None, f"L2: intent {message.intent_id} is {message.intent.state} of no block"
    standing = rpc_call("eth_getBlockByNumber", hex(number), False)
    return standing is None or standing["hash"] != block_hash


def is_spent(message: VenueMessage) -> bool:
    nonce = int(message.nonce, 16)
    call = onchain.call_nonce_bitmap(message.signer, nonce >> 8)
    word = rpc_call("eth_call", {"to": real_parts.deployment.trading, "data": "0x" + call.hex()}, "latest")
    return bool(int(word, 16) >> (nonce & 255) & 1)
