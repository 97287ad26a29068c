"""A slice of `make replay`, and that its own computation tells a wrong side, a late one and a missed one."""

import itertools
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from execution_app.gate import control
from execution_app.models import Protection, ProtectionTrigger
from execution_app.states import Origin, RestrictionKind
from tests.replay import path, run
from tests.replay.oracle import Asked, Fired, Look, expected
from tests.replay.run import Day, ReplayError, replay
from tests.rig import Rig

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OPEN = Fraction(100)


def looks(*prices: float) -> list[Look]:
    return [
        Look(Fraction(str(price)), NOON + timedelta(seconds=at), NOON + timedelta(seconds=at + 0.5))
        for at, price in enumerate(prices)
    ]


@pytest.mark.parametrize(
    ("asked", "prices", "wanted"),
    [
        (Asked(True, OPEN, stop_loss=Fraction(95)), (96, 95, 94), Fired("stop_loss", 1, Fraction(95))),
        (Asked(False, OPEN, stop_loss=Fraction(105)), (96, 104, 120), Fired("stop_loss", 2, Fraction(105))),
        (Asked(True, OPEN, take_profit=Fraction(105)), (104, 106), Fired("take_profit", 1, Fraction(105))),
        (Asked(False, OPEN, take_profit=Fraction(95)), (96, 94), Fired("take_profit", 1, Fraction(95))),
        (
            Asked(True, OPEN, trailing_pct=Fraction(10)),
            (200, 181, 180),
            Fired("trailing_stop", 2, Fraction(180)),
        ),
        (
            Asked(False, OPEN, trailing_pct=Fraction(10)),
            (50, 54, 55),
            Fired("trailing_stop", 2, Fraction(55)),
        ),
        (Asked(True, OPEN, break_even_pct=Fraction(5)), (99, 105, 100), Fired("break_even", 2, OPEN)),
        (Asked(False, OPEN, break_even_pct=Fraction(5)), (104, 95, 101), Fired("break_even", 2, OPEN)),
        (Asked(True, OPEN, closes_at=NOON + timedelta(seconds=2)), (1, 1, 1), Fired("time_stop", 2, None)),
        (Asked(True, OPEN, stop_loss=Fraction(95)), (96, 97), None),
    ],
)
def test_what_is_right_by_hand(asked: Asked, prices: tuple[float, ...], wanted: Fired | None) -> None:
    assert expected(asked, looks(*prices)) == [wanted]


def test_a_time_that_runs_out_during_a_look_may_be_seen_by_it_or_by_the_next() -> None:
    asked = Asked(True, OPEN, closes_at=NOON + timedelta(seconds=1.2))
    assert expected(asked, looks(1, 1, 1)) == [Fired("time_stop", 1, None), Fired("time_stop", 2, None)]


def test_a_day_is_the_same_by_its_seed_and_moves_as_markets_do() -> None:
    day = path.ticks(7, 10_000_000, 30, 24)
    assert day == path.ticks(7, 10_000_000, 30, 24) != path.ticks(8, 10_000_000, 30, 24)
    assert len(day) == 2880
    moves = [abs(b / a - 1) for a, b in itertools.pairwise(day)]
    assert max(moves) > 6 * sum(moves) / len(moves), "tails are fat"


def test_a_slice_of_a_day_fires_as_it_ought(rig: Rig) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="replay")
    said: list[str] = []
    day = Day(positions=24, hours=24, step_s=2_400, seed=3)
    found = replay(rig, day, said.append)
    assert found["looks"] == 36
    assert sum(found["fired"].values()) + found["left"] == 24
    assert sum(count > 0 for count in found["fired"].values()) >= 3, found
    assert said
    _require_told(rig)


def _require_told(rig: Rig) -> None:
    """The account tells a position that ought to have fired and did not."""
    protection = Protection.objects.filter(trigger__isnull=False).select_related("position").first()
    assert protection is not None
    trigger = ProtectionTrigger.objects.get(protection=protection)
    never = [Look(Fraction(protection.position.open_price), trigger.at, trigger.at)]
    opening = protection.position.fills.get(action="open").intent
    assert opening is not None
    with pytest.raises(ReplayError):
        run._account([opening], never)
