"""The sections on what the comparison stands on: stream progress, cut, quarantine, audit, expectations, notes."""

from __future__ import annotations

from collections.abc import Sequence

from twinrun.report.binning import Progress, bin_progress
from twinrun.report.cells import NONE, duration, instant, number, plural, worded
from twinrun.report.chart_style import partition_roles
from twinrun.report.evidence import events_of
from twinrun.report.external import stream_place
from twinrun.report.neutral import shorten
from twinrun.report.sections import Cell, Grid, Section, row
from twinrun.report.words import clock, has_watermark
from twinrun.results.verdict import Audit, ExpectationResult, PartitionBehind, SourceCut, Verdict

MAX_GROUPS = 200
MAX_PARTITIONS = 64
MAX_ROWS = 100
_TABLE_GROUPS = 24
_OPEN = 15


def progress(verdict: Verdict) -> Section:
    """Watermark, newest event and events per micro-batch."""
    title = "How the stream moved"
    if not verdict.micro_batches:
        return Section("progress", title, empty="No micro-batches are on record.")
    notes = []
    if len(verdict.late_events):
        count = events_of(verdict.late_events)
        what, they = ("cross is", "it carries") if count == 1 else ("crosses are", "they carry")
        notes.append(f"The {what} {plural(count, 'dropped event')}, at the event time that {they}.")
    if verdict.stream_lag_events is not None:
        notes.append(f"Events that the stream had not read yet: {number(verdict.stream_lag_events)}.")
    if verdict.stream_age_ms is not None:
        notes.append(f"Age of its last micro-batch: {duration(verdict.stream_age_ms)}.")
    intro = (
        f"The watermark is {clock(verdict)}. What goes by it (a window, a session or another operator that keeps "
        "state) takes no more events for what has ended by then. Event time is UTC."
    )
    if not has_watermark(verdict):
        intro = "No source of this job has a lateness, so the stream has no watermark and drops nothing as late."
    return Section(
        "progress",
        title,
        intro=intro,
        chart="progress",
        folded=(_progress_table(verdict),),
        folded_title="The same as a table",
        notes=tuple(notes),
    )


def partitions(verdict: Verdict) -> Section:
    """How far each partition had been read, in event time: whether they were read evenly."""
    title = "How evenly the partitions were read"
    if not verdict.partitions:
        return Section("partitions", title, empty="There is nothing to compare: one partition, or none was read.")
    topic = shorten(verdict.partitions[0].topic, 60)
    roles = partition_roles(verdict.partitions)
    behind = {each.partition: each for each in (verdict.arrival.behind if verdict.arrival else ())}
    named = [(role, f"partition {number}{' (behind)' if number in behind else ''}") for role, number in roles[:4]]
    others = [("cause5", f"{plural(len(roles) - 4, 'more partition')}")] if len(roles) > 4 else []
    rows = tuple(_behind(each) for each in behind.values())
    head = ("Partition", "Events read late", "Behind since micro-batch", "By up to")
    grids = (Grid("Partitions of which events were read late", head, rows, numeric=(1, 2)),) if rows else ()
    notes = []
    if rows:
        notes.append(
            "These events would have been in time had the partitions been read evenly. What helps is not a longer "
            "lateness, but records that are spread evenly, or more of them per trigger "
            "(stream.max_offsets_per_trigger)."
        )
    return Section(
        "partitions",
        title,
        intro=f"The newest event time read so far from each partition of {topic}. Where the lines run apart by more "
        "than the lateness, the watermark passes windows whose events still lie unread in Kafka.",
        chart="partitions",
        legend=(*named, *others, ("watermark", "watermark")),
        grids=grids,
        notes=tuple(notes),
    )


def _behind(each: PartitionBehind) -> tuple[Cell, ...]:
    since = NONE if each.since_micro_batch is None else str(each.since_micro_batch)
    far = "nothing of it had been read" if each.behind_ms is None else duration(each.behind_ms)
    return row(f"{shorten(each.topic, 60)}-{each.partition}", number(each.events), since, Cell(far, "time"))


def partitions_text(verdict: Verdict) -> str:
    """What the chart of partitions shows, for who cannot see it."""
    count = len({point.partition for point in verdict.partitions})
    return f"Newest event time of {plural(count, 'partition')} and the watermark, over micro-batches."


def group_sentence(groups: Sequence[Progress]) -> str:
    """What one point stands for; empty where that is one micro-batch."""
    micro = sum(group.last - group.first + 1 for group in groups)
    if micro <= len(groups):
        return ""
    return f"{plural(micro, 'micro-batch')} are added up into {len(groups)} points."


