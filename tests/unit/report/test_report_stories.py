"""Whoever reads one row of the report alone learns what happened, when, to which event, and what to do."""

from __future__ import annotations

from dataclasses import replace

import factory
import pytest
from factory_past import make_blamed
from hostile import CORPUS
from test_report_external import external
from test_report_hostile import OWN_SPACES, bones
from test_report_html import text_of

from twinrun.report import html as html_report
from twinrun.report.cause_text import TOLD_CAUSES, enough_ms
from twinrun.report.figures import figures
from twinrun.report.html import render_html
from twinrun.report.markdown import render_markdown
from twinrun.report.neutral import neutral
from twinrun.report.sections import Story
from twinrun.report.stories import proven_story, stories
from twinrun.results.causes import PROOFS
from twinrun.results.verdict import BlamedEvent, CauseCount, MicroBatchPoint, RowSample, SinkCommit, Verdict

HOUR, START = factory.HOUR, factory.START_MS

WINDOW_MS = START + 20 * HOUR


def small(sample: RowSample, **changes: object) -> Verdict:
    """A verdict about one window, 20:00 to 21:00, that micro-batch 4 closed."""
    marks = ((0, 0), (1, 15), (2, 18), (3, 20), (4, 22), (5, 23))
    points = tuple(MicroBatchPoint(n, 60, START + hours * HOUR if hours else 0, None, 1, 1) for n, hours in marks)
    return replace(factory.explained(), samples=(sample,), micro_batches=points, **changes)  # type: ignore[arg-type]


def one(verdict: Verdict) -> Story:
    (story,) = stories(verdict).stories
    return story


def words(story: Story) -> dict[str, str]:
    return {part.heading: part.text.replace("\u00a0", " ") for part in story.told}


def late_sample(count: int, total: int) -> RowSample:
    base = replace(factory.make_sample(0), causes={"late_dropped": total})
    return replace(base, window_start_ms=WINDOW_MS, events=make_blamed(replace(base, window_start_ms=WINDOW_MS), count))


def test_a_dropped_event_is_told_with_its_window_micro_batch_watermark_and_lateness() -> None:
    story = one(small(late_sample(1, 1)))
    assert story.title == "origin EWR · 2013-01-06 20:00–21:00 UTC"
    assert story.lead.startswith("flights is 31 in the batch and 30 in the stream; mean_delay is 18.42 in the batch")
    told = words(story)
    assert told["What happened"] == (
        "The stream closed this window in micro-batch 4: its watermark (the newest event time read so far, less the "
        "allowed lateness of 1 h) reached 2013-01-06 22:00 there, and the window ends at 2013-01-06 21:00. "
        "UA2000-EWR, with the event time 2013-01-06 20:07, became known at 2013-01-06 23:30 and was read in "
        "micro-batch 20. There it was judged by the watermark of micro-batch 19, 2013-01-06 23:03: 2 h 3 min after the "
        "window's end. So the stream dropped it."
    )
    assert "without this event gives exactly the stream's row; over all events" in told["How it is proven"]
    assert "The stream's row lacks 1 event. That will not change by itself" in told["What it means"]
    assert (
        "A lateness of 3 h 4 min (now 1 h) would have kept every event of this row"
        in told["How to prevent or repair it"]
    )
    assert story.told[-1].commands == (
        "twinrun what-if departures_per_hour",
        "twinrun heal departures_per_hour --apply",
    )
    assert [cell.text for cell in story.grids[1].rows[0]][-1] == "flights-0 at 700"


@pytest.mark.parametrize(
    ("end_ms", "shape", "says"),
    [
        (WINDOW_MS + 7 * 60_000, "tumbling", "2 h 3 min after its own event time, which is what counts in this job"),
        (WINDOW_MS + 600_000, "tumbling", "after the end of the first window that it meets, 2013-01-06 20:10"),
        (WINDOW_MS + 600_000, "session", "after its event time plus the gap of the session"),
    ],
)
def test_where_another_operator_decides_the_window_is_not_said_to_be_closed(end_ms: int, shape: str, says: str) -> None:
    sample = late_sample(1, 1)
    event = replace(sample.events[0], end_ms=end_ms)
    told = words(one(small(replace(sample, events=(event,)), shape=shape)))["What happened"]
    assert says in told
    assert "closed" not in told


def test_events_that_are_not_named_are_counted() -> None:
    story = one(small(late_sample(5, 7)))
    assert "6 more events were dropped in the same way." in words(story)["What happened"]
    assert story.grids[1].caption.endswith("(5 of 7)")
    assert len(story.grids[1].rows) == 5


