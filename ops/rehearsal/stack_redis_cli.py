"""`redis-cli [options] [COMMAND ARGUMENT…]` where no real one is installed: the common options, the same output.

Unlike the real one it ends with 1 whenever a command failed, not only with -e.
"""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ops.rehearsal.stack_replies import as_json, for_pipe, for_terminal, quoted
from ops.rehearsal.stack_resp import CONNECT_TIMEOUT_S, Fault, Reply, Wire

WARNING = (
    "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n"
)
# Whose answer is a text for people, on a terminal, too.
TEXTS = {b"INFO", b"LOLWUT", b"CLIENT LIST", b"CLIENT INFO", b"MEMORY DOCTOR", b"LATENCY DOCTOR"}
ENDLESS = {b"MONITOR", b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}
WORD = re.compile(rb"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']\S*))(?=\s|$)""", re.DOTALL)
ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


@dataclass(frozen=True)
class Server:
    """Where to connect, and as whom."""

    host: str
    port: int
    database: int
    user: str
    password: str
    tls: bool
    timeout_s: float


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="redis-cli", add_help=False, allow_abbrev=False)
    parser.add_argument("--help", action="help")
    parser.add_argument("-h", metavar="HOST")
    parser.add_argument("-p", metavar="PORT", type=int)
    parser.add_argument("-t", metavar="SECONDS", type=float, default=CONNECT_TIMEOUT_S)
    parser.add_argument("-u", metavar="URL", help="redis[s]://[USER[:PASSWORD]@]HOST:PORT[/DB]")
    parser.add_argument("-n", metavar="DB", type=int)
    parser.add_argument(
        "-a", "--pass", dest="password", metavar="PASSWORD", help="or REDISCLI_AUTH in the environment"
    )
    parser.add_argument("--user", metavar="USER")
    parser.add_argument("--no-auth-warning", action="store_true")
    parser.add_argument("-e", action="store_true", help="end with 1 after an error; so it does anyway")
    parser.add_argument("-x", action="store_true", help="take the last argument from standard input")
    parser.add_argument("--raw", action="store_true", help="bare output on a terminal, too")
    parser.add_argument("--no-raw", action="store_true", help="formatted output into a pipe, too")
    parser.add_argument("--json", action="store_true", help="output in JSON, over RESP3")
    parser.add_argument("--scan", action="store_true", help="list keys with SCAN")
    parser.add_argument("--pattern", metavar="GLOB", help="of --scan")
    parser.add_argument("--count", metavar="N", help="of --scan")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def server(options: argparse.Namespace) -> Server:
    """REDIS_URL is where the stack's own server is; naming a host or a port turns from it."""
    named = options.h or options.p
    url = urlsplit(
        options.u or ("" if named else os.environ.get("REDIS_URL", "")) or "redis://127.0.0.1:6379"
    )
    path = url.path.strip("/")
    return Server(
        host=options.h or url.hostname or "127.0.0.1",
        port=options.p or url.port or 6379,
        database=options.n if options.n is not None else int(path or 0),
        user=options.user or unquote(url.username or ""),
        password=options.password or unquote(url.password or "") or os.environ.get("REDISCLI_AUTH", ""),
        tls=url.scheme == "rediss",
        timeout_s=options.t,
    )


class Session:
    """A connection and how its replies are shown."""

    def __init__(self, wire: Wire, *, form: str) -> None:
        self.failed = False
        self._wire = wire
        self._form = form

    def run(self, words: Sequence[bytes]) -> None:
        """Send one command and print what comes. Raises OSError."""
        self.show(self._wire.ask(words), words)
        while words[0].upper() in ENDLESS and not self.failed:
            self.show(self._wire.read(), words)

    def show(self, reply: Reply, words: Sequence[bytes] = ()) -> None:
        if self._form == "json":
            content = as_json(reply)
        elif self._form == "raw" or (isinstance(reply, bytes) and is_text(words)):
            content = for_pipe(reply)
        else:
            content = for_terminal(reply).encode()
        self.failed = self.failed or isinstance(reply, Fault)
        put(content)

    def scan(self, options: argparse.Namespace) -> None:
        """Every key once or more, as SCAN gives them, a line each."""
        cursor = b"0"
        extra = [(b"MATCH", options.pattern), (b"COUNT", options.count)]
        more = [word for name, value in extra if value for word in (name, os.fsencode(value))]
        while True:
            reply = self._wire.ask([b"SCAN", cursor, *more])
            match reply:
                case [bytes() as cursor, list() as keys]:
                    for key in keys:
                        assert isinstance(key, bytes)
                        put(quoted(key).encode() if self._form == "terminal" else key)
                case _:
                    self.show(reply)
                    return
            if cursor == b"0":
                return


