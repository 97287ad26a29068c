"""What another process did wrong is not swallowed by whoever waits for it."""

import pytest

from execution_app.node.rpc import NodeError
from tests.crash import beside


def breaks() -> None:
    raise ValueError("of the other process")


def gives_up() -> None:
    raise NodeError(-32_000, "no answer")


def test_what_breaks_is_told(capfd):
    with pytest.raises(AssertionError, match="ended with status"):
        beside.await_end(beside.begin([breaks]))
    assert "of the other process" in capfd.readouterr().err


def test_who_met_it_is_told_too(db):
    with pytest.raises(AssertionError, match="ended with status"):
        beside.has_ended(beside.begin([breaks]))


@pytest.mark.parametrize("work", [[], [gives_up, breaks]])
def test_an_end_and_a_task_that_is_called_again_are_none(work):
    beside.await_end(beside.begin(work))