def test_a_log_that_is_shown_in_part_does_not_say_which_micro_batch_closed_the_window() -> None:
    verdict = small(late_sample(1, 1))
    thinned = replace(verdict, micro_batches=tuple(point for point in verdict.micro_batches if point.micro_batch != 3))
    assert "closed this window at the latest in micro-batch 4" in words(one(thinned))["What happened"]


@pytest.mark.parametrize(
    ("need_ms", "says_ms"), [(999, 1000), (61_500, 62_000), (2 * HOUR, 2 * HOUR + 60_000), (25 * HOUR + 1, 26 * HOUR)]
)
def test_the_lateness_that_is_advised_is_above_the_one_that_lost_the_event(need_ms: int, says_ms: int) -> None:
    assert enough_ms(need_ms) == says_ms > need_ms


def test_every_cause_that_can_be_proven_has_a_story() -> None:
    assert set(PROOFS) <= set(TOLD_CAUSES)


@pytest.mark.parametrize("cause", TOLD_CAUSES)
def test_a_story_says_what_happened_the_proof_the_meaning_and_the_way_out(cause: str) -> None:
    base = replace(factory.make_sample(0), causes={cause: 1}, verdict="explained")
    events = make_blamed(base, 1, cause) if cause in ("before_start", "beyond_cut", "quarantined") else ()
    story = one(small(replace(base, events=events)))
    told = words(story)
    assert list(told) == ["What happened", "How it is proven", "What it means", "How to prevent or repair it"]
    assert all(len(text) > 30 for text in told.values())
    assert not any("{" in command for part in story.told for command in part.commands)
    assert cause in story.tag


def test_a_row_that_somebody_else_changed_is_told_with_the_commit_and_both_values() -> None:
    base = factory.make_sample(0)
    assert base.stream is not None
    name = next(name for name, cell in base.stream.items() if isinstance(cell, int))
    commit = SinkCommit(27, "UPDATE", 1_763_900_000_000, "Apache-Spark/4.2.0 Delta-Lake/4.4.0")
    changed = replace(
        base,
        causes={"sink_changed": 0},
        events=(),
        stream={**base.stream, name: 12},
        emitted={**base.stream, name: 7},
        commits=(commit,),
    )
    happened = words(one(small(changed)))["What happened"]
    assert "version 27 (UPDATE at 2025-11-23 12:13" in happened
    assert "UTC by Apache-Spark/4.2.0 Delta-Lake/4.4.0)" in happened
    assert f"{name} is 12 in its table, and 7 was emitted" in happened
    extra = words(one(small(replace(changed, emitted=None))))["What happened"]
    assert "The stream emitted no row of this key." in extra
    proof = words(one(small(replace(changed, emitted=None))))["How it is proven"]
    assert proof.endswith("held no row of this key, and a recomputation of what the stream emitted gives none.")
    # A row that is missing has its own cause, and the commit that may have taken it is told beside it.
    gone = replace(changed, causes={"sink_missing": 0}, stream=None, kind="only_batch", emitted=None)
    assert "version 27 (UPDATE" in words(one(small(gone)))["What happened"]


def test_evidence_that_was_never_landed_is_told_without_looking_for_somebody_who_changed_a_table() -> None:
    lost = replace(factory.explained().audits[0], ok=False, lost_offsets=5, note="bronze lacks 5 offsets")
    told = words(one(small(replace(factory.make_sample(0), verdict="evidence_expired"), audits=(lost,))))
    assert "Kafka had removed records before they were landed" in told["What happened"]
    assert "5 offsets of flights" in told["What happened"]
    assert not any("HISTORY" in text or "who else" in text for text in told.values())


@pytest.mark.parametrize("cause", TOLD_CAUSES)
@pytest.mark.parametrize("held", ["both", "batch", "stream"])
@pytest.mark.parametrize("outside", [False, True], ids=["stream", "external"])
def test_no_sentence_speaks_of_a_row_that_is_not_there(cause: str, held: str, outside: bool) -> None:
    """Every text of every cause, against a row of both sides, of the batch alone, of the stream alone."""
    base = factory.make_sample(0)
    base = replace(
        base,
        causes={cause: 1},
        kind={"both": "changed", "batch": "only_batch", "stream": "only_stream"}[held],
        batch=None if held == "stream" else base.batch,
        stream=None if held == "batch" else base.stream,
        verdict=cause if cause in ("input_behind", "evidence_expired") else "explained",
    )
    sample = replace(base, events=make_blamed(base, 1, cause))
    verdict = small(sample, external=external().external if outside else None)
    told = " ".join(words(one(verdict)).values())
    absent = {"both": [], "batch": ["stream's row", "external row"], "stream": ["batch's row"]}[held]
    if held not in IMPOSSIBLE.get(cause, ()):
        assert not [text for text in absent if text in told], told
    assert "1 events" not in told
    assert "{" not in told


