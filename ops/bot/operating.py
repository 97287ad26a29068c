"""What operators do: the same verbs as everywhere else, with Telegram as the place where it was said."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from django.conf import settings
from django.db.models import Max

from execution_app import audit
from execution_app.audit_words import AuditOrigin
from execution_app.engine import held, resting
from execution_app.errors import Refused, Retryable, Stale
from execution_app.gate import control, loosening, second_factor
from execution_app.gate.approval import UNUSED_S
from execution_app.models import IntentTransition, Position, TxIntent
from execution_app.states import IntentState, Mode, Origin, PositionState, RestrictionKind
from ops.bot import engine_words, holdings, inbox, words
from ops.bot.models import TelegramUser
from ops.bot.restrictions import holding
from ops.rollout import flattening, reconciling
from signals_app.deadline import database_deadline

MOST_HELD = 10
STOP_DEADLINE_S = 10.0  # then it is tried again
FLATTEN_WITHIN_S = 60
NO_REASON = "said in Telegram"


def stop(person: TelegramUser, arguments: list[str]) -> str:
    """Set the stop. Once this has returned nothing new leaves. Raises django.db.Error where that is not certain."""
    with database_deadline(STOP_DEADLINE_S), _acting(person):
        imposed = control.impose(
            RestrictionKind.STOP,
            Origin.TELEGRAM,
            by=person.name,
            reason=" ".join(arguments) or NO_REASON,
        )
        rests = resting.keys_under_stop()
    rest = ""
    if rests is None:
        rest += words.STOP_RESTS_UNKNOWN
    elif rests:
        rest += words.STOP_RESTS.format(keys=_named(rests, words.code))
    if imposed.in_flight:
        rest += words.STOP_LEFT.format(hashes=_named(imposed.in_flight, words.code))
    if imposed.at_signer:
        rest += words.STOP_SIGNER.format(slots=_named(imposed.at_signer, words.safe))
    return (words.STOPPED if imposed.changed else words.WAS_STOPPED).format(rest=rest)


def _named(several: Sequence[str], spelled: Callable[[str], str]) -> str:
    """As many as a phone shows, and how many there are beside them: under a stop nobody may take ten for all."""
    shown = [spelled(one) for one in several[:MOST_HELD]]
    more = len(several) - len(shown)
    return ", ".join([*shown, *([words.AND_MORE.format(count=more)] if more else [])])


def reduce_only(person: TelegramUser, arguments: list[str]) -> str:
    """On with any word but `off CODE REASON`, which loosens."""
    if arguments and arguments[0].lower() == "off":
        return _lift(RestrictionKind.REDUCE_ONLY, person, arguments[1:], "/reduceonly off CODE REASON")
    with _acting(person):
        imposed = control.impose(
            RestrictionKind.REDUCE_ONLY,
            Origin.TELEGRAM,
            by=person.name,
            reason=" ".join(arguments) or NO_REASON,
        )
    return words.REDUCE_ONLY if imposed.changed else words.REDUCE_ONLY_WAS


def resume(person: TelegramUser, arguments: list[str]) -> str:
    return _lift(RestrictionKind.STOP, person, arguments, "/resume CODE REASON")


def _lift(kind: RestrictionKind, person: TelegramUser, arguments: list[str], usage: str) -> str:
    if not settings.ENVIRONMENT.telegram_may_resume:
        return words.NO_RESUME.format(kind=words.safe(kind.value), holding=holding())
    code, *why = arguments or [""]
    if not why:
        how = words.RESUME_HOW.format(count=loosening.LEAST_REASON, holding=holding())
        return f"{words.USAGE.format(usage=usage)}\n{how}"
    if not person.account:
        return words.NO_ACCOUNT.format(user_id=person.tg_user_id)
    reason = " ".join(why)
    with _acting(person):
        try:
            loosening.permit(by=person.account, reason=reason, code=code)
            lifted = control.lift(
                kind,
                Origin.TELEGRAM,
                by=person.account,
                reason=reason[:400],
                judge=lambda: inbox.require_last_word(kind),
            )
        except Refused as refusal:
            return words.REFUSED.format(why=engine_words.said(refusal))
    if lifted and kind in control.active_kinds():
        return words.RESUMED_HERE.format(kind=words.restriction(kind), holding=holding())
    return (words.RESUMED if lifted else words.NOT_RESUMED).format(holding=holding())


def list_held(_person: TelegramUser, _arguments: list[str]) -> str:
    several = TxIntent.objects.filter(state=IntentState.HELD)
    rows = list(several.select_related("trader").order_by("id")[:MOST_HELD])
    holds = IntentTransition.objects.filter(intent__in=rows, to_state=IntentState.HELD)
    since = dict(holds.values("intent_id").annotate(last=Max("at")).values_list("intent_id", "last"))
    lines = [
        words.HELD_ONE.format(
            key=words.code(one.intent_key),
            action=words.text(f"DOES_{one.action.upper()}"),
            symbol=words.safe(one.symbol),
            whose=holdings.whose_is(one.trader, one.tg_user_id),
            reason=words.reason(one.reason),
            at=words.moment(since.get(one.pk, one.accepted_at)),
        )
        for one in rows
    ]
    if not lines:
        return words.NOTHING_HELD
    more = several.count() - len(rows)
    rest = [words.AND_MORE.format(count=more)] if more > 0 else []
    return words.bullet_list(words.HELD_TITLE, [*lines, *rest, words.HELD_HOW])


def approve(person: TelegramUser, arguments: list[str]) -> str:
    """As `manage.py held approve`: a reason, and a one-time code of the account that the person is tied to."""
    key, code, *why = [*arguments, "", ""]
    reason = " ".join(why).strip()
    if not reason:
        return words.USAGE.format(usage="/approve KEY CODE REASON")
    if not person.account:
        return words.NO_ACCOUNT.format(user_id=person.tg_user_id)
    try:
        with _acting(person):
            held.approve(key, by=person.account, reason=reason, code=code, origin=AuditOrigin.TELEGRAM)
    except (Refused, Retryable) as problem:
        return words.REFUSED.format(why=engine_words.said(problem))
    return words.APPROVED.format(key=words.code(key), seconds=UNUSED_S)


def reject(person: TelegramUser, arguments: list[str]) -> str:
    """As `manage.py held reject`."""
    key, *why = arguments or [""]
    if not why:
        return words.USAGE.format(usage="/reject KEY REASON")
    try:
        with _acting(person):
            held.reject(key, by=person.name, reason=" ".join(why), origin=AuditOrigin.TELEGRAM)
    except (TxIntent.DoesNotExist, Stale):
        return words.NOT_HELD.format(key=words.code(key))
    return words.REJECTED.format(key=words.code(key))


def reconcile(_person: TelegramUser, _arguments: list[str]) -> str:
    """Live positions and the venue's trades compared; changes nothing."""
    try:
        missing, unknown = reconciling.differences()
    except Refused as problem:
        return words.REFUSED.format(why=engine_words.said(problem))
    lines = [words.MISSING_LINE.format(what=engine_words.said(one)) for one in missing]
    lines += [words.UNKNOWN_LINE.format(what=engine_words.said(one)) for one in unknown]
    if not lines:
        return words.RECONCILED
    rest = [words.AND_MORE.format(count=len(lines) - MOST_HELD)] if len(lines) > MOST_HELD else []
    return words.bullet_list(words.DIFFERENCES, [*lines[:MOST_HELD], *rest])


