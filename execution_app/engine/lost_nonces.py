"""A final block consumed a nonce of ours and no endpoint has a receipt of our hashes: what follows.

A node that has lost receipts, or whose index is behind, denies ours as well as one that knows better, and
with one endpoint nobody contradicts it. So nothing is called lost before the transaction that took the slot is shown.
"""

import time
from collections import deque

import structlog
from django.db import transaction

from execution_app import meters
from execution_app.engine import consumed, reconcile
from execution_app.engine.consumed import What
from execution_app.models import TxIntent, Wallet
from execution_app.moves import move
from execution_app.node import history, rpc
from execution_app.states import IntentState

log = structlog.get_logger(__name__)
BY = "receipts"
# To find a transaction takes some twenty reads: a slot that is ours is not asked for again at each head, and however many
# there are, they keep nothing else from being followed.
AGAIN_S = 30.0
MOST = 8
WITHIN_S = 2.0

# When, by time.monotonic(), slots were found to be ours, by their newest hash, and when the last ones were asked for;
# nothing that anybody relies on.
_ours: dict[str, float] = {}
_asked: deque[float] = deque(maxlen=MOST)


def conclude(intent: TxIntent, newest_hash: str, final_block: int) -> None:
    """Lose the slot to what is shown to have taken it; halt the wallet for that, and where an operator has to look.

    Bytes of ours in the block are waited for: their receipt will be shown.
    """
    assert intent.wallet is not None
    assert intent.nonce is not None
    now_s = time.monotonic()
    busy = len(_asked) == MOST and now_s - _asked[0] < WITHIN_S
    if busy or now_s - _ours.get(newest_hash, -AGAIN_S) < AGAIN_S:
        return
    _asked.append(now_s)
    try:
        found = history.find(intent.wallet.address, intent.nonce, final_block)
    except rpc.RpcFault as fault:
        log.warning("what took a nonce cannot be asked for now", intent=intent.pk, fault=str(fault))
        return
    what = What.UNSEEN if found is None else consumed.taken_by(intent.wallet, intent, found)
    if what is What.OURS:
        log.error("in a final block, and no node has its receipt", intent=intent.pk, key=intent.intent_key)
        for old in [tx_hash for tx_hash, at_s in _ours.items() if now_s - at_s > AGAIN_S]:
            del _ours[old]
        _ours[newest_hash] = now_s
        return
    if found is None:
        reason = f"nonce {intent.nonce} was consumed, and no node shows by what"
    elif what is What.LOST:
        reason = f"nonce {intent.nonce} was consumed by a transaction that is not ours"
    else:
        reason = f"nonce {intent.nonce} was consumed by {found.tx_hash}, which is not known here"
    log.error(
        "a nonce is not accounted for", intent=intent.pk, key=intent.intent_key, what=what, reason=reason
    )
    with transaction.atomic():
        # The wallet first, as everywhere.
        Wallet.objects.select_for_update(no_key=True).get(pk=intent.wallet.pk)
        if what is What.LOST:
            move(intent, IntentState.LOST_NONCE, why=reason, by=BY)
        reconcile.halt_wallet(intent.wallet, reason)
    if what is What.LOST:
        meters.NONCE_LOST.inc()
