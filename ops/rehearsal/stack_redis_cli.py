"""`redis-cli [-u URL] [-h HOST] [-p PORT] [-n DB] [-a PASSWORD] [--raw] COMMAND ARGUMENT…` over redis-py."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import redis

TIMEOUT_S = 10


def text(reply: object, *, raw: bool, indent: str = "") -> str:
    """A reply as redis-cli shows it: to a terminal with types and quotes, to a pipe bare."""
    if isinstance(reply, list | tuple):
        if raw:
            return "\n".join(text(item, raw=True) for item in reply)
        if not reply:
            return "(empty array)"
        lines = []
        for number, item in enumerate(reply, 1):
            label = f"{number}) "
            shown = text(item, raw=False, indent=indent + " " * len(label))
            lines.append(f"{indent if number > 1 else ''}{label}{shown}")
        return "\n".join(lines)
    if isinstance(reply, bytes):
        word = reply.decode(errors="backslashreplace")
        return word if raw else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if reply is None:
        return "" if raw else "(nil)"
    if isinstance(reply, redis.ResponseError):
        return f"(error) {reply}"
    if isinstance(reply, int):
        return str(reply) if raw else f"(integer) {reply}"
    return str(reply)


def client(options: argparse.Namespace) -> redis.Redis:
    url = options.u or ("" if options.h or options.p else os.environ.get("REDIS_URL", ""))
    parts = urlsplit(url or "redis://127.0.0.1:6379/0")
    path = parts.path.strip("/")
    return redis.Redis(
        host=options.h or parts.hostname or "127.0.0.1",
        port=options.p or parts.port or 6379,
        db=options.n if options.n is not None else int(path or 0),
        username=parts.username,
        password=options.a or parts.password,
        ssl=parts.scheme == "rediss",
        socket_connect_timeout=TIMEOUT_S,
        protocol=2,
    )


def ask(connected: redis.Redis, words: Sequence[str]) -> object:
    """One command on the wire, its reply untouched by the library's conversions. Raises RedisError."""
    connection = connected.connection_pool.get_connection()
    try:
        connection.send_command(*words)  # type: ignore[no-untyped-call]
        return connection.read_response()
    finally:
        connected.connection_pool.release(connection)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="redis-cli", add_help=False)
    parser.add_argument("--help", action="help")
    parser.add_argument("-u", metavar="URL")
    parser.add_argument("-h", metavar="HOST")
    parser.add_argument("-p", metavar="PORT", type=int)
    parser.add_argument("-n", metavar="DB", type=int)
    parser.add_argument("-a", metavar="PASSWORD")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    raw = options.raw or not sys.stdout.isatty()
    connected = client(options)
    lines = [options.words] if options.words else (shlex.split(line) for line in sys.stdin)
    failed = False
    for words in lines:
        if not words:
            continue
        try:
            reply = ask(connected, words)
        except redis.ResponseError as error:
            reply, failed = error, True
        except redis.RedisError as error:
            print(f"Could not connect to Redis: {error}", file=sys.stderr)
            return 1
        # redis-py hands both kinds of string out as bytes; OK and PONG come from simple ones in practice.
        print(
            reply.decode()
            if isinstance(reply, bytes) and reply in {b"OK", b"PONG", b"QUEUED"}
            else text(reply, raw=raw)
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
