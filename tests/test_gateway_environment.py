"""What VENUE=gateway asks of the environment, and of `make run`."""

import pytest

from ops.rehearsal import stack, stack_gateway
from ops.rehearsal.stack_chain import UsageError
from tests.test_environment import LIVE, refusal
from vanta.environment import read

URL = "https://prod-api.veranta.xyz/batched-market"
CORE_URL = "https://prod-api.veranta.xyz/core"
FEED = {"VERANTA_FEED_URL": "http://127.0.0.1:5/feed", "VERANTA_DATA_API_URL": "http://127.0.0.1:5/data"}
ROAD = {"VENUE": "gateway", "VERANTA_BATCHED_MARKET_URL": URL, "VERANTA_CORE_API_URL": CORE_URL}


def test_the_road_is_onchain_unless_somebody_says_otherwise() -> None:
    assert read(LIVE).venue == "onchain"
    environment = read(LIVE | ROAD | {"VERANTA_BATCHED_MARKET_URL": f"{URL}/"})
    assert (environment.venue, environment.veranta_batched_market_url) == ("gateway", URL)
    assert environment.veranta_core_api_url == CORE_URL


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"VERANTA_BATCHED_MARKET_URL": ""}, "VENUE=gateway needs VERANTA_BATCHED_MARKET_URL"),
        ({"VERANTA_CORE_API_URL": ""}, "VENUE=gateway needs VERANTA_CORE_API_URL"),
        ({"VERANTA_CORE_API_URL": "http://core.invalid"}, "by https"),
        ({"VERANTA_BATCHED_MARKET_URL": "http://gateway.invalid"}, "by https"),
        ({"VERANTA_BATCHED_MARKET_URL": "ftp://x"}, "must begin with https"),
        ({"VERANTA_FEED_URL": "http://feed.invalid"}, "VERANTA_FEED_URL: production asks"),
        ({"VERANTA_DATA_API_URL": "http://data.invalid"}, "VERANTA_DATA_API_URL: production asks"),
        ({"MAX_PRICE_DEVIATION_PCT": "0"}, "MAX_PRICE_DEVIATION_PCT: must be above zero"),
        ({"MAX_PRICE_DEVIATION_PCT": "51"}, "MAX_PRICE_DEVIATION_PCT"),
        ({"VENUE": "pigeon"}, "VENUE"),
    ],
)
def test_a_road_that_leads_nowhere_does_not_start(changes: dict[str, str], words: str) -> None:
    message = refusal(LIVE | ROAD | changes)
    assert words in message
    assert "1 mistake(s)" in message


def test_make_run_serves_a_gateway_and_names_what_of_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ROAD, *FEED):
        monkeypatch.delenv(name, raising=False)
    assert (stack_gateway.port_of(5), dict(stack_gateway.variables(5))) == (5, FEED)
    assert stack_gateway.variables(stack_gateway.NONE) == {}
    stack.require_road(chain_given=True)
    monkeypatch.setenv("VENUE", "gateway")
    assert stack_gateway.port_of(5) == 5
    assert stack_gateway.variables(5) == FEED | {
        "VERANTA_BATCHED_MARKET_URL": "http://127.0.0.1:5/batched-market",
        "VERANTA_CORE_API_URL": "http://127.0.0.1:5/core",
    }
    stack.require_road(chain_given=False)
    with pytest.raises(UsageError, match="VENUE=gateway make chain"):
        stack.require_road(chain_given=True)
    monkeypatch.setenv("VERANTA_BATCHED_MARKET_URL", URL)
    stack.require_road(chain_given=True)
    assert stack_gateway.variables(5) == FEED
    monkeypatch.setenv("VERANTA_FEED_URL", "")
    assert set(stack_gateway.variables(5)) == {"VERANTA_DATA_API_URL"}, "a blank means that there is none"
    monkeypatch.setenv("VERANTA_DATA_API_URL", "https://data.invalid")
    assert stack_gateway.port_of(5) == stack_gateway.NONE
    monkeypatch.setenv("VENUE", "pigeon")
    with pytest.raises(UsageError, match="VENUE must be onchain or gateway"):
        stack.require_road(chain_given=False)
