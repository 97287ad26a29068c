"""Deeds about one intent: let a held close go, end what is held, cancel an open in its slot."""

import dataclasses
from collections import Counter
from typing import Any

from django.http import Http404
from django.urls import reverse

from execution_app.audit_words import AuditOrigin
from execution_app.bells import ring
from execution_app.book import orders
from execution_app.engine import cancels, held, replace, resting, speedups
from execution_app.errors import Refused, Stale
from execution_app.gate.approval import UNUSED_S
from execution_app.models import TxIntent
from execution_app.states import UNMINED, Action, IntentState
from execution_app.tasks import submit
from ops.bot.words import reason as in_words
from ops.panel import words
from ops.panel.deeds.deed import Deed, Person, Subject, whole_number
from ops.panel.deeds.terms import TermsForm
from ops.panel.present import holding

MOST, SHOWN = 200, 20  # chosen at once, and named on the page
CHANGES_INTENTS = "execution_app.change_txintent"


def _find(target: str) -> TxIntent:
    if not target.isprintable():
        raise Http404
    intent = TxIntent.objects.select_related("trader", "position").filter(intent_key=target).first()
    if intent is None:
        raise Http404
    return intent


def _subject(intent: TxIntent, obstacle: str, note: str = "") -> Subject:
    state = (
        f"{intent.state}: {intent.reason} ({in_words(intent.reason)})" if intent.reason else str(intent.state)
    )
    facts = (
        ("trader", str(intent.trader or intent.tg_user_id)),
        ("order", f"{intent.action} {intent.symbol}"),
        ("mode", str(intent.mode or "not decided yet")),
        ("state", state),
    )
    back = reverse("panel:trace", args=[intent.intent_key])
    return Subject(intent.intent_key, intent.symbol, facts, note, obstacle, back, intent)


def _unless_held(intent: TxIntent) -> str:
    return "" if intent.state == IntentState.HELD else f"it is not held: it is {intent.state}"


def _closes(intent: TxIntent) -> tuple[tuple[str, str], ...]:
    """Which position a close is about, and how much of it goes; nothing where that is not decided yet."""
    position = intent.position
    if position is None:
        return ()
    side = "LONG" if position.is_long else "SHORT"
    size = f"{words.grouped(position.collateral_usdc, 'USDC')} at {words.grouped(position.leverage_x)}x"
    part = "all of it"
    if intent.reduce_usdc is not None:
        part = words.grouped(intent.reduce_usdc, "USDC of collateral")
    elif intent.reduce_pct is not None:
        part = f"{words.grouped(intent.reduce_pct)} % of it"
    opened = f"opened at {words.grouped(position.open_price)} USD"
    return (("position", f"{position.mode} {position.symbol} {side}, {size}, {opened}"), ("closes", part))


class Approve(Deed):
    """As `manage.py held approve`."""

    name, title, button = "approve", "Approve a held close", "Approve"
    permission = CHANGES_INTENTS
    loosens = True

    def look(self, target: str) -> Subject:
        intent = _find(target)
        problem = _unless_held(intent)
        if intent.action == Action.OPEN:
            problem = "an open is never approved: it waits for the mode until its max lag"
        elif intent.action != Action.CLOSE:
            problem = "only closes are approved"
        note = (
            f"It may then be closed LIVE although Redis is not well, and whatever else forbids it still does. Unused, the "
            f"approval runs out after {UNUSED_S} s."
        )
        told = _subject(intent, problem, note)
        since = intent.transitions.filter(to_state=IntentState.HELD).values_list("at", flat=True).last()
        held_since = (("held since", words.utc(since)),) if since is not None else ()
        return dataclasses.replace(told, facts=(*told.facts, *_closes(intent), *held_since, *holding()))

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        who = {"by": person.name, "reason": person.reason, "code": person.code}
        held.approve(subject.row.intent_key, **who, origin=AuditOrigin.ADMIN)
        return f"Approved; unused, it runs out after {UNUSED_S} s."


class Reject(Deed):
    """As `manage.py held reject`."""

    name, title, button = "reject", "Reject what is held", "Reject"
    permission = CHANGES_INTENTS

    def look(self, target: str) -> Subject:
        intent = _find(target)
        return _subject(intent, _unless_held(intent), "It ends here and is never executed.")

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        try:
            held.reject(
                subject.row.intent_key, by=person.name, reason=person.reason, origin=AuditOrigin.ADMIN
            )
        except TxIntent.DoesNotExist:
            raise Refused("it is no longer held") from None
        return "Rejected."


class RejectSeveral(Deed):
    """As `manage.py held reject`, for each of those that were chosen in the list and are held."""

    name, title, button = "reject-several", "Reject what is held, several at once", "Reject them"
    permission = CHANGES_INTENTS

    def look(self, target: str) -> Subject:
        keys = [whole_number(key) for key in target.split("-")[: MOST + 1]]
        chosen = TxIntent.objects.filter(pk__in=keys[:MOST]).order_by("pk")
        counts = Counter(str(intent.state) for intent in chosen)
        held_keys = [intent.intent_key for intent in chosen if intent.state == IntentState.HELD]
        facts = (
            ("chosen", f"{len(chosen):,}"),
            *((state, f"{count:,}") for state, count in sorted(counts.items())),
            *(("is rejected", key) for key in held_keys[:SHOWN]),
        )
        problem = "" if held_keys else "none of them is held"
        if len(keys) > MOST:
            problem = f"more than {MOST} were chosen"
        note = "Those that are held end here and are never executed; the others stay as they are."
        back = reverse("admin:execution_app_txintent_changelist")
        return Subject(
            "Several intents", f"REJECT {len(held_keys)}", facts, note, problem, back, tuple(held_keys)
        )

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        done = 0
        for key in subject.row:
            try:
                held.reject(key, by=person.name, reason=person.reason, origin=AuditOrigin.ADMIN)
            except (TxIntent.DoesNotExist, Stale):
                continue  # it went on meanwhile, which the count below tells
            done += 1
        return f"Rejected {done} of {len(subject.row)}; the others are no longer held."


