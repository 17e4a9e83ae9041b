"""The chart of the ledger: share of equal rows, differing rows by verdict and rows by cause, from verify to verify."""

from __future__ import annotations

from typing import Any

import altair as alt

from twinrun.report.cells import moment
from twinrun.report.chart_style import LEFT, LIGHT, NARROW, WIDE, by_role, colours, configured, count_axis
from twinrun.report.charts import Picture, Words, drawn, inline, placed
from twinrun.results.ledger import History

_DIFFERING = ("explained", "unexplained")
_MOST_DOTS = 16


def past_picture(found: History, words: Words) -> Picture:
    """Three panels over the verifies, oldest left; the texts in it are instants and numbers of ours."""
    return drawn(_panels(found, WIDE), _panels(found, NARROW), words)


def _panels(found: History, width: int) -> dict[str, Any]:
    count = len(found.verifies)
    scale = alt.Scale(nice=False, zero=False, domain=[0, count])
    bare = alt.Axis(labels=False, title=None, ticks=False, domain=False, grid=False)
    bottom = 2 if found.causes else 1

    def x(name: str, panel: int) -> alt.X:
        axis = _axis(found, width) if panel == bottom else bare
        return alt.X(f"{name}:Q", scale=scale, axis=axis, title=None)

    panels: list[Any] = [_share(found, x("n", 0)), _differing(found, x("n0", 1), width)]
    if found.causes:
        panels.append(_causes(found, x("n", 2)))
    inner = width - LEFT - 26
    stack = alt.vconcat(*(panel.properties(width=inner) for panel in panels), spacing=16)
    return configured(stack.resolve_scale(x="shared"))


def _axis(found: History, width: int) -> alt.Axis:
    """A few verifies by their time: they do not come at even steps, so the axis counts them."""
    count, most = len(found.verifies), 6 if width == WIDE else 3
    shown = sorted({int((place + 0.5) * count / most) for place in range(most)})
    labels = []
    for number in shown:
        at = moment(found.verifies[number].at_ms)
        labels.append(f"'{number}':'{at:%d %b %H:%M}'" if at else f"'{number}':''")
    return alt.Axis(
        values=[number + 0.5 for number in shown],
        labelExpr=f"({{{','.join(labels)}}})[floor(datum.value)]",
        grid=False,
    )


def _share(found: History, x: alt.X) -> alt.LayerChart:
    shares = [
        {"n": number + 0.5, "y": point.completeness * 100}
        for number, point in enumerate(found.verifies)
        if point.completeness is not None
    ]
    least = found.min_completeness
    bounds = [share["y"] for share in shares] + ([least * 100] if least is not None else [])
    low = min(bounds, default=0.0)
    scale = alt.Scale(domain=[max(0.0, low - max((100 - low) * 0.25, 0.01)), 100], nice=False)
    y = alt.Y("y:Q", scale=scale, axis=count_axis(3, 0.001), title="rows equal, %")
    layers = [placed(_line(shares, "equal", 90), x=x, y=y)]
    if least is not None:
        rule = alt.Chart(inline([{"y": least * 100}])).mark_rule(
            aria=False, color=LIGHT["ink"], strokeWidth=1.4, strokeDash=[5, 3]
        )
        layers.append(placed(rule, y=alt.Y("y:Q", scale=scale)))
    panel: alt.LayerChart = alt.LayerChart(layer=layers)
    return panel


def _differing(found: History, x: alt.X, width: int) -> alt.Chart:
    bars = []
    for number, point in enumerate(found.verifies):
        below = 0
        for verdict, rows in zip(_DIFFERING, (point.rows_explained, point.rows_unexplained), strict=True):
            if rows:
                ends = {"n0": number + 0.15, "n1": number + 0.85, "y0": below, "y1": below + rows}
                bars.append({**ends, "v": verdict})
                below += rows
    y = alt.Y("y0:Q", axis=count_axis(3), title="rows differ")
    chart: alt.Chart = alt.Chart(inline(bars), height=80).mark_bar(aria=False)
    return placed(chart, x=x, x2="n1:Q", y=y, y2="y1:Q", color=colours(_DIFFERING))


def _causes(found: History, x: alt.X) -> alt.LayerChart:
    roles = by_role(found.causes)
    y = alt.Y("y:Q", axis=count_axis(3), title="by cause", scale=alt.Scale(zero=True))
    layers = []
    for role, causes in roles:
        sums = [sum(rows) for rows in zip(*(cause.rows for cause in causes), strict=False)]
        dots = [{"n": number + 0.5, "y": rows} for number, rows in enumerate(sums)]
        layers.append(placed(_line(dots, role, 80), x=x, y=y))
    panel: alt.LayerChart = alt.LayerChart(layer=layers)
    return panel


def _line(values: list[dict[str, Any]], role: str, height: int) -> alt.Chart:
    """A line with a dot per verify, while there are few: each dot costs more bytes than the line."""
    dot = {"color": LIGHT[role], "size": 22, "opacity": 1} if len(values) <= _MOST_DOTS else False
    chart: alt.Chart = alt.Chart(inline(values), height=height).mark_line(
        aria=False, color=LIGHT[role], strokeWidth=1.8, point=dot
    )
    return chart
