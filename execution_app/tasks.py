"""Doors: an id in, one verb. Whatever a lost bell leaves behind, a sweep finds."""

import structlog
from celery import shared_task

from execution_app import meters
from execution_app.bells import ring
from execution_app.engine import rounds
from execution_app.errors import Disagreement, Retryable
from execution_app.node.rpc import NodeError

log = structlog.get_logger(__name__)


@shared_task
def submit(wallet_id: int) -> None:
    """Place and broadcast what waits in a wallet."""
    try:
        rounds.submit(wallet_id)
    except (Retryable, NodeError) as error:
        log.warning("submit waits", wallet=wallet_id, problem=str(error))


@shared_task
def track() -> None:
    """Follow the chain by one look, then keep what is unmined moving."""
    try:
        for wallet_id in rounds.track():
            ring(submit, wallet_id)
    except (Retryable, NodeError, Disagreement) as error:
        log.warning("track waits", problem=str(error))


@shared_task
def sweep() -> None:
    """Ring for every wallet that has something to do."""
    for wallet_id in rounds.wallets_with_work():
        ring(submit, wallet_id)


@shared_task
def compare_positions() -> None:
    """Look at the venue: its prices, and its storage against the book."""
    try:
        with meters.TPSL_ERRORS.count_exceptions():
            rounds.compare_positions()
    except (Retryable, NodeError) as error:
        log.warning("comparison waits", problem=str(error))
