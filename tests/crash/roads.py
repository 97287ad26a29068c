"""All scenarios, by name."""

from dataclasses import replace

from tests.crash import (
    roads_bot,
    roads_caps,
    roads_chain,
    roads_close,
    roads_desks,
    roads_gate,
    roads_levels,
    roads_margin,
    roads_meetings,
    roads_open,
    roads_resting,
    roads_stop,
)
from tests.crash.scenario import FEW, Scenario

SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        *roads_open.ROADS,
        *roads_close.ROADS,
        *roads_chain.ROADS,
        *roads_stop.ROADS,
        *roads_gate.ROADS,
        *roads_levels.ROADS,
        *roads_desks.ROADS,
        *roads_resting.ROADS,
        *roads_margin.ROADS,
        *roads_bot.ROADS,
        *(replace(one, deaths=FEW) for one in (*roads_meetings.ROADS, *roads_caps.ROADS)),
    )
}
