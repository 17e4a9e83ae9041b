"""The looks of charts: colours, axes and fonts, and which cause and partition has which colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from twinrun.results.ledger import CauseHistory
from twinrun.results.verdict import PartitionPoint

# Colours, axes and fonts of the charts; one drawing serves the light and the dark page.


Palette = Mapping[str, str]

LIGHT: Palette = {
    "ink": "#3d454e",
    "muted": "#5c6670",
    "line": "#dde1e6",
    "equal": "#2f7f97",
    "explained": "#b8720a",
    "unexplained": "#c3254a",
    "pending": "#8893a1",
    "behind": "#8a7f66",
    "events": "#7e8fa6",
    "cause1": "#7a4fb5",
    "cause2": "#1f8a5b",
    "cause3": "#3b6fd4",
    "cause4": "#a6486f",
    "cause5": "#6d6a75",
}
DARK: Palette = {
    "ink": "#d5dae0",
    "muted": "#a4aeb9",
    "line": "#323a43",
    "equal": "#56a9c0",
    "explained": "#e6a93c",
    "unexplained": "#ff6d88",
    "pending": "#7d8996",
    "behind": "#b0a487",
    "events": "#8fa0b8",
    "cause1": "#b795f0",
    "cause2": "#5fcf9a",
    "cause3": "#8db4ff",
    "cause4": "#f097bd",
    "cause5": "#b5b1be",
}
WIDE = 1000
NARROW = 400
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
LEFT = 58
"""Room for the labels of a vertical time axis, the same in all panels so that they line up."""
_DAY_MS = 86_400_000
_NEAR_EDGE = 36
_UPRIGHT_TICKS = 6
_STEPS_MS = (
    *(1_000 * seconds for seconds in (1, 2, 5, 10, 15, 30)),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY_MS * days for days in (1, 2, 4, 7, 14, 28, 56, 91, 182, 364, 728, 3_640, 36_400, 364_000)),
)


def recolour(svg: str, colours: Palette) -> str:
    """The same picture in another palette: each of the light colours stands for a role."""
    for role, light in LIGHT.items():
        svg = svg.replace(light, colours[role])
    return svg


def colours(roles: Sequence[str]) -> alt.Color:
    """The field ``v`` as the colour of its role, without a legend: the page has one in its own type."""
    scale = alt.Scale(domain=list(roles), range=[LIGHT[role] for role in roles])
    return alt.Color("v:N", scale=scale, legend=None)


def ticks(width: int) -> int:
    """How many ticks fit on a horizontal axis."""
    return 10 if width == WIDE else 5


def count_axis(most: int = 5, smallest: float = 1) -> alt.Axis:
    """A vertical axis of numbers, with light lines across."""
    # ~s would write a half as 500m, ~g a ten as 1e+1
    written = "~s" if smallest >= 1 else "~r"
    return alt.Axis(
        format=written,
        tickCount=most,
        tickMinStep=smallest,
        grid=True,
        domain=False,
        ticks=False,
        minExtent=LEFT - 18,
        maxExtent=LEFT - 18,
    )


def time_axis(first_ms: int, last_ms: int, width: int) -> alt.Axis:
    """A horizontal axis in UTC whose labels say as much of the date as the span needs."""
    days = (last_ms - first_ms) / _DAY_MS
    most: Any = ticks(width)
    if days <= 3:
        most = 6 if width == WIDE else 3
    elif days <= 10 and width == WIDE:
        most = {"interval": "day", "step": 1}
    # a label whose tick is near the edge ends at its tick, where half of it would be cut off
    return alt.Axis(
        format=_label(days, width), tickCount=most, grid=False, domain=True, ticks=True, labelFlush=_NEAR_EDGE
    )


def upright_time_axis(first_ms: int, last_ms: int) -> alt.Axis:
    """A vertical axis in UTC: labels that differ, and none wider than `LEFT`; within a day the hour over the day."""
    step_ms = next((step for step in _STEPS_MS if (last_ms - first_ms) / step <= _UPRIGHT_TICKS), _STEPS_MS[-1])
    first = -(-first_ms // step_ms) * step_ms
    values = list(range(first, last_ms + 1, step_ms))
    day = "utcFormat(datum.value, '%d %b')"
    if step_ms < _DAY_MS:
        hour = "%H:%M" if step_ms >= 60_000 else "%H:%M:%S"
        label = f"[utcFormat(datum.value, '{hour}'), {day}]"
    else:
        label = day if last_ms - first_ms < 300 * _DAY_MS else "utcFormat(datum.value, '%d %b %y')"
    return alt.Axis(
        values=values, labelExpr=label, grid=True, domain=False, ticks=False, minExtent=LEFT, maxExtent=LEFT
    )


def _label(days: float, width: int) -> str:
    if days <= 3:
        return "%d %b %H:%M"
    if days <= 300:
        return "%a %d %b" if days <= 10 and width == WIDE else "%d %b"
    return "%b %Y"


def fitted(chart: alt.Chart | alt.LayerChart, width: int, height: int) -> dict[str, Any]:
    """The specification of a chart that is exactly so many pixels wide and high, axes included."""
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return configured(chart.properties(width=width, height=height, autosize=fit))


def configured(chart: alt.Chart | alt.LayerChart | alt.VConcatChart) -> dict[str, Any]:
    """The specification with our type and colours, on no background."""
    axis = {
        "labelColor": LIGHT["muted"],
        "titleColor": LIGHT["muted"],
        "gridColor": LIGHT["line"],
        "domainColor": LIGHT["line"],
        "tickColor": LIGHT["line"],
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelOverlap": True,
    }
    spec: dict[str, Any] = chart.to_dict()
    config = {"background": None, "font": _FONT, "view": {"stroke": None}, "axis": axis}
    return {**spec, "config": config, "padding": 2}


# Which cause has which colour in the chart of the ledger, and which partition in that of the partitions.


CAUSES = ("cause1", "cause2", "cause3", "cause4", "cause5")
"""Roles of the causes, the last for all others."""


def by_role(causes: Sequence[CauseHistory]) -> list[tuple[str, tuple[CauseHistory, ...]]]:
    """The causes that a chart can keep apart, those with most rows first; the last role has all others."""
    ranked = sorted(causes, key=lambda each: (-max(each.rows, default=0), each.cause))
    alone: list[tuple[str, tuple[CauseHistory, ...]]] = [
        (role, (cause,)) for role, cause in zip(CAUSES[:-1], ranked, strict=False)
    ]
    rest = tuple(ranked[len(alone) :])
    return [*alone, (CAUSES[-1], rest)] if rest else alone


def partition_roles(points: Sequence[PartitionPoint]) -> list[tuple[str, int]]:
    """The role of each partition, in the order of the points; those beyond the fourth share the last one."""
    numbers = list(dict.fromkeys(point.partition for point in points))
    return [(CAUSES[min(place, len(CAUSES) - 1)], number) for place, number in enumerate(numbers)]