IMPOSSIBLE = {"pending": ("both", "stream"), "sink_missing": ("both", "stream"), "sink_duplicate": ("batch",)}
"""A row that waits, or that the table lost, is one that the stream's table has not; a copy is one that it has."""


def test_a_row_that_the_stream_has_not_lacks_no_event() -> None:
    sample = replace(late_sample(1, 1), stream=None, kind="only_batch", columns=())
    told = words(one(small(sample)))
    assert told["How it is proven"] == (
        "The job's own function without this event gives no row, as the stream has none; over all events it gives "
        "exactly the batch's row. Both were recomputed."
    )
    assert told["What it means"].startswith(
        "The batch's row is complete. The stream has no row here: without 1 event there is none."
    )


def test_what_has_no_proof_comes_first_and_what_only_waits_last_and_folded() -> None:
    """The samples as a verify may hand them over, in order of their windows."""
    waiting = [replace(factory.make_sample(n), causes={"pending": 1}, stream=None) for n in range(18)]
    late = replace(factory.make_sample(18), causes={"late_dropped": 2})
    lost = replace(factory.make_sample(19), causes={"sink_missing": 0}, stream=None)
    wrong = replace(factory.make_sample(20), verdict="unexplained", causes={})
    causes = (CauseCount("pending", 25, 0, None, ""), CauseCount("late_dropped", 1, 0, 2, ""))
    verdict = small(
        late, window_ms=None, shape="session", causes=causes, rows_explained=27, rows_unexplained=1, rows_compared=100
    )
    section = stories(replace(verdict, samples=(*waiting, late, lost, wrong)))
    assert [story.tag for story in section.stories[:4]] == [
        "unexplained",
        "explained: sink_missing",
        "explained: late_dropped",
        "explained: pending",
    ]
    assert section.open_stories == 3
    assert section.more_stories == "17 rows that wait"
    assert section.notes == ("25 rows only wait in the stream; 17 are told here.",)
    page = figures(verdict)
    assert (page.different, page.pending) == (3, verdict.rows_pending + 25)


def test_static_versions_are_named() -> None:
    sample = replace(factory.make_sample(0), causes={"static_version": 0}, events=())
    cut = replace(factory.explained().cut, batch_static={"weather": 3}, stream_static={"weather": 1})
    assert "weather (batch: version 3, stream: 1)" in words(one(small(sample, cut=cut)))["What happened"]


def test_an_unexplained_row_claims_nothing_and_says_what_was_tried() -> None:
    sample = replace(factory.make_sample(0), verdict="unexplained", causes={}, events=())
    note = "A proof by replay was withdrawn: the replay's watermark differs from the recorded one in micro-batch 3."
    story = one(small(sample, notes=(note,)))
    told = words(story)
    assert told["What happened"] == "It is not known: no cause could be proven, so none is claimed."
    assert note in told["What was tried"]
    assert "DESCRIBE HISTORY" in told["What to look at next"]
    assert "proven" not in told["What it means"]
    assert story.tag_tone == "bad"


def test_several_causes_are_told_together() -> None:
    base = factory.differ().samples[1]
    story = one(small(base))
    assert "all the events that are blamed here" in words(story)["How it is proven"]
    assert story.grids[1].head[1] == "Cause"
    assert "(quarantine) and accepted later, by a requeue or by hand" in words(story)["What happened"]


def test_a_key_that_the_function_works_out_claims_no_row_for_its_events() -> None:
    story = one(small(replace(late_sample(1, 1), events_of="window")))
    assert "of this window (the function works out the row of each)" in story.grids[1].caption


def test_sessions_and_several_sources_are_not_told_to_heal() -> None:
    sample = late_sample(1, 1)
    assert one(small(sample, shape="session")).told[-1].commands == ("twinrun what-if departures_per_hour",)


def test_floats_are_short_unless_they_would_look_equal() -> None:
    sample = replace(
        factory.make_sample(0),
        columns=("near", "far"),
        batch={"near": 0.1, "far": 10.31578947368421},
        stream={"near": 0.10000000000000002, "far": 1.0},
    )
    texts = [[cell.text for cell in line][1:3] for line in one(small(sample)).grids[0].rows]
    assert texts == [["0.1", "0.10000000000000002"], ["10.3158", "1"]]


FAR = "x" * 1000
UNLIKE = [
    (f"{FAR}a", f"{FAR}b"),
    (f"{FAR} ", FAR),
    (f"{FAR}caf\u00e9{FAR}", f"{FAR}cafe\u0301{FAR}"),
    (f"{FAR}\x00{FAR}", f"{FAR}\\x00{FAR}"),
    ("a\x00", r"a\x00"),
    ("\\" * 1000 + "\x00", "\\" * 1000 + r"\x00"),
    ([FAR, "a"], [FAR, "b"]),
    ({"t": [1] * 100, "u": 1}, {"t": [1] * 100, "u": 2}),
    ({"t": f"{FAR}a"}, {"t": f"{FAR}b"}),
    ([1, 2], [1, 3]),
    ("y" * 2_000_000 + "a", "y" * 2_000_000 + "b"),
]


