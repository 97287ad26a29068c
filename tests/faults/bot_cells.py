"""What people ask of the bot while one of its ways fails: an order by a tap, a tap as it begins to fail, and a stop.

Whoever taps is told that it was accepted, and it is executed once; or that it was not, and it is not; or that it is not certain,
and then the same button tells. Once a stop is acknowledged nothing that comes after it is executed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tests.chaos import outages
from tests.chaos.outages import Client
from tests.e2e.stack import wait_until
from tests.faults.bot import BOT_API, OPERATOR, TRADER, BotBeside
from tests.ops.bot.telegram import Message
from tests.tcp_proxy import Fault, TcpProxy

ACCEPTED, REFUSED, NOT_CERTAIN = "Accepted", "Refused", "not certain"
STOPPED, NOT_STOPPED_YET = "Stopped", "Not stopped yet"
HELD = "SELECT count(*) FROM mode_changes WHERE kind = 'emergency_stop' AND origin = 'telegram' AND lifted_at IS NULL"
WITHIN_S = 90.0
# One hard fault of each dependency: how Redis, node and database are when nobody tells that they are gone.
STOPS = {
    "rpc": Fault.BLACK_HOLE,
    "redis": Fault.BLACK_HOLE,
    "postgres": Fault.HALF_OPEN,
    BOT_API: Fault.LOST_ANSWERS,
}
RACE_STEPS, RACE_STEP_S = 10, 0.02
TRAFFIC_S = 0.3
AFTER_STOP = 3  # signals


@dataclass
class Order:
    """A quote whose button is tapped; its amount is its alone, so the chain tells how often it was executed."""

    bot: BotBeside
    collateral_usdc: Decimal
    quote: Message
    since: int = 0  # the newest message before the tap
    told: str = ""
    doubts: int = 0  # how often they were told that it is not certain

    @property
    def ok(self) -> str:
        return next(data for data in self.quote.buttons.values() if data.startswith("ok:"))

    def tap(self, data: str = "") -> None:
        self._data = data or self.ok
        self.since = self.bot.newest(TRADER)
        self._shown = self.quote.text
        self.bot.telegram.presses(TRADER, self.quote, self._data)

    def _words(self) -> list[str]:
        """What was said since the tap: anew, or in place of the quote."""
        changed = [self.quote.text] if self.quote.text != self._shown else []
        return changed + [one.text for one in self.bot.said(TRADER, self.since)]

    def await_told(self) -> None:
        """Until they know; who is told that it is not certain does what they are told, and presses again."""
        wait_until(lambda: bool(self._words()), WITHIN_S, "the bot says what came of a tap")
        said = self._words()
        self.told = next((word for word in (ACCEPTED, REFUSED, NOT_CERTAIN) if word in said[0]), said[0])
        if self.told == NOT_CERTAIN:
            self.doubts += 1
            self.tap(self._data)
            self.await_told()

    def await_end(self) -> None:
        if self.told != ACCEPTED:
            assert self.told == REFUSED, f"a tap is told: {self.told}"
            return
        key = f"tg:{self._data.removeprefix('ok:')}"

        def filled() -> bool:
            rows = self.bot.stack.sql("SELECT state FROM tx_intents WHERE intent_key = %s", key)
            return [row[0] for row in rows] == ["filled"]

        wait_until(filled, WITHIN_S, f"{key} is filled")

    @property
    def came(self) -> str:
        """What the table says."""
        return self.told.lower() + " once asked again" * bool(self.doubts)

    def problem(self, times: int) -> str:
        """Held against how often the chain has it; blank where that is what was told."""
        wanted = int(self.told == ACCEPTED)
        return (
            "" if times == wanted else f"tapped once, told {self.told or 'nothing'}, executed {times} times"
        )


def quoted(bot: BotBeside, units: int) -> Order:
    """A quote for so many millionths of a USDC, once its buttons count."""
    collateral_usdc = Decimal(units) / 10**6
    shown: list[Message] = []

    def is_shown() -> bool:
        shown.append(bot.ask(TRADER, f"/open btc long {collateral_usdc} 2x 5%"))
        return any(data.startswith("ok:") for data in shown[-1].buttons.values())

    # A connection that went silent under the fault before is left with the first question that goes by it.
    wait_until(is_shown, WITHIN_S, "a quote has its button")
    said = shown[-1]
    bot.await_answers(TRADER)
    return Order(bot, collateral_usdc, said)


def race(order: Order, way: TcpProxy, fault: Fault, number: int, lasts_s: float) -> None:
    """A tap, and the fault a moment later: another moment each time."""
    order.tap()
    time.sleep(number % RACE_STEPS * RACE_STEP_S)
    with way.failing(fault):
        time.sleep(lasts_s)
    order.await_told()
    order.await_end()


def stop(
    bot: BotBeside, begin: Callable[[], None], end: Callable[[], None], name: str, lasts_s: float
) -> str:
    """An operator's stop under the fault, with signals all the time; what the bot said and how long it took.

    Raises AssertionError where one that came behind the acknowledgement is executed, or it is not to be had again.
    """
    stack = bot.stack
    before, behind = Client(stack, f"{name}-before"), Client(stack, f"{name}-behind")
    since = bot.newest(OPERATOR)

    def said() -> list[str]:
        return [one.text for one in bot.said(OPERATOR, since)]

    def acknowledged() -> bool:
        return any(STOPPED in text for text in said())

    begin()
    began_s = time.monotonic()
    bot.telegram.writes(OPERATOR, "/stop in a drill")
    mended = False
    number = 0
    while not acknowledged():
        assert time.monotonic() - began_s < WITHIN_S, f"no stop within {WITHIN_S} s, but {said()}"
        if not mended and time.monotonic() - began_s > lasts_s:
            end()
            mended = True
        before.offer(f"{name}-{number}")
        number += 1
        time.sleep(TRAFFIC_S)
    took_s = time.monotonic() - began_s
    assert stack.sql(HELD) == [(1,)], f"nothing holds, and the bot says: {said()}"
    for one in range(AFTER_STOP):
        behind.send(one)
    if not mended:
        time.sleep(max(0.0, lasts_s - took_s))
        end()
    behind.await_settled({"rejected": AFTER_STOP}, WITHIN_S)
    lift(bot)
    again = bot.ask(OPERATOR, "/stop once more")
    assert STOPPED in again.text, f"a stop after the fault: {again.text}"
    last = Client(stack, f"{name}-again")
    last.send(0)
    last.await_settled({"rejected": 1}, WITHIN_S)
    lift(bot)
    unknown = " after 'not yet'" if any(NOT_STOPPED_YET in text for text in said()) else ""
    return f"stopped in {took_s:.1f} s{unknown}"


def lift(bot: BotBeside) -> None:
    reason = ("--by", bot.stack.env["ADMIN_USER"], "--reason", "the drill is over")
    bot.manage("telegram", "lift", "emergency_stop", *reason)
    assert bot.stack.sql(HELD) == [(0,)]
    outages.await_mode(bot.stack, "LIVE", WITHIN_S)