def progress_text(verdict: Verdict) -> str:
    """What the progress chart shows, for who cannot see it."""
    return (
        f"Newest event time, watermark and its lag, and events per micro-batch, over "
        f"{plural(len(verdict.micro_batches), 'micro-batch')}. The table below has the numbers."
    )


def _progress_table(verdict: Verdict) -> Grid:
    rows = []
    for group in bin_progress(verdict.micro_batches, _TABLE_GROUPS):
        known = group.newest_event_ms is not None and group.watermark_ms is not None
        lag_ms = group.newest_event_ms - group.watermark_ms if known else None  # type: ignore[operator]
        numbers = str(group.first) if group.first == group.last else f"{group.first}–{group.last}"
        newest, watermark = instant(group.newest_event_ms), instant(group.watermark_ms)
        rows.append(row(numbers, number(group.events), newest, watermark, duration(lag_ms)))
    head = ("Micro-batch", "Events", "Newest event time (UTC)", "Watermark (UTC)", "Lag")
    return Grid("Progress of the stream", head, tuple(rows), numeric=(1,))


def cut(verdict: Verdict) -> Section:
    """Everything that is pinned: versions, watermark, micro-batch, offsets."""
    pinned = verdict.cut
    external = verdict.external is not None
    facts = [
        *([] if external else [row("Micro-batch of the stream", str(pinned.micro_batch))]),
        row(f"{'Declared watermark' if external else 'Watermark at the cut'} (UTC)", instant(pinned.watermark_ms)),
        row("Taken (UTC)", instant(pinned.taken_at_ms)),
        row("Batch result", Cell(f"{pinned.batch_table}, version {pinned.batch_version}", "code")),
        row("External result" if external else "Stream result", Cell(stream_place(verdict), "code")),
        *([] if external else [row("Stream query", Cell(pinned.query_id or NONE, "code"))]),
        row("Shape, keys", Cell(f"{verdict.shape}; {', '.join(verdict.keys) or 'no keys'}", "code")),
        row("Window, lateness", f"{duration(verdict.window_ms)}, {duration(verdict.lateness_ms)}"),
    ]
    for name in dict.fromkeys([*pinned.batch_static, *pinned.stream_static]):
        if external:
            facts.append(
                row(f"Static table {name}", f"batch version {pinned.batch_static[name]}, other engine not known")
            )
            continue
        facts.append(_static(name, pinned.batch_static.get(name), pinned.stream_static.get(name)))
    tables = [Grid("What is pinned", ("What", "Value"), tuple(facts), narrow="stack")]
    tables += [_offsets(source) for source in pinned.sources]
    return Section(
        "cut",
        "What exactly was compared",
        intro="The cut: the events and table versions that both results are compared at. "
        "The same verify can be repeated from these numbers.",
        grids=tuple(tables),
    )


def _static(name: str, batch: int | None, stream: int | None) -> tuple[Cell, ...]:
    if batch == stream:
        return row(f"Static table {name}", f"version {batch} in both modes")
    sides = [f"{mode} version {NONE if version is None else version}" for mode, version in _modes(batch, stream)]
    return row(f"Static table {name}", Cell(f"≠ {', '.join(sides)}", "mark"))


def _modes(batch: int | None, stream: int | None) -> tuple[tuple[str, int | None], ...]:
    return (("batch", batch), ("stream", stream))


def _offsets(source: SourceCut) -> Grid:
    partitions = sorted({*source.start, *source.end})
    rows = []
    for partition in partitions[:MAX_PARTITIONS]:
        end = source.end.get(partition, 0)
        rows.append(
            row(
                str(partition),
                str(source.start.get(partition, 0)),
                str(end),
                _landed(source, partition, end),
                _reaches(source.batch_end.get(partition), end),
                _reaches((source.broker_end or {}).get(partition), end),
            )
        )
    more = len(partitions) - MAX_PARTITIONS
    caption = f"Offsets of {source.source} (topic {source.topic}); an end is exclusive"
    if more > 0:
        caption += f"; {plural(more, 'more partition')} in the JSON report"
    head = ("Partition", "From", "To", "Bronze reaches", "Batch reaches", "Broker reaches")
    return Grid(caption, head, tuple(rows), numeric=(1, 2, 3, 4, 5))


def _landed(source: SourceCut, partition: int, end: int) -> Cell:
    """How far bronze reaches, and from where on if the stream has read what lies before."""
    begin, reached = source.bronze_start.get(partition, 0), source.bronze_end.get(partition)
    if reached is not None and begin > source.start.get(partition, begin):
        return Cell(f"{reached}, from {begin} on", "bad")
    return _reaches(reached, end)


