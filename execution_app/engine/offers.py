"""Give stored bytes to every endpoint, outside of any transaction, and record what was said of them."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.db.models import F
from django.db.models.functions import Coalesce, Now

from execution_app import meters
from execution_app.engine import reconcile, signatures
from execution_app.engine.waiting import BY, database_now
from execution_app.errors import Stale
from execution_app.gate.control import LEASE_S
from execution_app.models import TxIntent, TxSend
from execution_app.moves import Step, move, move_all
from execution_app.node import node_errors, quorum, rpc, signers
from execution_app.states import IntentState, SendKind, SendOutcome

log = structlog.get_logger(__name__)


def offer(sends: Sequence[TxSend], begun_s: float) -> None:
    """Give the bytes to every endpoint and record what they said. No transaction is open meanwhile.

    The signer's journal knows of the order before the first node does.

    `begun_s` is time.monotonic() from before the sends were leased. Whoever
    sets a stop waits for leases only while they last, so bytes that no node is
    known to hold are not given to one later than that.
    """
    sends = _bound(sends)
    answered = []
    for send, said in zip(sends, _ask_endpoints(sends, begun_s), strict=True):
        if said:
            answered.append((send, _word(said)))
        else:
            log.warning("lease ran out before a node was asked", hash=send.tx_hash)
    record(answered)


def _word(said: list[SendOutcome]) -> SendOutcome:
    """One word for all. That no node will ever take the bytes is an absence: it is the word of all that answered, or of none.

    And where fewer than a majority did, it cancels no order.
    """
    best = node_errors.best(said)
    if best is SendOutcome.INVALID_PERMANENT and len(said) < quorum.needed():
        return SendOutcome.UNKNOWN
    return best


def _bound(sends: Sequence[TxSend]) -> list[TxSend]:
    """Those that have left, and those whose nonce the journal has bound to their order; another order's halts the wallet."""
    new = [send for send in sends if send.held_at is None]
    if not new:
        return list(sends)
    try:
        answers = signers.bind([signatures.slot_of(send.intent, SendKind.EXEC) for send in new])
    except signers.JournalUnusableError as problem:
        log.error("nothing new leaves", problem=str(problem))  # noqa: TRY400
        return [send for send in sends if send.held_at is not None]
    barred = set()
    for send, used in zip(new, answers, strict=True):
        if used is not None:
            assert send.intent.wallet is not None
            barred.add(send.pk)
            reconcile.halt_wallet(send.intent.wallet, str(used))
    return [send for send in sends if send.pk not in barred]


def _ask_endpoints(sends: Sequence[TxSend], begun_s: float) -> list[list[SendOutcome]]:
    said: list[list[SendOutcome]] = [[] for _ in sends]
    for endpoint in rpc.awake():
        leased = _is_leased(begun_s)
        asked = [at for at, send in enumerate(sends) if leased or send.held_at is not None]
        calls: list[rpc.Call] = [
            ("eth_sendRawTransaction", ("0x" + bytes(sends[at].raw).hex(),)) for at in asked
        ]
        held = all(sends[at].held_at is not None for at in asked)
        answers = endpoint.offer(calls, lambda held=held: held or _is_leased(begun_s))  # type: ignore[misc]
        for at, answer in zip(asked, _of_our_chain(endpoint, answers), strict=True):
            if answer is not None:
                said[at].append(_outcome(answer, sends[at], endpoint.position))
    return said


def _is_leased(begun_s: float) -> bool:
    return time.monotonic() - begun_s < LEASE_S - rpc.CONNECT_TIMEOUT_S


def _of_our_chain(endpoint: rpc.Endpoint, answers: list[Any]) -> list[Any]:
    """What was said, unless it was perhaps said by a node of another chain: then nobody knows.

    Asked after the offer, since bytes are good for one chain alone and must not wait.
    """
    problem = next((one for one in answers if isinstance(one, rpc.RpcFault)), None)
    if problem is not None:
        log.warning("no answer to a broadcast", endpoint=endpoint.position, fault=str(problem))
    if all(answer is None or isinstance(answer, rpc.RpcFault) for answer in answers):
        return answers
    try:
        endpoint.confirm()
    except (rpc.RpcFault, rpc.NodeError) as unsure:
        log.warning("not known to be on our chain", endpoint=endpoint.position, problem=str(unsure))
        fault = rpc.RpcFault(str(unsure))
        return [None if answer is None else fault for answer in answers]
    return answers


