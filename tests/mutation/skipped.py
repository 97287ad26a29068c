"""What is not mutated, since no test should hold it: words for people, types, and parts that only cost time.

Each kind is named in docs/mutation.md.
"""

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.mutation.changes import Place

LOGGERS = frozenset({"log", "logger", "warnings"})
DECORATORS = frozenset({"dataclass", "lru_cache", "cache", "override", "overload"})
TYPES = frozenset({"TypeVar", "NewType", "cast", "Literal", "ParamSpec", "NamedTuple", "Protocol"})
ANNOTATIONS = frozenset({"annotation", "returns", "type_comment", "type_params"})


def is_skipped(node: ast.AST, field: str, child: ast.AST, place: "Place") -> bool:
    """Whether nothing within `child`, in that field of `node`, is changed."""
    return (
        field in ANNOTATIONS
        or field == "type_ignores"
        or isinstance(
            child, ast.Import | ast.ImportFrom | ast.Assert | ast.Global | ast.Nonlocal | ast.Delete
        )
        or _is_docstring(child)
        or is_log(child)
        or _is_for_types(child, place)
        or (field == "decorator_list" and _last_name(child) in DECORATORS)
        or (isinstance(node, ast.Call) and field == "func" and isinstance(child, ast.Name))
        or (isinstance(node, ast.Raise) and field == "cause")
    )


def is_log(node: ast.AST) -> bool:
    """Whether a statement only writes to the log."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    called = node.value.func
    while isinstance(called, ast.Attribute | ast.Call):
        called = called.value if isinstance(called, ast.Attribute) else called.func
    return isinstance(called, ast.Name) and called.id in LOGGERS


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.AST, place: "Place") -> bool:
    if isinstance(node, ast.If):
        return _last_name(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Assign) and not place.function:
        (target,) = node.targets[:1]
        if isinstance(target, ast.Name):
            named_as_type = target.id.lstrip("_")[:1].isupper() and not target.id.isupper()
            return target.id in ("__all__", "log") or (named_as_type and not isinstance(node.value, ast.Call))
    return isinstance(node, ast.Call) and _last_name(node) in TYPES


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
