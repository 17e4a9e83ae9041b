"""The pictures of a measurement: freshness against cost, where the time and the CPU go, and freshness over the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from twinrun.durations import human
from twinrun.measure.results import Lateness, Measurement, Result
from twinrun.report.chart_style import LIGHT, NARROW, WIDE, colours, configured, count_axis, fitted
from twinrun.report.charts import Picture, Words, drawn, inline, placed

MODE_ROLES = {
    "real-time": "cause4",
    "stream": "equal",
    "stream-over-bronze": "cause2",
    "available-now": "cause1",
    "batch": "explained",
}
PART_ROLES = {"watermark": "cause5", "trigger": "explained", "run": "equal"}
LATENESS_ROLES = {"in the micro-batches of the run": "equal", "at the events' own pace, at least": "cause1"}
CPU_ROLES = {"jvm": "equal", "python": "cause1", "broker": "cause2", "producer": "cause5"}
_LEAST_S = 0.001


def cost_picture(measured: Measurement, words: Words, slo_s: float | None) -> Picture:
    """Every agreed arm as a point: CPU per event to the right, p99 freshness up; the Pareto front as a line."""
    return drawn(_cost(measured, slo_s, WIDE), _cost(measured, slo_s, NARROW), words)


def time_picture(measured: Measurement, words: Words) -> Picture:
    """A bar per arm: the mean watermark's wait, trigger's wait and run, one after another."""
    bars = [
        {"arm": each.arm.name, "v": PART_ROLES[part], "s": getattr(each.freshness, part).mean, "n": number}
        for each in _shown(measured)
        for number, part in enumerate(PART_ROLES)
    ]
    return _stacked(measured, bars, list(PART_ROLES.values()), "seconds, on average", words)


def cpu_picture(measured: Measurement, words: Words) -> Picture:
    """A bar per arm: CPU seconds per million events by process."""
    bars = [
        {"arm": each.arm.name, "v": CPU_ROLES[who], "s": each.cpu_s[who] / max(each.sent, 1) * 1e6, "n": number}
        for each in _shown(measured)
        for number, who in enumerate(CPU_ROLES)
    ]
    return _stacked(measured, bars, list(CPU_ROLES.values()), "CPU seconds per million events", words)


def course_picture(measured: Measurement, words: Words) -> Picture:
    """The p99 of the events that were due at each moment of the run, a line per arm."""
    return drawn(_course(measured, WIDE), _course(measured, NARROW), words)


def lateness_picture(found: Lateness, words: Words) -> Picture:
    """Completeness at each lateness, a line for the run's micro-batches and one for the events' own pace."""
    return drawn(_lateness(found, WIDE), _lateness(found, NARROW), words)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both: less to the right and less up. By the first, ascending."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _shown(measured: Measurement) -> list[Result]:
    """One repeat of each agreed arm that has figures: the one whose p99 is in the middle."""
    found = []
    for arm in measured.arms():
        agreed = [r for r in measured.of(arm) if r.agreed and r.freshness and r.freshness.total]
        agreed.sort(key=lambda r: r.freshness.total.p99 if r.freshness and r.freshness.total else 0.0)
        found += agreed[len(agreed) // 2 : len(agreed) // 2 + 1]
    return found


def _cost(measured: Measurement, slo_s: float | None, width: int) -> dict[str, Any]:
    points: list[dict[str, Any]] = [
        {
            "x": each.cpu_s_per_million,
            "y": max(each.freshness.total.p99, _LEAST_S),
            "v": MODE_ROLES[each.arm.mode],
            "name": each.arm.name,
        }
        for each in _shown(measured)
        if each.freshness and each.freshness.total
    ]
    most = max((point["x"] for point in points), default=1.0) * 1.18
    low = min([point["y"] for point in points] + ([slo_s] if slo_s else []), default=1.0) / 1.6
    high = max([point["y"] for point in points] + ([slo_s] if slo_s else []), default=1.0) * 1.6
    x_scale = alt.Scale(domain=[0, most], nice=False)
    y_scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(grid=True, domain=False, ticks=False, tickCount=5, format="~s")
    x = alt.X("x:Q", scale=x_scale, axis=axis, title="CPU seconds per million events")
    up = alt.Axis(grid=True, domain=False, ticks=False, tickCount=5, format="~g")
    y = alt.Y("y:Q", scale=y_scale, axis=up, title="p99 freshness, seconds")
    layers: list[Any] = []
    if slo_s:
        box = alt.Chart(inline([{"x": 0, "x1": most, "y": low, "y1": slo_s}]))
        mark = box.mark_rect(aria=False, color=LIGHT["cause2"], opacity=0.12)
        layers.append(placed(mark, x=x, x2="x1:Q", y=y, y2="y1:Q"))
    front = [{"x": at, "y": up} for at, up in pareto([(point["x"], point["y"]) for point in points])]
    line = alt.Chart(inline(front)).mark_line(
        aria=False, interpolate="step-after", color=LIGHT["muted"], strokeDash=[4, 3], strokeWidth=1.2
    )
    layers.append(placed(line, x=x, y=y))
    dots = alt.Chart(inline(points)).mark_point(aria=False, filled=True, size=90, opacity=1)
    layers.append(placed(dots, x=x, y=y, color=colours(list(MODE_ROLES.values()))))
    names = alt.Chart(inline(points)).mark_text(aria=False, align="left", dx=8, fontSize=11, color=LIGHT["ink"])
    layers.append(placed(names, x=x, y=y, text="name:N"))
    return fitted(alt.LayerChart(layer=layers), width, 320)


def _stacked(measured: Measurement, bars: list[dict[str, Any]], roles: list[str], title: str, words: Words) -> Picture:
    order = [arm.name for arm in measured.arms()]
    extent = max(120, 7 * max((len(name) for name in order), default=0))  # pixels, by the width of a letter
    height = 26 * max(len({bar["arm"] for bar in bars}), 1) + 46

    def chart(width: int) -> dict[str, Any]:
        y = alt.Y(
            "arm:N",
            sort=order,
            title=None,
            axis=alt.Axis(grid=False, domain=False, ticks=False, labelLimit=0, minExtent=extent),
        )
        axis = alt.Axis(grid=True, domain=False, ticks=False, tickCount=6 if width == WIDE else 3, format="~s")
        x = alt.X("sum(s):Q", title=title, axis=axis)
        mark = alt.Chart(inline(bars)).mark_bar(aria=False, height=16)
        return fitted(placed(mark, x=x, y=y, color=colours(roles), order="n:Q"), width, height)

    return drawn(chart(WIDE), chart(NARROW), words)


def _course(measured: Measurement, width: int) -> dict[str, Any]:
    panels = []
    modes = [mode for mode in MODE_ROLES if any(each.arm.mode == mode for each in _shown(measured))]
    last = max((at for each in _shown(measured) for at, _, _ in _times(each)), default=1.0)
    for mode in modes:
        lines = [
            {"t": at, "y": p99, "arm": each.arm.name}
            for each in _shown(measured)
            if each.arm.mode == mode
            for at, _, p99 in _times(each)
        ]
        bottom = mode == modes[-1]
        axis = alt.Axis(grid=False, labels=bottom, ticks=bottom, tickCount=8, format="~g")
        x = alt.X(
            "t:Q",
            scale=alt.Scale(domain=[0, last], nice=False),
            axis=axis,
            title="seconds of the load" if bottom else None,
        )
        y = alt.Y("y:Q", axis=count_axis(3, 0.001), title=f"{mode}, p99 s")
        mark = alt.Chart(inline(lines)).mark_line(aria=False, color=LIGHT[MODE_ROLES[mode]], strokeWidth=1.6)
        panels.append(placed(mark, x=x, y=y, detail="arm:N").properties(width=width - 90, height=90))
    return configured(alt.vconcat(*panels, spacing=12))


def _lateness(found: Lateness, width: int) -> dict[str, Any]:
    steps = [human(point.lateness_ms) for point in found.points]
    lines: list[dict[str, Any]] = [
        {"x": human(point.lateness_ms), "y": 100 * share, "v": role, "n": number}
        for number, point in enumerate(found.points)
        for role, share in zip(LATENESS_ROLES.values(), found.kept(point), strict=True)
        if share is not None
    ]
    # Latenesses from a second to a day: each step as wide as any other.
    axis = alt.Axis(grid=False, labelAngle=0, labelOverlap=True, ticks=False)
    x = alt.X("x:O", sort=steps, axis=axis, title="lateness")
    low = min([line["y"] for line in lines], default=0.0)
    scale = alt.Scale(domain=[max(low - max((100 - low) * 0.1, 0.1), 0), 100], nice=False)
    y = alt.Y("y:Q", scale=scale, axis=count_axis(4, 0.01), title="% of the events kept")
    drawn_lines = alt.Chart(inline(lines)).mark_line(aria=False, strokeWidth=1.8, point={"filled": True, "size": 28})
    layers = [placed(drawn_lines, x=x, y=y, color=colours(list(LATENESS_ROLES.values())), order="n:Q")]
    now = alt.Chart(inline([{"x": human(found.recorded_ms)}]))
    rule = now.mark_rule(aria=False, color=LIGHT["muted"], strokeDash=[4, 3])
    layers.append(placed(rule, x=x))
    return fitted(alt.LayerChart(layer=layers), width, 240)


def _times(result: Result) -> tuple[tuple[float, float, float], ...]:
    return result.freshness.over_time if result.freshness else ()
