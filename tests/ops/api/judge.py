"""Whether a real answer is what the document promises for its route, method and status."""

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from ops.api.document import document


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Judges by a schema of the document, with the document's own schemas beside it."""
    return Draft202012Validator(
        {**schema, "components": document()["components"]}, format_checker=FormatChecker()
    )


def promised(path: str, method: str, status: int) -> tuple[str, dict[str, Any]]:
    """The response that the document has for it, and under which name."""
    responses = document()["paths"][path][method]["responses"]
    name = str(status) if str(status) in responses else "default"
    return name, responses[name]


def check(answer: Any, path: str, method: str) -> str:
    """Hold an answer against the document; returns the name of the response it was held against."""
    name, response = promised(path, method, answer.status_code)
    (media_type,) = response["content"]
    assert answer["Content-Type"].partition(";")[0] == media_type
    for header, reference in response["headers"].items():
        described = document()["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        given = answer[header]
        value = int(given) if described["schema"]["type"] == "integer" else given
        validator(described["schema"]).validate(value)
    schema = response["content"][media_type]["schema"]
    text = answer.content.decode()
    validator(schema).validate(json.loads(text) if media_type == "application/json" else text)
    return name