def _outcome(answer: object, send: TxSend, position: int) -> SendOutcome:
    if isinstance(answer, rpc.RpcFault):
        return SendOutcome.UNKNOWN
    if isinstance(answer, rpc.NodeError):
        return _refusal(answer, send, position)
    if str(answer).lower() != send.tx_hash:
        log.error("a node answered another hash", hash=send.tx_hash, answered=str(answer)[:80])
        return SendOutcome.UNKNOWN
    return SendOutcome.ACCEPTED


def _refusal(error: rpc.NodeError, send: TxSend, position: int) -> SendOutcome:
    outcome = node_errors.classify(error)
    said = error.message[:200]
    if outcome is SendOutcome.UNKNOWN:
        meters.RPC_UNRECOGNISED.labels(str(position)).inc()
        if node_errors.UNRECOGNISED.is_new(error.message):
            log.warning("a node's words are in no table", hash=send.tx_hash, endpoint=position, said=said)
    elif outcome is not SendOutcome.ALREADY_KNOWN:
        log.warning("broadcast refused", hash=send.tx_hash, outcome=outcome, said=said)
    return outcome


def record(answered: Sequence[tuple[TxSend, SendOutcome]]) -> None:
    """Write down what the nodes said; accepted sends move their intents on."""
    by_outcome: dict[SendOutcome, list[TxSend]] = defaultdict(list)
    for send, outcome in answered:
        by_outcome[outcome].append(send)
    for outcome, sends in by_outcome.items():
        held = outcome in node_errors.HELD_BY_NODE
        noted = TxSend.objects.filter(pk__in=[send.pk for send in sends])
        noted.update(
            outcome=outcome,
            offers=F("offers") + 1,
            offered_at=Coalesce("offered_at", Now()),
            last_offered_at=Now(),
            **({"held_at": Coalesce("held_at", Now())} if held else {}),
        )
        meters.TX_SUBMISSIONS.inc(sum(send.offered_at is None for send in sends))
        if not held:
            meters.TX_SUBMISSIONS_FAILED.labels(outcome.value).inc(len(sends))
        elif outcome is not SendOutcome.NONCE_TOO_LOW:
            _move_on(sends, outcome)


def _move_on(sends: Sequence[TxSend], outcome: SendOutcome) -> None:
    why = {send.intent_id: f"{outcome} {send.tx_hash}" for send in sends}
    under_way = TxIntent.objects.filter(pk__in=why, state=IntentState.SENDING)
    # As they were when they were leased. Those that left before may be anywhere by now.
    moved = {send.intent_id: send.intent for send in sends if send.intent.state == IntentState.SENDING}
    others = under_way.exclude(pk__in=moved) if len(moved) < len(why) else ()
    moved |= {intent.pk: intent for intent in others}
    try:
        _move_together(moved, why)
    except Stale:
        # The chain was faster than some answer: those that it has not come to, and else each by itself.
        moved = {intent.pk: intent for intent in under_way.all()}
        try:
            _move_together(moved, why)
        except Stale:
            moved = {intent.pk: intent for intent in under_way.all() if _moved_on(intent, why[intent.pk])}
    now = database_now() if moved else None
    for send in sends:
        if now is not None and send.intent_id in moved and send.attempt == 0:
            age = now - moved[send.intent_id].accepted_at
            meters.SIGNAL_TO_BROADCAST.observe(age.total_seconds())


def _move_together(intents: Mapping[int, TxIntent], why: Mapping[int, str]) -> None:
    steps = [Step(intents[key], why[key]) for key in sorted(intents, key=lambda key: intents[key].nonce or 0)]
    move_all(steps, IntentState.PENDING_INCLUSION, by=BY)


def _moved_on(intent: TxIntent, why: str) -> bool:
    try:
        move(intent, IntentState.PENDING_INCLUSION, why=why, by=BY)
    except Stale:
        return False
    return True
