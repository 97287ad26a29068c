"""An operator takes over what the chain says of a halted wallet: never back, never a nonce for the same work twice.

Shown first (`plan`), then done in one commit (`adopt`); the wallet stays halted
until `resume`. What was executed under a nonce that this database does not know
is found by its call data and told as what it is; what cannot be told apart is
never executed again. What can be told only once the book has followed what came
before it is left to the next plan.
"""

from dataclasses import dataclass, field, replace

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app import audit, meters, reservations
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.book import positions
from execution_app.engine import consumed
from execution_app.engine.consumed import Use, Uses, What
from execution_app.engine.drafts import margin_call
from execution_app.errors import Refused, Stale
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.moves import move, open_intent
from execution_app.node import signers
from execution_app.states import (
    STAKING,
    WAITING,
    Action,
    IntentState,
    Mode,
    PositionEnd,
    Reason,
    Road,
    SendOutcome,
)
from execution_app.venues import onchain
from execution_app.venues.onchain import CloseOrder, OpenOrder

log = structlog.get_logger(__name__)
TOLD = 50  # nonces named in the audit log
PARTIAL = Q(reduce_usdc__isnull=False) | Q(reduce_pct__isnull=False)
# How a trade ends in the book that a close of ours ended of which the book did not know.
NOT_BY_US = (PositionEnd.OWNER, PositionEnd.CLOSED_ELSEWHERE)


@dataclass(frozen=True)
class Plan:
    """What adopting would do. `problem` is why it cannot be done now; blank where it can."""

    uses: Uses
    next_nonce: int
    refused: list[TxIntent] = field(default_factory=list)
    problem: str = ""

    @property
    def changes(self) -> bool:
        return self.does_something or bool(self.stops)

    @property
    def does_something(self) -> bool:
        moved = self.next_nonce != self.uses.next_nonce
        return moved or bool(self.refused) or any(use.what is not What.OURS for use in self.uses.uses)

    @property
    def stops(self) -> str:
        """Why it does not come to the chain's count; blank where it does."""
        if self.uses.stops_at is None:
            return ""
        return (
            f"nonce {self.uses.stops_at} is a close that cannot be told before the book has followed what came before it: "
            "adopt again then"
        )


def plan(wallet: Wallet, *, unseen_is_lost: bool = False) -> Plan:
    """Ask every endpoint, and change nothing. Raises RpcFault or NodeError where one does not answer.

    What no node shows in a slot of ours may have been our order: only with `unseen_is_lost` it is given up.
    """
    uses = consumed.look(wallet)
    counts = uses.counts
    stops = uses.stops_at is not None
    # What a database that is gone had signed above the chain's count may be mined yet; the last plan judges that.
    unmined = not stops and (wallet.seen_next_nonce or 0) > max(counts.final, wallet.next_nonce)
    unseen = uses.of(What.UNSEEN)
    unsure = unmined or any(use.intent is None for use in unseen)
    ours_unseen = [] if unseen_is_lost else [use.nonce for use in unseen if use.intent is not None]
    problem = ""
    if not wallet.halted_reason:
        problem = "the wallet is not halted"
    elif counts.final > wallet.next_nonce + consumed.LIMIT:
        problem = f"{counts.final - wallet.next_nonce} nonces to explain, {consumed.LIMIT} at once at most"
    elif max(counts.latest, counts.pending) > max(counts.final, wallet.next_nonce):
        problem = (
            f"transactions of this wallet are under way that are not ours: {counts.final} are final, "
            f"{counts.latest} mined, {counts.pending} with those that wait in a pool; ask again once they are final"
        )
    elif ours_unseen:
        problem = (
            f"no node shows what took nonces {ours_unseen[:TOLD]} of ours: put an endpoint first that has its blocks, "
            "receipts and states of then, or give these up with --unseen-is-lost"
        )
    refused = _unsure(wallet, uses) if unsure else [*_margins(wallet, uses), *_ended(wallet, uses)]
    next_nonce = max(wallet.next_nonce, counts.final) if uses.stops_at is None else uses.stops_at
    drawn = Plan(uses, next_nonce, refused, problem)
    if stops and not problem and not drawn.does_something:
        return replace(drawn, problem=f"{drawn.stops}; wallet status shows what is under way")
    return drawn


def _unsure(wallet: Wallet, uses: Uses) -> list[TxIntent]:
    """Waiting intents that may have been executed; to close all of a position twice does no harm."""
    matched = [use.intent.pk for use in uses.of(What.WAITED) if use.intent is not None]
    harmful = Q(action__in=STAKING) | PARTIAL
    waiting = TxIntent.objects.filter(harmful, wallet=wallet, state__in=sorted(WAITING))
    return list(waiting.exclude(pk__in=matched).order_by("id"))


