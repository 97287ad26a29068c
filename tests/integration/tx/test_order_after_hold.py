"""What waited for the mode is placed in the order in which it came, also where the mode returns in the middle of a pass."""

from collections.abc import Iterator

import pytest

from execution_app.engine import reserve, waiting
from execution_app.gate import admission, control
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent
from execution_app.states import Mode, Reason
from tests import invariants
from tests.rig import Rig


def nonces() -> list[int | None]:
    return list(TxIntent.objects.order_by("id").values_list("nonce", flat=True))


def test_the_oldest_goes_first_when_the_mode_is_back(rig: Rig) -> None:
    """Each was held at another moment, and the youngest never was."""
    older, old, _ = rig.intent(), rig.intent(symbol="ETH-USD"), rig.intent()
    waiting.hold(old, Reason.MODE_DEGRADED, "redis: TimeoutError")
    waiting.hold(older, Reason.MODE_DEGRADED, "redis: TimeoutError")
    rig.submit()
    assert nonces() == [0, 1, 2]
    rig.run()
    invariants.check()


@pytest.fixture
def mode_that_returns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ruling]]:
    """Degraded as often as the list says, LIVE afterwards; each turn takes one intent."""
    read, first = admission.ruling_now, list[Ruling]()

    def ruling() -> Ruling:
        now = read()
        return first.pop() if first else now

    monkeypatch.setattr(reserve, "ruling_now", ruling)
    monkeypatch.setattr(control, "TURN_S", 0)
    yield first
    assert not first


@pytest.mark.parametrize("degraded", [1, 2, 4])
def test_the_mode_returns_in_the_middle_of_a_pass(
    rig: Rig, mode_that_returns: list[Ruling], degraded: int
) -> None:
    """The first transactions of a pass hold what they look at; the next ones must not place what is younger."""
    for _ in range(3):
        rig.intent()
    ruling = Ruling(Mode.LIVE, Mode.DRY, False, False, "redis: TimeoutError")
    mode_that_returns += [ruling] * degraded
    for _ in range(4):
        rig.submit()
    assert nonces() == [0, 1, 2]
    rig.run()
    invariants.check()
