"""The text and the picture of a notice, from what its row holds and from nothing else: the same row tells the same."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from ops.bot import engine_words, words
from ops.bot.models import Event
from ops.bot.outbox import Job

Facts = Mapping[str, Any]

WEI_PER_ETH = Decimal(10**18)
UNDER_WAY, DONE, ILL = "\N{HOURGLASS WITH FLOWING SAND}", words.WELL, words.ILL
SIGNS = {Event.FILLED: DONE, Event.REFUSED: ILL, Event.REVERTED: ILL}


def text(job: Job) -> str:
    """HTML, in the language of its reader."""
    with words.speaking(job.language):
        said = _trade(job) if job.thread.startswith("trade ") else _single(job, job.steps[-1])
        if job.doubted and not job.message_id:
            said = f"{said}\n{words.DOUBTED}"
        return said


def picture(job: Job) -> Callable[[], bytes] | None:
    """What draws its picture; None where it has none."""
    if "picture" not in job.about:
        return None
    return partial(_draw, dict(job.about["picture"]), job.language)


def _draw(picture: dict[str, Any], language: str) -> bytes:
    from ops.bot import charts  # matplotlib, and only once somebody is sent a picture

    with words.speaking(language):
        return charts.draw(picture)


def _trade(job: Job) -> str:
    sign = SIGNS.get(Event(job.steps[-1]["event"]), UNDER_WAY)
    title = words.TRADE_TITLE.format(sign=sign, **_names(job))
    lines = [
        words.STEP.format(time=f"{datetime.fromisoformat(step['at']):%H:%M:%S}", words=_step(step))
        for step in job.steps
    ]
    return "\n".join([title, *lines, words.TRADE_END.format(key=words.code(job.about["intent_key"]))])


def _step(step: Facts) -> str:
    said = words.text(f"STEP_{step['state'].upper()}")
    fee, result = step.get("fee_usdc"), step.get("pnl_usdc")
    filled = said.format(
        link=words.transaction(step.get("hash", "")),
        reason=_reason(step),
        mode=step.get("mode", ""),
        price=words.usd(Decimal(step["price"])) if "price" in step else "",
        fee=words.FEE.format(fee=words.usdc(Decimal(fee))) if fee else "",
        result=words.RESULT.format(result=words.usdc(Decimal(result), signed=True)) if result else "",
    )
    return filled.strip()


def _reason(step: Facts) -> str:
    """In the reader's language, where there is one; what the engine wrote down beside it is behind /why."""
    return words.WHY.format(reason=words.reason(step["reason"])) if step.get("reason") else ""


def _names(job: Job) -> dict[str, str]:
    """What titles say of an order or a position, and whose it is where it is somebody else's."""
    about = job.about
    size = ""
    if about.get("collateral_usdc") and about.get("leverage_x"):
        size = words.TRADE_SIZE.format(
            collateral=words.usdc(Decimal(about["collateral_usdc"])),
            leverage=words.times(Decimal(about["leverage_x"])),
        )
    owned = about.get("owner") in (None, job.chat_id)
    return {
        "symbol": words.safe(about.get("symbol", "")),
        "side": words.side(is_long=about.get("is_long")),
        "size": size,
        "wallet": words.code(about.get("wallet", "")),
        "whose": "" if owned else words.WHOSE.format(whose=words.safe(about.get("whose", ""))),
        "position": str(about.get("position", "")),
    }


def _single(job: Job, step: Facts) -> str:
    return SINGLE[Event(step["event"])](step, _names(job), job.about)


def _level(step: Facts, names: dict[str, str], _about: Facts) -> str:
    kind = words.text(f"KIND_{step['kind'].upper()}")
    names = names | {"kind": kind, "position": str(step["position"])}
    if step["level"] is None:
        return words.LEVEL_TIME.format(**names)
    price, level = words.usd(Decimal(step["price"])), words.usd(Decimal(step["level"]))
    return words.LEVEL_HIT.format(**names, price=price, level=level)


