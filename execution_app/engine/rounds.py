"""The rounds that doors ring for: one wallet's submission, one look at the chain, one comparison."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.db import connection

from execution_app.book import delegations, external, feed, liquidation, protections, quotes, ticks
from execution_app.book.drift import compare
from execution_app.engine import (
    broadcast,
    cancels,
    dues,
    heads,
    level_watch,
    offers,
    reconcile,
    remote_signing,
    replace,
    reserve,
    watermark,
)
from execution_app.engine.gateway import posting, signing
from execution_app.errors import Refused
from execution_app.models import Wallet
from execution_app.node import fees, gas, rpc, signers
from execution_app.states import UNMINED, WAITING, IntentState

log = structlog.get_logger(__name__)
# Bells ring every second; a wallet whose intents stand still for longer has had none that was heard.
UNHEARD_S = 5
UNHEARD_LIMIT = 4  # wallets a sweep works for; the next one takes the next
# Slots of which no node is known to hold anything.
UNOFFERED = (IntentState.RESERVED, IntentState.SIGNED, IntentState.SENDING)
TRACK_LOCK = (0x76616E74, 0)  # one follower at a time saves work; two would do no harm
WATCH_LOCK = (0x76616E74, 1)
FEED_LOCK = (0x76616E74, 2)
SUBMIT_LOCK = 0x76616E75  # with the wallet's id
HUNG_S = 10  # without a word to the database: longer than a node may take to answer
_WALLETS = "SELECT DISTINCT wallet_id FROM tx_intents WHERE settled_at IS NULL AND wallet_id IS NOT NULL"
# As `dues.due` and `dues.executable` have it.
_DUE = """state = ANY(%s) AND (next_try_at IS NULL OR next_try_at <= statement_timestamp() - make_interval(secs => %s)
    OR next_try_at > statement_timestamp() + make_interval(secs => %s))
AND (keeper_due_at IS NULL OR keeper_due_at <= statement_timestamp() - make_interval(secs => %s)
    OR keeper_due_at > statement_timestamp() + %s)
OR state = ANY(%s)"""
_UNHEARD = f"({_DUE}) AND updated_at <= statement_timestamp() - make_interval(secs => %s)"
_LOWEST = "SELECT min(nonce) FROM tx_intents WHERE wallet_id = %s AND state = ANY(%s)"
_HUNG = """SELECT held.pid FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
WHERE held.locktype = 'advisory' AND held.granted AND (held.classid, held.objid, held.objsubid) = (%s, %s, 2)
AND session.state LIKE 'idle%%' AND session.state_change < clock_timestamp() - make_interval(secs => %s)"""


def submit(wallet_id: int) -> None:
    """Place what waits, have it signed, then offer what is signed. Raises Retryable when the node is away."""
    reconcile.expect_chain()
    with _halting(wallet_id):
        placed = 1
        while placed:
            with watermark.not_behind():
                placed = reserve.reserve(wallet_id)
            posted = _sign_and_post(wallet_id) if _has_messages(wallet_id) else 0
            market = _market() if _has_slots(wallet_id) else None
            if market is None:
                return
            _offer_signed(wallet_id, market)
            if not (broadcast.broadcast(wallet_id, market) or posted):
                return


@contextmanager
def _halting(wallet_id: int) -> Iterator[None]:
    """Whose nonces the signer's journal knows otherwise signs nothing more until a person has looked."""
    try:
        yield
    except signers.NonceUsedError as used:
        reconcile.halt_wallet(Wallet.objects.get(pk=wallet_id), str(used))


def _sign_and_post(wallet_id: int) -> int:
    signing.sign_waiting(wallet_id)
    return posting.post(wallet_id)


def _offer_signed(wallet_id: int, market: fees.Market) -> None:
    """What a remote signer has signed by now: replacements leave at once, first sends through the gate."""
    signed = remote_signing.sign_waiting(wallet_id, market)
    offers.offer(signed.sends, signed.begun_s)


def track() -> list[int]:
    """One look at the chain; returns the wallets that may place more. Raises what heads.follow raises."""
    with _alone(TRACK_LOCK) as alone:
        if not alone:
            return []
        heads.follow()
        posting.listen()
        for wallet_id in _unmined():
            try:
                with _halting(wallet_id):
                    _keep_moving(wallet_id)
            except (rpc.RpcFault, rpc.NodeError) as error:
                # One slow answer must not stop the others.
                log.warning("wallet is not kept moving", wallet=wallet_id, problem=str(error))
        return wallets_with_work()


