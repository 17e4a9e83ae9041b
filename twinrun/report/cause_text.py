"""What each cause means for one row: what happened, why that is certain, what the number is worth, what to do.

Every text stands on its own: whoever reads one row of a report reads nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twinrun.report.cause_text_external import tell_external
from twinrun.report.cause_text_fixed import FIXED, LOST, of_sides, told_of
from twinrun.report.cells import apart, duration, instant, plural
from twinrun.report.names import name_of, such_as
from twinrun.report.neutral import shorten
from twinrun.report.words import clock as watermark_of
from twinrun.results.causes import CauseText
from twinrun.results.verdict import BlamedEvent, MicroBatchPoint, RowSample, Verdict

_WINDOWED = ("tumbling", "sliding")
_HEALS = (*_WINDOWED, "stateless")


def tell(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
    """The texts of a cause; one that is not known here says so. Names of events are shortened, not yet escaped."""
    if verdict.external is not None:
        return tell_external(verdict, sample, cause)
    if cause == "evidence_expired" and any(audit.lost_offsets for audit in verdict.audits):
        return _lost(verdict)
    say = _TELLERS.get(cause)
    if say is not None:
        return say(verdict, sample, cause)
    if cause in FIXED:
        found = told_of(FIXED[cause], verdict, sample)
        if cause.startswith("sink_") and sample.commits:
            happened = f"{found.happened} Delta's log has what may have done it: {_commits(sample)}."
            found = replace(found, happened=happened)
        return found
    return CauseText(f"The cause is {shorten(cause, 60)}.", "", "", "")


def _lost(verdict: Verdict) -> CauseText:
    """Events that the stream read and bronze never got."""
    lost = [
        f"{plural(audit.lost_offsets, 'offset')} of {shorten(audit.source, 60)}"
        for audit in verdict.audits
        if audit.lost_offsets
    ]
    commands = tuple(command.replace("{job}", verdict.job) for command in LOST.commands)
    return replace(LOST, happened=LOST.happened.replace("{spans}", ", ".join(lost[:5])), commands=commands)


def _events(sample: RowSample, cause: str) -> tuple[BlamedEvent, ...]:
    return tuple(event for event in sample.events if event.cause == cause)


def _count(sample: RowSample, cause: str) -> str:
    return plural(max(sample.causes.get(cause, 0), len(_events(sample, cause))), "event")


def _verb(sample: RowSample, cause: str, one: str, many: str) -> str:
    return one if max(sample.causes.get(cause, 0), len(_events(sample, cause))) == 1 else many


def _these(sample: RowSample, cause: str) -> str:
    if len(sample.causes) > 1:
        return "all the events that are blamed here"
    return _verb(sample, cause, "this event", f"these {_count(sample, cause)}")


def _both_sides(sample: RowSample, cause: str) -> str:
    return of_sides(
        f"The job's own function without {_these(sample, cause)} gives {{stream}}; over all events it gives {{batch}}. "
        "Both were recomputed.",
        sample,
    )


def _lacks(sample: RowSample, what: str) -> str:
    """What the stream's side lacks, where it has a row and where it has none. ``what``: such as ``1 event``."""
    if sample.stream is None:
        return f"The stream has no row here: without {what} there is none"
    row = "" if sample.batch is not None else "a row that the batch has not: "
    return f"The stream's row lacks {what}" if not row else f"The stream has {row}it lacks {what}"


