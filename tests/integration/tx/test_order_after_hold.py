"""What waited for the mode is placed in the order in which it came, also where the mode returns in the middle of a pass."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.engine import reserve, waiting
from execution_app.gate import admission, control
from execution_app.gate.modes import Ruling
from execution_app.models import TxIntent
from execution_app.states import Mode, Reason
from tests import invariants
from tests.rig import Rig

DEGRADED = Ruling(Mode.LIVE, Mode.DRY, False, False, "redis: TimeoutError")


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


def test_what_waits_for_the_mode_already_is_not_written_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "ruling_now", lambda: DEGRADED)
    intents = [rig.intent() for _ in range(3)]
    reserve.reserve(rig.wallet.pk)
    with CaptureQueriesContext(connection) as captured:
        reserve.reserve(rig.wallet.pk)
    assert not [query for query in captured if query["sql"].startswith("UPDATE")]
    for intent in intents:
        intent.refresh_from_db()
        assert (intent.state, intent.reason, intent.reason_detail) == (
            "held",
            "mode_degraded",
            DEGRADED.reason,
        )


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
    mode_that_returns += [DEGRADED] * degraded
    for _ in range(4):
        rig.submit()
    assert nonces() == [0, 1, 2]
    rig.run()
    invariants.check()