def _reaches(offset: int | None, end: int) -> Cell:
    if offset is None:
        return Cell("not known", "quiet")
    return Cell(f"{offset}, behind", "bad") if offset < end else Cell(str(offset))


def quarantine(verdict: Verdict) -> Section:
    """Events that could not be decoded, by source and rule."""
    title = "Quarantine"
    if not verdict.quarantine:
        return Section("quarantine", title, empty="No event was refused.")
    rows = tuple(
        row(
            count.source,
            Cell(count.rule, "code"),
            number(count.events),
            count.reason,
            Cell(count.example, "code"),
        )
        for count in verdict.quarantine[:MAX_ROWS]
    )
    head = ("Source", "Rule", "Events", "Reason", "One of them")
    grid = Grid("Refused events by rule", head, rows, numeric=(2,), open_rows=_OPEN, narrow="stack")
    return Section(
        "quarantine",
        title,
        intro="Records that could not be read as the job declares them, or that the job leaves out by hand "
        "(refused_by_logic). Neither mode computes with them.",
        grids=(grid,),
        notes=_more(len(verdict.quarantine)),
    )


def audit(verdict: Verdict) -> Section:
    """Conservation per source: bronze = valid + quarantine, and offsets without holes."""
    if not verdict.audits:
        return Section("audit", "Audit", empty="No source was audited.")
    head = ("Source", "Bronze", "Valid", "Quarantined", "Missing offsets", "Repeated offsets", "Result", "Note")
    grid = Grid(
        "Bronze = valid + quarantined, offsets without holes",
        head,
        tuple(_audit(found) for found in verdict.audits[:MAX_ROWS]),
        numeric=(1, 2, 3, 4, 5),
        narrow="stack",
    )
    intro = "Is every event accounted for? Bronze holds the raw events as they were read from Kafka."
    return Section("audit", "Audit", intro=intro, grids=(grid,), notes=_more(len(verdict.audits)))


def _audit(found: Audit) -> tuple[Cell, ...]:
    missing = number(found.missing_offsets) + (" (gaps allowed)" if found.gaps_allowed else "")
    if found.empty_offsets:
        missing += f"; {worded(found.empty_offsets, 'more holds', 'more hold')} no record in Kafka"
    return row(
        found.source,
        number(found.bronze_rows),
        number(found.valid_rows),
        number(found.quarantined_rows),
        missing,
        number(found.repeated_offsets),
        _complete(found),
        found.note or NONE,
    )


def _complete(found: Audit) -> Cell:
    if not found.ok:
        return Cell("✗ not complete", "bad")
    return Cell("≈ but for the hole on record", "mark") if found.lost_offsets else Cell("✓ complete", "good")


def expectations(verdict: Verdict) -> Section:
    """Great Expectations results, failures first."""
    title = "Expectations"
    if not verdict.expectations:
        return Section("expectations", title, empty="The job declares no expectations.")
    failed_first = sorted(verdict.expectations, key=lambda result: result.success)
    rows = tuple(
        row(
            result.table,
            Cell(result.expectation, "code"),
            Cell("✓ met", "good") if result.success else Cell(_not_met(result), "bad"),
            result.observed or NONE,
        )
        for result in failed_first[:MAX_ROWS]
    )
    head = ("Table", "Expectation", "Result", "Observed")
    failed = sum(1 for result in verdict.expectations if not result.success)
    intro = f"Of {plural(len(verdict.expectations), 'expectation')}, {number(failed)} failed."
    grid = Grid("Expectations on both results", head, rows, open_rows=_OPEN, narrow="stack")
    return Section("expectations", title, intro=intro, grids=(grid,), notes=_more(len(verdict.expectations)))


def _not_met(result: ExpectationResult) -> str:
    return "✗ not checked" if result.observed.startswith("could not be checked") else "✗ failed"


def schema(verdict: Verdict) -> Section:
    """Differences between the columns of the two results."""
    if not verdict.schema_differences:
        return Section("schema", "Schema", empty="Both results have the same columns and types.")
    return Section("schema", "Schema", intro="The two results differ in:", items=verdict.schema_differences[:MAX_ROWS])


def notes(verdict: Verdict) -> Section:
    """What else verify has to say."""
    if not verdict.notes:
        return Section("notes", "Notes", empty="None.")
    return Section("notes", "Notes", items=verdict.notes[:MAX_ROWS], notes=_more(len(verdict.notes)))


def _more(total: int) -> tuple[str, ...]:
    more = worded(total - MAX_ROWS, "more is", "more are")
    return (f"{more} in the JSON report.",) if total > MAX_ROWS else ()
