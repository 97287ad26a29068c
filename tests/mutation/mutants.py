"""The mutants of a module: each is one small change of its syntax tree that a test should notice.

What is changed and what is passed over is told in docs/mutation.md. A mutant is
named by where it is and what it does, without line numbers, so that a judged
survivor stays known while code around it moves.
"""

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType

from tests.mutation import changes, skipped

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT_LIMIT = 160


@dataclass(frozen=True)
class Mutant:
    """One change. `number` is its place among the module's, `lines` where a test passes that can notice it.

    `function` is the outermost function around it, blank at the level of the module or of a class: there the
    change is seen by an import alone.
    """

    module: str
    function: str
    kind: str
    old: str
    new: str
    ordinal: int
    number: int
    line: int
    lines: tuple[int, int]
    digest: str

    @property
    def name(self) -> str:
        again = f" #{self.ordinal}" if self.ordinal > 1 else ""
        return f"{self.module}:{self.function or '-'}: {self.old} → {self.new}{again}"

    @property
    def key(self) -> str:
        """The same while the function around it, or for a change outside of functions its line, is the same."""
        return hashlib.sha256(f"{self.name}\n{self.digest}".encode()).hexdigest()[:16]


class Source:
    """A module's text, read once."""

    def __init__(self, file: str, root: Path = ROOT) -> None:
        self.path = root / file
        self.module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.text = self.path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.functions = list(_functions(self.tree, ""))
        self.enums = changes.enums_of(self.tree, self.module)
        self.code = self.compiled(self.tree)

    def compiled(self, tree: ast.Module) -> CodeType:
        return compile(tree, str(self.path), "exec", dont_inherit=True)

    def function_at(self, line: int) -> tuple[str, int]:
        """The outermost function that a line is within and its first line; blank and 1 where there is none."""
        for name, node in self.functions:
            if node.lineno <= line <= (node.end_lineno or 0):
                return name, node.lineno
        return "", 1

    def digest_of(self, function: str) -> str:
        for name, node in self.functions:
            if name == function:
                return _digest(ast.dump(node))
        return ""

    @property
    def mutants(self) -> list[Mutant]:
        return [mutant for mutant, _ in _found(self)]

    def mutated(self, mutant: Mutant) -> CodeType:
        """The module's code with the change in it. Raises KeyError where the text has moved on."""
        for one, change in _found(self):
            if one.number == mutant.number and one.key == mutant.key:
                return self.compiled(_applied(self.tree, change))
        raise KeyError(mutant.name)


@lru_cache(maxsize=4)
def _found(source: Source) -> list[tuple[Mutant, changes.Change]]:
    """Every change that alters what is executed, each once."""
    seen = {(at, _essence(source.compiled(_alone(source.tree, at)))) for at in range(len(source.tree.body))}
    met: Counter[tuple[str, str, str]] = Counter()
    found: list[tuple[Mutant, changes.Change]] = []
    for change in _changes(source):
        _, at = change.path[0]
        assert at is not None
        essence = at, _essence(source.compiled(_alone(_applied(source.tree, change), at)))
        if essence in seen:
            continue
        seen.add(essence)
        words = (change.within, change.old[:TEXT_LIMIT], change.new[:TEXT_LIMIT])
        met[words] += 1
        digest = source.digest_of(change.within) or _digest(change.context)
        found.append(
            (
                Mutant(
                    module=source.module,
                    function=change.within,
                    kind=change.kind,
                    old=words[1],
                    new=words[2],
                    ordinal=met[words],
                    number=len(found),
                    line=change.line,
                    lines=change.lines,
                    digest=digest,
                ),
                change,
            )
        )
    return found


def _alone(tree: ast.Module, at: int) -> ast.Module:
    """One statement of the module, which is all that a change touches: to compile the rest each time took minutes."""
    return ast.Module([tree.body[at]], [])


def _changes(source: Source) -> Iterator[changes.Change]:
    def walk(node: ast.AST, path: changes.Path, place: changes.Place) -> Iterator[changes.Change]:
        for change in changes.of(node, place, source.enums):
            yield change.at(path)
        for name, value in ast.iter_fields(node):
            below = value if isinstance(value, list) else [value]
            for at, child in enumerate(below):
                if isinstance(child, ast.AST) and not skipped.is_skipped(node, name, child, place):
                    step = (name, at if isinstance(value, list) else None)
                    yield from walk(child, (*path, step), place.within(node, name, child))

    yield from walk(source.tree, (), changes.Place())


def _applied(tree: ast.Module, change: changes.Change) -> ast.Module:
    """A copy with the change in it; only what lies on the way there is copied."""
    node = ast.fix_missing_locations(copy.deepcopy(change.node))
    return _rebuilt(tree, change.path, node)  # type: ignore[return-value]


def _rebuilt(node: ast.AST, path: changes.Path, new: ast.AST) -> ast.AST:
    if not path:
        return new
    (name, at), *rest = path
    value = getattr(node, name)
    child = value if at is None else value[at]
    rebuilt = _rebuilt(child, tuple(rest), new)
    clone = copy.copy(node)
    if at is None:
        setattr(clone, name, rebuilt)
    else:
        setattr(clone, name, [*value[:at], rebuilt, *value[at + 1 :]])
    return clone


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Outermost functions, by their qualified names, in order."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt):
            yield from _functions(child, prefix)


def _essence(code: CodeType) -> str:
    """What is executed, without where it was written. Docstrings are constants, and no change touches them."""
    hashed = hashlib.sha256()

    def take(one: CodeType) -> None:
        facts = (one.co_code, one.co_names, one.co_varnames, one.co_exceptiontable, one.co_freevars)
        hashed.update(repr(facts).encode())
        for constant in one.co_consts:
            if isinstance(constant, CodeType):
                take(constant)
            else:
                ordered = sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
                hashed.update(repr((type(constant).__name__, ordered)).encode())

    take(code)
    return hashed.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
