"""An exit whose transaction came to nothing is asked for again, so that nobody is left in what they asked to leave."""

import structlog

from execution_app.engine.waiting import BY
from execution_app.models import TxIntent
from execution_app.moves import open_intent
from execution_app.states import Action, IntentState

log = structlog.get_logger(__name__)

# Each costs gas; what failed this often needs a person.
MAX_FAILURES = 3


def ask_again(failed: TxIntent) -> TxIntent | None:
    """Open another intent of the same request for a close that reverted or was cancelled in its slot.

    Runs in the transaction that makes the failure final. None for an open, and for
    a request that has failed MAX_FAILURES times.
    """
    if failed.action != Action.CLOSE:
        return None
    request = failed.intent_key.partition("#")[0]
    mine = TxIntent.objects.filter(trader=failed.trader, symbol=failed.symbol, action=Action.CLOSE)
    asked = mine.filter(intent_key__startswith=f"{request}#")
    number = asked.count() + 2
    failures = mine.filter(intent_key=request) | asked
    failures = failures.filter(
        state__in=[IntentState.FINAL_REVERTED, IntentState.FINAL_CANCELLED], position=failed.position
    )
    if failures.count() >= MAX_FAILURES:
        log.error("an exit failed for the last time; the position stays open", intent=failed.pk)
        return None
    again, _ = open_intent(
        key=f"{request}#{number}",
        by=BY,
        trader=failed.trader,
        wallet=failed.wallet,
        tg_user_id=failed.tg_user_id,
        source=failed.source,
        action=failed.action,
        symbol=failed.symbol,
        slippage_pct=failed.slippage_pct,
        accepted_at=failed.accepted_at,
        position=failed.position,
        reduce_usdc=failed.reduce_usdc,
        reduce_pct=failed.reduce_pct,
    )
    log.warning("an exit is asked for again", intent=again.pk, key=again.intent_key, failed=failed.pk)
    return again
