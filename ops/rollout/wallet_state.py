"""What there is to know of a wallet before an operator decides anything: the database's word beside the chain's."""

from datetime import datetime
from typing import Any

from execution_app.book.prices import look
from execution_app.engine.adoption import Plan
from execution_app.engine.consumed import Use
from execution_app.engine.placing import EXIT_PLACES, EXIT_RESERVE
from execution_app.engine.waiting import database_now
from execution_app.models import Chain, TxIntent, TxSend, Wallet
from execution_app.node import rpc, signers
from execution_app.states import UNMINED, WAITING, IntentState
from ops.rollout.wallet_check import ORDER_GAS

SLOTS = 100  # in-flight slots that are listed, the oldest first


def describe(wallet: Wallet) -> dict[str, Any]:
    """Facts of one wallet, ready for JSON; ages in seconds, money in wei as text. A node that is away is named."""
    now = database_now()
    in_flight = TxIntent.objects.filter(wallet=wallet, state__in=sorted(UNMINED)).order_by("nonce")
    chain = Chain.objects.filter(pk=wallet.chain_id).first()
    reconciled_at = chain.reconciled_at if chain else None
    return {
        "tg_user_id": wallet.trader.tg_user_id,
        "address": wallet.address,
        "chain_id": wallet.chain_id,
        "next_nonce": wallet.next_nonce,
        "seen_next_nonce": wallet.seen_next_nonce,
        **_on_chain(wallet),
        "key": signers.has_key(wallet.address),
        "halted_reason": wallet.halted_reason,
        "halted_at": _iso(wallet.halted_at),
        "chain_halted_reason": chain.halted_reason if chain else "",
        "reconciled_at": _iso(reconciled_at),
        "reconciled_age_s": _age_s(reconciled_at, now),
        "in_flight": in_flight.count(),
        "max_in_flight": wallet.max_in_flight,
        "exit_places": EXIT_PLACES,
        "waiting": TxIntent.objects.filter(wallet=wallet, state__in=sorted(WAITING)).count(),
        "ordered": [
            {"key": key, "nonce": nonce, "age_s": _age_s(at, now)}
            for key, nonce, at in TxIntent.objects.filter(wallet=wallet, state=IntentState.ORDERED)
            .order_by("nonce")
            .values_list("intent_key", "nonce", "updated_at")[:SLOTS]
        ],
        "slots": [_slot(intent, now) for intent in in_flight[:SLOTS]],
    }


def _on_chain(wallet: Wallet) -> dict[str, Any]:
    """The chain's counts and money. `reserve_wei` is what opens leave for exits."""
    try:
        answers = rpc.read_batch(
            [("eth_getTransactionCount", (wallet.address, tag)) for tag in ("latest", "pending")]
        )
        for answer in answers:
            if isinstance(answer, rpc.NodeError):
                raise answer
        market = look([], wallet.address)
    except (rpc.RpcFault, rpc.NodeError, ValueError) as problem:
        nothing = dict.fromkeys(("chain_latest", "chain_pending", "reserve_wei"))
        balance = None if wallet.balance_wei is None else f"{wallet.balance_wei:f}"
        return {**nothing, "balance_wei": balance, "problem": f"the chain does not answer: {problem}"}
    gas_wei = ORDER_GAS * (2 * market.gas.base_fee_wei + market.gas.tip_wei) + market.gas.l1_fee_wei
    order_wei = market.execution_fee_wei + gas_wei
    return {
        "chain_latest": int(answers[0], 16),
        "chain_pending": int(answers[1], 16),
        "balance_wei": str(market.balance_wei),
        "reserve_wei": str(EXIT_RESERVE * order_wei),
        "problem": "",
    }


def _slot(intent: TxIntent, now: datetime) -> dict[str, Any]:
    sends = TxSend.objects.filter(intent=intent).order_by("attempt")
    return {
        "nonce": intent.nonce,
        "key": intent.intent_key,
        "action": intent.action,
        "state": intent.state,
        "age_s": _age_s(intent.updated_at, now),
        "sends": [
            {
                "kind": send.kind,
                "hash": send.tx_hash,
                "outcome": send.outcome,
                "offers": send.offers,
                "max_fee_wei": f"{send.max_fee_wei:f}",
                "age_s": _age_s(send.signed_at, now),
            }
            for send in sends
        ],
    }


def in_words(facts: dict[str, Any]) -> list[str]:
    """The same as lines for people."""
    halted = f"HALTED since {facts['halted_at']}: {facts['halted_reason']}" if facts["halted_reason"] else ""
    lines = [
        f"wallet {facts['address']} of trader {facts['tg_user_id']} on chain {facts['chain_id']}",
        f"  nonce: next {facts['next_nonce']}, chain {facts['chain_latest']} mined, {facts['chain_pending']} with its pool",
        (
            f"  in flight: {facts['in_flight']} of {facts['max_in_flight']} and {facts['exit_places']} for exits; "
            f"waiting {facts['waiting']}, ordered {len(facts['ordered'])}"
        ),
        f"  balance: {facts['balance_wei']} wei, of which opens leave {facts['reserve_wei']} for exits",
        f"  key: {'there' if facts['key'] else 'MISSING'}; last reconciled {facts['reconciled_at']}",
    ]
    if facts["seen_next_nonce"] is not None:
        lines.append(f"  a database that is gone had given away nonces up to {facts['seen_next_nonce']}")
    lines += [f"  {words}" for words in (halted, facts["problem"], facts["chain_halted_reason"]) if words]
    for slot in facts["slots"]:
        lines.append(
            f"  slot {slot['nonce']}  {slot['state']} for {slot['age_s']:.0f} s  {slot['action']} {slot['key']}"
        )
        lines += [f"    {send['kind']} {send['hash']}  {send['outcome']}" for send in slot["sends"]]
    lines += [f"  ordered {order['key']} for {order['age_s']:.0f} s" for order in facts["ordered"]]
    return lines


def adoption(drawn: Plan) -> dict[str, Any]:
    """What adopting would do, ready for JSON."""
    counts = drawn.uses.counts
    return {
        "next_nonce": drawn.uses.next_nonce,
        "becomes": drawn.next_nonce,
        "final_block": counts.final_block,
        "final_count": counts.final,
        "latest_count": counts.latest,
        "pending_count": counts.pending,
        "endpoints": counts.endpoints,
        "nonces": [_use(use) for use in drawn.uses.uses],
        "refused": [intent.intent_key for intent in drawn.refused],
        "stops": drawn.stops,
        "problem": drawn.problem,
    }


def _use(use: Use) -> dict[str, Any]:
    return {
        "nonce": use.nonce,
        "what": use.what.value,
        "hash": use.found.tx_hash if use.found else "",
        "key": use.intent.intent_key if use.intent else "",
    }


def adoption_in_words(facts: dict[str, Any]) -> list[str]:
    lines = [
        (
            f"next_nonce {facts['next_nonce']} becomes {facts['becomes']}: {facts['endpoints']} endpoint(s) count "
            f"{facts['final_count']} at final block {facts['final_block']}, {facts['latest_count']} mined"
        )
    ]
    lines += [
        f"nonce {use['nonce']}: {use['what']} {use['hash']} {use['key']}".rstrip() for use in facts["nonces"]
    ]
    lines += [f"refused, since it may be executed: {key}" for key in facts["refused"]]
    return lines + [facts["stops"]] * bool(facts["stops"])


def _age_s(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else round((now - at).total_seconds(), 3)


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
