"""What may be changed at a node of a syntax tree, and into what. Each change is small, legal and for one place."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Path = tuple[tuple[str, int | None], ...]
Enums = dict[str, dict[str, str]]  # name of an enum here → member → the next member
Function = ast.FunctionDef | ast.AsyncFunctionDef

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitOr,
}
OTHER_CALLS = {
    "min": "max", "max": "min", "any": "all", "all": "any",
    "filter": "exclude", "exclude": "filter", "first": "last", "last": "first",
    "median_low": "median_high", "lower": "upper",
}  # fmt: skip
# Links of a chain that can be left out: `rows.order_by("id")` → `rows`.
LINKS = frozenset(
    {"filter", "exclude", "order_by", "distinct", "select_for_update", "reverse", "strip", "lower", "search"}
)
ASKED = frozenset(
    {"filter", "exclude", "get", "update", "get_or_create", "update_or_create", "create", "Q", "Count", "Sum"}
    | {"select_for_update", "replace"}
)
MARK = "~"


@dataclass(frozen=True)
class Place:
    """What is around a node: the outermost function, its classes, its statement, and whether it is words."""

    function: str = ""
    classes: str = ""
    statement: ast.stmt | None = None
    raised: bool = False
    formatted: bool = False

    def within(self, node: ast.AST, field: str, child: ast.AST) -> "Place":
        place = self
        if isinstance(node, ast.ClassDef) and not self.function:
            place = replace(place, classes=f"{self.classes}{node.name}.")
        if isinstance(node, Function) and field == "body" and not self.function:
            place = replace(place, function=place.classes + node.name)
        if isinstance(node, ast.Raise) and field == "exc":
            place = replace(place, raised=True)
        if isinstance(node, ast.JoinedStr):
            place = replace(place, formatted=True)
        if isinstance(child, ast.stmt):
            place = replace(place, statement=child, raised=False, formatted=False)
        return place


@dataclass(frozen=True)
class Change:
    kind: str
    old: str
    new: str
    node: ast.AST
    within: str
    line: int
    lines: tuple[int, int]
    context: str
    path: Path = ()

    def at(self, path: Path) -> "Change":
        return replace(self, path=path)


def of(node: ast.AST, place: Place, enums: Enums) -> Iterator[Change]:
    """Every change at this very node."""
    for kind, new in _kinds(node, place, enums):
        if isinstance(new, ast.stmt | ast.expr | ast.excepthandler):
            ast.copy_location(new, node)
        statement = place.statement
        line = int(getattr(node, "lineno", 0) or getattr(statement, "lineno", 1))
        yield Change(
            kind=kind,
            old=_told(node),
            new=_told(new),
            node=new,
            within=place.function,
            line=line,
            lines=_lines(node, statement, line),
            context=ast.dump(statement) if statement else "",
        )


def _lines(node: ast.AST, statement: ast.stmt | None, line: int) -> tuple[int, int]:
    """Where a run passes that may notice."""
    if isinstance(node, ast.ExceptHandler):
        return node.body[0].lineno, node.body[0].lineno
    if isinstance(node, ast.With | ast.If | ast.For | ast.While | ast.Try):
        return line, line
    return (statement.lineno if statement else line), int(getattr(node, "end_lineno", line) or line)


def _told(node: ast.AST) -> str:
    """One line of source; of what has a body, its head."""
    if isinstance(node, ast.ExceptHandler):
        body = "; ".join(_told(one) for one in node.body)
        return f"except {ast.unparse(node.type) if node.type else ''}: {body}"
    if isinstance(node, ast.With):
        return "with " + ", ".join(map(ast.unparse, node.items)) + ":"
    if isinstance(node, ast.If) and isinstance(node.test, ast.Constant):
        return "(no with)"
    if isinstance(node, ast.comprehension):
        return "if " + " if ".join(map(ast.unparse, node.ifs)) if node.ifs else "(no if)"
    if isinstance(node, Function):
        return ", ".join("@" + ast.unparse(one) for one in node.decorator_list) or "(no decorator)"
    return " ".join(ast.unparse(node).split())


def _kinds(node: ast.AST, place: Place, enums: Enums) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.expr):
        yield from _expressions(node, place, enums)
    elif isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.ExceptHandler):
        yield from _handlers(node.type, node.name, node.body)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield "condition", ast.comprehension(node.target, node.iter, [], node.is_async)
        if len(node.ifs) == 1 and _is_plain(node.ifs[0]):
            turned: list[ast.expr] = [ast.UnaryOp(ast.Not(), node.ifs[0])]
            yield "condition", ast.comprehension(node.target, node.iter, turned, node.is_async)


def _expressions(node: ast.expr, place: Place, enums: Enums) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(left, ops, comparators):
            for at, op in enumerate(ops):
                for other in COMPARED[type(op)]:
                    yield "compare", ast.Compare(left, [*ops[:at], other(), *ops[at + 1 :]], comparators)
        case ast.BoolOp(op, values):
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for at in range(len(values)):
                left_over = [*values[:at], *values[at + 1 :]]
                yield "operand", ast.BoolOp(op, left_over) if len(left_over) > 1 else left_over[0]
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield "unary", operand
        case ast.BinOp(left, op, right) if type(op) in COUNTED and not (_is_text(left) or _is_text(right)):
            yield "arithmetic", ast.BinOp(left, COUNTED[type(op)](), right)
        case ast.Constant(value) if not isinstance(node, ast.JoinedStr):
            yield from _constants(value, place)
        case ast.Attribute(ast.Name(enum), member) if member in enums.get(enum, {}):
            yield "member", ast.Attribute(ast.Name(enum, ast.Load()), enums[enum][member], node.ctx)
        case ast.Call():
            yield from _calls(node)
        case ast.IfExp(test, body, orelse) if _is_plain(test):
            yield "condition", ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)


def _constants(value: Any, place: Place) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, str) and value.strip() and not (place.raised or place.formatted):
        number = value.removeprefix("-").replace(".", "", 1).isdigit()
        yield "constant", ast.Constant(value + "1" if number else value + MARK)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    func, args, keywords = node.func, node.args, node.keywords
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    if name in OTHER_CALLS:
        other = OTHER_CALLS[name]
        called = ast.Attribute(func.value, other, func.ctx) if isinstance(func, ast.Attribute) else None
        yield "call", ast.Call(called or ast.Name(other, ast.Load()), args, keywords)
    if isinstance(func, ast.Attribute) and name in LINKS and not isinstance(func.value, ast.Constant):
        yield "link", func.value
    if name in ASKED:
        for at in range(len(keywords)):
            yield "argument", ast.Call(func, args, [*keywords[:at], *keywords[at + 1 :]])


def _handlers(kind: ast.expr | None, name: str | None, body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    if not (len(body) == 1 and isinstance(body[0], ast.Raise) and body[0].exc is None):
        yield "handler", ast.ExceptHandler(kind, name, [ast.copy_location(ast.Raise(), body[0])])
    if isinstance(kind, ast.Tuple) and len(kind.elts) > 1:
        for at in range(len(kind.elts)):
            fewer = ast.Tuple([*kind.elts[:at], *kind.elts[at + 1 :]], ast.Load())
            yield "handler", ast.ExceptHandler(ast.copy_location(fewer, kind), name, body)


def _statements(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(test, body, orelse) if _is_plain(test):
            yield "condition", ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.While(test, body, orelse) if _is_plain(test):
            yield "condition", ast.While(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Expr(ast.Call() | ast.Await()) | ast.Raise() | ast.AugAssign() | ast.Break():
            yield "statement", ast.Pass()
        case ast.Continue() | ast.Return(None):
            yield "statement", ast.Pass()
        case ast.Return(value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "returned", ast.Return(ast.Constant(None))
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield "statement", ast.Pass()
        case ast.With(items, body) if all(item.optional_vars is None for item in items) and not _locks(items):
            yield "with", ast.If(ast.Constant(True), body, [])
        case ast.FunctionDef(decorator_list=decorators) if any(map(_is_atomic, decorators)):
            fewer = [one for one in decorators if not _is_atomic(one)]
            clone = ast.FunctionDef(**dict(ast.iter_fields(node)) | {"decorator_list": fewer})
            yield "decorator", clone


def _is_plain(test: ast.expr) -> bool:
    """Whether no other change turns this condition round."""
    return not isinstance(test, ast.Compare | ast.UnaryOp | ast.BoolOp)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _locks(items: list[ast.withitem]) -> bool:
    """A lock between threads, which one run of a test does not show to be missing."""
    return any("lock" in ast.unparse(item.context_expr).lower() for item in items)


def _is_atomic(node: ast.expr) -> bool:
    return ast.unparse(node).startswith("transaction.atomic")


def enums_of(tree: ast.Module, module: str) -> Enums:
    """The enums of `states` as this module names them, each member with the one after it."""
    from tests.mutation.mutants import ROOT

    states = ast.parse((ROOT / "execution_app" / "states.py").read_text(encoding="utf-8"))
    known: Enums = {}
    for one in states.body:
        if isinstance(one, ast.ClassDef):
            names = [part.targets[0].id for part in one.body if isinstance(part, ast.Assign)]  # type: ignore[attr-defined]
            known[one.name] = dict(zip(names, [*names[1:], names[0]], strict=True))
    if module == "execution_app.states":
        return known | {"S": known["IntentState"]}
    here: Enums = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "execution_app.states":
            here |= {one.asname or one.name: known[one.name] for one in node.names if one.name in known}
    return here
