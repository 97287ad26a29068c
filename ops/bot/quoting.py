"""A quote as it is shown: with a button that asks for it, or with the wish for a one-time code above a size."""

from typing import Any

from django.conf import settings

from execution_app.models import Trader
from ops.bot import confirmations, flows, traders, words
from ops.bot.models import Step, TelegramUser
from ops.bot.offers import Offer
from ops.bot.replies import Button, Reply


def show(
    person: TelegramUser, trader: Trader, asked: dict[str, Any], offer: Offer, *, title: str, yes: str
) -> Reply:
    """Under a new token, which remembers what is asked and at which price; `yes` is on the button that takes it."""
    wants_code = traders.needs_code(person, trader, offer.notional_usdc)
    if wants_code and not person.account:
        return Reply(words.REFUSED.format(why=traders.without_account(person)))
    token = confirmations.offer(person.tg_user_id, {**asked, "price": str(offer.price)})
    no = Button(words.LEAVE_IT, f"no:{token}")
    if wants_code:
        above = words.usdc(settings.ENVIRONMENT.telegram_code_above_usdc)
        wish = words.CODE_WISHED.format(above=above)
        flows.begin(person.tg_user_id, Step.CODE, {"token": token})
        return Reply(words.bullet_list(title, [offer.text, wish]), [[no]], binds=(token,), asks=True)
    flows.end(person.tg_user_id)
    text = words.bullet_list(title, [offer.text, words.QUOTE_LASTS])
    return Reply(text, [[Button(yes, f"ok:{token}"), no]], binds=(token,))
