"""One cell of component x dependency x fault: a signal under way while that one way fails, and what came of it.

In a cell of the bot an order is tapped meanwhile, too, and in some a stop is given.
"""

import itertools
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import urllib3

from tests.chaos import outages
from tests.chaos.outages import Client
from tests.detours import COMPONENTS, DEPENDENCIES, DetouredStack
from tests.e2e.stack import wait_until
from tests.faults import bot_cells
from tests.faults.bot import BOT, BOT_API, BOT_DEPENDENCIES, TRADER, BotBeside
from tests.faults.bot_cells import Order
from tests.tcp_proxy import Fault, TcpProxy

LASTS_S = 2.5
TOLD_WITHIN_S = 8.0  # for as long a fault may last where the machine is slow; then heartbeats are stale
# A task that waits for an answer that never comes is ended after 60 s.
WITHIN_S = 90.0
CALM_S = 60.0
FIRST_UNITS = 5_000_000
TAPPED_UNITS = 6_000_000, 7_000_000  # under a fault, and as it begins
# What /health says of a dependency that the webhook itself cannot reach.
CHECK_OF = {"rpc": "node", "redis": "redis", "postgres": "database"}
HARD = {Fault.REFUSE, Fault.RESET, Fault.BLACK_HOLE, Fault.HALF_OPEN, Fault.LOST_ANSWERS}
# What the bot notices before a poll's own time is over.
HEARD = {Fault.REFUSE, Fault.RESET, Fault.LOST_ANSWERS}
HTTP = ("rpc", BOT_API)


@dataclass(frozen=True)
class Cell:
    component: str
    dependency: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.component} {self.dependency} {self.fault}"


@dataclass(frozen=True)
class Outcome:
    """`filled_s` and `ok_s` are from the end of the fault; `wrong` is blank where all held."""

    cell: Cell
    filled_s: float
    ok_s: float
    restarts: int
    health: str
    wrong: str


def every_cell() -> list[Cell]:
    """A duplicate is for what speaks HTTP: what is doubled there is a request, elsewhere it is a broken protocol."""
    pairs = [*itertools.product(COMPONENTS, DEPENDENCIES), *((BOT, name) for name in BOT_DEPENDENCIES)]
    return [
        Cell(component, dependency, fault)
        for (component, dependency), fault in itertools.product(pairs, Fault)
        if fault is not Fault.NONE and (fault is not Fault.DUPLICATE or dependency in HTTP)
    ]


