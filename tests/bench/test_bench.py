"""The bench measures what it says: a slice of the engine alone, and its scale. No figure is judged here."""

import subprocess
import sys
from typing import Any

import pytest

from tests.bench import engine, report, road, scale
from tests.bench.failed import BenchError
from tests.bench.shares import limit
from tests.real_parts import ROOT

MANY = 36


def test_intents_of_a_plain_call_are_mined_once_in_order(database: None, valkey: object) -> None:
    said: list[str] = []
    with engine.on_stage(512) as stage:
        alone = scale.measure(stage.node, stage.address, MANY)
        found = engine.run(stage, MANY, said.append)
        with pytest.raises(BenchError):
            engine.check(stage, MANY + 1)
    assert (found["intents"], alone["transactions"]) == (MANY, MANY)
    assert found["per_s"] > 0
    assert {"submit", "track", "postgres", "anvil", "idle"} == found["cores"].keys()
    assert {"reserved", "signed", "pending_inclusion", "known_mined"} == found["last_after_s"].keys()
    assert found["in_flight"] == [512, 16]
    words = report.words({"load_average": [0.0], "cores": 2, "scale": alone, "engine": found})
    assert f"{found['per_s']} intents/s" in words
    assert found["limited_by"] in words
    assert said


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        ({"submit": 0.9, "anvil": 0.2, "idle": 0.9}, "submit, one process"),
        ({"submit": 0.4, "anvil": 0.2, "idle": 1.4}, "wait for each other"),
        ({"submit": 0.9, "anvil": 0.9, "idle": 0.0}, "cores are busy"),
    ],
)
def test_what_limits_is_said(cores: dict[str, float], words: str) -> None:
    assert words in limit(cores, 2)


def test_ages_of_the_road_are_of_states_that_were_seen() -> None:
    class Stack:
        def sql(self, query: str) -> list[tuple[Any, ...]]:
            return [(0.0, 2.0)] if query == road.ENDS else [("mined", 1.0), ("mined", 1.0), ("filled", 2.0)]

    found = road._facts(Stack(), 2, 1.0, {"submit": 0.1, "idle": 1.9})  # type: ignore[arg-type]
    assert found["age_s"] == {"mined": {"p50": 1.0, "p99": 1.0}, "filled": {"p50": 2.0, "p99": 2.0}}


def test_its_arguments_are_told_and_judged() -> None:
    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.bench", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    told = ask("--help")
    assert told.returncode == 0
    assert all(word in told.stdout for word in ("--intents", "--signals", "--json", "--only"))
    assert ask("--intents", "0").returncode == 2