class Cancel(Deed):
    """As `manage.py stop --cancel-pending`, for one open."""

    name, title, button = "cancel", "Cancel an open in its slot", "Ask for the cancel"
    permission = CHANGES_INTENTS

    def look(self, target: str) -> Subject:
        intent = _find(target)
        problem = ""
        if intent.action != Action.OPEN:
            problem = "only opens are cancelled, exits are not cancelled"
        elif intent.state not in UNMINED or intent.settled_at is not None:
            problem = f"only what is signed and not mined can be cancelled: it is {intent.state}"
        elif intent.cancel_asked_at is not None:
            problem = "its cancel was asked for already"
        note = "A transaction to the wallet itself takes its nonce. Whichever of the two is mined decides."
        return _subject(intent, problem, note)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        asked = cancels.request(by=person.name, key=subject.row.intent_key, origin=AuditOrigin.ADMIN)
        if not asked:
            raise Refused("it can no longer be cancelled")
        return "The cancel is asked for; the trace shows which of the two is mined."


class TakeBack(Deed):
    """As `manage.py order take-back`, for one open that rests at the venue."""

    name, title, button = "take-back", "Take back an order that rests at the venue", "Take it back"
    permission = CHANGES_INTENTS

    def look(self, target: str) -> Subject:
        intent = _find(target)
        note = "A transaction of the delegate takes it back and its collateral returns. Whichever is first there, it or the fill, decides."
        return _subject(intent, resting.obstacle(intent), note)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        key = f"admin:take-back:{subject.row.pk}:{person.once}"
        cancel = resting.take_back(
            subject.row.intent_key,
            key=key,
            by=person.name,
            reason=person.reason,
            origin=AuditOrigin.ADMIN,
        )
        if cancel.wallet_id is not None:
            ring(submit, cancel.wallet_id)
        return f"Asked for: {key}"


class ChangeOrder(Deed):
    """As `manage.py order change`, for one open that rests at the venue."""

    name, title, button = "change-order", "Change an order that rests at the venue", "Change it"
    permission = CHANGES_INTENTS
    form, asks = TermsForm, ("limit_price", "slippage_pct", "take_profit", "stop_loss")

    def look(self, target: str) -> Subject:
        intent = _find(target)
        problem = resting.obstacle(intent)
        note = "A transaction of the delegate changes it. Filled or taken back first, it stays as it was."
        told = _subject(intent, problem, note)
        if problem:
            return told
        now = orders.terms(intent)
        levels = (("take profit", now.take_profit), ("stop loss", now.stop_loss))
        facts = (
            *told.facts,
            ("price", f"{words.grouped(now.limit_price)} USD"),
            ("slippage", f"{words.grouped(now.slippage_pct)} %"),
            *((name, "none" if level is None else f"{words.grouped(level)} USD") for name, level in levels),
        )
        return dataclasses.replace(told, facts=facts)

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:
        key = f"admin:change-order:{subject.row.pk}:{person.once}"
        terms = {name: told[name] for name in self.asks}
        terms["new_slippage_pct"] = terms.pop("slippage_pct")
        change = resting.change(
            subject.row.intent_key,
            terms,
            key=key,
            by=person.name,
            reason=person.reason,
            origin=AuditOrigin.ADMIN,
        )
        if change.wallet_id is not None:
            ring(submit, change.wallet_id)
        return f"Asked for: {key}"


class SpeedUp(Deed):
    """As nothing else: the engine's next replacement, before its time."""

    name, title, button = "speed-up", "Speed up what is in flight", "Ask for the replacement"
    permission = CHANGES_INTENTS

    def look(self, target: str) -> Subject:
        intent = _find(target)
        problem = speedups.obstacle(intent)
        last = speedups.newest(intent)
        if last is None:
            return _subject(intent, problem)
        told = _subject(intent, problem)
        facts = (
            *told.facts,
            ("newest transaction", f"{last.attempt}, {last.kind}: {last.tx_hash}"),
            ("its fee", f"at most {words.gwei(last.max_fee_wei)}, tip {words.gwei(last.tip_wei)}"),
            ("fee ceiling", words.gwei(replace.ceiling_wei(intent))),
        )
        note = (
            "The next look at the chain signs the fee policy's next step for the same nonce: at least an eighth more, "
            "never above the ceiling. Whichever of the transactions is mined decides. Under a stop nothing is raised."
        )
        # The word counts the transactions, so that it fits no other one than the page has shown.
        word = f"{intent.symbol} {last.attempt + 1}"
        return dataclasses.replace(
            told, word=word, facts=facts, note=note, row=(intent.intent_key, last.attempt)
        )

    def do(self, subject: Subject, person: Person, told: dict[str, Any]) -> str:  # noqa: ARG002
        key, attempt = subject.row
        speedups.request(key, attempt, by=person.name, reason=person.reason, origin=AuditOrigin.ADMIN)
        return "The replacement is asked for; the trace shows it once it is signed."


DEEDS: tuple[Deed, ...] = (Approve(), Reject(), SpeedUp(), Cancel(), TakeBack(), ChangeOrder())
SEVERAL: tuple[Deed, ...] = (RejectSeveral(),)
