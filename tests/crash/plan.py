"""Which trials are done: every point of every scenario first, then the faults of the node, then what is left."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LAST = 4  # tier of what a road has beyond its `deaths`
# Trials in one job: to set a stage costs as much as a few of them, but of JOBS or more of them all shards end together.
FEWEST, MOST, JOBS = 12, 80, 40
Key = tuple[str, str, str, int]  # scenario, fault, label, occurrence


def explorations(roads: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A walk without a death of every scenario, alone and with each of its faults."""
    return [{"scenario": name, "faults": ["", *faults]} for name, faults in roads.items()]


def one_by_one(roads: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """The same walks as jobs of one, for whoever stops at the first that is wrong: those without a fault come first."""
    yield from ({"scenario": name, "faults": [""]} for name in roads)
    yield from ({"scenario": name, "faults": [fault]} for name, faults in roads.items() for fault in faults)


def distinct(explored: Sequence[dict[str, Any]]) -> int:
    """How many trials there are before any point of a scenario is taken twice, or is one too many for its road."""
    labels: dict[str, set[str]] = defaultdict(set)
    most: dict[str, int] = {}
    for one in explored:
        labels[one["scenario"]].update(one.get("labels", ()))
        most[one["scenario"]] = one.get("deaths", 0)
    return sum(min(len(found), most[name] or len(found)) for name, found in labels.items())


def draw(explored: Sequence[dict[str, Any]], wanted: int, point: str, seed: int) -> list[Key]:
    """`wanted` trials, in the order of their worth; fewer where there are no more.

    A point that a scenario passes several times is taken once before any is taken twice. Where there are more trials
    than points none is left out, though the roads that it lies on have had their deaths.
    """
    dice = random.Random(seed)
    tiers: dict[tuple[int, int], list[Key]] = defaultdict(list)
    for one in explored:
        taken: Counter[str] = Counter()
        places = []
        for label in one.get("labels", ()):
            taken[label] += 1
            places.append((label, taken[label]))
        dice.shuffle(places)
        turns: Counter[str] = Counter()
        for label, occurrence in places:
            if point not in label:
                continue
            turns[label] += 1
            # A fault's points come after each scenario's own, and once each before any scenario's third time.
            rank = min(turns[label], 3) if len(turns) <= (one.get("deaths") or len(places)) else LAST
            tiers[rank, bool(one["fault"])].append((one["scenario"], one["fault"], label, occurrence))
    drawn: list[Key] = []
    for tier in sorted(tiers):
        dice.shuffle(tiers[tier])
        drawn += _in_turns(tiers[tier])
    chosen, points = drawn[:wanted], {label for _, _, label, _ in drawn}
    left = points - {label for _, _, label, _ in chosen}
    if not left or len(points) > wanted:
        return chosen
    others = {key[2]: key for key in reversed(drawn[wanted:]) if key[2] in left}
    return _without(len(others), chosen) + list(others.values())


def _without(number: int, chosen: Sequence[Key]) -> list[Key]:
    """Less so many, of those of least worth, and none whose point is on no other."""
    taken = Counter(label for _, _, label, _ in chosen)
    kept = []
    for key in reversed(chosen):
        if number and taken[key[2]] > 1:
            number -= 1
            taken[key[2]] -= 1
        else:
            kept.append(key)
    return kept[::-1]


def _in_turns(keys: Sequence[Key]) -> list[Key]:
    """One of each pair of scenario and fault, then one more of each: a long road is not worth more than a short one."""
    turns: Counter[tuple[str, str]] = Counter()
    placed = []
    for key in keys:
        turns[key[:2]] += 1
        placed.append((turns[key[:2]], key))
    return [key for _, key in sorted(placed, key=lambda one: one[0])]


def jobs(drawn: Sequence[Key]) -> Iterator[dict[str, Any]]:
    """Trials of one scenario together, for which a shard sets its stage once; the longest first, so that short ones fill up."""
    by_scenario: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for scenario, fault, label, occurrence in sorted(drawn, key=lambda key: key[:2]):
        by_scenario[scenario].append((fault, label, occurrence))
    size = min(MOST, max(FEWEST, len(drawn) // JOBS))
    for scenario, places in sorted(by_scenario.items(), key=lambda one: -len(one[1])):
        for start in range(0, len(places), size):
            yield {"scenario": scenario, "places": places[start : start + size]}
