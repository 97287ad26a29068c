"""What rows and chain say of a drill: the evidence that no process can talk its way out of."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from prometheus_client.parser import text_string_to_metric_families

from execution_app.engine.waiting import database_now
from execution_app.models import PoolBeat, Position, Restriction, TxIntent, TxSend, Wallet
from execution_app.node import rpc
from execution_app.states import UNMINED, IntentState, Mode, PositionState, SendKind
from ops.rollout.drills.report import Failed

POLL_S = 0.1
# How far back bytes may have been signed and still leave.
RECENT = timedelta(hours=1)
# An order of theirs was executed by the chain, once.
ON_CHAIN = {
    IntentState.MINED,
    IntentState.ORDERED,
    IntentState.FILLED,
    IntentState.VENUE_CANCELLED,
}


@dataclass(frozen=True)
class Moment:
    """What had been signed and what had left when a stop was said to hold."""

    at: datetime
    sends: frozenset[int]
    unoffered: frozenset[int]
    next_nonces: dict[str, int]
    pending: dict[str, int]  # what the chain's pool and blocks hold, by wallet
    in_flight: dict[str, int]  # how many slots are in which unmined state


def now() -> datetime:
    """The database's time, which every row's times are in."""
    return database_now()


def in_flight() -> dict[str, int]:
    states = TxIntent.objects.filter(state__in=sorted(UNMINED)).values_list("state", flat=True)
    return dict(Counter(str(state) for state in states))


def moment() -> Moment:
    at = now()
    recent = TxSend.objects.filter(signed_at__gt=at - RECENT)
    rows = list(recent.values_list("pk", "offered_at", "held_at"))
    return Moment(
        at,
        frozenset(pk for pk, *_ in rows),
        # Whose offer was never written down, since its process was killed, and that a node holds, has left as well.
        frozenset(pk for pk, *left_at in rows if left_at == [None, None]),
        next_nonces(),
        counts("pending"),
        in_flight(),
    )


def signed_since(then: Moment) -> list[str]:
    """Hashes of what was signed after it, but for cancels in a slot, which a person may ask for under a stop."""
    sends = TxSend.objects.filter(signed_at__gt=then.at - RECENT).exclude(pk__in=then.sends)
    allowed = Q(kind=SendKind.CANCEL, intent__cancel_asked_at__isnull=False)
    return list(sends.exclude(allowed).values_list("tx_hash", flat=True))


def left_since(then: Moment, told: Iterable[str]) -> list[str]:
    """Hashes whose first broadcast came after it; `told` had been named as those that may still leave."""
    sends = TxSend.objects.filter(pk__in=then.unoffered).filter(
        Q(offered_at__isnull=False) | Q(held_at__isnull=False)
    )
    return sorted(set(sends.values_list("tx_hash", flat=True)) - set(told))


def sent_between(from_at: datetime, to_at: datetime) -> list[str]:
    """Hashes of what was signed or first broadcast in that time."""
    span = (from_at, to_at)
    found = TxSend.objects.filter(Q(signed_at__range=span) | Q(offered_at__range=span))
    return list(found.values_list("tx_hash", flat=True))


def next_nonces() -> dict[str, int]:
    wallets = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id).order_by("address")
    return dict(wallets.values_list("address", "next_nonce"))


def counts(block: str) -> dict[str, int]:
    """`eth_getTransactionCount` of every wallet. Raises Failed."""
    return counts_of(sorted(next_nonces()), block)


def counts_of(addresses: Sequence[str], block: str) -> dict[str, int]:
    """The same of these wallets, without asking the database. Raises Failed."""
    answers = _ask([("eth_getTransactionCount", (address, block)) for address in addresses])
    return {address: int(answer, 16) for address, answer in zip(addresses, answers, strict=True)}


def _ask(calls: Sequence[rpc.Call]) -> list[Any]:
    try:
        return list(rpc.read_batch(calls)) if calls else []
    except rpc.RpcFault as error:
        raise Failed(f"the node does not answer: {error}") from error


def chain_id() -> int:
    """What the node says. Raises Failed."""
    return int(_ask([("eth_chainId", ())])[0], 16)


def ends(keys: Sequence[str]) -> Counter[str]:
    """How many of these signals are where; with a question mark what may still change."""
    rows = TxIntent.objects.filter(intent_key__in=keys).values_list("state", "reason", "settled_at")
    found = Counter(_end(state, reason, settled_at) for state, reason, settled_at in rows)
    missing = len(set(keys)) - sum(found.values())
    return found + Counter({"undecided?": missing} if missing else {})


def _end(state: str, reason: str, settled_at: datetime | None) -> str:
    told = f"{state}/{reason}" if state == IntentState.REJECTED else state
    return told if settled_at is not None else f"{told}?"


def await_ends(keys: Sequence[str], within_s: float) -> Counter[str]:
    """Until every one of these signals has come to its end. Raises Failed."""
    deadline_s = time.monotonic() + within_s
    while True:
        found = ends(keys)
        if not any(end.endswith("?") for end in found):
            return found
        if time.monotonic() > deadline_s:
            raise Failed(f"not settled within {within_s:g} s: {dict(found)}")
        time.sleep(POLL_S)


def await_closed(key: str, within_s: float) -> Counter[str]:
    """Until a close, with the further intents that it became, one for each position, has ended. Raises Failed."""
    await_ends([key], within_s)
    return await_ends(closing(key), within_s)


def closing(key: str) -> list[str]:
    """A close and the further intents that it became so far."""
    further = TxIntent.objects.filter(intent_key__startswith=f"{key}#").values_list("intent_key", flat=True)
    return [key, *further]


def wrongly_executed(keys: Sequence[str]) -> list[str]:
    """Signals whose executions on the chain are not as many as their state says: one, or none."""
    sends = TxSend.objects.filter(intent__intent_key__in=keys).exclude(kind=SendKind.CANCEL)
    rows = list(sends.values_list("tx_hash", "intent__intent_key"))
    receipts = _ask([("eth_getTransactionReceipt", (tx_hash,)) for tx_hash, _ in rows])
    executed = Counter(
        key
        for (_, key), receipt in zip(rows, receipts, strict=True)
        if isinstance(receipt, dict) and int(receipt["status"], 16) == 1
    )
    states = dict(TxIntent.objects.filter(intent_key__in=keys).values_list("intent_key", "state"))
    return [
        f"{key} is {state}, executed {executed[key]} times"
        for key, state in states.items()
        if executed[key] != (state in ON_CHAIN)
    ]


def gaps() -> list[str]:
    """Slots below a wallet's next nonce that no intent of ours owns, from its first one on."""
    found = []
    for address, next_nonce in next_nonces().items():
        owned = TxIntent.objects.filter(wallet__address=address).values_list("nonce", flat=True)
        nonces = {nonce for nonce in owned if nonce is not None}
        missing = set(range(min(nonces, default=next_nonce), next_nonce)) - nonces
        found += [f"{address} nonce {nonce}" for nonce in sorted(missing)]
    return found


