"""A slice of `make soak`, and that its account tells a doubled signal, a lost one and a late recovery."""

import random
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tests.detours import DetouredStack
from tests.real_parts import FOLDER
from tests.soak import account, report
from tests.soak.account import Account, Spread
from tests.soak.faults import Faults, Happened, kill
from tests.soak.run import Soak
from tests.soak.traffic import Signal, Traffic

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
    assert account.too_few_done(faults.happened) == [f"{number} of {number} faults could not be done"]
    assert account.too_few_done([Happened("kill", "worker", 0.0, done=True)] * 19 + faults.happened[:1]) == []
    assert account.too_few_done([Happened("kill", "worker", 0.0, done=True)] * 18 + faults.happened[:1])
    traffic = Traffic(stack, random.Random(1), every_s=1)
    found = report.facts(Account(), traffic, faults.happened, {"minutes": 0, "seed": 1}, 0)
    assert found["faults"] == 0
    assert len(found["faults_not_done"]) == len(faults.happened)
    assert "could not be done: kill" in report.words(found)
