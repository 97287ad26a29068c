"""A final block consumed a nonce of ours and no endpoint has a receipt of our hashes: what follows.

A node that has lost receipts, or whose index is behind, denies ours as well as one that knows better, and
with one endpoint nobody contradicts it. So nothing is called lost before the transaction that took the slot is shown.
"""

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


def conclude(intent: TxIntent, hashes: set[str], final_block: int) -> None:
    """Lose the slot to what is shown to have taken it; halt the wallet for that, and where an operator has to look.

    `hashes` are ours of the slot. One of them in the block is waited for: its receipt will be shown.
    """
    assert intent.wallet is not None
    assert intent.nonce is not None
    try:
        found = history.find(intent.wallet.address, intent.nonce, final_block)
    except rpc.RpcFault as fault:
        log.warning("what took a nonce cannot be asked for now", intent=intent.pk, fault=str(fault))
        return
    if found is not None and found.tx_hash in hashes:
        log.warning("in a final block, and no node has its receipt", intent=intent.pk, hash=found.tx_hash)
        return
    what = What.UNSEEN if found is None else consumed.taken_by(intent.wallet, intent, found)
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
