"""Pictures are drawn whatever the numbers, in each language, by nobody but the bot."""

import io
from typing import Any

import pytest
from PIL import Image

from ops.bot import charts, words
from ops.bot.texts import LANGUAGES

DAYS = [f"2026-01-{day:02}" for day in range(1, 31)]
MOMENTS = [f"{day}T12:00:00+00:00" for day in DAYS]
CARD = {
    "kind": "card",
    "mode": "LIVE",
    "symbol": "BTC-USD",
    "is_long": True,
    "opened_at": MOMENTS[0],
    "collateral_usdc": "4.97",
    "leverage_x": "2.0000",
    "entry": "60000.0000000000",
    "now": "61250.5",
    "take_profit": "65000",
    "stop_loss": "58000",
    "result_usdc": "0.207",
}
PICTURES: dict[str, dict[str, Any]] = {
    "pnl": {"kind": "pnl", "mode": "LIVE", "points": [(day, str(at % 7 - 3)) for at, day in enumerate(DAYS)]},
    "one day": {"kind": "pnl", "mode": "DRY", "points": [(DAYS[0], "-1234567.891")]},
    "no pnl": {"kind": "pnl", "mode": "DRY", "points": [(day, "0") for day in DAYS]},
    "exposure": {"kind": "exposure", "mode": "LIVE", "points": [(at, str(n * 10)) for n, at in enumerate(MOMENTS)]},
    "an hour": {"kind": "exposure", "mode": "DRY", "points": [(MOMENTS[0], "0"), (MOMENTS[0].replace("12:", "13:"), "7")]},
    "no exposure": {"kind": "exposure", "mode": "DRY", "points": [(MOMENTS[0], "0"), (MOMENTS[9], "0")]},
    "card": CARD,
    "no price": {**CARD, "now": None, "result_usdc": None, "take_profit": None, "stop_loss": None},
    "short": {**CARD, "is_long": False, "entry": "0.4012345", "now": "0.4012399", "stop_loss": "0.45", "take_profit": None},
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PICTURES)
def test_it_is_drawn(name: str) -> None:
    drawn = []
    for language in LANGUAGES:
        with words.speaking(language):
            drawn.append(charts.draw(PICTURES[name]))
    for png in drawn:
        image = Image.open(io.BytesIO(png))
        assert (image.format, image.size) == ("PNG", (960, 540))
        assert len(image.convert("RGB").getcolors(maxcolors=2**20) or []) > 20, "it is not blank"


def test_the_language_shows() -> None:
    assert len({_drawn(language) for language in LANGUAGES}) == len(LANGUAGES)


def _drawn(language: str) -> bytes:
    with words.speaking(language):
        return charts.draw(CARD)
