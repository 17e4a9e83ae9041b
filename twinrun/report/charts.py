"""The charts of a verify as static SVG: no script, no network, no text from data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from twinrun.report.binning import Progress, WindowBins
from twinrun.report.cells import moment
from twinrun.report.chart_style import (
    DARK,
    LEFT,
    LIGHT,
    NARROW,
    WIDE,
    colours,
    configured,
    count_axis,
    fitted,
    partition_roles,
    recolour,
    ticks,
    time_axis,
    upright_time_axis,
)
from twinrun.report.svg import data_uri, to_svg
from twinrun.results.verdict import LateEvent, MicroBatchPoint, PartitionPoint

_VERDICTS = ("equal", "explained", "unexplained", "pending", "behind")
_LAG_UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds"), (1, "ms"))
_CROSS = "M-1,-1L1,1M-1,1L1,-1"


@dataclass(frozen=True)
class Words:
    """What stands beside a chart: the text for who cannot see it, and what one bar or point is on each width."""

    alt: str
    wide_note: str
    narrow_note: str


@dataclass(frozen=True)
class Picture:
    """One chart, light and dark, for wide and narrow screens, as SVG data URIs."""

    words: Words
    light_wide: str
    dark_wide: str
    light_narrow: str
    dark_narrow: str


def timeline_picture(wide: WindowBins, narrow: WindowBins, words: Words) -> Picture:
    """Stacked bars of result rows by verdict over event time; a triangle marks bars with unexplained rows."""
    return drawn(_timeline(wide, WIDE, 190), _timeline(narrow, NARROW, 170), words)


def progress_picture(
    wide: Sequence[Progress], narrow: Sequence[Progress], late: Sequence[LateEvent], words: Words
) -> Picture:
    """Watermark, newest event and dropped events over micro-batches; below them the lag and the event counts."""
    return drawn(_progress(wide, late, WIDE), _progress(narrow, late, NARROW), words)


def partitions_picture(
    points: Sequence[PartitionPoint], micro_batches: Sequence[MicroBatchPoint], words: Words
) -> Picture:
    """Newest event time of each partition and the watermark over micro-batches."""
    return drawn(_partitions(points, micro_batches, WIDE), _partitions(points, micro_batches, NARROW), words)


def drawn(wide: dict[str, Any], narrow: dict[str, Any], words: Words) -> Picture:
    """Both widths as SVG, each in the colours of the light and of the dark page."""
    wide_svg, narrow_svg = to_svg(wide), to_svg(narrow)
    return Picture(
        words,
        data_uri(wide_svg),
        data_uri(recolour(wide_svg, DARK)),
        data_uri(narrow_svg),
        data_uri(recolour(narrow_svg, DARK)),
    )


def _timeline(binned: WindowBins, width: int, height: int) -> dict[str, Any]:
    bars: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for point in binned.bins:
        start, below = point.window_start_ms, 0
        for verdict in _VERDICTS:
            rows = getattr(point, verdict)
            if rows:
                ends = {"t0": start, "t1": start + binned.width_ms, "y0": below, "y1": below + rows}
                bars.append({**ends, "v": verdict})
                below += rows
        if point.unexplained:
            marks.append({"t": start + binned.width_ms // 2, "y": below})
    x_axis = time_axis(binned.bins[0].window_start_ms, binned.bins[-1].window_start_ms, width)
    x_scale = alt.Scale(type="utc", nice=False)
    stacked = (
        alt.Chart(inline(bars))
        # a sliver between the bars, only while they are wide enough to spare it
        .mark_bar(aria=False, x2Offset=-1 if width / _slots(binned) >= 4 else 0)
        .encode(
            x=alt.X("t0:T", scale=x_scale, axis=x_axis, title=None),
            x2="t1:T",
            y=alt.Y("y0:Q", axis=count_axis(), title="result rows"),
            y2="y1:Q",
            color=colours(_VERDICTS),
        )
    )
    flags = (
        alt.Chart(inline(marks))
        .mark_point(aria=False, shape="triangle-down", filled=True, size=45, yOffset=-8, opacity=1)
        .encode(x=alt.X("t:T", scale=x_scale), y="y:Q", color=alt.value(LIGHT["unexplained"]))
    )
    return fitted(stacked + flags if marks else stacked, width, height)


def _slots(binned: WindowBins) -> int:
    first, last = binned.bins[0].window_start_ms, binned.bins[-1].window_start_ms
    return (last - first) // binned.width_ms + 1


def _progress(points: Sequence[Progress], late: Sequence[LateEvent], width: int) -> dict[str, Any]:
    step = points[1].first - points[0].first if len(points) > 1 else 1
    x_scale = alt.Scale(nice=False, zero=False, domain=[points[0].first, points[-1].last + 1])
    bare = alt.Axis(labels=False, title=None, tickCount=ticks(width), ticks=False, domain=False)
    named = alt.Axis(title="micro-batch", format="~d", tickMinStep=1, tickCount=ticks(width))
    panels = [
        _instants(points, late, alt.X("n:Q", scale=x_scale, axis=bare)).properties(height=210),
        _lag(points, alt.X("n:Q", scale=x_scale, axis=bare)),
        _events(points, step, alt.X("n0:Q", scale=x_scale, axis=named), -1 if width / len(points) >= 4 else 0),
    ]
    inner = width - LEFT - 26
    stack = alt.vconcat(*(panel.properties(width=inner) for panel in panels), spacing=16)
    return configured(stack.resolve_scale(x="shared"))


def _partitions(
    points: Sequence[PartitionPoint], micro_batches: Sequence[MicroBatchPoint], width: int
) -> dict[str, Any]:
    first, last = (pick(point.micro_batch for point in points) for pick in (min, max))
    x = alt.X(
        "n:Q",
        scale=alt.Scale(nice=False, zero=False, domain=[first, last + 1]),
        axis=alt.Axis(title="micro-batch", format="~d", tickMinStep=1, tickCount=ticks(width)),
    )
    lines = [
        (role, _dots((each.micro_batch, each.newest_event_ms) for each in points if each.partition == number))
        for role, number in partition_roles(points)
    ]
    watermark = _dots((each.micro_batch, each.watermark_ms or None) for each in micro_batches)
    watermark = [dot for dot in watermark if first <= dot["n"] <= last]
    instants = [dot["t"] for dots in (watermark, *(dots for _, dots in lines)) for dot in dots]
    axis = upright_time_axis(min(instants, default=0), max(instants, default=0))
    y = alt.Y("t:T", scale=alt.Scale(type="utc", nice=False, zero=False), axis=axis, title=None)
    layers = [_line(dots, x, y, role, interpolate="linear", strokeWidth=1.8) for role, dots in lines]
    layers.append(_line(watermark, x, y, "ink", interpolate="step-after", strokeWidth=1.6, strokeDash=[5, 3]))
    panel: alt.LayerChart = alt.LayerChart(layer=layers)
    return configured(panel.properties(width=width - LEFT - 26, height=210))


def _lag(points: Sequence[Progress], x: alt.X) -> alt.Chart:
    """How far the watermark lies behind the newest event, in a unit that suits the largest lag."""
    lags = [
        (point.first, point.newest_event_ms - point.watermark_ms)
        for point in points
        if point.newest_event_ms is not None and point.watermark_ms is not None
    ]
    largest = max((lag for _, lag in lags), default=0)
    unit_ms, unit = next((size, name) for size, name in _LAG_UNITS if largest >= 2 * size or size == 1)
    values = [{"n": first, "y": round(lag / unit_ms, 3)} for first, lag in lags]
    y = alt.Y("y:Q", axis=count_axis(3, 0.1), title=f"lag, {unit}")
    line = {"aria": False, "color": LIGHT["ink"], "strokeWidth": 1.4, "interpolate": "step-after"}
    area: alt.Chart = alt.Chart(inline(values), height=62).mark_area(
        aria=False, color=LIGHT["ink"], opacity=0.2, interpolate="step-after", line=line
    )
    return placed(area, x=x, y=y)


def _events(points: Sequence[Progress], step: int, x: alt.X, gap: int) -> alt.Chart:
    bars = [{"n0": point.first, "n1": point.first + step, "y": point.events} for point in points]
    y = alt.Y("y:Q", axis=count_axis(3), title="events")
    chart: alt.Chart = alt.Chart(inline(bars), height=62).mark_bar(aria=False, x2Offset=gap, color=LIGHT["events"])
    return placed(chart, x=x, x2="n1:Q", y=y, y2=alt.datum(0))


def _instants(points: Sequence[Progress], late: Sequence[LateEvent], x: alt.X) -> alt.LayerChart:
    """The upper panel: newest event time, watermark, and the dropped events below it."""
    newest = _dots((point.first, point.newest_event_ms) for point in points)
    watermark = _dots((point.first, point.watermark_ms) for point in points)
    dropped = _dots((event.micro_batch, event.event_time_ms) for event in late)
    instants = [dot["t"] for dot in (*newest, *watermark, *dropped)]
    axis = upright_time_axis(min(instants, default=0), max(instants, default=0))
    y = alt.Y("t:T", scale=alt.Scale(type="utc", nice=False, zero=False), axis=axis, title=None)
    crosses = alt.Chart(inline(dropped)).mark_point(
        aria=False, shape=_CROSS, filled=False, size=36, strokeWidth=1.6, opacity=1
    )
    panel: alt.LayerChart = alt.LayerChart(
        layer=[
            _line(newest, x, y, "equal", interpolate="linear", strokeWidth=1.8),
            _line(watermark, x, y, "ink", interpolate="step-after", strokeWidth=1.6, strokeDash=[5, 3]),
            placed(crosses, x=x, y=y, color=alt.value(LIGHT["explained"])),
        ]
    )
    return panel


def _dots(pairs: Iterable[tuple[int, int | None]]) -> list[dict[str, int]]:
    """Micro-batch and instant, where there is one that a chart can draw."""
    return [{"n": number, "t": at} for number, at in pairs if at is not None and moment(at)]


def placed(chart: alt.Chart, **channels: Any) -> alt.Chart:
    """``encode`` with the type that it has."""
    placed: alt.Chart = chart.encode(**channels)
    return placed


def _line(data: Sequence[dict[str, Any]], x: alt.X, y: alt.Y, role: str, **style: Any) -> alt.Chart:
    return placed(
        alt.Chart(inline(data)).mark_line(aria=False, orient="vertical", color=LIGHT[role], **style),
        x=x,
        y=y,
        order="n:Q",
    )


def inline(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    """Rows as data that stands in the specification itself."""
    return alt.InlineData(values=list(rows))