def _late_dropped(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
    events = _events(sample, cause)
    # Where another operator comes first, the row's window may have been open still.
    own = not events or events[0].end_ms == _window_end_ms(verdict, sample)
    happened = [_closed(verdict, sample) if own else "", *[_how_late(verdict, sample, event) for event in events[:1]]]
    others = max(sample.causes.get(cause, 0), len(events)) - 1
    if events and others > 0:
        happened.append(f"{plural(others, 'more event')} {'was' if others == 1 else 'were'} dropped in the same way.")
    if not events:
        happened.append(f"{_count(sample, cause)} of this row came too late for the stream: dropped.")
    complete = "The batch's row is complete. " if sample.batch is not None else ""
    return CauseText(
        " ".join(filter(None, happened)),
        _both_sides(sample, cause),
        f"{complete}{_lacks(sample, _count(sample, cause))}. That will not change by itself: the stream is done with "
        "it.",
        _more_lateness(verdict, sample, events),
        (f"twinrun what-if {verdict.job}", *_heal(verdict)),
    )


def _closed(verdict: Verdict, sample: RowSample) -> str:
    """When the stream was done with the row's window, where it has one."""
    end_ms = _window_end_ms(verdict, sample)
    if end_ms is None:
        return ""
    if end_ms <= 0:
        return f"This window ends at {instant(end_ms)}: not after {_BEGINS}. The stream never kept anything of it."
    clock = f"watermark ({watermark_of(verdict)})"
    found = _passing(verdict.micro_batches, end_ms)
    if found is None:
        return f"The stream's {clock} had passed the end of this window, {instant(end_ms)}."
    point, exact = found
    when = "in" if exact else "at the latest in"
    return (
        f"The stream closed this window {when} micro-batch {point.micro_batch}: its {clock} reached "
        f"{instant(point.watermark_ms)} there, and the window ends at {instant(end_ms)}."
    )


def _passing(points: tuple[MicroBatchPoint, ...], end_ms: int) -> tuple[MicroBatchPoint, bool] | None:
    """The first micro-batch shown whose watermark is at or after an instant; and whether it is the first of all."""
    before = -1
    for point in sorted(points, key=lambda each: each.micro_batch):
        if point.watermark_ms >= end_ms and point.watermark_ms > 0:
            return point, point.micro_batch == before + 1
        before = point.micro_batch
    return None


def _how_late(verdict: Verdict, sample: RowSample, event: BlamedEvent) -> str:
    text = f"{name_of(event)}, with the event time {instant(event.event_time_ms)}, became known at "
    text += f"{instant(event.known_at_ms)}"
    if event.micro_batch is None or event.watermark_ms is None:
        return f"{text} and was dropped."
    if _before_1970(verdict, sample, event):
        ended = _what_ended(verdict, sample, event)
        text += (
            f" and was read in micro-batch {event.micro_batch}. {ended[0].upper()}{ended[1:]} is not after {_BEGINS}."
        )
        return f"{text} So the stream dropped it, as any stream would."
    text += f" and was read in micro-batch {event.micro_batch}. There it was judged by the watermark of micro-batch "
    text += f"{event.micro_batch - 1}, {instant(event.watermark_ms)}"
    if event.late_ms is None:
        return f"{text}, and dropped."
    late = f"{duration(event.late_ms)} after" if event.late_ms else "exactly"
    return f"{text}: {late} {_what_ended(verdict, sample, event)}. So the stream dropped it.{_why_late(verdict, event)}"


def _why_late(verdict: Verdict, event: BlamedEvent) -> str:
    """Whether the event arrived late or was read late, with the evidence; empty where it is not known."""
    if event.passed_at_ms is None:
        return ""
    past = f"the first event that moves the watermark past that ({instant(event.passed_at_ms)})"
    if event.arrival == "arrived_late":
        return f" It arrived late: Kafka had got {past} before it."
    found = verdict.arrival.behind if verdict.arrival else ()
    behind = next((p for p in found if (p.topic, p.partition) == (event.topic, event.partition)), None)
    text = f" It was read late: it lay in Kafka before {past}."
    if behind is None or behind.since_micro_batch is None:
        return text
    far = "" if behind.behind_ms is None else f", by up to {duration(behind.behind_ms)} of event time"
    since = f"since micro-batch {behind.since_micro_batch}{far}"
    return f"{text} Its partition {event.partition} was read behind the others {since}."


def _what_ended(verdict: Verdict, sample: RowSample, event: BlamedEvent) -> str:
    """What the event came too late for: its first stateful operator decides, which need not be the row's window."""
    if event.end_ms == _window_end_ms(verdict, sample):
        return "the window's end"
    if event.end_ms == event.event_time_ms:
        return "its own event time, which is what counts in this job"
    if verdict.shape == "session":
        return "its event time plus the gap of the session"
    return f"the end of the first window that it meets, {instant(event.end_ms)}"


def _window_end_ms(verdict: Verdict, sample: RowSample) -> int | None:
    if verdict.shape not in _WINDOWED or sample.window_start_ms is None or verdict.window_ms is None:
        return None
    return sample.window_start_ms + verdict.window_ms


_BEGINS = "1970-01-01 00:00 UTC, where the watermark of every stream begins, whatever its lateness"


def _before_1970(verdict: Verdict, sample: RowSample, event: BlamedEvent) -> bool:
    """Whether the event was late in every micro-batch, the first one too."""
    end_ms = event.end_ms
    if end_ms is None:
        return False
    exact = (event.watermark_ms or 0) <= 0 or end_ms == _window_end_ms(verdict, sample)
    return end_ms < 0 or (end_ms == 0 and exact)


def _more_lateness(verdict: Verdict, sample: RowSample, events: tuple[BlamedEvent, ...]) -> str:
    if any(_before_1970(verdict, sample, event) for event in events):
        return (
            "No lateness keeps events of before 1970, and no size of micro-batches. Look at the event time first: such "
            "a date is often a wrong unit or a missing value. Where it is right, the batch's row is the one to use."
        )
    sizes = "Larger micro-batches drop fewer too: an event is judged by the watermark of the one before its own."
    read_late = [event for event in events if event.arrival == "read_late"]
    if read_late:
        which = "every event that is named here" if len(read_late) == len(events) else "those that were read late"
        even = (
            f"Read evenly, {which} would have been in time: spread the records evenly over the partitions, or read "
            "more of them per trigger (stream.max_offsets_per_trigger). A longer lateness would only cover it up."
        )
        if len(read_late) == len(events):
            return even
        events = tuple(event for event in events if event.arrival != "read_late")
        sizes = f"{sizes} {even}"
    latest = max((event.late_ms for event in events if event.late_ms is not None), default=None)
    if latest is None or verdict.lateness_ms is None or len(verdict.cut.sources) != 1:
        return f"A longer lateness keeps more late events and delays every result by as much. {sizes}"
    need = duration(enough_ms(latest + verdict.lateness_ms))
    return (
        f"A lateness of {need} (now {duration(verdict.lateness_ms)}) would have kept every event of this row"
        f"{' that arrived late' if read_late else ''}; every result then comes that much later. {sizes}"
    )


def enough_ms(need_ms: int) -> int:
    """The least lateness above what was needed that its own text says in full: two units, rounded up."""
    for least, unit_ms in ((86_400_000, 3_600_000), (3_600_000, 60_000), (60_000, 1_000)):
        if need_ms >= least:
            return (need_ms // unit_ms + 1) * unit_ms
    return need_ms + 1


def _heal(verdict: Verdict) -> tuple[str, ...]:
    """Heal where it can: it refuses sessions and jobs of several sources."""
    fits = verdict.shape in _HEALS and len(verdict.cut.sources) == 1
    return (f"twinrun heal {verdict.job} --apply",) if fits else ()


def _outside(
    why: str, means: str, prevent: str, command: str = "", heals: bool = True, verbs: tuple[str, str] = ("is", "are")
) -> Callable[..., CauseText]:
    """A cause about events that only the batch used."""

    def say(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
        of_row = f"{_count(sample, cause)} of this row {_verb(sample, cause, *verbs)}"
        happened = f"{of_row} {why}{such_as(sample, cause)}"
        commands = (command.replace("{job}", verdict.job),) if command else ()
        return CauseText(
            happened,
            _both_sides(sample, cause),
            means.replace("{lacks}", _lacks(sample, _count(sample, cause))),
            prevent,
            (*commands, *(_heal(verdict) if heals else ())),
        )

    return say


def _static(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
    cut = verdict.cut
    names = [name for name in cut.batch_static if cut.batch_static[name] != cut.stream_static.get(name)]
    said = [
        f"{shorten(name, 60)} (batch: version {cut.batch_static[name]}, stream: {cut.stream_static.get(name, 'none')})"
        for name in names[:5]
    ]
    which = f": {', '.join(said)}" if said else ""
    return CauseText(
        f"The two modes joined different versions of a static table{which}.",
        of_sides(
            "The job's own function with the version that the stream saw gives {stream}; with the batch's version, "
            "{batch}.",
            sample,
        ),
        "Neither result is wrong for its version. Which one is right depends on which version was meant to count.",
        "Let both modes take the same version: run the batch again, or declare how often the stream takes a new one "
        "(refresh of the table).",
        (f"twinrun batch {verdict.job} --full",),
    )


def _commits(sample: RowSample) -> str:
    """Commits of somebody else that changed the row, in words; empty for none."""
    return ", ".join(
        f"version {commit.version} ({shorten(commit.operation, 40)} at {instant(commit.at_ms)} UTC by "
        f"{shorten(commit.engine, 60) or 'an unnamed engine'})"
        for commit in sample.commits[:5]
    )


def _changed(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
    which = _commits(sample) or "a commit that is not the stream's"
    before = "exactly the row that a recomputation of what the stream emitted gives"
    if sample.emitted is None:
        was = "The stream emitted no row of this key."
        before = "no row of this key, and a recomputation of what the stream emitted gives none"
    else:
        held = sample.stream or {}
        names = [name for name in held if held[name] != sample.emitted.get(name)]
        cells = [
            f"{shorten(name, 40)} is {there} in its table, and {then} was emitted"
            for name in names[:5]
            for there, then, _ in [apart(held[name], sample.emitted.get(name), 40)]
        ]
        was = f"The stream emitted another row: {'; '.join(cells)}." if cells else "The stream emitted another row."
    return CauseText(
        f"Somebody else changed this row in the stream's table: {which}. {was}",
        f"Delta's log has that commit, and it is not the stream's. Before it the table held {before}.",
        "The stream's logic is not at fault; whoever reads the stream's table sees a row that it never computed.",
        "Find out who writes to the stream's table, and put the row back from the version before.",
        _heal(verdict),
    )


_TELLERS: dict[str, Callable[[Verdict, RowSample, str], CauseText]] = {
    "late_dropped": _late_dropped,
    "static_version": _static,
    "sink_changed": _changed,
    "before_start": _outside(
        "from before the offset at which the stream's checkpoint began: the batch has them, the stream never will.",
        "The batch covers all events, the stream only those from its start on. {lacks}.",
        "Start the stream where the batch starts: a new checkpoint from the earliest offset.",
        "twinrun stream {job} --new-checkpoint --from earliest",
    ),
    "beyond_cut": _outside(
        "newer than the last offset that the stream had read when the two were compared; the batch was ahead.",
        "Nothing is lost. The difference goes away when the stream has read on.",
        "Verify again when the stream has caught up.",
        "twinrun verify {job}",
        heals=False,
    ),
    "quarantined": _outside(
        "refused when the stream read them (quarantine) and accepted later, by a requeue or by hand, which only the "
        "batch sees.",
        "The batch has these events; the stream will not get them by itself. {lacks}.",
        "A stream reads each offset once, so what is accepted later never reaches it: heal the row, or start a new "
        "checkpoint.",
        verbs=("was", "were"),
    ),
}

TOLD_CAUSES = (*_TELLERS, *FIXED)
"""Every cause that has texts. `unexplained` has its own, see `twinrun.report.stories`."""
