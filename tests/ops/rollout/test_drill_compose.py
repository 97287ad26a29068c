"""How drills call compose: the words, against a stand-in for the engine, and the services, against Compose's own binary."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.rollout.drills.compose import ComposeParts
from ops.rollout.drills.parts import REDIS, WATCHERS
from ops.rollout.drills.report import CannotRun, Failed, NotInjected
from tests.containers import COMPOSE, declared

INSPECTED = [
    {
        "Id": "0123456789abcdef",
        "Config": {"Labels": {"com.docker.compose.service": "redis"}},
        "State": {"StartedAt": "2026-11-25T01:00:00Z"},
    }
]
# Writes down what it was asked and answers as an engine would; the engine is the one thing that is not here.
ENGINE = f"""#!{sys.executable}
import json, os, sys
words = sys.argv[1:]
with open(os.environ["ASKED"], "a") as sink:
    sink.write(json.dumps(words) + "\\n")
if os.environ.get("BROKEN"):
    sys.exit("Cannot connect to the Docker daemon")
if words[0] == "inspect":
    print({json.dumps(json.dumps(INSPECTED))})
elif "--quiet" in words:
    print("0123456789ab")
elif "--services" in words:
    print(os.environ.get("SERVICES", ""))
elif "exec" in words:
    print("PONG")
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "docker"
    program.write_text(ENGINE)
    program.chmod(0o755)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    return program


@pytest.fixture
def parts(engine: Path) -> ComposeParts:
    return ComposeParts((str(engine), "compose"), docker=str(engine))


def asked(tmp_path: Path) -> list[str]:
    lines = (tmp_path / "asked").read_text().splitlines()
    (tmp_path / "asked").unlink()
    return [" ".join(json.loads(line)) for line in lines]


def test_each_verb_is_one_command_of_the_contract(
    parts: ComposeParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICES", "redis")
    parts.pause(REDIS)
    parts.unpause(REDIS)
    assert asked(tmp_path) == [
        "compose pause redis",
        "compose ps --all --services --filter status=paused",
        "compose unpause redis",
    ]
    monkeypatch.setenv("SERVICES", "")
    parts.unpause(REDIS)
    parts.take_down(REDIS)
    parts.bring_back(REDIS)
    parts.kill("worker")
    assert [words for words in asked(tmp_path) if " ps " not in words] == [
        "compose stop redis",
        "compose start redis",
        "compose kill worker",
        "compose start worker",
    ]
    assert parts.redis("PING") == "PONG"
    assert parts.identities() == {"redis": "0123456789ab started 2026-11-25T01:00:00Z"}
    parts.save_redis(tmp_path / "kept")
    parts.put_back_redis(tmp_path / "kept")
    assert [words for words in asked(tmp_path) if words.startswith("compose cp")] == [
        f"compose cp -a redis:/data/appendonlydir {tmp_path}/kept",
        f"compose cp -a {tmp_path}/kept/appendonlydir redis:/data",
    ]


def test_an_engine_that_does_not_do_it_is_no_fault(
    parts: ComposeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(NotInjected, match="Cannot connect"):
        parts.pause(REDIS)
    with pytest.raises(Failed):
        parts.redis("PING")
    with pytest.raises(CannotRun):
        parts.identities()
    with pytest.raises(NotInjected, match="FileNotFoundError"):
        ComposeParts(("/nowhere/docker", "compose")).pause(REDIS)


def test_the_compose_file_has_every_service_that_drills_name() -> None:
    services = declared()
    assert {REDIS, *WATCHERS} <= set(services)
    assert services[REDIS]["volumes"] == ["redis:/data"]


@pytest.mark.parametrize("verb", ["pause", "unpause", "kill", "stop", "start"])
def test_compose_itself_knows_the_words_and_lacks_only_an_engine(verb: str, tmp_path: Path) -> None:
    found = importlib.util.find_spec("compose")
    assert found is not None
    assert found.submodule_search_locations
    binary = Path(found.submodule_search_locations[0]) / "docker-compose"
    done = subprocess.run(
        [binary, "-f", COMPOSE, verb, REDIS],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "Cannot connect to the Docker daemon" in done.stderr, done.stderr
