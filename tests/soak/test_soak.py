"""A slice of `make soak`, and that its account tells a doubled signal, a lost one and a late recovery."""

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.chaos import outages
from tests.detours import DetouredStack
from tests.real_parts import FOLDER
from tests.soak import account, report
from tests.soak.account import Account, Spread
from tests.soak.faults import Faults, Happened, harm_redis, jump, kill
from tests.soak.run import Soak
from tests.soak.traffic import Signal, Traffic
from tests.tcp_proxy import Fault, TcpProxy

ONE = Signal(1, {}, accepted_s=1.0)
AMOUNT = Decimal("5.000001")


@pytest.mark.timeout(600)
def test_a_slice_of_a_soak() -> None:
    said: list[str] = []
    found = Soak(FOLDER / "soak" / "var", 0.4, seed=5, every_s=0.5, fault_every_s=2, say=said.append).run()
    print(report.words(found))  # noqa: T201
    assert found["verdict"] == [], "\n".join([*said, report.words(found)])
    assert found["sent"] >= 20
    assert found["executed"] > 0
    assert found["faults"] >= 8


@pytest.mark.parametrize(
    ("row", "registered", "executed", "said"),
    [
        (("filled", "", True), 1, 1, ""),
        (("rejected", "leverage_above_cap", True), 0, 0, ""),
        (("held", "wallet_halted", False), 0, 0, ""),
        (("filled", "", True), 2, 2, "doubled"),
        (("filled", "", True), 2, 1, "doubled"),
        (("final_reverted", "", True), 0, 0, ""),
        (("venue_cancelled", "", True), 1, 0, ""),
        (("lost_nonce", "", True), 0, 0, "lost"),
        (("pending", "", False), 0, 0, "lost"),
        (("simulated", "", True), 0, 0, "lost"),
        (("filled", "", True), 0, 0, "lost"),
        (None, 0, 0, "lost"),
        (("expired", "lag_exceeded", True), 1, 1, "its row says expired"),
        (("ordered", "", False), 1, 1, "its row says ordered"),
    ],
)
def test_each_signal_is_in_one_place(
    row: tuple[str, str, bool] | None, registered: int, executed: int, said: str
) -> None:
    drawn = Account(sent=1)
    account.place(drawn, ONE, row, Counter({AMOUNT: registered}), Counter({AMOUNT: executed}))
    assert bool(drawn.verdict) == bool(said)
    assert said in " ".join(drawn.verdict)


def test_a_sum_that_does_not_add_up_and_a_late_recovery_fail() -> None:
    assert "does not add up" in Account(sent=2, executed=1).verdict[0]
    assert Account(recovery=Spread.of([1.0, 59.0])).verdict == []
    assert "recovery p99" in Account(recovery=Spread.of([61.0])).verdict[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_that_could_not_be_done_is_told_and_counts_for_no_recovery(tmp_path: Path) -> None:
    stack = DetouredStack(tmp_path, from_nothing=True)
    faults = Faults(stack, random.Random(1), every_s=0.01)
    with pytest.MonkeyPatch.context() as patch:
        # No server of this stack was started, so that there is none to be killed.
        patch.setattr(faults, "_choose", lambda kind: (kind, lambda: kill(stack, "valkey")))
        faults.begin()
        while not faults.happened:
            time.sleep(0.01)
        faults.end()
    assert account.recovery(lambda after_s: after_s + 1, faults.happened) == (Spread(), [])
    number = len(faults.happened)
    assert account.too_few_done(faults.happened)[0] == f"{number} of {number} faults could not be done"
    assert account.too_few_done([Happened("kill", "worker", 0.0, done=True)] * 19 + faults.happened[:1]) == []
    assert account.too_few_done([Happened("kill", "worker", 0.0, done=True)] * 18 + faults.happened[:1])
    traffic = Traffic(stack, random.Random(1), every_s=1)
    found = report.facts(Account(), traffic, faults.happened, {"minutes": 0, "seed": 1}, 0)
    assert found["faults"] == 0
    assert len(found["faults_not_done"]) == len(faults.happened)
    assert "could not be done: kill" in report.words(found)


@pytest.mark.parametrize(
    ("kind", "what"), [("kill", "worker"), ("kill", "worker child"), ("postgres", ""), ("redis", "restart")]
)
def test_a_fault_that_meets_what_is_down_already_is_idle(tmp_path: Path, kind: str, what: str) -> None:
    stack = DetouredStack(tmp_path, from_nothing=True)
    (tmp_path / "pids.json").write_text("{}")
    faults = Faults(stack, random.Random(1), every_s=60)
    faults._running = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults.dice, "choice", lambda _: what)
        faults._begin(kind, *faults._choose(kind))
    faults._running[0].join()
    (happened,) = faults.happened
    assert (happened.done, happened.idle, happened.failed) == (False, True, False)
    assert account.recovery(lambda _: None, faults.happened) == (Spread(), [])


