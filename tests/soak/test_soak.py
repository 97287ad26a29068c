"""A slice of `make soak`, and that its account tells a doubled signal, a lost one and a late recovery."""

from collections import Counter
from decimal import Decimal

import pytest

from tests.real_parts import FOLDER
from tests.soak import account, report
from tests.soak.account import Account, Spread
from tests.soak.run import Soak
from tests.soak.traffic import Signal

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
