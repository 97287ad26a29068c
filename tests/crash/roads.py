"""All scenarios, by name."""

from tests.crash import roads_close, roads_open, roads_stop
from tests.crash.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    one.name: one for one in (*roads_open.ROADS, *roads_close.ROADS, *roads_stop.ROADS)
}
