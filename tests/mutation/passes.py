"""Which statements of the mutated modules each test passes, and how long it takes: measured once, in var/mutation/.

Lines are kept by outermost function and offset within it, so that they stay right
while code above moves. The functions themselves say where they come by: their
code is swapped for one with a probe before each statement, which costs a test
next to nothing, where a trace hook makes it several times as slow.
"""

import ast
import builtins
import copy
import json
import mmap
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from tests.mutation.mutants import Source

PROBE = "_vanta_mutation_passed"
Lines = dict[str, dict[str, list[int]]]  # module → function → offsets from its first line


@dataclass
class Passed:
    """One test: its seconds of the clock while being watched, whether it passed, where it came by, and its costs.

    The clock bounds how long it may take, the costs say how much of a budget it takes.
    """

    seconds: float
    ok: bool
    lines: Lines = field(default_factory=dict)
    costs_s: float = 0.0


class Probes:
    """Where a run came by: statements of `sources`, said by the code itself, whatever thread or forked process runs it."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = {source.module: source for source in sources}
        lines = sum(source.text.count("\n") + 1 for source in self._sources.values())
        self._passed = mmap.mmap(-1, lines)  # shared with what is forked; one byte a place
        self._places: list[tuple[str, int]] = []

    def codes(self) -> Iterator[tuple[Source, CodeType]]:
        """Each module with a probe before every statement of its functions, once `take` may be asked."""
        setattr(builtins, PROBE, self._passed.__setitem__)
        for source in self._sources.values():
            probed = _Probed(source.module, self._places).visit(copy.deepcopy(source.tree))
            yield source, source.compiled(ast.fix_missing_locations(probed))

    def take(self) -> Lines:
        """The lines since the last time."""
        passed = [place for place, byte in zip(self._places, self._passed[:], strict=False) if byte]
        self._passed[:] = bytes(len(self._passed))
        lines: Lines = {}
        for module, line in passed:
            function, first = self._sources[module].function_at(line)
            lines.setdefault(module, {}).setdefault(function, []).append(line - first)
        return lines


class _Probed(ast.NodeTransformer):
    def __init__(self, module: str, places: list[tuple[str, int]]) -> None:
        self._module = module
        self._places = places
        self._depth = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        self._depth += is_function
        super().generic_visit(node)
        if self._depth:
            for name in ("body", "orelse", "finalbody"):
                statements = getattr(node, name, None)
                if isinstance(statements, list):
                    setattr(node, name, [part for one in statements for part in (self._probe(one), one)])
        self._depth -= is_function
        return node

    def _probe(self, statement: ast.stmt) -> ast.stmt:
        place = (self._module, statement.lineno)
        if not self._places or self._places[-1] != place:
            self._places.append(place)
        number: list[ast.expr] = [ast.Constant(len(self._places) - 1), ast.Constant(1)]
        return ast.copy_location(ast.Expr(ast.Call(ast.Name(PROBE, ast.Load()), number, [])), statement)


class Importing:
    """Follows frames of `sources` while modules are imported, when there is no function yet to put a probe in."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = {str(source.path): source for source in sources}
        self._met: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        sys.setprofile(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def functions(self) -> dict[str, list[str]]:
        """By module, the outermost functions that importing runs."""
        found: dict[str, list[str]] = {}
        for module, function in sorted(self._met):
            found.setdefault(module, []).append(function)
        return found

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        # The bodies of modules and classes pass each `def` in them, which says nothing about functions.
        source = self._sources.get(frame.f_code.co_filename) if event == "call" else None
        if source is not None and frame.f_code.co_flags & CO_OPTIMIZED:
            function, _first = source.function_at(frame.f_lineno)
            if function:
                self._met.add((source.module, function))


@dataclass
class Passes:
    """What was measured: by test file, its content then and its tests; and what importing alone passes."""

    files: dict[str, str] = field(default_factory=dict)
    tests: dict[str, Passed] = field(default_factory=dict)
    at_import: dict[str, list[str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # "module:function" → digest when measured

    @classmethod
    def read(cls, path: Path) -> "Passes":
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        tests = {name: Passed(**one) for name, one in kept["tests"].items()}
        for one in tests.values():
            one.costs_s = one.costs_s or one.seconds  # measured before there were costs
        return cls(kept["files"], tests, kept["at_import"], kept["digests"])

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))

    def forget(self, file: str) -> None:
        self.tests = {name: one for name, one in self.tests.items() if name.split("::")[0] != file}
        self.files.pop(file, None)