def _margins(wallet: Wallet, uses: Uses) -> list[TxIntent]:
    """Waiting changes of margin whose very call is on the chain: the venue's events tell the book of it."""
    calls = {use.found.data for use in uses.of(What.FOREIGN) if use.found is not None}
    waiting = TxIntent.objects.filter(wallet=wallet, action=Action.MARGIN, state__in=sorted(WAITING))
    found = waiting.select_related("position", "trader").order_by("id")
    return [one for one in found if one.position is not None and margin_call(one, one.position) in calls]


def _ended(wallet: Wallet, uses: Uses) -> list[TxIntent]:
    """Waiting closes of a part that may have ended a trade, which the book heard from the venue before it was adopted.

    They would take their part of another trade.
    """
    matched = [use.intent.pk for use in uses.of(What.WAITED) if use.intent is not None]
    orders = [use.order for use in uses.of(What.FOREIGN) if isinstance(use.order, CloseOrder)]
    last = [consumed.last_of(wallet, order) for order in orders]
    symbols = {one.symbol for one in last if one is not None and one.ended_by in NOT_BY_US}
    waiting = TxIntent.objects.filter(PARTIAL, wallet=wallet, action=Action.CLOSE, state__in=sorted(WAITING))
    waiting = waiting.filter(symbol__in=symbols, position=None)
    return list(waiting.exclude(pk__in=matched).order_by("id"))


def adopt(wallet: Wallet, drawn: Plan, *, by: str, reason: str) -> None:
    """Do what the plan says, in one commit. The caller has checked the second factor.

    Raises Refused where the plan cannot be carried out, Stale where something moved since it was drawn.
    """
    if drawn.problem:
        raise Refused(drawn.problem)
    with transaction.atomic(durable=True):
        held = Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
        if held.next_nonce != drawn.uses.next_nonce or not held.halted_reason:
            raise Stale("the wallet has moved on since this was drawn")
        reservations.lock()
        for use in drawn.uses.uses:
            _account_for(held, use, by, reason)
        for intent in drawn.refused:
            detail = "a database that is gone may have executed it; ask for it again once that is known"
            told = {"reason": Reason.MAY_BE_EXECUTED.value, "reason_detail": f"{detail}: {reason}"[:400]}
            move(intent, IntentState.REJECTED, why=detail, by=by, **told)
        # What a database that is gone gave away is judged by the plan that comes to the end.
        seen = None if drawn.uses.stops_at is None else held.seen_next_nonce
        Wallet.objects.filter(pk=held.pk).update(next_nonce=drawn.next_nonce, seen_next_nonce=seen)
        audit.record(
            AuditAction.WALLET_ADOPTED,
            f"wallet {held.address}",
            reason=reason,
            before={"next_nonce": held.next_nonce, "halted_reason": held.halted_reason},
            after=_told(drawn),
            who=audit.by(by, AuditOrigin.COMMAND),
        )
    log.warning("chain adopted for a wallet", wallet=held.address, next_nonce=drawn.next_nonce, by=by)


def _told(drawn: Plan) -> dict[str, object]:
    counts = drawn.uses.counts
    named = [f"{use.nonce} {use.what}" for use in drawn.uses.uses[:TOLD]]
    return {
        "next_nonce": drawn.next_nonce,
        "final_block": counts.final_block,
        "final_hash": counts.final_hash,
        "endpoints": counts.endpoints,
        "nonces": named,
        "of": len(drawn.uses.uses),
        "refused": [intent.intent_key for intent in drawn.refused[:TOLD]],
    }


def _account_for(wallet: Wallet, use: Use, by: str, reason: str) -> None:
    if use.what in (What.REPLACED, What.CANCELLED):
        _store(use, by)
    elif use.what is What.LOST or (use.what is What.UNSEEN and use.intent is not None):
        assert use.intent is not None
        meters.NONCE_LOST.inc()
        seen = f"by {use.found.tx_hash}" if use.found else "by a transaction that no node can still show"
        why = f"nonce {use.nonce} was consumed {seen}; {reason}"
        move(use.intent, IntentState.LOST_NONCE, why=why, by=by)
    elif use.what in (What.WAITED, What.UNASKED):
        intent = use.intent or _open_found(wallet, use, by)
        _give_slot(wallet, intent, use, by)


