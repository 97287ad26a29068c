"""An endpoint's breaker, by a clock of the test's own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from execution_app.node.breaker import Breaker, BreakerState, Rules

RULES = Rules(faults=3, slow_s=5, rest_s=10, rest_limit_s=35)
QUICK_S, SLOW_S = 0.1, 5.1


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    breaker.fail(now_s, SLOW_S)
    assert breaker.state() is BreakerState.OPEN
    return breaker


def test_three_faults_in_a_row_open_it_and_two_do_not() -> None:
    breaker = Breaker(RULES)
    for fault in (True, True, False, True, True):
        breaker.fail(0, QUICK_S) if fault else breaker.succeed(0, QUICK_S)
    assert breaker.state() is BreakerState.CLOSED
    assert breaker.admits(0)
    breaker.fail(0, QUICK_S)
    assert breaker.state() is BreakerState.OPEN
    assert not breaker.admits(9.9)


def test_a_fault_that_kept_us_waiting_opens_it_at_once() -> None:
    assert not opened().admits(9.9)


def test_answers_that_come_late_are_strikes() -> None:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.succeed(0, SLOW_S)
    assert breaker.state() is BreakerState.OPEN


def test_one_fault_only_puts_it_last_for_a_while() -> None:
    breaker = Breaker(RULES)
    breaker.fail(0, QUICK_S)
    assert (breaker.rank(9.9), breaker.rank(10), breaker.admits(1)) == (1, 0, True)
    assert (opened().rank(9.9), opened().rank(10)) == (2, 0)


def test_after_its_rest_one_caller_tries_and_an_answer_closes_it() -> None:
    breaker = opened()
    assert [breaker.admits(10) for _ in range(3)] == [True, False, False]
    assert breaker.state() is BreakerState.HALF_OPEN
    breaker.succeed(11, QUICK_S)
    assert breaker.state() is BreakerState.CLOSED
    assert breaker.admits(11)


def test_the_rest_grows_to_its_limit_and_begins_anew_after_an_answer() -> None:
    breaker, now_s, rests = opened(), 0.0, []
    for _ in range(4):
        begun_s = now_s
        while not breaker.admits(now_s):
            now_s += 1
        rests.append(now_s - begun_s)
        breaker.fail(now_s, QUICK_S)
    assert rests == [10, 20, 35, 35]
    assert breaker.admits(now_s + 35)
    breaker.succeed(now_s + 35, QUICK_S)
    breaker.fail(now_s + 36, SLOW_S)
    assert breaker.admits(now_s + 46)


def test_a_late_answer_to_the_first_try_is_no_recovery() -> None:
    breaker = opened()
    assert breaker.admits(10)
    breaker.succeed(16, SLOW_S)
    assert breaker.state() is BreakerState.OPEN
    assert not breaker.admits(35)


def test_a_caller_who_never_says_how_it_went_does_not_close_the_door_for_good() -> None:
    breaker = opened()
    assert breaker.admits(10)
    assert not breaker.admits(19.9)
    assert breaker.admits(20)


def test_being_asked_while_it_rests_makes_its_rest_no_longer() -> None:
    """All endpoints rest and all are asked."""
    breaker = opened()
    for second in range(10):
        breaker.fail(second, SLOW_S)
    assert breaker.admits(10)


def test_many_threads_get_one_first_try() -> None:
    breaker = opened()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: breaker.admits(10), range(200))) == 1


def test_changes_are_told_once_each() -> None:
    told: list[BreakerState] = []
    breaker = Breaker(RULES, told.append)
    for _ in range(5):
        breaker.fail(0, QUICK_S)
    breaker.admits(10)
    breaker.succeed(10, QUICK_S)
    assert told == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, the door is never shut for longer than the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(RULES)
        self.now_s = 0.0

    @rule(s=st.floats(0, 50))
    def wait(self, s: float) -> None:
        self.now_s += s

    @rule(took_s=st.sampled_from([QUICK_S, SLOW_S]), fault=st.booleans())
    def ask(self, took_s: float, fault: bool) -> None:
        if self.breaker.admits(self.now_s):
            (self.breaker.fail if fault else self.breaker.succeed)(self.now_s, took_s)

    @rule()
    def ask_and_die(self) -> None:
        self.breaker.admits(self.now_s)

    @invariant()
    def it_opens_again(self) -> None:
        assert self.breaker.rank(self.now_s + RULES.rest_limit_s) == 0
        assert self.breaker.rank(self.now_s) in (0, 1, 2)

    def teardown(self) -> None:
        assert self.breaker.admits(self.now_s + RULES.rest_limit_s)


TestAnyHistory = AnyHistory.TestCase


@pytest.mark.parametrize("took_s", [QUICK_S, SLOW_S])
def test_an_answer_in_a_closed_state_changes_nothing_by_itself(took_s: float) -> None:
    breaker = Breaker(RULES)
    breaker.succeed(0, took_s)
    assert breaker.admits(0)
