"""The history in the report: chart and tables, one line where there is nothing to compare, the threshold said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import factory
import pytest
from factory_past import make_history
from hostile import CORPUS
from test_report_charts import svgs
from test_report_hostile import bones
from test_report_html import Structure, text_of

from twinrun.errors import MachineError
from twinrun.report.chart_style import by_role
from twinrun.report.history import history_section, past
from twinrun.report.html import render_history, render_html
from twinrun.report.markdown import render_markdown
from twinrun.report.write import write_history
from twinrun.results.ledger import MOST_VERIFIES, CauseHistory

HOSTILE = (CORPUS["script"], CORPUS["attribute"])


def with_history(verifies: int, least: float | None = None, unexplained: int = 0) -> str:
    return render_html(replace(factory.explained(), history=make_history(verifies, least, unexplained)))


def test_no_history_and_one_verify_are_one_line() -> None:
    assert past(replace(factory.explained(), history=None)).empty == (
        "The ledger holds no verify of this job that covered its cut."
    )
    one = past(replace(factory.explained(), history=make_history(1)))
    assert one.empty == "The ledger holds one verify of this job, of 2025-11-13 02:13:20 UTC: no trend yet."
    assert len(svgs(with_history(1))) == 8


def test_verifies_causes_and_windows_are_tables_and_a_chart() -> None:
    page = with_history(12)
    assert len(svgs(page)) == 12
    section = past(replace(factory.explained(), history=make_history(12)))
    assert [len(grid.rows) for grid in section.grids] == [12, 2, 4]
    assert [cell.text for cell in section.grids[1].rows[0]][:3] == ["late_dropped", "92", "12 of 12"]
    assert "The ledger holds 12 verifies of this job." in text_of(page)
    assert "## History" in render_markdown(replace(factory.explained(), history=make_history(12)))


def test_the_threshold_is_said_and_drawn_where_it_is_given() -> None:
    less, met, none = (history_section(make_history(12, least), factory.HOUR).intro for least in (0.999, 0.5, None))
    assert "75.000\u202f% of the compared rows are equal (less than the 99.900\u202f% asked for)" in less
    assert "(at least the 50.000\u202f% asked for)" in met
    assert "asked for" not in none
    drawn, plain = (svgs(render_history(make_history(12, least), factory.HOUR))[-1] for least in (0.999, None))
    assert (drawn.count("stroke-dasharray"), plain.count("stroke-dasharray")) == (1, 0)


def test_a_history_that_is_cut_off_does_not_say_since_when() -> None:
    whole = history_section(make_history(MOST_VERIFIES - 1), factory.HOUR)
    cut = history_section(make_history(MOST_VERIFIES), factory.HOUR)
    assert "the results differ since the verify of" in whole.intro
    assert "These are the last 100 verifies of this job in the ledger." in cut.intro
    assert "the results differ since at least the verify of" in cut.intro


def test_a_hundred_verifies_leave_the_page_small() -> None:
    assert len(with_history(100, 0.9, 3).encode()) < 450_000


def test_causes_beyond_four_share_a_colour() -> None:
    base = make_history(3).causes[0]
    many: list[CauseHistory] = [replace(base, cause=f"cause {n}", rows=(n, n, n)) for n in range(7)]
    roles = by_role(many)
    assert [(role, len(causes)) for role, causes in roles] == [
        *((f"cause{n}", 1) for n in (1, 2, 3, 4)),
        ("cause5", 3),
    ]
    assert roles[0][1][0].cause == "cause 6"


def test_hostile_causes_reach_no_chart_and_no_class() -> None:
    history = make_history(5)
    causes = tuple(replace(each, cause=text) for each, text in zip(history.causes, HOSTILE, strict=True))
    page = render_html(replace(factory.explained(), history=replace(history, causes=causes)))
    assert svgs(page)[8:] == svgs(with_history(5))[8:]
    assert "<script" not in page
    assert 'class="line cause1"' in page


def test_the_page_of_the_command_is_one_sound_file_whatever_the_ledger_holds(tmp_path: Path) -> None:
    file = tmp_path / "new" / "history.html"
    write_history(make_history(12), factory.HOUR, file)
    page = file.read_text(encoding="utf-8")
    parser = Structure()
    parser.feed(page)
    assert (parser.open, parser.problems) == ([], [])
    assert "default-src 'none'" in page
    assert list(file.parent.iterdir()) == [file]
    hostile = replace(make_history(12), job=CORPUS["script"])
    assert bones(render_history(hostile, factory.HOUR)).tags == bones(page).tags
    blocked = tmp_path / "file"
    blocked.write_text("mine", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot be written"):
        write_history(make_history(2), None, blocked / "history.html")
