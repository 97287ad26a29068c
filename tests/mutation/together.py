"""Several mutants in one process: tests that none of them fails are shown to all of them at the price of one.

Many of those that were found by no cheap test are found by no other either, which each would say anew. Of those that
a test fails with, one is found by halves and shown to it alone, and that alone decides. What one of them
hides from another survives, so that the figure can only be too low.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.mutation.mutants import Mutant

MOST = 12


@dataclass
class Group:
    """Mutants, each of another function, with the tests of each; whoever is found leaves it."""

    tests: dict[Mutant, list[str]]
    passed: set[str] = field(default_factory=set)

    def left(self) -> list[str]:
        """What is still to be shown: each mutant's first, then each one's second."""
        turns = max((len(names) for names in self.tests.values()), default=0)
        ordered = [
            name for turn in range(turns) for names in self.tests.values() for name in names[turn : turn + 1]
        ]
        return [name for name in dict.fromkeys(ordered) if name not in self.passed]

    def passing(self, test: str) -> list[Mutant]:
        return [mutant for mutant, names in self.tests.items() if test in names]

    def without(self, mutant: Mutant) -> "Group":
        return Group({one: names for one, names in self.tests.items() if one != mutant}, self.passed)


def grouped(mutants: list[Mutant]) -> Iterator[list[Mutant]]:
    """Functions are swapped whole, so that a group takes one mutant of each."""
    functions: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in mutants:
        functions.setdefault((mutant.module, mutant.function), []).append(mutant)
    while functions:
        fullest = sorted(functions, key=lambda name: -len(functions[name]))[:MOST]
        yield [functions[name].pop(0) for name in fullest]
        for name in [name for name in functions if not functions[name]]:
            del functions[name]
