"""Every place in the code that commits, writes, signs, asks a node or rings a bell, found by reading its syntax tree.

A place has a stable name, `module:function:what`, with an ordinal where a function
does the same more than once. What is found here and reached by no scenario, and
not listed in `unreached.txt` with a reason, fails the run; so does a listed name
that is no longer there. So nobody can add a commit and forget to crash at it.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("execution_app", "signals_app", "ops")
# Play parts, which are the world outside; rows that migrations write; and the windows that all requests and batches go through.
LEFT_OUT = ("ops/rehearsal/", "/migrations/", "execution_app/node/rpc.py", "execution_app/models/arrays.py")
LISTED = Path(__file__).with_name("unreached.txt")

ORM_ANYWHERE = frozenset({"save", "get_or_create", "update_or_create", "bulk_create", "bulk_update"})
ORM_ON_MANAGERS = frozenset({"create", "update", "delete"})
RPC_VERBS = frozenset({"ask", "read", "read_batch", "read_views"})
GATEWAY_VERBS = frozenset({"post_all", "status"})
ENDPOINT_VERBS = frozenset({"batch", "call", "confirm", "offer"})
WRITING_SQL = re.compile(
    r"INSERT INTO|DELETE FROM|TRUNCATE|(?<!KEY )(?<!FOR )(?<!DO )\bUPDATE \S|ALTER |CREATE |GRANT |REVOKE ",
    re.IGNORECASE,
)


# In which nothing stands.
LEAVES = (
    ast.Constant,
    ast.Name,
    ast.alias,
    ast.expr_context,
    ast.operator,
    ast.cmpop,
    ast.boolop,
    ast.unaryop,
)
_Raw = tuple[str, str, int, int]  # function, what, first and last line


@dataclass(frozen=True)
class Site:
    """One place: what it does, and the lines a frame may stand in while it does."""

    name: str
    kind: str  # commit, write, sign, request, bell, publish
    file: str
    function: str
    first_line: int
    last_line: int


@lru_cache(maxsize=1)
def inspect(root: Path = ROOT) -> tuple[Site, ...]:
    """All places, in the order of files and lines."""
    found: list[Site] = []
    for app in APPS:
        for path in sorted((root / app).rglob("*.py")):
            relative = path.relative_to(root).as_posix()
            if not any(part in f"/{relative}" if part[0] == "/" else part in relative for part in LEFT_OUT):
                found += of_source(path.read_text(encoding="utf-8"), relative)
    return tuple(found)


def of_source(source: str, file: str) -> list[Site]:
    """The places of one file; `file` is relative to the clone, for the module's name."""
    tree = ast.parse(source)
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    raw: list[_Raw] = []
    _walk(tree, (), constants, raw)
    raw.sort(key=lambda one: (one[2], one[3]))
    seen: Counter[tuple[str, str]] = Counter()
    sites = []
    for function, what, first, last in raw:
        seen[function, what] += 1
        number = seen[function, what]
        name = f"{module}:{function}:{what}" + (f" {number}" if number > 1 else "")
        sites.append(Site(name, what.split(" ", 1)[0], file, function, first, last))
    return sites


def _walk(node: ast.AST, inside: tuple[str, ...], constants: dict[str, ast.expr], found: list[_Raw]) -> None:
    """Everything below the node into `found`, which is passed along: every shard reads half a million nodes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, LEAVES):
            continue
        if isinstance(child, ast.ClassDef):
            _walk(child, (*inside, child.name), constants, found)
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(_last_name(decorator) == "atomic" for decorator in child.decorator_list):
                found.append((".".join((*inside, child.name)), "commit", child.lineno, child.end_lineno or 0))
            _walk(child, (*inside, child.name), constants, found)
            continue
        function = ".".join(inside) or "module"
        if isinstance(child, ast.With | ast.AsyncWith):
            for item in child.items:
                if isinstance(item.context_expr, ast.Call) and _last_name(item.context_expr) == "atomic":
                    last = child.items[-1].context_expr.end_lineno or child.lineno
                    found.append((function, "commit", child.lineno, last))
        if isinstance(child, ast.Call) and (what := _what(child, constants)):
            found.append((function, what, child.lineno, child.end_lineno or child.lineno))
        _walk(child, inside, constants, found)


def _what(call: ast.Call, constants: dict[str, ast.expr]) -> str:  # noqa: PLR0911  (one line a form)
    func = call.func
    if isinstance(func, ast.Name):
        if func.id in {"ring", "partial"} and (func.id == "ring" or _names(call.args[:1]) == ["ring"]):
            return "bell"
        return "sign" if func.id == "sign" else ""
    if not isinstance(func, ast.Attribute):
        return ""
    verb, owner = func.attr, func.value
    named = owner.id if isinstance(owner, ast.Name) else ""
    if verb == "sign" and named != "cancels":
        return "sign"
    if (named == "rpc" and verb in RPC_VERBS) or (verb in ENDPOINT_VERBS and "endpoint" in named):
        return f"request {verb}"
    if named == "gateway" and verb in GATEWAY_VERBS:
        return f"request {verb}"
    if verb in {"apply_async", "delay", "send_task"}:
        return f"publish {verb}"
    if verb in ORM_ANYWHERE or (verb in ORM_ON_MANAGERS and _is_orm(call, owner)):
        return f"write {_model(owner)}.{verb}"
    if verb in {"execute", "executemany"} and "cursor" in _chain(owner) and _writes(call.args[:1], constants):
        return "write sql"
    return ""


def _is_orm(call: ast.Call, owner: ast.expr) -> bool:
    if "objects" in _chain(owner):
        return True
    # Of a variable: a dictionary's `update` has positional arguments, a queryset's only keywords; `delete()` has none.
    return isinstance(call.func, ast.Attribute) and (
        (call.func.attr == "update" and not call.args and bool(call.keywords))
        or (call.func.attr == "delete" and not call.args and not call.keywords)
    )


def _chain(node: ast.expr) -> list[str]:
    names: list[str] = []
    while True:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        else:
            return [*names, node.id] if isinstance(node, ast.Name) else names


def _model(owner: ast.expr) -> str:
    if isinstance(owner, ast.Call) and (named := _names(owner.args)):
        return named[0]  # rows of a model that is named, as `rows_of(TxSend)`
    chain = _chain(owner)
    return chain[-1] if chain else "row"


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names(nodes: list[ast.expr]) -> list[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def _writes(arguments: list[ast.expr], constants: dict[str, ast.expr]) -> bool:
    """Whether the statement writes; one that cannot be read here counts as if it did."""
    if not arguments:
        return False
    text = _text(arguments[0], constants)
    return text is None or bool(WRITING_SQL.search(text))


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    if isinstance(node, ast.Name) and node.id in constants:
        return _text(constants[node.id], {})
    return None


def listed() -> dict[str, str]:
    """Names, or beginnings of names with a `*` at the end, that no scenario reaches, with the reason of each."""
    found: dict[str, str] = {}
    for line in LISTED.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" | ")
            assert reason.strip(), f"{LISTED.name}: {name} has no reason"
            found[name.strip()] = reason.strip()
    return found


def is_listed(name: str, names: dict[str, str]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in names)


def gone(names: dict[str, str]) -> list[str]:
    """Listed names that stand for no place any more."""
    return [one for one in names if not any(is_listed(site.name, {one: ""}) for site in inspect())]


def missed(reached: set[str]) -> list[str]:
    """Places that nobody reached and nobody excused."""
    names = listed()
    return [site.name for site in inspect() if site.name not in reached and not is_listed(site.name, names)]
