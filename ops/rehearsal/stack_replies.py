"""Replies as redis-cli prints them: numbered and quoted for a terminal, bare for a pipe, or as JSON. Pure."""

import json

from ops.rehearsal.stack_resp import Double, Fault, Map, Reply, Status

_ESCAPES = {ord(letter): f"\\{name}" for letter, name in zip('\\"\n\r\t\a\b', '\\"nrtab', strict=True)}


def quoted(text: bytes) -> str:
    """In double quotes; what is not printable ASCII in hex."""
    shown = (
        _ESCAPES.get(byte)
        or (chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else f"\\x{byte:02x}")
        for byte in text
    )
    return f'"{"".join(shown)}"'


def for_terminal(reply: Reply, indent: str = "") -> str:
    """With types: `(integer) 1`, `(nil)`, `1) "a"`; nested arrays are indented under their number."""
    match reply:
        case bool():
            shown = "(true)" if reply else "(false)"
        case int():
            shown = f"(integer) {reply}"
        case None:
            shown = "(nil)"
        case bytes():
            shown = quoted(reply)
        case Status(text):
            shown = text.decode(errors="backslashreplace")
        case Fault(text):
            shown = f"(error) {text.decode(errors='backslashreplace')}"
        case Double(text):
            shown = f"(double) {text.decode()}"
        case Map(pairs):
            shown = _numbered([part for pair in pairs for part in pair], indent)
        case list():
            shown = _numbered(reply, indent)
    return shown


def _numbered(items: list[Reply], indent: str) -> str:
    if not items:
        return "(empty array)"
    width = len(str(len(items)))
    deeper = indent + " " * (width + 2)
    lines = [f"{number:>{width}}) {for_terminal(item, deeper)}" for number, item in enumerate(items, 1)]
    return f"\n{indent}".join(lines)


def for_pipe(reply: Reply) -> bytes:
    """The bare content, an array's items on lines of their own; nothing for nil."""
    match reply:
        case bool():
            return b"(true)" if reply else b"(false)"
        case int():
            return b"%d" % reply
        case None:
            return b""
        case bytes():
            return reply
        case Status(text) | Double(text):
            return text
        case Fault(text):
            return text + b"\n"  # an empty line follows an error, as from the real one
        case Map(pairs):
            return for_pipe([part for pair in pairs for part in pair])
    return b"\n".join(map(for_pipe, reply))


def as_json(reply: Reply) -> bytes:
    """One line of JSON; bytes that are not UTF-8 are passed on as they are. An error has `error:` before it."""
    return _json(reply).encode(errors="surrogateescape")


def _json(reply: Reply) -> str:
    match reply:
        case bool() | int() | None:
            return json.dumps(reply)
        case bytes():
            return _json_text(reply)
        case Status(text):
            return _json_text(text)
        case Double(text):
            return text.decode()
        case Fault(text):
            return f"error:{_json_text(text)}"
        case Map(pairs):
            return f"{{{','.join(f'{_json_key(key)}:{_json(value)}' for key, value in pairs)}}}"
    return f"[{','.join(map(_json, reply))}]"


def _json_text(text: bytes) -> str:
    return json.dumps(text.decode(errors="surrogateescape"), ensure_ascii=False)


def _json_key(key: Reply) -> str:
    word = _json(key)
    return word if word.startswith('"') else f'"{word}"'
