"""The charts: the same in light and dark, no text from data, lines in the right order, colours one can tell apart."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace

import factory
import pytest
from factory_past import make_history

from twinrun.report import html as html_report
from twinrun.report.chart_style import DARK, LIGHT, recolour
from twinrun.report.html import render_html

DATA_URI = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(factory.differ())


def svgs(page: str) -> list[str]:
    return [base64.b64decode(found).decode() for found in DATA_URI.findall(page)]


def test_charts_are_the_same_in_light_and_dark_but_for_the_colours(page: str) -> None:
    found = svgs(page)
    assert len(found) == 12
    for dark_narrow, light_narrow, dark_wide, light_wide in (found[:4], found[4:8], found[8:]):
        assert recolour(light_wide, DARK) == dark_wide
        assert recolour(light_narrow, DARK) == dark_narrow
        assert not [colour for colour in LIGHT.values() if colour in dark_wide + dark_narrow]
        used = set(re.findall(r"#[0-9a-f]{6}", light_wide + light_narrow))
        assert used <= set(LIGHT.values())


def test_charts_hold_no_text_from_data() -> None:
    clean = factory.differ()
    history = make_history(5)
    clean = replace(clean, history=history)
    renamed = replace(
        clean,
        job="zzmark",
        samples=tuple(replace(sample, key={"zzmark": "zzmark"}) for sample in clean.samples),
        history=replace(history, causes=tuple(replace(cause, cause="zzmark") for cause in history.causes)),
        late_events=tuple(replace(event, id={"zzmark": "zzmark"}, topic="zzmark") for event in clean.late_events),
    )
    page = render_html(renamed)
    assert "zzmark" in page
    assert svgs(page) == svgs(render_html(clean))


def test_lines_run_along_the_micro_batches(page: str) -> None:
    newest, watermark = re.findall(r'<path d="(M[^"Zh]*)" stroke="(?:#[0-9a-f]{6})"', svgs(page)[7])[:2]
    for line in (newest, watermark):
        across = [float(x) for x in re.findall(r"[ML](-?[\d.]+),", line)]
        assert len(across) > 50
        assert across == sorted(across)


def test_rendering_takes_less_than_3_seconds() -> None:
    started = time.process_time()
    render_html(factory.explained())
    assert time.process_time() - started < 3


def css_colours() -> tuple[dict[str, str], dict[str, str]]:
    light, dark = html_report.style().split("@media screen and (prefers-color-scheme: dark)", 1)
    read = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
    return dict(read.findall(light)), dict(read.findall(dark.split("* {")[0]))


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT_PAIRS = (
    *(("ink", "page"), ("ink", "sheet"), ("soft", "page"), ("soft", "sheet"), ("mark-ink", "mark")),
    *(("good", "good-wash"), ("fair", "fair-wash"), ("bad", "bad-wash"), ("soft", "good-wash"), ("soft", "fair-wash")),
    *(("soft", "bad-wash"), ("ink", "good-wash"), ("ink", "fair-wash"), ("ink", "bad-wash"), ("good", "sheet")),
    *(("fair", "sheet"), ("bad", "sheet"), ("unexplained", "sheet")),
)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_enough(theme: int) -> None:
    colours = css_colours()[theme]
    weak = [pair for pair in TEXT_PAIRS if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
    assert not weak
    for role in ("equal", "explained", "unexplained", "pending", "behind"):
        assert contrast(colours[role], colours["sheet"]) >= 3, role


def test_weak_contrast_would_be_noticed() -> None:
    assert contrast("#999999", "#ffffff") < 4.5
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize(("theme", "palette"), [(0, LIGHT), (1, DARK)], ids=["light", "dark"])
def test_charts_and_page_share_their_colours(theme: int, palette: dict[str, str]) -> None:
    colours = css_colours()[theme]
    for role in ("equal", "explained", "unexplained", "pending", "behind", "line"):
        assert colours[role] == palette[role]
    assert contrast(palette["muted"], colours["sheet"]) >= 4.5


@pytest.mark.parametrize("span_ms", [8_000, 50 * 60_000, 20 * 3_600_000, 4 * 86_400_000, 90 * 86_400_000, 10**11])
def test_the_upright_time_axis_says_no_label_twice_and_cuts_none_off(span_ms: int) -> None:
    base = replace(factory.explained(), late_events=(), history=None)
    first = factory.START_MS + 1_234
    points = tuple(
        replace(point, newest_event_ms=first + span_ms * place // 10, watermark_ms=first + span_ms * place // 11)
        for place, point in enumerate(base.micro_batches[:11])
    )
    picture = svgs(render_html(replace(base, micro_batches=points)))[-1]
    labels = re.findall(r"<text [^>]*text-anchor=\"end\"[^>]*>(.*?)</text>", picture)
    dated = [label for label in labels if re.search(r"[A-Z][a-z]{2}", label)]
    times = [re.findall(r"[^<>]+(?=</tspan>)", label) or [label] for label in dated]
    assert 2 <= len(times) <= 7
    assert len({tuple(lines) for lines in times}) == len(times)
    # 58 pixels at 12 pixels a letter's height: nine letters.
    assert all(len(line) <= 9 for lines in times for line in lines)