def _keep_moving(wallet_id: int) -> None:
    if _has_messages(wallet_id):
        _sign_and_post(wallet_id)
    market = _market()
    begun_s = time.monotonic()
    offers.offer(cancels.sign(wallet_id, market), begun_s)
    try:
        bumped = replace.replace(wallet_id, market, _consumed(wallet_id))
    except Refused as error:
        # Such as a lost key: nothing new is signed, and what is signed is offered all the same.
        log.warning("no replacement can be signed", wallet=wallet_id, problem=str(error))
        bumped = None
    if bumped is not None:
        offers.offer([bumped], begun_s)
    _offer_signed(wallet_id, market)
    broadcast.rebroadcast(wallet_id)


def _consumed(wallet_id: int) -> int:
    """The lowest nonce of the wallet that is not mined, as the last look at the chain left it."""
    with connection.cursor() as cursor:
        cursor.execute(_LOWEST, [wallet_id, sorted(UNMINED)])
        (lowest,) = cursor.fetchone()
    return -1 if lowest is None else int(lowest)


def wallets_with_work() -> list[int]:
    """Wallets with waiting intents that are due, or slots that nobody has signed or offered."""
    return _wallets(_DUE, *_due(0), [*UNOFFERED])


def wallets_unheard() -> list[int]:
    """Wallets with work that was due for a while and that nobody has looked at: their bells are lost."""
    states = [IntentState.RESERVED, IntentState.SIGNED]
    return _wallets(_UNHEARD, *_due(UNHEARD_S), states, UNHEARD_S)[:UNHEARD_LIMIT]


def _due(late_s: int) -> tuple[Any, ...]:
    """The values of `_DUE` for what was due so long ago, but for the states at its end."""
    return sorted(WAITING), late_s, dues.RETRY_S, late_s, dues.KEEPER_MOST


def _unmined() -> list[int]:
    return _wallets("state = ANY(%s)", sorted(UNMINED))


def _wallets(condition: str, *values: Any) -> list[int]:
    """Those of unsettled intents for which the condition holds. By hand: several are asked for in every pass."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_WALLETS} AND ({condition}) ORDER BY wallet_id", values)
        return [int(pk) for (pk,) in cursor.fetchall()]


def _has_slots(wallet_id: int) -> bool:
    return bool(_wallets("wallet_id = %s AND state = ANY(%s)", wallet_id, [*UNOFFERED]))


def _has_messages(wallet_id: int) -> bool:
    """Whether anything of the wallet goes, or may still go, by the gateway: it has a place and no nonce of the wallet's."""
    return bool(_wallets("wallet_id = %s AND state = ANY(%s) AND nonce IS NULL", wallet_id, sorted(UNMINED)))


def _market() -> fees.Market:
    return gas.look()


def compare_positions() -> int:
    """Keep the venue's newest prices and their history, then hold open LIVE positions against its storage; returns how many drift.

    Last, until when wallets may trade and what is not ours: nobody waits for that.
    """
    with watermark.not_behind():
        quotes.keep()
        ticks.keep()
        drifting = compare()
        delegations.keep()
        external.keep()
    return drifting


def watch_levels() -> level_watch.Tick:
    """Judge the levels of protected positions, unless somebody is at it."""
    with _alone(WATCH_LOCK) as alone:
        return level_watch.watch() if alone else level_watch.Tick()


def keep_feed() -> None:
    """Ask the venue's feed and catalogue, unless somebody is at it. Raises Retryable where they tell less than was asked."""
    if not (feed.has_prices() or feed.has_hours()):
        return
    with _alone(FEED_LOCK) as alone:
        if alone:
            feed.keep(liquidation.simulated_symbols().union(protections.guarded_symbols()))


@contextmanager
def alone_with(wallet_id: int) -> Iterator[bool]:
    """Whether nobody else places this wallet's intents now; nobody else begins to until the block ends.

    Two passes would queue for the wallet's row. In a burst that were all children of a pool, and nobody would be
    left to follow the chain, without which nothing is traded. What a second pass would have found is found by the
    one under way, or by the next bell. Who hangs for HUNG_S keeps nobody out: two passes do no harm.
    """
    with _alone((SUBMIT_LOCK, wallet_id % 2**31)) as alone:
        yield alone


@contextmanager
def _alone(lock: tuple[int, int]) -> Iterator[bool]:
    """Hold a database-wide lock for this connection; it ends with the process, however that ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", lock)
        mine = bool(cursor.fetchone()[0])
    hangs = None if mine else _hangs(lock)
    if hangs:
        log.warning("nobody waits for a process that hangs", lock=lock, its_session=hangs)
    try:
        yield mine or bool(hangs)
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", lock)


def _hangs(lock: tuple[int, int]) -> int | None:
    """The database session that holds the lock, where its process has not been heard of for long; None otherwise."""
    with connection.cursor() as cursor:
        cursor.execute(_HUNG, [*lock, HUNG_S])
        found = cursor.fetchone()
    return None if found is None else int(found[0])
