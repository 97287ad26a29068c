"""Files that wait and files that work are run beside each other."""

from types import SimpleNamespace
from typing import Any

import pytest
from xdist.scheduler import loadscope  # type: ignore[import-untyped]

from tests.dealing import Dealing

FILES = {
    "tests/e2e/test_stack.py": 3,
    "tests/chaos/test_broker.py": 3,
    "tests/crash/test_crash.py": 3,
    "tests/venues/test_fees.py": 4,
    "tests/test_layout.py": 3,
}


class Worker:
    """As much of xdist's worker as its scheduler asks for."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id=id(self))
        self.shutting_down = False
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def files_of(worker: Worker, tests: list[str]) -> list[str]:
    return list(dict.fromkeys(tests[index].partition("::")[0] for index in worker.given))


def test_one_worker_waits_and_the_other_works_until_a_side_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadscope, "parse_tx_spec_config", lambda _: ["popen", "popen"])
    tests = [f"{file}::test_{number}" for file, count in FILES.items() for number in range(count)]
    dealing: Any = Dealing(SimpleNamespace(option=SimpleNamespace(loadscopereorder=False)))
    workers = [Worker(), Worker()]
    for worker in workers:
        dealing.add_node(worker)
    for worker in workers:
        dealing.add_node_collection(worker, tests)
    dealing.schedule()
    waits, works = workers
    assert files_of(waits, tests) == ["tests/e2e/test_stack.py"]
    assert files_of(works, tests) == ["tests/crash/test_crash.py"]
    for index in waits.given[:1]:
        dealing.mark_test_complete(waits, index)
    for index in works.given[:1]:
        dealing.mark_test_complete(works, index)
    assert files_of(waits, tests)[1:] == ["tests/chaos/test_broker.py"]
    assert files_of(works, tests)[1:] == ["tests/venues/test_fees.py"]
    while not waits.shutting_down:
        for index in list(waits.given):
            dealing.mark_test_complete(waits, index)
    assert files_of(waits, tests)[2:] == ["tests/test_layout.py"], "nothing is left on its own side"
    assert sorted(waits.given + works.given) == list(range(len(tests))), "each once"