def _gone(step: Facts, names: dict[str, str], _about: Facts) -> str:
    """What the venue's event says; without one nobody knows how, nor what it paid."""
    if "pnl_usdc" not in step:
        return words.LIQUIDATED.format(**names)
    return words.ENDED_BY_VENUE.format(
        **names,
        how=words.text(f"ENDED_{step['how'].upper()}"),
        mode=step["mode"],
        price=words.usd(Decimal(step["price"])),
        result=words.usdc(Decimal(step["pnl_usdc"]), signed=True),
    )


def _drift(step: Facts, names: dict[str, str], _about: Facts) -> str:
    if not step["drift"]:
        return words.DRIFT_OVER.format(**names)
    return words.DRIFTS.format(**names, drift=engine_words.said(step["drift"]))


IMPOSED = {"emergency_stop": "STOP_IMPOSED", "dry": "DRY_IMPOSED", "reduce_only": "REDUCE_ONLY_IMPOSED"}


def _mode(step: Facts, _names: dict[str, str], _about: Facts) -> str:
    reason = words.safe(step["reason"]) or words.NO_REASON
    if step["what"] == "mode":
        why = words.begun(engine_words.said(step["reason"]))
        return words.text(f"MODE_{step['mode']}").format(reason=f"{why}." if why else "").strip()
    said = {"by": words.safe(step["by"]), "origin": words.origin(step["origin"]), "reason": reason}
    if step["what"] == "imposed":
        return words.text(IMPOSED[step["kind"]]).format(**said)
    return words.LIFTED.format(kind=words.restriction(step["kind"]), **said)


def _gas(step: Facts, names: dict[str, str], _about: Facts) -> str:
    balance = words.eth(Decimal(step["balance_wei"]) / WEI_PER_ETH)
    return (words.GAS_LOW if step["low"] else words.GAS_AGAIN).format(**names, balance=balance)


def _delegate(step: Facts, names: dict[str, str], _about: Facts) -> str:
    until = words.moment(datetime.fromisoformat(step["until"]))
    stage = step["stage"].upper() or "AGAIN"
    return words.text(f"DELEGATE_{stage}").format(**names, until=until)


def _bound(step: Facts, _names: dict[str, str], _about: Facts) -> str:
    return str(step["text"])  # made in its reader's language when it happened, since the chain was asked


def _role(step: Facts, _names: dict[str, str], _about: Facts) -> str:
    rest = words.YOUR_ROLE_ALONE.format(count=step["untold"]) if "untold" in step else ""
    if step.get("held"):
        rest += words.YOUR_ROLE_HELD.format(count=step["held"])
    return words.YOUR_ROLE_NOW.format(role=words.role(step["role"]), rest=rest)


def _daily(step: Facts, _names: dict[str, str], _about: Facts) -> str:
    lines = [words.DAILY_TITLE.format(day=step["day"])]
    lines += [
        words.DAILY_LINE.format(
            mode=mode["mode"],
            pnl=words.usdc(Decimal(mode["pnl_usdc"]), signed=True),
            closes=mode["closes"],
            # Those of before this was counted say nothing of it.
            unknown=words.PNL_UNKNOWN.format(count=mode["unknown"]) if mode.get("unknown") else "",
            opens=mode["opens"],
            held=mode["held"],
            exposure=words.usdc(Decimal(mode["exposure_usdc"])),
        )
        for mode in step["modes"]
    ]
    return "\n".join(lines)


SINGLE: Mapping[Event, Callable[[Facts, dict[str, str], Facts], str]] = {
    Event.LEVEL: _level,
    Event.LIQUIDATED: _gone,
    Event.DRIFT: _drift,
    Event.MODE: _mode,
    Event.GAS: _gas,
    Event.DELEGATE: _delegate,
    Event.BOUND: _bound,
    Event.ROLE: _role,
    Event.DAILY: _daily,
}
