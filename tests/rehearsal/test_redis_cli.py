"""The stack's redis-cli, against the real server: options, forms of output, exit codes."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.rehearsal import stack_tools
from ops.rehearsal.parts import Valkey, port
from ops.rehearsal.stack_redis_cli import split
from ops.rehearsal.stack_replies import as_json, for_pipe, for_terminal
from ops.rehearsal.stack_resp import Double, Fault, Map, Reply, Status

STOP = '{"mode":"DRY","emergency_stop":true}'
Cli = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("cli") / "valkey") as server:
        yield server


@pytest.fixture
def cli(valkey: Valkey, tmp_path: Path) -> Cli:
    stack_tools.place(tmp_path / "bin", tmp_path, valkey.url)

    def run(*words: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"} | more
        program = tmp_path / "bin" / "redis-cli"
        return subprocess.run(
            [program, *words], env=env, input=stdin, capture_output=True, timeout=30, check=False, cwd="/"
        )

    assert run("FLUSHALL").stdout == b"OK\n"
    return run


def test_a_stop_is_set_and_read_as_an_operator_types_it(cli: Cli) -> None:
    assert (cli("SET", "exec_mode", STOP).stdout, cli("GET", "exec_mode").stdout) == (
        b"OK\n",
        STOP.encode() + b"\n",
    )


def test_the_server_is_found_by_every_way_of_naming_it(cli: Cli, valkey: Valkey) -> None:
    at = str(valkey.port)
    closed = {"REDIS_URL": f"redis://127.0.0.1:{port.any_free()}"}
    for words in (
        ("-h", "127.0.0.1", "-p", at),
        ("-p", at),
        ("-u", valkey.url),
        ("-t", "3", "-u", valkey.url),
    ):
        assert cli(*words, "PING", **closed).stdout == b"PONG\n"
    away = cli("PING", **closed)
    assert (away.returncode, away.stdout) == (1, b"")
    assert away.stderr.startswith(b"Could not connect to Redis at 127.0.0.1:")
    assert away.stderr.endswith(b": Connection refused\n")


def test_a_database_is_chosen(cli: Cli, valkey: Valkey) -> None:
    assert cli("-n", "3", "SET", "k", "three").returncode == 0
    assert cli("GET", "k").stdout == b"\n"
    assert cli("-u", f"redis://127.0.0.1:{valkey.port}/3", "GET", "k").stdout == b"three\n"
    beyond = cli("-n", "99", "SET", "k", "lost")
    assert (beyond.returncode, beyond.stdout) == (1, b"")
    assert beyond.stderr.startswith(b"SELECT 99 failed: ERR")


def test_a_password_is_given_in_every_way(cli: Cli, valkey: Valkey) -> None:
    assert cli("ACL", "SETUSER", "ann", "on", ">s3cret pw", "~*", "+@all").returncode == 0
    as_ann = ("--user", "ann", "--no-auth-warning")
    asked = cli("--user", "ann", "-a", "s3cret pw", "ACL", "WHOAMI")
    assert asked.stdout == b"ann\n"
    assert asked.stderr.startswith(b"Warning: Using a password")
    quiet = cli(*as_ann, "-a", "s3cret pw", "ACL", "WHOAMI")
    assert (quiet.stdout, quiet.stderr) == (b"ann\n", b"")
    assert cli("--user", "ann", "ACL", "WHOAMI", REDISCLI_AUTH="s3cret pw").stdout == b"ann\n"
    url = f"redis://ann:s3cret%20pw@127.0.0.1:{valkey.port}/0"
    assert cli("-u", url, "--no-auth-warning", "ACL", "WHOAMI").stdout == b"ann\n"
    wrong = cli(*as_ann, "-a", "wrong", "SET", "k", "v")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert wrong.stderr.startswith(b"AUTH failed: WRONGPASS")


def test_replies_into_a_pipe_are_bare(cli: Cli) -> None:
    cli("RPUSH", "list", "a", 'b "c"', "ü")
    cases = {
        ("LRANGE", "list", "0", "-1"): 'a\nb "c"\nü\n',
        ("LLEN", "list"): "3\n",
        ("GET", "none"): "\n",
        ("LRANGE", "none", "0", "-1"): "\n",
        ("EVAL", "return {1, {'x', 'y'}, 'z'}", "0"): "1\nx\ny\nz\n",
    }
    assert {words: cli(*words).stdout.decode() for words in cases} == cases


def test_replies_for_people_have_types(cli: Cli) -> None:
    cli("RPUSH", "list", *map(str, range(10)))
    assert cli("--no-raw", "LLEN", "list").stdout == b"(integer) 10\n"
    shown = cli("--no-raw", "LRANGE", "list", "0", "-1").stdout.decode().splitlines()
    assert (shown[0], shown[8], shown[9]) == (' 1) "0"', ' 9) "8"', '10) "9"')
    assert cli("--no-raw", "GET", "none").stdout == b"(nil)\n"
    assert cli("--no-raw", "KEYS", "none").stdout == b"(empty array)\n"
    assert cli("--no-raw", "--raw", "GET", "none").stdout == b"\n"
    assert cli("--no-raw", "INFO", "server").stdout.startswith(b"# Server\r\n")


def test_an_error_is_printed_and_ends_with_1(cli: Cli) -> None:
    bare, formatted = cli("NONSENSE"), cli("--no-raw", "NONSENSE")
    assert bare.stdout.startswith(b"ERR unknown command 'NONSENSE'")
    assert bare.stdout.endswith(b"\n\n")
    assert formatted.stdout.startswith(b"(error) ERR unknown command")
    assert (bare.returncode, formatted.returncode, cli("-e", "NONSENSE").returncode) == (1, 1, 1)


def test_json_keeps_the_shape(cli: Cli) -> None:
    cli("HSET", "hash", "mode", "DRY", 'quote"', "tab\t")
    assert json.loads(cli("--json", "HGETALL", "hash").stdout) == {"mode": "DRY", 'quote"': "tab\t"}
    assert cli("--json", "EVAL", "return {1, false, 'x', {}}", "0").stdout == b'[1,null,"x",[]]\n'
    failed = cli("--json", "NONSENSE")
    assert failed.stdout.startswith(b'error:"ERR unknown')
    assert failed.returncode == 1


def test_the_last_argument_may_come_from_standard_input(cli: Cli) -> None:
    content = bytes(range(256))
    assert cli("-x", "SET", "blob", stdin=content).stdout == b"OK\n"
    assert cli("GET", "blob").stdout == content + b"\n"


def test_commands_may_come_from_standard_input(cli: Cli) -> None:
    lines = (
        f"SET a 'x y'\n\nSET b \"1\\n2\"\nGET a\nGET b\nSET exec_mode '{STOP}'\nGET exec_mode\nquit\nGET a\n"
    )
    done = cli(stdin=lines.encode())
    assert done.stdout.decode() == f"OK\nOK\nx y\n1\n2\nOK\n{STOP}\n"
    assert done.returncode == 0
    mixed = cli(stdin=b'NONSENSE\nGET "open\nGET a\n')
    assert mixed.stdout.endswith(b"\n\nInvalid argument(s)\nx y\n")
    assert mixed.returncode == 1


def test_keys_are_scanned(cli: Cli) -> None:
    cli(stdin="".join(f"SET key:{number} 1\nSET other:{number} 1\n" for number in range(60)).encode())
    found = cli("--scan", "--pattern", "key:*", "--count", "7").stdout.decode().split()
    assert set(found) == {f"key:{number}" for number in range(60)}
    assert len(set(cli("--scan").stdout.split())) == 120


def test_a_subscription_goes_on_until_it_is_ended(cli: Cli, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    program = [str(tmp_path / "bin" / "redis-cli"), "SUBSCRIBE", "news"]
    with subprocess.Popen(program, env=env, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert [listener.stdout.readline() for _ in range(3)] == [b"subscribe\n", b"news\n", b"1\n"]
        assert cli("PUBLISH", "news", "one").stdout == b"1\n"
        cli("PUBLISH", "news", "two")
        assert [listener.stdout.readline() for _ in range(6)][2::3] == [b"one\n", b"two\n"]
        listener.terminate()


def test_unknown_options_are_refused(cli: Cli) -> None:
    assert cli("--pattrn", "x", "--scan").returncode == 2
    assert cli("LRANGE", "none", "0", "-1").returncode == 0


def test_every_kind_of_reply_has_each_form() -> None:
    reply: Reply = [
        Status(b"OK"),
        Fault(b"ERR no"),
        7,
        None,
        b'a"\x00\n',
        [],
        [1, [b"x"]],
        Double(b"1.5"),
        True,
    ]
    assert for_terminal(reply).splitlines() == [
        "1) OK",
        "2) (error) ERR no",
        "3) (integer) 7",
        "4) (nil)",
        '5) "a\\"\\x00\\n"',
        "6) (empty array)",
        "7) 1) (integer) 1",
        '   2) 1) "x"',
        "8) (double) 1.5",
        "9) (true)",
    ]
    assert for_pipe([Status(b"OK"), 7, None, b"\xff", [1, [b"x"]]]) == b"OK\n7\n\n\xff\n1\nx"
    assert as_json(Map(((b"k", [Status(b"OK"), 7, None, b"\xff\x01"]), (5, False)))) == (
        b'{"k":["OK",7,null,"\xff\\u0001"],"5":false}'
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"  GET   key \r\n", [b"GET", b"key"]),
        (rb'SET k "a \"b\" \x41\\"', [b"SET", b"k", b'a "b" A\\']),
        (rb"SET k 'it\'s \n'", [b"SET", b"k", rb"it's \n"]),
        (b'GET ""', [b"GET", b""]),
        (b'GET "open', None),
        (b"GET 'a'b", None),
        (b"\n", []),
    ],
)
def test_a_line_is_split_as_redis_cli_splits_it(line: bytes, words: list[bytes] | None) -> None:
    assert split(line) == words
