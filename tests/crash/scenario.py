"""What a scenario is: a road that one process walks and others finish, and how it may end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.crash.bench import Bench

Verb = Callable[[Bench], None]


def nothing(_: Bench) -> None:
    """Nothing is needed."""


@dataclass(frozen=True)
class Scenario:
    """`before` is done once and put away, `walk` is what a process dies on.

    `again` is what the world outside repeats before each round of recovery: a client
    without an answer sends again, a person repeats their command. `ends` holds, by
    signal id, the states its intents may end in, with `:reason` where only that will do;
    a key that ends in `?` need not exist. `alone` holds those of them that are certain where nobody died and no
    node had any trouble.
    `boots` says that the walker's own start is part of the road. `mode` is what the
    gate comes to, blank where that depends. `finished` is False where something stays held by design.
    `deaths` is at how many of its points somebody dies before others are taken again, where a road is there for what
    comes of it without a death; 0 is at all of them.
    `left` is how many LIVE positions are open in the end, where that is known. `replaced` names what replaces the
    bytes of slots, one word each, sorted: judged where a walk has ended by itself and no node had any trouble. None where unknown.
    """

    name: str
    walk: Verb
    again: Verb
    ends: Mapping[str, frozenset[str]]
    before: Verb = nothing
    boots: bool = False
    mode: str = "LIVE"
    finished: bool = True
    left: int | None = None
    alone: Mapping[str, frozenset[str]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    deaths: int = 0
    replaced: tuple[str, ...] | None = None


def one_of(*states: str) -> frozenset[str]:
    return frozenset(states)


FILLED = one_of("filled")
FEW = 15
EVERY_FAULT = ("lost", "refused", "slow", "5xx", "reset")
