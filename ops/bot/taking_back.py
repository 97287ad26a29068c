"""/orders and its buttons: an order that rests at the venue is shown, and taken back by one tap, as `manage.py order take-back` does it."""

from execution_app.audit_words import AuditOrigin
from execution_app.bells import ring
from execution_app.book.orders import terms as terms_of
from execution_app.engine import resting
from execution_app.errors import Refused
from execution_app.gate import control
from execution_app.models import StackMode, TxIntent
from execution_app.states import Action, Mode, RestrictionKind, Road
from execution_app.tasks import submit
from ops.bot import confirmations, engine_words, holdings, people, words
from ops.bot.models import Role, TelegramConfirmation, TelegramUser
from ops.bot.replies import Button, Reply

ACTION = Action.CANCEL_ORDER.value
REASON = "said in Telegram"
LONGEST = 18  # digits of a row's number


def orders(person: TelegramUser, _arguments: list[str]) -> Reply:
    """What has not ended, with a button for each order that rests and that this person may take back."""
    return Reply(holdings.orders(person), [[_button(row)] for row in _offered(person)])


def offer(person: TelegramUser, word: str, _message_id: int) -> Reply:
    """The button's order with the tap that takes it back; nothing is done yet."""
    try:
        order = _theirs(person, word)
        _permit(order)
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    token = confirmations.offer(person.tg_user_id, {"action": ACTION, "order": order.pk})
    text = words.TAKE_BACK_OFFER.format(
        order=holdings.order_line(order, whose=order.tg_user_id != person.tg_user_id)
    )
    buttons = [Button(words.TAKE_IT_BACK, f"ok:{token}"), Button(words.LEAVE_IT, f"no:{token}")]
    return Reply(f"{text}\n{words.LASTS}", [buttons], binds=(token,))


def take(person: TelegramUser, row: TelegramConfirmation) -> str:
    """Ask for it under the token's key, which is used up in the same transaction. Returns the key, raises Refused."""
    order = _theirs(person, str(row.asked["order"]))
    _permit(order)
    cancel = resting.take_back(
        order.intent_key,
        key=confirmations.key(row.token),
        by=person.name,
        reason=REASON,
        origin=AuditOrigin.TELEGRAM,
        also=lambda: confirmations.spend(row.token, person.tg_user_id, row.message_id or 0),
    )
    if cancel.wallet_id is not None:
        ring(submit, cancel.wallet_id)
    return str(cancel.intent_key)


def _offered(person: TelegramUser) -> list[TxIntent]:
    if not people.at_least(person, Role.TRADER):
        return []
    return [row for row in holdings.at_rest(person) if not resting.obstacle(row)]


def _button(row: TxIntent) -> Button:
    label = words.TAKE_BACK_LABEL.format(
        symbol=row.symbol,
        side=words.side(is_long=row.is_long),
        usdc=words.grouped(row.collateral_usdc or holdings.NOTHING),
        price=words.grouped(terms_of(row).limit_price),
    )
    return Button(label, f"back:{row.pk}")


def _theirs(person: TelegramUser, word: str) -> TxIntent:
    """The order of this number, of whoever's orders this person sees. Raises Refused."""
    number = int(word) if word.isascii() and word.isdecimal() and len(word) <= LONGEST else 0
    mine = TxIntent.objects.filter(**holdings.own(person)).select_related("trader")
    order = mine.filter(pk=number).first()
    if order is None:
        raise Refused(words.NO_SUCH_ORDER)
    return order


def _permit(order: TxIntent) -> None:
    """Raises Refused where nothing could be taken back now, by the name of what is in the way.

    The gate judges again. It would hold this in DRY until LIVE is back, and whoever taps wants to know it now.
    """
    if order.mode == Mode.DRY:
        raise Refused(words.TAKE_BACK_PAPER)
    if order.road == Road.GATEWAY:
        raise Refused(words.TAKE_BACK_GATEWAY)
    if problem := resting.obstacle(order):
        raise Refused(problem)
    if RestrictionKind.STOP in control.active_kinds():
        raise Refused(words.TAKE_BACK_STOPPED)
    if StackMode.objects.get(pk=1).mode != Mode.LIVE:
        raise Refused(words.TAKE_BACK_DRY)
