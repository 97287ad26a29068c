"""The tap that decides on what was shown: taken down once under the token's key, left, or shown anew."""

import re
from typing import Any

from execution_app import audit
from execution_app.audit_words import AuditOrigin
from execution_app.desks.onchain import OnChainDesk
from execution_app.errors import Refused, Retryable
from execution_app.models import Trader, TxIntent
from execution_app.states import GROWING, Action
from ops.bot import (
    closing,
    confirmations,
    engine_words,
    flows,
    increasing,
    leveling,
    offers,
    opening,
    taking_back,
    traders,
    words,
)
from ops.bot.models import Step, TelegramConfirmation, TelegramUser
from ops.bot.replies import Button, Reply

CODE = re.compile(r"[0-9]{6}", re.ASCII)


def confirm(person: TelegramUser, token: str, message_id: int) -> Reply:
    """One tap. What comes a second time is told what the first one did."""
    return _acting(person, token, message_id, "")


def typed_code(person: TelegramUser, text: str) -> Reply | None:
    """A one-time code is the tap of what wants one; None where nothing does."""
    flow = flows.of(person.tg_user_id)
    if flow is None or flow.step != Step.CODE or flow.message_id is None:
        return None
    code = "".join(text.split())
    if not CODE.fullmatch(code):
        return Reply(words.CODE_SHAPE)
    said = _acting(person, str(flow.answers["token"]), flow.message_id, code)
    return Reply(said.text, said.buttons, binds=said.binds)


def leave(person: TelegramUser, token: str, message_id: int) -> Reply:
    try:
        confirmations.use(token, person.tg_user_id, message_id, lambda _order, key: key)
    except confirmations.Used:
        return _told_again(token)
    except confirmations.Old:
        return Reply(words.LEFT, instead=True)
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    flows.end_of(person.tg_user_id, token)
    return Reply(words.LEFT, instead=True)


def again(person: TelegramUser, token: str, _message_id: int) -> Reply:
    """A quote whose time is over, at the price of now."""
    try:
        asked = confirmations.asked_before(token, person.tg_user_id)
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    if asked["action"] == Action.INCREASE:
        said = increasing.quote(person, asked)
    elif asked["action"] == Action.OPEN:
        answers = {name: value for name, value in asked.items() if name not in {"action", "price"}}
        said = opening.quote(person, answers)
    else:
        return Reply(words.UNKNOWN)
    return Reply(said.text, said.buttons, instead=True, binds=said.binds, asks=said.asks)


def _acting(person: TelegramUser, token: str, message_id: int, code: str) -> Reply:
    """Entries of the audit log are this person's, and say by which id they came."""
    who = audit.Who(person.name, AuditOrigin.TELEGRAM, f"telegram {person.tg_user_id}")
    with audit.acting(who):
        return _decide(person, token, message_id, code)


def _decide(person: TelegramUser, token: str, message_id: int, code: str) -> Reply:
    try:
        row = confirmations.look(token, person.tg_user_id, message_id)
        if row.asked["action"] == taking_back.ACTION:
            return _taken(taking_back.take(person, row))
        trader = traders.of(person)
        if row.asked["action"] == leveling.ACTION:
            return _set_level(person, trader, row, code)
        if row.asked["action"] in GROWING:
            _prepare_open(person, trader, row, code)
        key = confirmations.use(
            token, person.tg_user_id, message_id, lambda asked, key: _take(trader, asked, key)
        )
    except confirmations.Used:
        flows.end_of(person.tg_user_id, token)
        return _told_again(token)
    except (confirmations.Old, offers.Moved) as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)), _anew(token), instead=True)
    except (Refused, Retryable) as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    flows.end_of(person.tg_user_id, token)
    return _taken(key)


def _prepare_open(person: TelegramUser, trader: Trader, row: TelegramConfirmation, code: str) -> None:
    """What may take a while, and a code that is used up whatever comes after: before the transaction."""
    request = offers.as_request(row.asked, "tap")
    offers.require_still(row.asked, trader)
    if traders.needs_code(person, trader, request.collateral_usdc * request.leverage_x):
        if not code:
            raise Refused(words.CODE_MISSING)
        traders.check_code(person, code)


def _take(trader: Trader, asked: dict[str, Any], key: str) -> str:
    if asked["action"] == Action.CLOSE:
        closing.take(trader, asked, key)
    elif asked["action"] == Action.INCREASE:
        increasing.take(trader, asked, key)
    else:
        OnChainDesk(trader).open(offers.as_request(asked, key))
    return key


def _set_level(person: TelegramUser, trader: Trader, row: TelegramConfirmation, code: str) -> Reply:
    def spend() -> None:
        confirmations.spend(row.token, person.tg_user_id, row.message_id or 0)

    leveling.take(trader, person, row.asked, code, spend)
    flows.end_of(person.tg_user_id, row.token)
    return Reply(words.LEVEL_SET, instead=True)


def _taken(key: str) -> Reply:
    return Reply(words.TAKEN.format(key=words.code(key)), _look_at(key), instead=True)


def _told_again(token: str) -> Reply:
    """What became of the first tap: the order of this key, or nothing."""
    key = confirmations.key(token)
    intent = TxIntent.objects.filter(intent_key=key).first()
    if intent is None:
        return Reply(words.DECIDED, instead=True)
    text = words.TAKEN_ONCE.format(key=words.code(key), state=words.state(intent.state))
    return Reply(text, _look_at(key), instead=True)


def _look_at(key: str) -> list[list[Button]]:
    return [[Button(words.HOW_FAR, f"why:{key}")]]


def _anew(token: str) -> list[list[Button]]:
    asked = TelegramConfirmation.objects.get(token=token).asked
    return [[Button(words.QUOTE_ANEW, f"again:{token}")]] if asked["action"] in GROWING else []
