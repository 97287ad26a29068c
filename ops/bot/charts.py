"""Pictures as PNG: PnL by day, exposure over time, a position's card. The one module that imports matplotlib.

Drawn without pyplot, whose figures belong to the whole process. Floats appear here alone: a picture has no cents.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ops.bot import words

Points = Sequence[tuple[str, str]]

WIDTH_IN, HEIGHT_IN, DPI = 8.0, 4.5, 120
PAPER, INK, FAINT, GRID = "#ffffff", "#1b2733", "#6b7a89", "#e3e8ed"
GAIN, LOSS, LINE, AREA = "#1a936f", "#c8443c", "#2a5d9f", "#c9dbf2"
MOST_TICKS = 8
FEW_DAYS = 2  # then hours tell more than dates
NEAR = 0.075  # of the height of a card: labels closer than this would cover each other


def draw(picture: Mapping[str, Any]) -> bytes:
    """PNG of 960 by 540 pixels, in the language that is spoken. Raises KeyError for a kind that there is not."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    KINDS[picture["kind"]](figure, picture)
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor=PAPER)
    return target.getvalue()


def _pnl(figure: Figure, picture: Mapping[str, Any]) -> None:
    points: Points = picture["points"]
    days = [date.fromisoformat(day) for day, _ in points]
    values = [Decimal(value) for _, value in points]
    sums = [sum(values[: at + 1], Decimal(0)) for at in range(len(values))]
    axes = _axes(figure, words.CHART_PNL.format(mode=picture["mode"]))
    places = dates.date2num(days)  # type: ignore[no-untyped-call]
    axes.bar(
        places,
        [float(one) for one in values],
        width=0.7,
        color=[GAIN if one >= 0 else LOSS for one in values],
    )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    if any(values):
        axes.plot(places, [float(one) for one in sums], color=LINE, linewidth=2, label=words.CHART_SUM)
        _mark(axes, places[-1], float(sums[-1]), words.usdc(sums[-1], signed=True))
        axes.legend(loc="upper left", frameon=False, labelcolor=INK)
    else:
        _nothing(axes)
    axes.set_xlim(places[0] - 0.7, places[-1] + 0.7)
    _by_day(axes, "%m-%d")


def _exposure(figure: Figure, picture: Mapping[str, Any]) -> None:
    points: Points = picture["points"]
    axes = _axes(figure, words.CHART_EXPOSURE.format(mode=picture["mode"]))
    places = dates.date2num([datetime.fromisoformat(at) for at, _ in points])  # type: ignore[no-untyped-call]
    values = [Decimal(value) for _, value in points]
    drawn = [float(one) for one in values]
    if any(values):
        axes.fill_between(places, drawn, step="post", color=AREA)
        axes.step(places, drawn, where="post", color=LINE, linewidth=2)
        _mark(axes, places[-1], drawn[-1], words.usdc(values[-1]))
        axes.set_ylim(0, max(drawn) * 1.15)
    else:
        _nothing(axes)
    span = places[-1] - places[0]
    axes.set_xlim(places[0], places[-1])
    _by_day(axes, "%m-%d" if span > FEW_DAYS else "%H:%M")


