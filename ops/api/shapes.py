"""Pieces of JSON Schema 2020-12, as OpenAPI 3.1 takes it."""

from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
COUNT: Json = {"type": "integer", "minimum": 0}
INSTANT: Json = {"type": "string", "format": "date-time"}
TX_HASH: Json = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}


def record(properties: Json, *, optional: tuple[str, ...] = (), about: str = "") -> Json:
    """An object with these members and no others; all but `optional` are always there."""
    schema: Json = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
    return {"description": about, **schema} if about else schema


def named(schema: str) -> Json:
    """A schema of the document by its name."""
    return {"$ref": f"#/components/schemas/{schema}"}


def word(*values: str, about: str = "") -> Json:
    """One of these words."""
    schema: Json = {"type": "string", "enum": list(values)}
    return {"description": about, **schema} if about else schema


def many(items: Json, *, at_most: int | None = None, about: str = "") -> Json:
    schema: Json = {"type": "array", "items": items}
    if at_most is not None:
        schema["maxItems"] = at_most
    return {"description": about, **schema} if about else schema


def maybe(schema: Json) -> Json:
    """The same, or null."""
    if "type" not in schema:
        return either(schema, {"type": "null"})
    wider = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        wider["enum"] = [*schema["enum"], None]
    return wider


def described(schema: Json, about: str) -> Json:
    return {"description": about, **schema}


def either(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


def whole(pattern: str) -> str:
    """A pattern that the code matches against a whole text, as JSON Schema says that."""
    return f"^(?:{pattern})$" if "|" in pattern else f"^{pattern}$"