def flatten(person: TelegramUser, arguments: list[str]) -> str:
    """As `manage.py stop --flatten`, without its stop at the end; confirmed by a word, and by a code where there is one.

    Safe to repeat: what is closed already ends as nothing to do.
    """
    wants_code = second_factor.is_needed(person.account)
    said, *rest = [*arguments, ""]
    code, reason = (rest[0], " ".join(rest[1:])) if wants_code and rest else ("", " ".join(rest))
    if said.lower() != "yes" or not reason.strip():
        live = Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).count()
        return words.FLATTEN.format(count=live, code=" CODE" if wants_code else "")
    if RestrictionKind.STOP in control.active_kinds():
        return words.FLATTEN_STOPPED
    if wants_code and not person.account:
        return words.NO_ACCOUNT.format(user_id=person.tg_user_id)
    with _acting(person):
        try:
            second_factor.verify(person.account, code)
        except Refused as refusal:
            return words.REFUSED.format(why=engine_words.said(refusal))
        control.impose(
            RestrictionKind.REDUCE_ONLY, Origin.TELEGRAM, by=person.name, reason=reason.strip()[:400]
        )
        left = flattening.flatten(
            by=person.name, within_s=FLATTEN_WITHIN_S, say=None, origin=AuditOrigin.TELEGRAM
        )
    return words.NOT_FLATTENED.format(count=left, seconds=FLATTEN_WITHIN_S) if left else words.FLATTENED


def _acting(person: TelegramUser) -> AbstractContextManager[None]:
    """Entries of the audit log are this person's, and say by which id they came."""
    return audit.acting(audit.Who(person.name, AuditOrigin.TELEGRAM, f"telegram {person.tg_user_id}"))