def unmined() -> list[str]:
    """Wallets of which the chain has not executed every slot that was taken."""
    executed = counts("latest")
    return [
        f"{address}: chain {executed[address]}, ours {next_nonce}"
        for address, next_nonce in next_nonces().items()
        if executed[address] != next_nonce
    ]


def restrictions() -> list[str]:
    rows = Restriction.objects.filter(lifted_at=None).order_by("pk")
    return [f"{row.kind} of {row.origin}" for row in rows]


def pool_pids(component: str) -> set[int]:
    """Children of a worker that said lately that they live."""
    beats = PoolBeat.objects.filter(component=component, at__gt=now() - timedelta(seconds=5))
    return set(beats.values_list("pid", flat=True))


def positions_open(tg_user_id: int, symbol: str, mode: Mode) -> int:
    found = Position.objects.filter(trader__tg_user_id=tg_user_id, symbol=symbol, mode=mode)
    return found.filter(state=PositionState.OPEN).count()


def counter(metrics: str, family: str) -> float:
    """The sum of a counter's samples in a scrape, `_total` left out of its name; 0 where it has none."""
    for found in text_string_to_metric_families(metrics):
        if found.name == family:
            return float(sum(sample.value for sample in found.samples if sample.name.endswith("_total")))
    return 0.0