@pytest.mark.parametrize(("batch", "stream"), UNLIKE, ids=range(len(UNLIKE)))
def test_cells_that_differ_anywhere_look_different(batch: object, stream: object) -> None:
    """Texts are bounded before they are shown: the place where the two differ must be left."""
    base = replace(factory.make_sample(0), columns=("t",))
    for left, right in ((batch, stream), (stream, batch)):
        sample = replace(base, batch={"t": left}, stream={"t": right})
        page = neutral(small(sample))
        line = one(page).grids[0].rows[0]
        assert line[1].text != line[2].text
        assert max(len(cell.text) for cell in line) < 500
        assert len(render_html(small(sample))) < 2_000_000
        # What was emitted differs at another place than the batch's.
        emitted = replace(sample, causes={"sink_changed": 0}, batch={"t": f"{left}"[:500]}, emitted={"t": left})
        said = words(one(neutral(small(emitted))))["What happened"]
        there, then = said.split("row: t is ")[1].removesuffix(" was emitted.").split(" in its table, and ")
        assert there != then


@pytest.fixture
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts hold no text from data (see test_report_charts)."""
    monkeypatch.setattr(html_report, "_pictures", lambda verdict: {})


@pytest.mark.usefixtures("_no_charts")
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS.keys())
def test_hostile_names_of_known_causes_stay_text(text: str) -> None:
    """The corpus replaces causes too; here the cause is known, so that every sentence about events is made."""
    sample = late_sample(2, 2)
    hostile = small(replace(sample, events=renamed(sample, text), key={text: text}), job=text)
    plain = small(replace(sample, events=renamed(sample, "a"), key={"a": "a"}), job="a")
    assert bones(render_html(hostile)).tags == bones(render_html(plain)).tags
    assert all(char.isprintable() or char == "\n" or char in OWN_SPACES for char in render_markdown(hostile))


def renamed(sample: RowSample, text: str) -> tuple[BlamedEvent, ...]:
    return tuple(replace(event, id={text: text}, topic=text) for event in sample.events)


@pytest.mark.usefixtures("_no_charts")
def test_the_page_has_one_article_per_row_and_folds_the_rest() -> None:
    page = render_html(factory.explained())
    assert page.count('<article class="row">') == 12
    assert "8 more rows" in text_of(page)


def test_an_event_of_before_1970_is_told_as_lost_at_any_lateness() -> None:
    """A watermark begins at 1970: no micro-batch closed that window, and no lateness would have kept the event."""
    sample = late_sample(1, 1)
    (event,) = sample.events
    for end_ms, watermark_ms in ((-HOUR, 0), (0, 0), (-HOUR, START), (0, START)):
        at = {"end_ms": end_ms, "event_time_ms": end_ms - HOUR // 2, "watermark_ms": watermark_ms, "micro_batch": 0}
        early = replace(sample, window_start_ms=end_ms - HOUR, events=(replace(event, **at, late_ms=0),))
        told = words(one(small(early)))
        assert "is not after 1970-01-01 00:00 UTC, where the watermark of every stream begins" in told["What happened"]
        assert "micro-batch -1" not in told["What happened"]
        assert "closed this window" not in told["What happened"]
        assert any(text.startswith("No lateness keeps events of before 1970") for text in told.values())
        assert not any("would have kept" in text for text in told.values())


def test_an_event_of_the_first_hour_of_1970_is_told_like_any_other() -> None:
    sample = late_sample(1, 1)
    (event,) = sample.events
    at = {"end_ms": HOUR, "event_time_ms": HOUR // 2, "watermark_ms": START, "micro_batch": 3}
    told = words(one(small(replace(sample, window_start_ms=0, events=(replace(event, **at),)))))
    assert "judged by the watermark of micro-batch 2" in told["What happened"]
    assert any("would have kept" in text for text in told.values())


def test_the_story_that_stands_for_a_verdict_is_a_proven_one_and_none_that_only_waits() -> None:
    waits = replace(factory.make_sample(0), causes={"pending": 1})
    open_ = replace(factory.make_sample(1), verdict="unexplained", causes={})
    late = late_sample(1, 1)
    assert proven_story(replace(small(late), samples=())) is None
    assert proven_story(replace(small(late), samples=(waits, open_))) is None
    told = proven_story(replace(small(late), samples=(open_, waits, late)))
    assert told is not None
    assert told.tag == "explained: late_dropped"
