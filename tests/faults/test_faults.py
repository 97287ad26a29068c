"""A slice of `make faults`."""

from collections.abc import Iterator

import pytest

from tests.detours import DetouredStack
from tests.faults.bot import BOT, BotBeside
from tests.faults.cells import Bench, Cell, every_cell, row
from tests.real_parts import FOLDER
from tests.tcp_proxy import Fault

pytestmark = pytest.mark.timeout(420)
SLICE = [
    Cell("webhook", "postgres", Fault.LOST_ANSWERS),
    Cell("worker", "rpc", Fault.LOST_ANSWERS),
    Cell("worker", "redis", Fault.BLACK_HOLE),
    Cell(BOT, "postgres", Fault.HALF_OPEN),
]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    stack = DetouredStack(FOLDER / "faults" / "var")
    stack.start()
    try:
        with BotBeside(stack) as bot:
            yield Bench(stack, bot)
    finally:
        stack.stop()


def test_every_cell_is_there() -> None:
    assert len(every_cell()) == 4 * (3 * 6 + 1) + (4 * 6 + 2)
    assert set(SLICE) <= set(every_cell())


@pytest.mark.parametrize("cell", SLICE, ids=str)
def test_one_way_fails(bench: Bench, cell: Cell) -> None:
    outcome = bench.run(cell)
    print(row(outcome))  # noqa: T201
    assert outcome.wrong == "", row(outcome)
