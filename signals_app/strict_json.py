"""JSON that means one thing: no repeated keys, exact numbers, one canonical spelling. Pure."""

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from execution_app.errors import Refused

MAX_NUMBER_CHARS = 40


class NotJson(Refused):
    """The bytes are not one strict JSON text within our bounds."""


def parse(body: bytes) -> object:
    """Read strict JSON: UTF-8, no repeated key, no NaN or Infinity, numbers of at most 40 characters.

    Numbers become int or Decimal. Raises NotJson.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_json_integer,
            parse_float=_json_decimal,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise NotJson("the body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise NotJson("the body is nested too deeply") from error


def canonical(value: object) -> str:
    """Write JSON with sorted keys and the shortest exact numbers, so that equal contents are equal texts."""
    if isinstance(value, dict):
        members = (f"{json.dumps(key, ensure_ascii=False)}:{canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return json.dumps(value.astimezone(UTC).isoformat())
    return json.dumps(value, ensure_ascii=False)


def plain(number: Decimal) -> str:
    """Spell a number without exponent and trailing zeros, exactly (Decimal.normalize would round)."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key is given twice in one object")
    return found


def _json_integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise NotJson(f"a number has more than {MAX_NUMBER_CHARS} characters")
    return int(text)


def _json_decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARS:
        raise NotJson(f"a number has more than {MAX_NUMBER_CHARS} characters")
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise NotJson("a number has an exponent out of range") from error


def _refuse_constant(text: str) -> NoReturn:
    raise NotJson(f"{text} is not a JSON number")