def is_text(words: Sequence[bytes]) -> bool:
    upper = [word.upper() for word in words]
    return b" ".join(upper[:2]) in TEXTS or upper[:1] == [b"INFO"]


def put(content: bytes) -> None:
    sys.stdout.buffer.write(content + b"\n")
    sys.stdout.buffer.flush()


def split(line: bytes) -> list[bytes] | None:
    """A line's words, with redis-cli's quotes and escapes; None where a quote is not closed."""
    words, place = [], 0
    line = line.rstrip()
    while place < len(line):
        found = WORD.match(line, place)
        if found is None:
            return None
        double, single, bare = found.groups()
        if double is not None:
            words.append(ESCAPE.sub(_unescaped, double))
        else:
            words.append(single.replace(b"\\'", b"'") if single is not None else bare)
        place = found.end()
    return words


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes.fromhex(found[1].decode())
    return CONTROLS.get(found[2], found[2])


def greet(wire: Wire, to: Server, *, with_json: bool) -> str:
    """Log in, choose the protocol and the database. Answers why the server refuses, blank when it does not."""
    login = [word.encode() for word in (to.user, to.password) if word] if to.password else []
    steps = [
        ("AUTH", [b"AUTH", *login]) if login else None,
        ("HELLO", [b"HELLO", b"3"]) if with_json else None,
        (f"SELECT {to.database}", [b"SELECT", b"%d" % to.database]) if to.database else None,
    ]
    for step in steps:
        if step is not None:
            reply = wire.ask(step[1])
            if isinstance(reply, Fault):
                return f"{step[0]} failed: {reply.text.decode(errors='backslashreplace')}"
    return ""


def commands(options: argparse.Namespace, prompt: str) -> Iterator[list[bytes]]:
    """From the arguments, else from standard input, a line each, until it ends or says quit."""
    words = [os.fsencode(word) for word in options.words]
    if words or options.x:
        yield [*words, sys.stdin.buffer.read()] if options.x else words
        return
    while True:
        if sys.stdin.isatty():
            sys.stdout.write(prompt)
            sys.stdout.flush()
        line = sys.stdin.buffer.readline()
        found = split(line)
        if not line or (found and found[0].lower() in {b"quit", b"exit"}):
            return
        if found is None:
            put(b"Invalid argument(s)")
        elif found:
            yield found


def form(options: argparse.Namespace) -> str:
    if options.json:
        return "json"
    return "raw" if options.raw or not (options.no_raw or sys.stdout.isatty()) else "terminal"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    to = server(options)
    if not options.no_auth_warning and (options.password or urlsplit(options.u or "").password):
        sys.stderr.write(WARNING)
    try:
        wire = Wire(to.host, to.port, tls=to.tls, timeout_s=to.timeout_s)
    except OSError as error:
        why = error.strerror or str(error)
        sys.stderr.write(f"Could not connect to Redis at {to.host}:{to.port}: {why}\n")
        return 1
    with contextlib.closing(wire):
        try:
            return talk(wire, to, options)
        except OSError as error:
            sys.stderr.write(f"Error: {error}\n")
            return 1
        except KeyboardInterrupt:
            return 130


def talk(wire: Wire, to: Server, options: argparse.Namespace) -> int:
    refusal = greet(wire, to, with_json=options.json)
    if refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    session = Session(wire, form=form(options))
    if options.scan:
        session.scan(options)
        return int(session.failed)
    database = f"[{to.database}]" if to.database else ""
    for words in commands(options, f"{to.host}:{to.port}{database}> "):
        session.run(words)
    return int(session.failed)


if __name__ == "__main__":
    sys.exit(main())
