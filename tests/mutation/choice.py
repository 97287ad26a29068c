"""Which tests a mutant is shown to, in which order.

Cheap ones of files that import its module, those that found its neighbours, those that found most in its module, then the
cheapest of each file.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

from tests.mutation.mutants import ROOT, Mutant, Source
from tests.mutation.passes import Lines, Passed, Passes

WORD = re.compile(r"\w+")
NEIGHBOURS = 4  # tests that found the last mutants of the same function go first
BEST = 6  # then those that found most in the module for what they cost
CHEAP_S = 0.15  # what looks at the module's own rules, by rows alone
LEAST_COST_S = 0.1  # of a process for a mutant, whatever it is shown


class Choice:
    """Tests by what they pass."""

    def __init__(self, passes: Passes, collected: Iterable[str], sources: Iterable[Source]) -> None:
        self._passes = passes
        self._sources = {source.module: source for source in sources}
        self._tests = {name: passes.tests[name] for name in collected if name in passes.tests}
        self._tests = {name: one for name, one in self._tests.items() if one.ok}
        self._finders: dict[str, list[str]] = defaultdict(list)
        self._finds: dict[str, Counter[str]] = defaultdict(
            Counter
        )  # by module, how often each test found something
        self._imported = {
            file: _imported(ROOT / file) for file in {name.split("::")[0] for name in self._tests}
        }
        self._words = {
            file: frozenset(WORD.findall((ROOT / file).read_text()))
            for file in {name.split("::")[0] for name in self._tests}
        }

    def is_imported(self, mutant: Mutant) -> bool:
        """Whether only a new import shows it: it is outside of functions, or importing runs its function."""
        return not mutant.function or mutant.function in self._passes.at_import.get(mutant.module, ())

    def note(self, module: str, function: str, finder: str) -> None:
        finders = self._finders[f"{module}:{function}"]
        if finder in finders:
            finders.remove(finder)
        finders.insert(0, finder)
        self._finds[module][finder] += 1

    def of(self, mutant: Mutant, budget_s: float, without: AbstractSet[str] = frozenset()) -> list[str]:
        """In the order of showing, as many as a budget has room for; empty where no other test passes it."""
        home = self._home(mutant.module)
        found = self._passing(mutant) if mutant.function else self._using(mutant)
        if not found and self.is_imported(mutant):
            found = self._in_module(mutant)  # it has run before any test could be watched
        found -= without
        known = [name for name in self._finders[f"{mutant.module}:{mutant.function}"] if name in found]
        first = [*known[:NEIGHBOURS], *self._best(mutant.module, found)]
        others = [*first, *_by_turns(found, self._tests, home)]
        own = [name for name in others if self._is_cheap(name) and name.split("::")[0] in home]
        ordered = list(dict.fromkeys([*own, *others]))
        chosen: list[str] = []
        spent_s = 0.0
        for name in ordered:
            spent_s += self._tests[name].costs_s
            if chosen and spent_s > budget_s:
                break
            chosen.append(name)
        return chosen

    def _is_cheap(self, name: str) -> bool:
        return self._tests[name].costs_s <= CHEAP_S

    def _best(self, module: str, found: AbstractSet[str]) -> list[str]:
        finds = {name: count for name, count in self._finds[module].items() if name in found}
        return sorted(finds, key=lambda name: -finds[name] / (LEAST_COST_S + self._tests[name].costs_s))[
            :BEST
        ]

    def _passing(self, mutant: Mutant) -> set[str]:
        moved = self._passes.digests.get(f"{mutant.module}:{mutant.function}") != mutant.digest
        source = self._sources[mutant.module]
        first = next(node.lineno for name, node in source.functions if name == mutant.function)
        wanted = set(range(mutant.lines[0] - first, mutant.lines[1] - first + 1))
        return {
            name
            for name, one in self._tests.items()
            if (offsets := one.lines.get(mutant.module, {}).get(mutant.function)) is not None
            and (moved or wanted & set(offsets))
        }

    def _using(self, mutant: Mutant) -> set[str]:
        """For what stands outside of functions: tests that name it, or pass a function that does."""
        line = self._sources[mutant.module].text.splitlines()[mutant.lines[0] - 1]
        names = set(WORD.findall(line.split("#")[0].split("=")[0].split(":")[0]))
        if not names:
            names = set(WORD.findall(mutant.old))
        users = {
            (source.module, name)
            for source in self._sources.values()
            for name, node in source.functions
            if names
            & set(WORD.findall("\n".join(source.text.splitlines()[node.lineno - 1 : node.end_lineno])))
        }
        return {
            name
            for name, one in self._tests.items()
            if names & self._words[name.split("::")[0]] or _passes_any(one.lines, users)
        } or self._in_module(mutant)

    def _in_module(self, mutant: Mutant) -> set[str]:
        """Tests that pass anything of the module."""
        return {name for name, one in self._tests.items() if mutant.module in one.lines}

    def _home(self, module: str) -> set[str]:
        """Files of tests that import the module."""
        stem = module.rsplit(".", 1)[1]
        return {file for file, words in self._imported.items() if stem in words}


def _imported(path: Path) -> frozenset[str]:
    """Every word of what a file imports at its top."""
    body = ast.parse(path.read_text()).body
    imports = [ast.unparse(one) for one in body if isinstance(one, ast.Import | ast.ImportFrom)]
    return frozenset(WORD.findall("\n".join(imports)))


def _passes_any(lines: Lines, users: set[tuple[str, str]]) -> bool:
    return any((module, function) in users for module, functions in lines.items() for function in functions)


def _by_turns(found: set[str], tests: dict[str, Passed], home: set[str]) -> list[str]:
    """The cheapest test of each file, then the second of each; files at home in the module go first."""
    files: dict[str, list[str]] = defaultdict(list)
    for name in sorted(found, key=lambda name: (tests[name].costs_s, name)):
        files[name.split("::")[0]].append(name)
    turns = [
        (turn, file not in home, tests[name].costs_s, name)
        for file, names in files.items()
        for turn, name in enumerate(names)
    ]
    return [name for *_, name in sorted(turns)]