def _card(figure: Figure, picture: Mapping[str, Any]) -> None:
    value = {name: Decimal(one) for name, one in picture.items() if name in MONEY and one is not None}
    color = GAIN if picture["is_long"] else LOSS
    title = words.CARD_TITLE.format(
        symbol=picture["symbol"],
        side=words.side(is_long=picture["is_long"]),
        leverage=words.times(value["leverage_x"]),
    )
    figure.text(0.05, 0.86, title, fontsize=24, fontweight="bold", color=color)
    figure.text(0.95, 0.86, picture["mode"], fontsize=16, color=FAINT, ha="right")
    result = value.get("result_usdc")
    figure.text(0.05, 0.70, words.CARD_RESULT, fontsize=12, color=FAINT)
    if result is None:
        figure.text(0.05, 0.58, words.CARD_NO_PRICE, fontsize=20, color=INK)
    else:
        share = result / value["collateral_usdc"] * 100
        shade = GAIN if result >= 0 else LOSS
        figure.text(0.05, 0.58, words.usdc(result, signed=True), fontsize=26, fontweight="bold", color=shade)
        figure.text(0.05, 0.50, f"{share:+,.2f} %", fontsize=16, color=shade)
    facts = [
        (words.CARD_COLLATERAL, words.usdc(value["collateral_usdc"])),
        (words.CARD_NOTIONAL, words.usdc(value["collateral_usdc"] * value["leverage_x"])),
        (words.CARD_OPENED, words.moment(datetime.fromisoformat(picture["opened_at"]))),
    ]
    for row, (name, said) in enumerate(facts):
        figure.text(0.05, 0.32 - row * 0.09, name, fontsize=13, color=FAINT)
        figure.text(0.22, 0.32 - row * 0.09, said, fontsize=13, color=INK)
    _ladder(figure, value)


def _ladder(figure: Figure, value: Mapping[str, Decimal]) -> None:
    """The prices that matter, where they stand to each other."""
    axes = figure.add_axes((0.54, 0.08, 0.10, 0.70))  # a price of seven digits fits beside it
    axes.set_axis_off()
    levels = [
        (value[name], label, color)
        for name, label, color in (
            ("take_profit", words.CARD_TAKE_PROFIT, GAIN),
            ("now", words.CARD_NOW, LINE),
            ("entry", words.CARD_ENTRY, INK),
            ("stop_loss", words.CARD_STOP_LOSS, LOSS),
        )
        if name in value
    ]
    levels.sort(key=lambda one: one[0])
    low, high = float(levels[0][0]), float(levels[-1][0])
    span = (high - low) or max(abs(high) * 0.01, 1e-9)
    axes.set_xlim(0, 1)
    axes.set_ylim(low - span * 0.08, high + span * 0.08)
    axes.plot([0.5, 0.5], [low, high], color=GRID, linewidth=6, solid_capstyle="round")
    if "now" in value:
        shade = GAIN if value.get("result_usdc", Decimal(0)) >= 0 else LOSS
        axes.plot([0.5, 0.5], [float(value["entry"]), float(value["now"])], color=shade, linewidth=6)
    below = float("-inf")
    for price, label, color in levels:
        place = float(price)
        axes.plot([0.5], [place], marker="o", markersize=9, color=color)
        shown = max(place, below + span * 1.16 * NEAR)
        below = shown
        axes.annotate(
            f"{label}  {words.usd(price)}",
            xy=(0.62, place),
            xytext=(1.0, shown),
            va="center",
            fontsize=12,
            color=color,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "relpos": (0.0, 0.5)},
        )


def _axes(figure: Figure, title: str) -> Axes:
    axes = figure.add_axes((0.10, 0.12, 0.70, 0.74))
    axes.set_title(title, loc="left", fontsize=14, color=INK, pad=12)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    return axes


def _by_day(axes: Axes, form: str) -> None:
    locator = dates.AutoDateLocator(maxticks=MOST_TICKS, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.DateFormatter(form, tz=UTC))  # type: ignore[no-untyped-call]


def _mark(axes: Axes, place: float, value: float, said: str) -> None:
    """The newest value in figures, beside the line's end."""
    axes.plot([place], [value], marker="o", color=LINE, clip_on=False)
    axes.annotate(
        said,
        (1, value),
        xycoords=("axes fraction", "data"),  # a wide bar would cover it beside the point
        xytext=(12, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        fontsize=11,
        annotation_clip=False,
    )


def _nothing(axes: Axes) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.6, words.CHART_NOTHING, transform=axes.transAxes, ha="center", color=FAINT, fontsize=16)


MONEY = frozenset(
    {"collateral_usdc", "leverage_x", "entry", "now", "take_profit", "stop_loss", "result_usdc"}
)
KINDS: Mapping[str, Callable[[Figure, Mapping[str, Any]], None]] = {
    "pnl": _pnl,
    "exposure": _exposure,
    "card": _card,
}
