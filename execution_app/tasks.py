"""Doors: an id in, one verb. Whatever a lost bell leaves behind, a sweep finds."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from celery import shared_task
from django.db import InterfaceError, OperationalError

from execution_app import audit, meters
from execution_app.bells import ring
from execution_app.engine import rounds
from execution_app.errors import Disagreement, Retryable
from execution_app.node.rpc import NodeError

log = structlog.get_logger(__name__)


@contextmanager
def _waiting(what: str, **about: object) -> Iterator[None]:
    """A part that is away is no failure of this task: the rows are as they were, and the next bell tries again."""
    try:
        yield
    except (Retryable, NodeError, Disagreement, OperationalError, InterfaceError) as problem:
        log.warning(
            "a part is away; the next bell tries again",
            what=what,
            problem=f"{type(problem).__name__}: {problem}".strip(),
            **about,
        )


@shared_task
def submit(wallet_id: int) -> None:
    """Place and broadcast what waits in a wallet, unless somebody is at it: the next bell comes soon."""
    with _waiting("submit", wallet=wallet_id), rounds.alone_with(wallet_id) as alone:
        if alone:
            rounds.submit(wallet_id)


@shared_task
def track() -> None:
    """Follow the chain by one look, then keep what is unmined moving."""
    with _waiting("track"):
        for wallet_id in rounds.track():
            ring(submit, wallet_id)


@shared_task
def sweep() -> None:
    """Ring for every wallet that has something to do; do here what bells were evidently not heard for."""
    with _waiting("sweep"):
        for wallet_id in rounds.wallets_with_work():
            ring(submit, wallet_id)
        for wallet_id in rounds.wallets_unheard():
            log.warning("bells are not heard; the sweep does the work", wallet=wallet_id)
            submit(wallet_id)


@shared_task
def compare_positions() -> None:
    """Look at the venue: its prices, and its storage against the book."""
    with _waiting("comparison"), meters.TPSL_ERRORS.count_exceptions():
        rounds.compare_positions()


@shared_task
def watch_levels() -> None:
    """Close what a level of its protection demands."""
    with _waiting("levels"), meters.TPSL_ERRORS.count_exceptions():
        tick = rounds.watch_levels()
        for wallet_id in tick.wallets:
            ring(submit, wallet_id)
        tick.require_whole()


@shared_task
def keep_feed() -> None:
    """Keep what the venue's feed and catalogue say, for opens and for the watch to compare with."""
    with _waiting("feed"):
        rounds.keep_feed()


@shared_task
def note_audit_head() -> None:
    """Keep the audit log's head where whoever cuts off the table's end cannot reach it."""
    audit.note_head()
