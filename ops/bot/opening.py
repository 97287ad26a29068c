"""/open: one question after the other with buttons, or all in one line; either way it ends in a quote and one tap."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution_app.errors import Refused, Retryable
from execution_app.states import Action
from ops.bot import amounts, engine_words, flows, offers, quoting, traders, words
from ops.bot.models import Step, TelegramUser
from ops.bot.replies import Button, Reply

Asked = dict[str, Any]
USAGE = "/open BTC-USD long 5 2x 0.5% tp=120000 sl=90000"
IN_ORDER = (Step.SYMBOL, Step.SIDE, Step.COLLATERAL, Step.LEVERAGE, Step.SLIPPAGE, Step.TAKE_PROFIT, Step.STOP_LOSS)  # fmt: skip


def _market(text: str) -> str:
    """A symbol that may be traded. Raises ValueError."""
    symbol = amounts.symbol(text)
    if symbol not in settings.ENVIRONMENT.symbols:
        raise ValueError(words.NO_MARKET.format(symbol=symbol))
    return symbol


READS: dict[Step, tuple[str, Callable[[str], Any]]] = {
    Step.SYMBOL: ("symbol", _market),
    Step.SIDE: ("is_long", amounts.side),
    Step.COLLATERAL: ("collateral_usdc", amounts.usdc),
    Step.LEVERAGE: ("leverage_x", amounts.leverage),
    Step.SLIPPAGE: ("slippage_pct", amounts.slippage),
    Step.TAKE_PROFIT: ("take_profit", amounts.level),
    Step.STOP_LOSS: ("stop_loss", amounts.level),
}
NEEDED = IN_ORDER[:4]
NAMED = {"tp": Step.TAKE_PROFIT, "sl": Step.STOP_LOSS, "slip": Step.SLIPPAGE}
SUGGESTED = {
    Step.COLLATERAL: ("5", "10", "25", "50", "100"),
    Step.LEVERAGE: ("1", "2", "5", "10", "25"),
    Step.SLIPPAGE: ("0.3", "0.5", "1"),
}
MOST_SYMBOLS = 24
A_ROW = 3
BACK, AWAY = "back", "away"


def begin(person: TelegramUser, arguments: list[str]) -> Reply:
    """A whole order in one line is quoted at once; of a part of one the rest is asked for."""
    try:
        answers = _read_line(arguments)
    except ValueError as problem:
        return Reply(f"{words.safe(problem)}\n{words.USAGE.format(usage=words.safe(USAGE))}")
    try:
        traders.of(person)
    except Refused as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    missing = [step for step in NEEDED if READS[step][0] not in answers]
    if not missing:
        return quote(person, answers)
    flows.begin(person.tg_user_id, missing[0], answers)
    return _question(missing[0], answers)


def typed(person: TelegramUser, text: str) -> Reply | None:
    """What somebody writes without a slash answers the question that stands; None where none does."""
    flow = flows.of(person.tg_user_id)
    if flow is None or flow.step == Step.CODE:
        return None
    return _answered(person, Step(flow.step), dict(flow.answers), text.strip())


def pressed(person: TelegramUser, data: str, message_id: int) -> Reply:
    """A button of a question, `STEP:VALUE`. One of a question that is answered shows the one that stands."""
    flow = flows.of(person.tg_user_id)
    if flow is None or flow.message_id != message_id or flow.step == Step.CODE:
        return Reply(words.FLOW_OVER)
    name, _, value = data.partition(":")
    step, answers = Step(flow.step), dict(flow.answers)
    if name == AWAY:
        flows.end(person.tg_user_id)
        return Reply(words.LEFT, instead=True)
    if name == f"{BACK}-{step.value}":
        before = _before(step)
        flows.advance(person.tg_user_id, before, answers)
        return _question(before, answers, instead=True)
    if name != step.value:
        return _question(step, answers, instead=True)
    said = _answered(person, step, answers, value)
    return Reply(said.text, said.buttons, instead=True, binds=said.binds, asks=said.asks)


def quote(person: TelegramUser, answers: Asked) -> Reply:
    """What it would be now, with a button that asks for it; or the wish for a code, above a size."""
    asked = {
        "take_profit": None,
        "stop_loss": None,
        "slippage_pct": plain_slippage(),
        **answers,
        "action": Action.OPEN.value,
    }
    try:
        trader = traders.of(person)
        offer = offers.make(asked, trader)
    except (Refused, Retryable) as problem:
        return Reply(words.REFUSED.format(why=engine_words.said(problem)))
    return quoting.show(person, trader, asked, offer, title=words.OPEN_THIS, yes=words.OPEN_IT)


def plain_slippage() -> str:
    return "0.5"


def _answered(person: TelegramUser, step: Step, answers: Asked, text: str) -> Reply:
    name, read = READS[step]
    try:
        value = read(text)
    except ValueError as problem:
        return _question(step, answers, problem=str(problem))
    answers[name] = value
    following = IN_ORDER[IN_ORDER.index(step) + 1 :]
    if following:
        flows.advance(person.tg_user_id, following[0], answers)
        return _question(following[0], answers)
    said = quote(person, answers)
    if said.binds:
        return said
    # Refused as it is: the conversation stays, so that something in it can be changed.
    return Reply(said.text, [_way_out(step)], asks=True)


def _question(step: Step, answers: Asked, *, instead: bool = False, problem: str = "") -> Reply:
    lines = [words.safe(problem)] if problem else []
    lines += [words.so_far(answers)] if answers else []
    lines.append(words.text(f"QUESTION_{step.name}"))
    choices = [Button(label, f"q:{step.value}:{value}") for label, value in _choices(step)]
    rows = [choices[at : at + A_ROW] for at in range(0, len(choices), A_ROW)]
    return Reply("\n".join(lines), [*rows, _way_out(step)], instead=instead, asks=True)


def _choices(step: Step) -> list[tuple[str, str]]:
    if step is Step.SYMBOL:
        return [(name, name) for name in sorted(settings.ENVIRONMENT.symbols)[:MOST_SYMBOLS]]
    if step is Step.SIDE:
        return [(words.side(is_long=True), "long"), (words.side(is_long=False), "short")]
    if step in SUGGESTED:
        unit = {Step.COLLATERAL: " USDC", Step.LEVERAGE: "\N{MULTIPLICATION SIGN}", Step.SLIPPAGE: " %"}
        return [(f"{value}{unit[step]}", value) for value in SUGGESTED[step] if _allowed(step, value)]
    return [(words.NONE, "none")]


def _allowed(step: Step, value: str) -> bool:
    """Suggestions that the environment's ceilings rule out are not made."""
    environment = settings.ENVIRONMENT
    most = {Step.LEVERAGE: environment.max_leverage, Step.COLLATERAL: environment.max_notional_usdc}.get(step)
    return most is None or Decimal(value) <= most


def _way_out(step: Step) -> list[Button]:
    back = [] if step is IN_ORDER[0] else [Button(words.BACK, f"q:{BACK}-{step.value}")]
    return [*back, Button(words.CANCEL, f"q:{AWAY}")]


def _before(step: Step) -> Step:
    return IN_ORDER[max(0, IN_ORDER.index(step) - 1)]


def _read_line(arguments: list[str]) -> Asked:
    """SYMBOL SIDE USDC LEVERAGE [SLIPPAGE%] [tp=USD] [sl=USD], as far as it goes. Raises ValueError."""
    answers: Asked = {}
    steps = iter(IN_ORDER[:5])
    for word in arguments:
        name, sign, value = word.partition("=")
        if sign:
            if name.lower() not in NAMED:
                raise ValueError(words.NO_SUCH_NAME)
            step, text = NAMED[name.lower()], value
        else:
            following = next(steps, None)
            if following is None:
                raise ValueError(words.TOO_MANY_WORDS)
            step, text = following, word
        field, read = READS[step]
        if field in answers:
            raise ValueError(words.SAID_TWICE)
        answers[field] = read(text)
    return answers
