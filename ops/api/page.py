"""The document as a page shows it: operations and schemas as rows of plain text and links."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from ops.api.shapes import Json

METHODS = ("get", "post", "put", "patch", "delete")
NO_KIND = mark_safe("")


@dataclass(frozen=True, slots=True)
class Row:
    """A field, a parameter, a header or a status: its name, what it is, and what it means."""

    name: str
    kind: SafeString
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Each of `access` is enough by itself; none means that anybody may ask."""

    anchor: str
    method: str
    path: str
    summary: str
    about: str
    access: list[str]
    parameters: list[Row]
    body: Row | None
    examples: list[Example]
    answers: list[Row]


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    about: str
    operations: list[Operation]


@dataclass(frozen=True, slots=True)
class Schema:
    """`rules` are what its fields must say together; `kind` is blank where it has fields."""

    name: str
    about: str
    kind: SafeString
    fields: list[Row]
    rules: list[str]


def context(document: Json) -> dict[str, Any]:
    """What the template is given."""
    components = document["components"]
    operations = list(_operations(document))
    return {
        "info": document["info"],
        "groups": [
            Group(
                tag["name"],
                tag["description"],
                [operation for tags, operation in operations if tag["name"] in tags],
            )
            for tag in document["tags"]
        ],
        "access": [
            Row(_title(name, scheme), NO_KIND, scheme["description"])
            for name, scheme in components["securitySchemes"].items()
        ],
        "schemas": [_schema(name, schema) for name, schema in components["schemas"].items()],
    }


def _operations(document: Json) -> Iterator[tuple[list[str], Operation]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield item[method]["tags"], _operation(document, method, path, item[method])


def _operation(document: Json, method: str, path: str, operation: Json) -> Operation:
    body = operation.get("requestBody")
    return Operation(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        about=operation.get("description", ""),
        access=_access(document, operation["security"]),
        parameters=[
            Row(item["name"], kind(item["schema"]), f"for example {item['example']}", required=True)
            for item in operation.get("parameters", [])
        ],
        body=body and Row("body", _content(body), body["description"], required=body["required"]),
        examples=_examples(operation),
        answers=[
            Row(
                "otherwise" if status == "default" else status,
                _content(item),
                _with_headers(item),
            )
            for status, item in sorted(operation["responses"].items())
        ],
    )


def _access(document: Json, requirements: list[Json]) -> list[str]:
    """Each alternative in words."""
    schemes = document["components"]["securitySchemes"]
    return [" + ".join(_title(name, schemes[name]) for name in needed) for needed in requirements]


def _title(name: str, scheme: Json) -> str:
    """A security scheme by what a reader sees of it: a header's name, or whose token it carries."""
    return str(scheme["name"]) if scheme["type"] == "apiKey" else f"Authorization: Bearer {name}"


def _content(item: Json) -> SafeString:
    return format_html_join(", ", "{}", ((kind(part["schema"]),) for part in item["content"].values()))


def _with_headers(response: Json) -> str:
    headers = [name for name in response["headers"] if name != "X-Request-Id"]
    return f"{response['description']} Header: {', '.join(headers)}." if headers else response["description"]


def _examples(operation: Json) -> list[Example]:
    bodies = [
        Example(example["summary"], json.dumps(example["value"], indent=2))
        for content in operation.get("requestBody", {"content": {}})["content"].values()
        for example in content.get("examples", {}).values()
    ]
    return [*bodies, *(Example(item["label"], item["source"]) for item in operation.get("x-codeSamples", []))]


def _schema(name: str, schema: Json) -> Schema:
    properties: Json = schema.get("properties", {})
    return Schema(
        name=name,
        about=schema.get("description", ""),
        kind=NO_KIND if properties else kind(schema),
        fields=[
            Row(field, kind(part), part.get("description", ""), field in schema["required"])
            for field, part in properties.items()
        ],
        rules=[rule["description"] for rule in schema.get("allOf", [])],
    )


def kind(schema: Json) -> SafeString:
    """What a value may be, in a few words; names of schemas are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return format_html('<a href="#{}">{}</a>', name, name)
    if "anyOf" in schema:
        return _alternatives([kind(part) for part in schema["anyOf"]])
    if "enum" in schema:
        return _words(schema["enum"])
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return _alternatives([_simple(name, schema) for name in types])


def _alternatives(parts: list[SafeString]) -> SafeString:
    return format_html_join(" or ", "{}", ((part,) for part in parts))


def _words(values: list[str | None]) -> SafeString:
    spelled = [format_html("<code>{}</code>", value or '""') for value in values if value is not None]
    listed = format_html_join(", ", "{}", ((part,) for part in spelled))
    listed = format_html("one of {}", listed) if len(spelled) > 1 else listed
    return format_html("{} or null", listed) if None in values else listed


def _simple(name: str, schema: Json) -> SafeString:
    if name == "array":
        most = f" (at most {schema['maxItems']})" if "maxItems" in schema else ""
        return format_html("list{} of {}", most, kind(schema["items"]))
    if name == "object" and schema.get("properties"):
        members = ((member, kind(part)) for member, part in schema["properties"].items())
        return format_html("object of {}", format_html_join("; ", "<code>{}</code>: {}", members))
    limits = [words.format(schema[key]) for key, words in _LIMITS[name].items() if key in schema]
    text = "time (RFC 3339)" if name == "string" and schema.get("format") == "date-time" else name
    said = format_html("{}", " ".join([text, ", ".join(limits)]).strip())
    if name == "string" and "pattern" in schema:
        return format_html("{} like <code>{}</code>", said, schema["pattern"])
    return said


_NUMERIC = {"minimum": "from {:,}", "exclusiveMinimum": "above {:,}", "maximum": "up to {:,}"}
_LIMITS: dict[str, dict[str, str]] = {
    "string": {"maxLength": "of at most {} characters"},
    "number": _NUMERIC,
    "integer": _NUMERIC,
    "boolean": {},
    "object": {},
    "null": {},
}