def _open_found(wallet: Wallet, use: Use, by: str) -> TxIntent:
    """An intent for an order that was executed and that nobody here asked for, so that the book holds its position."""
    order = use.order
    assert isinstance(order, OpenOrder)
    intent, _ = open_intent(
        key=f"adopted:{wallet.chain_id}:{wallet.address}:{use.nonce}",
        by=by,
        trader=wallet.trader,
        wallet=wallet,
        tg_user_id=wallet.trader.tg_user_id,
        action=Action.OPEN.value,
        symbol=onchain.PAIR_NAMES[order.pair_index],
        is_long=order.is_long,
        collateral_usdc=order.collateral_usdc,
        leverage_x=order.leverage_x,
        slippage_pct=order.slippage_pct,
        take_profit=order.take_profit,
        stop_loss=order.stop_loss,
        **consumed.type_of(order),
        road=Road.ONCHAIN.value,
    )
    return intent


def _give_slot(wallet: Wallet, intent: TxIntent, use: Use, by: str) -> None:
    """The intent owns the nonce under which the chain executed it, and the bytes are those of the chain."""
    found, order = use.found, use.order
    assert found is not None
    assert order is not None
    fields: dict[str, object] = {}
    if isinstance(order, CloseOrder):
        position = consumed.position_of(wallet, order)
        if position is None or positions.is_taken(position, intent):
            raise Stale(f"the position of {intent.intent_key} has moved on since this was drawn")
        fields = {"position": position, "holds_position": True, "close_usdc": order.collateral_usdc}
    move(
        intent,
        IntentState.RESERVED,
        why=f"nonce {use.nonce}, found on the chain",
        by=by,
        mode=Mode.LIVE.value,
        nonce=use.nonce,
        to_address=found.to,
        calldata=found.data,
        value_wei=found.value_wei,
        gas_limit=found.gas_limit,
        wanted_price=order.wanted_price,
        reason="",
        reason_detail="",
        **fields,
    )
    if intent.action == Action.OPEN:
        reservations.take(intent, Mode.LIVE)
    _store(use, by, intent)


def _store(use: Use, by: str, intent: TxIntent | None = None) -> None:
    """Keep the bytes that the chain has; the next look at it finds their receipt."""
    owner, found = intent or use.intent, use.found
    assert owner is not None
    assert found is not None
    attempt = owner.sends.count()
    TxSend.objects.create(
        intent=owner,
        attempt=attempt,
        kind=consumed.kind_of(use, first=attempt == 0),
        tx_hash=found.tx_hash,
        raw=found.raw,
        max_fee_wei=found.max_fee_wei,
        tip_wei=found.tip_wei,
        held_at=Now(),
        outcome=SendOutcome.ALREADY_KNOWN,
    )
    # A copy from before a remote signer had answered: nothing is to be signed in that slot any more.
    SignRequest.objects.filter(intent=owner).delete()
    if owner.state == IntentState.RESERVED:
        move(owner, IntentState.SIGNED, why=f"{found.tx_hash} is on the chain", by=by)


def resume(wallet: Wallet, *, by: str, reason: str) -> None:
    """Lift the halt where nothing speaks against it. The caller has checked the second factor.

    Raises Refused with every reason that does, RpcFault or NodeError where an endpoint does not answer.
    """
    if not wallet.halted_reason:
        raise Refused("the wallet is not halted")
    found = objections(wallet, plan(wallet))
    if found:
        raise Refused("; ".join(found))
    with transaction.atomic(durable=True):
        held = Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
        before = {"halted_reason": held.halted_reason, "next_nonce": held.next_nonce}
        changed = Wallet.objects.filter(
            pk=held.pk, halted_reason=wallet.halted_reason, next_nonce=wallet.next_nonce
        ).update(halted_reason="", halted_at=None, seen_next_nonce=None)
        if not changed:
            raise Stale("the wallet has moved on since it was looked at")
        audit.record(
            AuditAction.WALLET_RESUMED,
            f"wallet {held.address}",
            reason=reason,
            before=before,
            after={"halted_reason": "", "next_nonce": held.next_nonce},
            who=audit.by(by, AuditOrigin.COMMAND),
        )
    log.warning("wallet resumed", wallet=wallet.address, by=by)


def objections(wallet: Wallet, drawn: Plan) -> list[str]:
    """Why the wallet must not sign yet."""
    found = [drawn.problem] if drawn.problem else []
    if drawn.changes or (wallet.seen_next_nonce or 0) > wallet.next_nonce:
        found.append("the chain knows more of this wallet than this database: adopt comes first")
    if not signers.has_key(wallet.address):
        found.append(f"the keystore of {wallet.address} is missing")
    return found
