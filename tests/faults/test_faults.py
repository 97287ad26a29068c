"""A slice of `make faults`."""

from collections.abc import Iterator

import pytest

from tests.chaos.outages import Client
from tests.detours import DetouredStack
from tests.faults.__main__ import chosen
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


def test_words_choose_cells_and_words_of_no_cell_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen([]) == every_cell()
    assert {cell.dependency for cell in chosen(["--only", "beat", "postgres"])} == {"postgres"}
    for words in (["typo"], ["beat", "typo"], ["beat", "webhook"]):
        with pytest.raises(SystemExit) as refused:
            chosen(["--only", *words])
        assert refused.value.code == 2
        told = capsys.readouterr().err
        assert f"no cell has all of: {' '.join(words)}" in told
        assert all(name in told for name in ("beat", BOT, "postgres", "half-open")), "what there is"


def test_what_never_settles_is_a_wrong_cell_and_not_the_end_of_the_table() -> None:
    class Stack:
        def sql(self, *_: object) -> list[tuple[str]]:
            return [("pending?",)]

        def why(self) -> str:
            return ""

    with pytest.raises(AssertionError, match=r"cell: Counter.*pending"):
        Client(Stack(), "cell").await_settled({"filled": 1}, within_s=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", SLICE, ids=str)
def test_one_way_fails(bench: Bench, cell: Cell) -> None:
    outcome = bench.run(cell)
    print(row(outcome))  # noqa: T201
    assert outcome.wrong == "", row(outcome)