class Bench:
    def __init__(self, stack: DetouredStack, bot: BotBeside) -> None:
        self.stack = stack
        self.bot = bot
        self._count = 0

    def run(self, cell: Cell) -> Outcome:
        """Never raises for what the stack does: that is `wrong`."""
        stack, way = self.stack, self.stack.ways[cell.component, cell.dependency]
        filled_s = ok_s = 0.0
        health = told = wrong = ""
        client, number = Client(stack, "cell"), self._count
        self._count += 1
        deaths = self._deaths(cell.component)
        taps: list[Order] = []
        try:
            self._await_calm(cell)
            if cell.component == BOT:
                taps.append(bot_cells.quoted(self.bot, TAPPED_UNITS[0] + number))
            way.inject(cell.fault)
            began_s = time.monotonic()
            try:
                client.offer(f"cell-{number}", collateral_usdc=(FIRST_UNITS + number) / 10**6)
                for order in taps:
                    order.tap()
                health = self._health(cell)
                time.sleep(max(0.0, LASTS_S - (time.monotonic() - began_s)))
            finally:
                way.mend()
                mended_s = time.monotonic()
            client.send(number, within_s=WITHIN_S, collateral_usdc=(FIRST_UNITS + number) / 10**6)
            wait_until(lambda: client.states() == {"filled": 1}, WITHIN_S, f"filled, not {client.states()}")
            for order in taps:
                order.await_told()
                order.await_end()
            filled_s = time.monotonic() - mended_s
            self._await_well(cell)
            ok_s = time.monotonic() - mended_s
            if cell.component == BOT:
                told = self._ask_more(cell, way, number, taps)
        except AssertionError as broken:
            wrong = str(broken)
        executions = self._executions()
        times = executions[Decimal(FIRST_UNITS + number) / 10**6]
        restarts = self._deaths(cell.component) - deaths
        wrong += f"; executed {times} times" * (times != 1)
        for problem in filter(None, (order.problem(executions[order.collateral_usdc]) for order in taps)):
            wrong += f"; {problem}"
        wrong += f"; ended {restarts} times" * (restarts > 1)
        wrong += f"; {health}" * ("not" in health)
        return Outcome(cell, round(filled_s, 1), round(ok_s, 1), restarts, health + told, wrong.strip("; "))

    def _await_calm(self, cell: Cell) -> None:
        self._await_well(cell)
        outages.await_mode(self.stack, "LIVE", CALM_S)

    def _await_well(self, cell: Cell) -> None:
        outages.await_ok(self.stack, CALM_S)
        if cell.component == BOT:
            self.bot.await_answers(TRADER)
            wait_until(self.bot.hears, CALM_S, f"the bot hears, and does not say {self.bot.note()!r}")

    def _ask_more(self, cell: Cell, way: TcpProxy, number: int, taps: list[Order]) -> str:
        """What else is asked of the bot, under the same fault again; words for what it told."""
        told = ""
        if cell.fault in HARD:
            order = bot_cells.quoted(self.bot, TAPPED_UNITS[1] + number)
            taps.append(order)
            bot_cells.race(order, way, cell.fault, number, LASTS_S)
            self._await_calm(cell)
        if bot_cells.STOPS.get(cell.dependency) is cell.fault:
            begin = partial(way.inject, cell.fault)
            said = bot_cells.stop(self.bot, begin, way.mend, f"stop-{number}", LASTS_S)
            told = f", {said}"
            self._await_calm(cell)
        return "".join(f", {order.came}" for order in taps) + told

    def _health(self, cell: Cell) -> str:
        """What the webhook tells while the fault is there: its own part by name, and nothing of others' troubles.

        Others' are told by their heartbeats, which are stale later than these faults last.
        """
        if cell.dependency == BOT_API:
            return self._note(cell)
        name = CHECK_OF[cell.dependency]
        its_own = cell.component == "webhook"
        if its_own and cell.fault is Fault.SLOW:
            return f"{name} may be either"  # as slow as it is patient
        wanted = "fail" if its_own and cell.fault in HARD else "ok"
        deadline_s = time.monotonic() + TOLD_WITHIN_S
        said = ""
        while said != wanted and time.monotonic() < deadline_s:
            said = self._check(name)
            time.sleep(0.1)
        return f"{name} {said}" if said == wanted else f"{name} is told {said or 'nothing'}, not {wanted}"

    def _note(self, cell: Cell) -> str:
        """What the bot's own heartbeat tells, by which /health judges it where it has its token, too."""
        if cell.fault not in HEARD:
            return "bot may be either"
        wait_until(lambda: not self.bot.hears(), TOLD_WITHIN_S, "the bot says that it waits")
        return f"bot {self.bot.note().partition(':')[0]}"

    def _check(self, name: str) -> str:
        try:
            return str(self.stack.get("/health")["checks"][name]["status"])
        except (OSError, ValueError, urllib3.exceptions.HTTPError):
            return ""

    def _deaths(self, component: str) -> int:
        if component == BOT:
            return self.bot.ended
        words = self.stack.log("supervisor").splitlines()
        return sum(f" {component} (pid " in line and ") ended" in line for line in words)

    def _executions(self) -> Counter[Decimal]:
        return Counter(event.collateral_usdc for event in self.stack.executions() if event.is_open)


HEAD = (
    "| component | dependency | fault | filled s | well s | restarts | health | wrong |",
    "|---|---|---|---|---|---|---|---|",
)


def row(outcome: Outcome) -> str:
    cell = outcome.cell
    told = (outcome.filled_s, outcome.ok_s, outcome.restarts, outcome.health, outcome.wrong or "-")
    return (
        "| " + " | ".join(str(word) for word in (cell.component, cell.dependency, cell.fault, *told)) + " |"
    )
