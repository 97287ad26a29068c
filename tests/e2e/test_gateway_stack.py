"""`VENUE=gateway make run`: signals become messages, and the wallet sends no transaction at all."""

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.e2e.stack import NO_FEED, RunningStack, wait_until
from tests.real_parts import FOLDER

pytestmark = pytest.mark.timeout(300)
OPEN = {"side": "LONG", "collateral_usdc": 5, "leverage_x": 2}
WITHIN_S = 60


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    running = RunningStack(
        FOLDER / "gateway" / "var", EXEC_MODE="LIVE", VENUE="gateway", REHEARSAL_BLOCK_TIME_S="1"
    )
    for name in NO_FEED:
        del running.environ[name]
    running.start()
    yield running
    running.stop()


def await_fill(stack: RunningStack, name: str) -> None:
    query = "SELECT 1 FROM tx_intents WHERE intent_key = %s AND state = 'filled' AND road = 'gateway'"
    try:
        wait_until(lambda: stack.sql(query, f"sig:drill:{name}") != [], WITHIN_S, name)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{stack.why()}") from None


def test_a_gateway_that_is_killed_and_forgets_doubles_and_loses_nothing(stack: RunningStack) -> None:
    assert stack.post(signal_id="one", **OPEN)[0] == 202
    await_fill(stack, "one")
    assert stack.post(signal_id="two", **OPEN)[0] == 202
    posted = "SELECT 1 FROM venue_messages WHERE posts > 0 AND id = (SELECT max(id) FROM venue_messages)"
    wait_until(lambda: stack.sql(posted) != [], WITHIN_S, "the second post")
    os.kill(stack.pids()["keeper"], signal.SIGKILL)
    await_fill(stack, "two")
    assert len(stack.executions()) == 2
    assert stack.post(signal_id="three", side="CLOSE")[0] == 202
    await_fill(stack, "three")
    wait_until(lambda: len(stack.executions()) == 4, WITHIN_S, "both closes")
    assert stack.open_trade(0) is stack.open_trade(1) is None
    assert stack.sent() == []
    message = stack.get("/signals/drill/one")["message"]
    assert (message["outcome"], message["posts"] >= 1) == ("accepted", True)


def _shows(stack: RunningStack, line: str) -> bool:
    return line in stack.metrics()


def test_the_stack_compares_prices_with_the_feed_that_it_serves(stack: RunningStack) -> None:
    fresh = "SELECT count(*) FROM feed_prices WHERE published_at > now() - interval '5 seconds'"
    wait_until(lambda: stack.sql(fresh) == [(6,)], WITHIN_S, "both prices of three symbols")
    hours = "SELECT count(*) FROM market_states WHERE is_open AND pair_name = symbol"
    wait_until(lambda: stack.sql(hours) == [(3,)], WITHIN_S, "hours of three symbols")
    wait_until(lambda: stack.sql("SELECT 1 FROM price_ticks WHERE core = price") != [], WITHIN_S, "history")
    for line in (
        'vanta_price_sources{symbol="BTC-USD"} 3.0',
        'vanta_price_deviation_pct{symbol="BTC-USD"} 0.0',
    ):
        wait_until(partial(_shows, stack, line), WITHIN_S, line)
