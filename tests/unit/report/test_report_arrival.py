"""Late events that were read late, and a watermark that follows some events only: told in every part of a report."""

from __future__ import annotations

from dataclasses import replace

import factory
import pytest
from factory_past import make_blamed

from twinrun.report.cause_text import tell
from twinrun.report.chart_style import partition_roles
from twinrun.report.charts import Words, partitions_picture
from twinrun.report.html import render_html
from twinrun.report.markdown import render_markdown
from twinrun.report.terminal import render_summary
from twinrun.report.words import arrivals, clock, glossary
from twinrun.results.verdict import Arrival, PartitionBehind, PartitionPoint, Verdict, WatermarkOf

BASE = factory.explained()
TOPIC = "flights"
ONLY = WatermarkOf("flights", 3_600_000, "status >= 400")


def spaced(text: str) -> str:
    """With the spaces of durations, which never break, as plain ones."""
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def uneven(partitions: int = 3) -> Verdict:
    start = BASE.micro_batches[0].newest_event_ms or 0
    points = tuple(
        PartitionPoint(TOPIC, partition, number, start + number * 3_600_000 // (partition + 1))
        for partition in range(partitions)
        for number in range(20)
    )
    behind = (PartitionBehind(TOPIC, 2, 4, 3, 7_500_000),)
    late = tuple(
        replace(each, arrival="read_late" if place % 2 else "arrived_late", passed_at_ms=each.known_at_ms)
        for place, each in enumerate(BASE.late_events)
    )
    return replace(BASE, watermarks=(ONLY,), arrival=Arrival(333, 4, 0, behind), partitions=points, late_events=late)


def test_the_watermark_is_told_as_the_plan_of_the_job_has_it() -> None:
    plain = "the newest event time read so far, less the allowed lateness of 1 h"
    assert clock(BASE) == clock(replace(BASE, watermarks=(WatermarkOf("flights", 3_600_000),)))
    assert spaced(clock(BASE)) == plain
    assert spaced(clock(uneven())) == (
        "the newest event time read so far of the events with status >= 400, a filter that Spark applies before the "
        "watermark, less the allowed lateness of 1 h"
    )
    not_told = replace(BASE, watermarks=(WatermarkOf("flights", 3_600_000, "", False),))
    assert "of some of the events: the plan does not say of which" in clock(not_told)
    both = spaced(clock(replace(BASE, watermarks=(ONLY, WatermarkOf("orders", 60_000)))))
    assert both.startswith("the least of the watermarks of its sources (of flights the newest event time")
    assert "of orders the newest event time read so far, less the allowed lateness of 1 min" in both
    assert clock(uneven()) in dict(glossary(uneven()))["Watermark"]


def test_page_and_markdown_tell_who_was_behind_and_what_helps() -> None:
    verdict = uneven()
    text = render_markdown(verdict)
    assert "333 events arrived late" in text
    assert "4 events were read late: they lay in Kafka before any of that" in text
    assert "How evenly the partitions were read" in text
    assert "flights-2" in text
    assert "not a longer lateness" in text
    assert text.count("read late") > len(verdict.late_events) // 2
    page = render_html(verdict)
    assert "partition 2 (behind)" in page
    assert "status &gt;= 400" in page


def test_without_partitions_there_is_no_such_section() -> None:
    assert "How evenly" not in render_markdown(BASE)
    assert arrivals(BASE) == ""


@pytest.mark.parametrize(
    ("read", "words"), [(1, "1 event was read late: it lay"), (2, "2 events were read late: they")]
)
def test_one_and_several_are_told_apart(read: int, words: str) -> None:
    assert words in arrivals(replace(BASE, arrival=Arrival(0, read, 0)))


def test_the_summary_has_a_line_for_events_that_were_read_late() -> None:
    lines = render_summary(uneven(), path=None)
    assert any(line.split()[:3] == ["read", "late", "4"] for line in lines)
    assert not any("read late" in line for line in render_summary(BASE, path=None))


def test_a_row_says_of_its_event_which_it_was_and_advises_accordingly() -> None:
    verdict = uneven()
    (event,) = make_blamed(BASE.samples[0], 1)
    slow = replace(event, arrival="read_late", passed_at_ms=event.known_at_ms + 60_000, topic=TOPIC, partition=2)
    sample = replace(BASE.samples[0], causes={"late_dropped": 1}, events=(slow,))
    told = tell(verdict, sample, "late_dropped")
    assert (
        "It was read late: it lay in Kafka before the first event that moves the watermark past that" in told.happened
    )
    assert "read behind the others since micro-batch 3, by up to 2 h 5 min of event time" in spaced(told.happened)
    assert told.prevent.startswith("Read evenly, every event that is named here would have been in time")
    came = replace(slow, arrival="arrived_late", passed_at_ms=event.known_at_ms - 60_000)
    told = tell(verdict, replace(sample, events=(came,)), "late_dropped")
    assert "It arrived late: Kafka had got the first event that moves the watermark past that" in told.happened
    assert told.prevent.startswith("A lateness of ")
    told = tell(verdict, replace(sample, causes={"late_dropped": 2}, events=(came, slow)), "late_dropped")
    assert "would have kept every event of this row that arrived late" in told.prevent
    assert "Read evenly, those that were read late would have been in time" in told.prevent


def test_four_partitions_have_a_colour_of_their_own() -> None:
    roles = partition_roles(uneven(7).partitions)
    assert [role for role, _ in roles] == ["cause1", "cause2", "cause3", "cause4", "cause5", "cause5", "cause5"]
    picture = partitions_picture(uneven(7).partitions, BASE.micro_batches, Words("", "", ""))
    assert picture.light_wide.startswith("data:image/svg+xml;base64,")
