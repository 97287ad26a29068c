"""What a stack writes for its operator: environment, secrets, the command to paste, tools; and what `clean` keeps."""

import hashlib
import hmac
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from ops.rehearsal import bootstrap, stack, stack_clean, stack_env, stack_panel
from ops.rehearsal.parts import PartError, port
from ops.rehearsal.stack_chain import ChainTerms, UsageError, require_rehearsal
from ops.rehearsal.stack_lock import RunningError, StackLock
from vanta import environment

SECRET = "a secret of the rehearsal"
NASTY = 'it\'s a $HOME `id` "path" \\ with spaces'


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in (*stack_env.SECRETS, *stack_env.DEFAULTS, "PORT", "CHAIN_ID", "SIGNER_KEY_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def test_the_published_file_survives_the_shell(tmp_path):
    values = {name: f"{name} {NASTY}" for name in stack_env.PUBLISHED}
    path = tmp_path / "stack.env"
    stack_env.publish(path, values | {"SIGNER_KEY_PASSWORD": "not for tools"})
    assert path.stat().st_mode & 0o777 == 0o600
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    script = f"set -a; . {shlex.quote(str(path))}; exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    seen = json.loads(subprocess.run(["sh", "-c", script], env={}, capture_output=True, check=True).stdout)
    assert {name: seen.get(name) for name in values} == values
    assert "SIGNER_KEY_PASSWORD" not in seen


def test_secrets_are_made_once_and_kept_private(tmp_path):
    path = tmp_path / "secrets.json"
    first = stack_env.settled_secrets(path)
    assert stack_env.settled_secrets(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(stack_env.SECRETS)
    assert min(map(len, first.values())) >= 32


def test_the_callers_own_secret_wins_from_a_variable_and_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "secrets.json"
    kept = stack_env.settled_secrets(path)
    monkeypatch.setenv("ADMIN_TOKEN", "given-token")
    (tmp_path / "hmac").write_text("given-secret\n")
    monkeypatch.setenv("WEBHOOK_HMAC_SECRET_FILE", str(tmp_path / "hmac"))
    settled = stack_env.settled_secrets(path)
    assert settled == kept | {"ADMIN_TOKEN": "given-token", "WEBHOOK_HMAC_SECRET": "given-secret"}
    env = stack_env.for_children(tmp_path, "run", {}, settled)
    assert "WEBHOOK_HMAC_SECRET_FILE" not in env
    assert env["WEBHOOK_HMAC_SECRET"] == "given-secret"


def test_one_process_may_reach_its_servers_by_other_ports(tmp_path):
    env = {
        "DATABASE_URL": "postgresql://vanta:pa%40ss@127.0.0.1:54320/vanta?x=1",
        "REDIS_URL": "redis://h:1/0",
    }
    assert stack_env.detoured(tmp_path, "worker", env) == env
    (tmp_path / "detours.json").write_text(json.dumps({"worker": {"DATABASE_URL": 7, "REDIS_URL": 8}}))
    assert stack_env.detoured(tmp_path, "beat", env) == env
    assert stack_env.detoured(tmp_path, "worker", env) == {
        "DATABASE_URL": "postgresql://vanta:pa%40ss@127.0.0.1:7/vanta?x=1",
        "REDIS_URL": "redis://127.0.0.1:8/0",
    }


def test_children_are_bounded_to_the_rehearsal_unless_the_caller_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_LEVERAGE", "10")
    env = stack_env.for_children(tmp_path, "run", {"REDIS_URL": "redis://x"}, {})
    assert (env["EXEC_MODE"], env["MAX_LEVERAGE"], env["CHAIN_ID"]) == ("DRY", "10", "31337")
    assert env["REDIS_URL"] == "redis://x"
    assert env["SIGNER_KEY_DIR"] == str(tmp_path / "keys")


def test_a_blank_reaches_the_children_as_a_blank(tmp_path, monkeypatch):
    """Rehearsal values fill in for what is absent; a cap that was blanked is no cap, not a generous one."""
    for name in stack_env.DEFAULTS:
        monkeypatch.setenv(name, " ")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "")
    monkeypatch.setenv("CHAIN_ID", "")
    env = stack_env.for_children(tmp_path, "run", {}, stack_env.settled_secrets(tmp_path / "secrets.json"))
    assert {env[name].strip() for name in stack_env.DEFAULTS} == {""}
    assert (env["DJANGO_SETTINGS_MODULE"], env["CHAIN_ID"]) == ("vanta.settings", "31337")
    read = environment.read(env)
    assert (read.exec_mode, read.symbols) == ("DRY", frozenset())
    assert (read.max_notional_usdc, read.max_leverage) == (None, None)
    with pytest.raises(
        environment.Misconfigured, match="LIVE needs MAX_NOTIONAL_USDC, MAX_LEVERAGE, ALLOWED_SYM"
    ):
        environment.read(env | {"EXEC_MODE": "LIVE"})


@pytest.mark.parametrize("mode", ["DRY", "LIVE"])
@pytest.mark.parametrize("verb", ["run", "chain"])
def test_another_chain_is_refused_before_anything_starts(tmp_path, mode, verb):
    words, code = begun(tmp_path, verb, EXEC_MODE=mode, CHAIN_ID="8453")
    assert code == 2
    assert "CHAIN_ID is 8453, and only the rehearsal chain 31337 is run here" in words
    assert not (tmp_path / "var" / "stack.env").exists()
    assert not (tmp_path / "var" / "log" / "anvil.log").exists()


@pytest.mark.parametrize("name", sorted(stack_env.CAPS))
def test_live_with_a_blank_cap_is_refused_before_anything_starts(tmp_path, name):
    words, code = begun(tmp_path, "run", **{"EXEC_MODE": "LIVE", name: " "})
    assert code == 2
    assert f"EXEC_MODE=LIVE needs {name}: set but blank" in words
    assert not (tmp_path / "var" / "log" / "postgres.log").exists()


def begun(folder: Path, verb: str, **env: str) -> tuple[str, int]:
    """What `make run` or `make chain` says where it ends by itself, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.rehearsal", "--var", str(folder / "var"), verb],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.defpath, "PORT": str(port.any_free()), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


def test_the_printed_command_is_one_line_with_a_true_signature():
    command = stack_panel.signed_curl("http://localhost:8090", SECRET, "run-1")
    words = shlex.split(command)
    body = words[words.index("-d") + 1]
    header = next(word for word in words if word.startswith("X-Signature: "))
    expected = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    assert header == f"X-Signature: {expected}"
    assert json.loads(body)["tg_user_id"] == 123
    assert "\n" not in command
    assert stack_panel.fresh_signal_id() != stack_panel.fresh_signal_id()


def test_the_panel_leaves_the_command_whole_on_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    values = dict.fromkeys(stack_env.PUBLISHED, "http://localhost:8090")
    stack_panel.show(values, "DRY", tmp_path, took_s=1.0)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("curl ")]
    assert len(shlex.split(line)) == 13


@pytest.mark.parametrize(
    ("mode", "requested", "stop", "words"),
    [
        ("DRY", "DRY", False, r"DRY  "),
        ("LIVE", "LIVE", False, r"LIVE$"),
        ("DRY", "LIVE", False, r"DRY, though LIVE was asked for: why"),
        ("LIVE", "LIVE", True, r"EMERGENCY STOP"),
    ],
)
def test_the_panel_shows_the_mode_that_holds(mode, requested, stop, words):
    shown = stack_panel.mode_words(
        {"mode": mode, "requested": requested, "emergency_stop": stop, "reason": "why"}
    )
    assert re.match(words, shown)


def test_addresses_of_a_stopped_stack_are_no_servers_of_the_caller(tmp_path, monkeypatch):
    at = port.any_free()
    own, foreign = f"redis://127.0.0.1:{at}/0", "postgresql://db.example/vanta"
    values = dict.fromkeys(stack_env.PUBLISHED, "x") | {"REDIS_URL": own, "DATABASE_URL": foreign}
    stack_env.publish(tmp_path / "stack.env", values)
    (tmp_path / "ports.json").write_text(json.dumps({"valkey": at}))
    monkeypatch.setenv("REDIS_URL", own)
    monkeypatch.setenv("DATABASE_URL", foreign)
    monkeypatch.setenv("BASE_RPC_URL", "http://127.0.0.1:1")
    expected = {"DATABASE_URL": foreign, "REDIS_URL": "", "BASE_RPC_URL": "http://127.0.0.1:1"}
    assert stack_env.given_urls(tmp_path) == expected
    with socket.create_server(("127.0.0.1", at)):
        assert stack_env.given_urls(tmp_path)["REDIS_URL"] == own


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "8090.5"])
def test_a_port_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("PORT", text)
    with pytest.raises(UsageError, match="not a port"):
        stack.webhook_port()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REHEARSAL_BLOCK_TIME_S", "0"),
        ("REHEARSAL_BLOCK_TIME_S", "NaN"),
        ("REHEARSAL_BLOCK_TIME_S", "soon"),
        ("REHEARSAL_MAX_TRADES_PER_PAIR", "0"),
        ("REHEARSAL_MAX_TRADES_PER_PAIR", "1.5"),
    ],
)
def test_chain_terms_that_cannot_be_are_refused(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError):
        ChainTerms.from_environment()


def test_chain_terms_are_read(monkeypatch):
    monkeypatch.setenv("REHEARSAL_BLOCK_TIME_S", "0.5")
    monkeypatch.setenv("REHEARSAL_MAX_TRADES_PER_PAIR", "500")
    assert ChainTerms.from_environment() == ChainTerms(Decimal("0.5"), 500)


def test_a_node_that_does_not_answer_is_named():
    with pytest.raises(UsageError, match=r"no node answers at http://127\.0\.0\.1:9"):
        require_rehearsal("http://127.0.0.1:9")


def test_the_seeds_answer_is_found_among_log_lines():
    answer = {"trader_address": "0x1", "wallet_address": "0x2"}
    assert stack.last_json(f"event=x\n{json.dumps(answer)}\n{{not json\nevent=y\n") == answer
    with pytest.raises(PartError, match="no addresses"):
        stack.last_json("event=x\n")


@pytest.fixture
def var(tmp_path):
    folder = tmp_path / "var"
    (folder / "keys").mkdir(parents=True)
    return folder


def test_clean_deletes_what_a_rehearsal_made(var):
    (var / "chain.json").write_text('{"chain_id": 31337}')
    (var / "keys" / "0xabc.json").write_text("{}")
    stack_clean.clean(var)
    assert not var.exists()
    stack_clean.clean(var)


@pytest.mark.parametrize("record", ['{"chain_id": 8453}', "{torn", None])
def test_clean_keeps_keys_that_may_be_worth_money(var, record):
    if record:
        (var / "chain.json").write_text(record)
    key = var / "keys" / "0xabc.json"
    key.write_text("{}")
    with pytest.raises(UsageError, match="may be worth money"):
        stack_clean.clean(var)
    assert key.exists()
    assert not StackLock(var / "run.lock", "run").is_held()


def test_clean_keeps_its_hands_off_a_running_stack(var):
    running = StackLock(var / "run.lock", "run")
    running.acquire()
    with pytest.raises(RunningError):
        stack_clean.clean(var)
    running.release()
    assert var.exists()


def test_the_installer_does_nothing_where_its_stamp_is_true(tmp_path, monkeypatch):
    """A second start must not wait for an installer; a changed list must."""
    calls: list[list[str]] = []
    listed = {"run": tmp_path / "requirements.txt", "dev": tmp_path / "requirements-dev.txt"}
    for path in listed.values():
        path.write_text(f"one==1  # {path.name}\n")
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", listed)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "works", lambda _: True)
    monkeypatch.setattr(bootstrap, "run_shown", lambda argv, _: calls.append(argv))
    bootstrap.install("dev")
    bootstrap.install("run")  # Development holds all that a run needs.
    assert len(calls) == 1
    listed["dev"].write_text("one==2\n")
    bootstrap.install("dev")
    assert len(calls) == 2
    assert all("--require-hashes" in argv for argv in calls)


def test_an_interrupted_installation_is_done_again(tmp_path, monkeypatch):
    listed = {"run": tmp_path / "requirements.txt", "dev": tmp_path / "requirements-dev.txt"}
    for path in listed.values():
        path.write_text("one==1\n")
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", listed)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "works", lambda _: True)

    def interrupted(argv: list[str], _: int) -> None:
        raise subprocess.CalledProcessError(1, argv)

    monkeypatch.setattr(bootstrap, "run_shown", interrupted)
    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.install("run")
    calls: list[int] = []
    monkeypatch.setattr(bootstrap, "run_shown", lambda _, count: calls.append(count))
    bootstrap.install("run")
    assert calls == [1]


def test_the_makefile_explains_itself():
    root = Path(__file__).parents[2]
    shown = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    for verb in ("run", "chain", "test", "check", "clean", "lock", "fmt"):
        assert f"make {verb} " in shown