def test_no_fault_is_done_to_a_server_that_is_away(tmp_path: Path) -> None:
    stack = DetouredStack(tmp_path, from_nothing=True)
    (tmp_path / "pids.json").write_text("{}")
    (tmp_path / "stack.env").write_text(f"BASE_RPC_URL=http://127.0.0.1:{stack._ports['anvil']}\n")
    assert not jump(stack, 1)
    assert not harm_redis(stack, "empty")
    tool = tmp_path / "bin" / "redis-cli"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    assert not harm_redis(stack, "FLUSHALL")
    way = TcpProxy(1)
    way.fault = Fault.RESET
    stack.ways["beat", "rpc"] = way
    assert not Faults(stack, random.Random(1), every_s=60)._part(("beat",), "rpc", Fault.REFUSE, 60.0)


def test_some_faults_may_be_idle_and_not_all_of_a_name() -> None:
    done = Happened("kill", "worker", 0.0, done=True)
    idle = Happened("kill", "worker child", 0.0, idle=True)
    assert account.too_few_done([done] * 12 + [idle] * 4) == []
    assert account.too_few_done([done] * 11 + [idle] * 4) == ["11 of 15 faults were done"]
    assert account.too_few_done([done] * 95 + [idle] * 5) == [
        "kill: worker child was tried 5 times and never done"
    ]
    stack: Any = Stack()
    traffic = Traffic(stack, random.Random(1), every_s=1)
    found = report.facts(Account(), traffic, [done, idle], {"minutes": 0, "seed": 1}, 0)
    assert (found["faults"], found["faults_not_done"]) == (1, [])
    assert "met what was down already: 1x kill: worker child" in report.words(found)


@dataclass
class Stack:
    """Rows and blocks of a stack that is not there: a signal's state, and what became of its one transaction."""

    state: str = ""
    failed: bool = False
    kinds: tuple[str, ...] = ("",)  # of the transactions in the wallet's slots
    executed: int = 0

    def sql(self, query: str, *_: object) -> list[tuple[Any, ...]]:
        if query == account.ROWS:
            return []
        if "count(*)" in query:
            return [(int(self.state == "filled"),)]
        if "tx_sends" in query:
            return [(f"0x{number}", 1, kind) for number, kind in enumerate(self.kinds)]
        return [("sig:drill:soak-1", ["1", self.state])] if self.state else []

    def sent(self) -> list[tuple[int, str]]:
        return [(number, f"0x{number}") for number in range(len(self.kinds))]

    def reverted(self, tx_hashes: Iterable[str]) -> set[str]:
        return set(tx_hashes) if self.failed else set()

    def executions(self) -> list[int]:
        return [0] * self.executed


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (Stack("filled", executed=1), ""),
        (Stack("final_reverted", failed=True), ""),
        (Stack("venue_cancelled"), ""),
        (Stack("final_cancelled", kinds=("cancel",)), ""),
        (Stack("rejected", kinds=()), ""),
        (Stack("mined", failed=True), ""),
        (Stack("filled", kinds=("", ""), executed=1), "executed twice"),
        (Stack("final_reverted", failed=True, kinds=("", "")), "executed twice"),
        (Stack("filled", executed=2), "another number of orders"),
        (Stack("venue_cancelled", executed=1), "another number of orders"),
        (Stack("final_reverted"), "failed on the chain: False"),
        (Stack("filled", failed=True, executed=1), "failed on the chain: True"),
        (Stack("venue_cancelled", failed=True), "failed on the chain: True"),
        (Stack("venue_cancelled", kinds=()), "on the chain 0"),
        (Stack("expired"), "on the chain 1"),
    ],
)
def test_rows_are_held_against_what_became_of_their_transactions(stack: Stack, said: str) -> None:
    keys = ["sig:drill:soak-1"]
    if not said:
        outages.assert_executed_once(stack, keys)  # type: ignore[arg-type]
        return
    with pytest.raises(AssertionError, match=said):
        outages.assert_executed_once(stack, keys)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_in_which_nothing_happened_fails_and_says_who_died() -> None:
    class Witness:
        seen_s: ClassVar[dict[Decimal, float]] = {}
        died_of = ""

        def opens(self) -> tuple[Counter[Decimal], Counter[Decimal]]:
            return Counter(), Counter()

        def next_execution_s(self, _: float) -> None: ...

    stack: Any = Stack(kinds=())
    nothing: dict[str, Any] = {}
    witness: Any = Witness()
    traffic = Traffic(stack, random.Random(1), every_s=1)
    faults = Faults(stack, random.Random(1), every_s=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "_fields", lambda _: nothing["symbol"])
        patch.setattr(faults, "_choose", lambda _: nothing["kind"])
        traffic.begin()
        faults.begin()
        traffic._thread.join()
        faults._thread.join()
        traffic.end(0)
    assert account.draw(stack, traffic, witness, faults).verdict == [
        "0 of 0 faults were done",
        "no signal was taken",
        "no signal was executed",
        "traffic ended too early: KeyError('symbol')",
        "faults ended too early: KeyError('kind')",
    ]
