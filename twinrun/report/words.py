"""The sentences of a report: what an outcome and a cause mean, for a reader who does not know twinrun."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twinrun.report.cells import duration, number, plural, worded
from twinrun.report.figures import Figures, causes, unexpected
from twinrun.report.neutral import shorten
from twinrun.results.causes import BY_NAME
from twinrun.results.verdict import CauseCount, SourceCut, Verdict, WatermarkOf


@dataclass(frozen=True)
class Headline:
    """The verdict in words. ``tone`` is good, fair or bad; ``mark`` a sign that carries it without colour."""

    label: str
    title: str
    lead: str
    tone: str
    mark: str


_EITHER = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")


def cause_title(cause: str, stream: str = "stream") -> str:
    """A cause as a short heading; an unknown one keeps its name. ``stream``: from `other`."""
    return BY_NAME[cause].title.replace("stream", stream) if cause in BY_NAME else cause


def other(verdict: Verdict) -> str:
    """What stands beside the batch: the stream, or where another engine wrote the result, that engine."""
    return "stream" if verdict.external is None else "other engine"


def cause_sentence(count: CauseCount, stream: str = "stream") -> str:
    """What the cause did, with its number of events; empty for a cause that is not known here.

    ``stream``: from `other`.
    """
    if count.cause not in BY_NAME:
        return ""
    events = "Some events" if count.events is None else plural(count.events, "event")
    said = _EITHER.sub(
        lambda found: found.group(1 if count.events == 1 else 2),
        BY_NAME[count.cause].sentence.replace("stream", stream),
    )
    return said.format(events=events)


def _named(verdict: Verdict) -> str:
    return "stream" if verdict.external is None else "the other engine"


def headline(verdict: Verdict, counts: Figures) -> Headline:
    """The verdict as label, one-sentence title and the reason in a sentence or two."""
    passed = verdict.exit_code == 0
    titles = {
        "agree": (f"Batch and {_named(verdict)} agree in {_all(counts)}{_that_are_judged(counts)}.", "AGREE"),
        "explained": (f"{_differ(verdict, counts)}, and every {_judged(counts)}difference is proven.", "EXPLAINED"),
        "differ": (_differ_title(verdict, counts), "DIFFER"),
        "stale": ("The stream has fallen behind, so this comparison says little.", "STALE"),
        "input_behind": (_behind_title(verdict, counts), "INPUT BEHIND"),
        "nothing_compared": ("Nothing was compared, so nothing is known to be equal.", "NOTHING COMPARED"),
    }
    title, label = titles.get(verdict.outcome, (verdict.outcome, verdict.outcome.upper()))
    tone = "bad" if not passed else "good" if verdict.outcome == "agree" else "fair"
    return Headline(label, title, _lead(verdict, counts), tone, _SIGNS.get(verdict.outcome, "!"))


def _differ(verdict: Verdict, counts: Figures) -> str:
    if counts.compared == 1:
        return f"Batch and {_named(verdict)} differ in the only {counts.unit} compared"
    return (
        f"Batch and {_named(verdict)} differ in {number(counts.different)} of {number(counts.compared)} {counts.unit}s"
    )


def _judged(counts: Figures) -> str:
    return "judged " if counts.behind else ""


def _that_are_judged(counts: Figures) -> str:
    return " that are judged" if counts.behind and counts.compared > 1 else ""


def _left_out(counts: Figures) -> str:
    """What is not judged though the batch has read everything; empty where all is."""
    if not counts.behind:
        return ""
    some = worded(counts.behind, f"{counts.unit} is", f"{counts.unit}s are")
    return f"{some} not judged: the job leaves a record out that may belong there."


def _all(counts: Figures) -> str:
    return f"the only {counts.unit} compared" if counts.compared == 1 else f"all {plural(counts.compared, counts.unit)}"


def _differ_title(verdict: Verdict, counts: Figures) -> str:
    differ = _differ(verdict, counts)
    if counts.unexplained == counts.different > 0:
        return f"{differ}, without a proven cause."
    if counts.unexplained:
        return f"{differ}, and {number(counts.unexplained)} of them without a proven cause."
    if unexpected(verdict):
        return f"{differ}; each is proven, but not every cause is expected."
    if counts.different:
        return f"{differ}; each is proven and expected, but something else fails."
    return "The results do not pass, although the compared values are equal."


def _behind_title(verdict: Verdict, counts: Figures) -> str:
    far = "the stream" if verdict.external is None else "the declared end of the other engine"
    if not counts.behind:
        return f"The batch has not read as far as {far}."
    wait = worded(counts.behind, f"{counts.unit} is", f"{counts.unit}s are")
    return f"The batch has not read as far as {far}: {wait} not judged yet."


def kafka_silent(verdict: Verdict) -> bool:
    """Whether Kafka did not say how far its topics reach. Nobody asks where another engine is the stream."""
    return verdict.external is None and any(source.broker_end is None for source in verdict.cut.sources)


def refused(verdict: Verdict) -> str:
    """``7 records are refused by both modes (not_json 4, ...)``: always said where there are any; empty without."""
    records = sum(each.events for each in verdict.quarantine)
    if not records:
        return ""
    rules: dict[str, int] = {}
    for each in verdict.quarantine:
        rules[each.rule] = rules.get(each.rule, 0) + each.events
    told = ", ".join(f"{rule} {number(count)}" for rule, count in sorted(rules.items(), key=lambda rule: -rule[1]))
    return f"{worded(records, 'record was refused and is', 'records were refused and are')} in no result ({told})."


def next_steps(verdict: Verdict) -> tuple[str, ...]:
    """The commands that come next where a verify could not say enough, in their order."""
    job, again = verdict.job, f"twinrun verify {verdict.job}{'' if verdict.external is None else ' --external'}"
    if verdict.outcome == "stale":
        return (f"twinrun stream {job}", again)
    if verdict.outcome != "input_behind":
        return ()
    behind = [source for source in verdict.cut.sources if _lacks(source.batch_end, source)]
    land = [f"twinrun ingest {source.source}" for source in behind if _lacks(source.bronze_end, source)]
    return (*land, f"twinrun batch {job}", again)


def _lacks(reached: dict[int, int], source: SourceCut) -> bool:
    return any(reached.get(partition, 0) < end for partition, end in source.end.items())


def _lead(verdict: Verdict, counts: Figures) -> str:
    silent = "Kafka did not answer: lag and staleness are unknown." if kafka_silent(verdict) else ""
    return " ".join(filter(None, (silent, _of_outcome(verdict, counts), refused(verdict))))


def _of_outcome(verdict: Verdict, counts: Figures) -> str:
    if verdict.outcome == "agree":
        if counts.behind:
            return _left_out(counts)
        if verdict.external is not None:
            return "The batch and the other engine's result hold the same rows."
        return "As far as the two results can be compared, they hold the same rows."
    if verdict.outcome == "stale":
        behind = "" if verdict.stream_lag_events is None else _behind(verdict.stream_lag_events)
        age = "" if verdict.stream_age_ms is None else f"Its last micro-batch is {duration(verdict.stream_age_ms)} old."
        on = "Let the stream read on, then verify again."
        return " ".join(part for part in (behind, age, compared_so_far(counts), on) if part)
    if verdict.outcome == "input_behind":
        return f"{_batch_lacks(verdict)} Let the batch catch up, then verify again."
    if verdict.outcome == "nothing_compared" and counts.behind:
        return _left_out(counts)
    if verdict.outcome == "nothing_compared":
        wait = worded(counts.pending, f"{counts.unit} is", f"{counts.unit}s are")
        return f"{wait} still open in the {other(verdict)}." if counts.pending else "Neither has a final result yet."
    # What nobody should have to expect is told whole; of the rest the most frequent.
    told = causes(verdict)[: max(2, len(unexpected(verdict)))]
    because = " ".join(filter(None, (*(cause_sentence(cause, other(verdict)) for cause in told), _left_out(counts))))
    if because and counts.unexplained:
        others = "The other one is" if counts.explained == 1 else f"The other {number(counts.explained)} are"
        return f"{others} explained: {because}"
    return because


def _batch_lacks(verdict: Verdict) -> str:
    lacking = sum(
        max(0, end - source.batch_end.get(partition, 0))
        for source in verdict.cut.sources
        for partition, end in source.end.items()
    )
    return f"The batch lacks {plural(lacking, 'record')} that the {other(verdict)} has read."


def _behind(lag_events: int) -> str:
    verb = "is" if lag_events == 1 else "are"
    return f"{plural(lag_events, 'event')} {verb} waiting that the stream has not read."


def compared_so_far(counts: Figures) -> str:
    """What the comparison says about the part that the stream did finish."""
    if not counts.compared:
        return "No finished part could be compared."
    are = "is" if 1 in (counts.equal, counts.compared) else "are"
    return f"Of the finished part, {number(counts.equal)} of {plural(counts.compared, counts.unit)} {are} equal."


def story(verdict: Verdict, counts: Figures) -> str:
    """What was compared, in one paragraph for a stranger."""
    if verdict.external is not None:
        return (
            f"The job ran as a batch over {plural(counts.events_batch, 'event')} at rest. Its stream is not twinrun's: "
            f"another engine wrote the {verdict.external.place}. twinrun compares the two results row by row. A cause "
            "counts as proven when recomputing the batch with only the blamed input changed gives exactly the external "
            "row; without a checkpoint fewer causes can be proven, and the report says which were out of reach."
        )
    seen = f"the same {plural(counts.events_stream, 'event')}" if counts.events_stream else "the same events"
    if not _same_events(verdict, counts):
        seen = f"events, {number(counts.events_batch)} in batch and {number(counts.events_stream)} in stream"
    micro = len(verdict.micro_batches)
    steps = f" in {plural(micro, 'micro-batch')}" if micro else ""
    return (
        f"The same job ran twice over {seen}: once as a batch, with all events at rest, and once as a "
        f"stream, as they arrived{steps}. twinrun compares the two result tables row by row. A cause counts "
        "as proven when recomputing the batch with only the blamed input changed gives exactly the stream's rows."
    )


def _same_events(verdict: Verdict, counts: Figures) -> bool:
    """Whether both modes have read the same records: as many, up to the same offsets."""
    ends = all(source.batch_end.get(p, 0) == end for source in verdict.cut.sources for p, end in source.end.items())
    return ends and counts.events_batch == counts.events_stream


_SIGNS = {"agree": "=", "explained": "≈", "differ": "≠"}

_GLOSSARY = (
    ("Window", "The stretch of event time that one result row sums up, such as an hour."),
    ("Event time", "When something was due or happened, as the event itself says; not when it arrived."),
    ("Known when", "When the event could first be read: its timestamp in Kafka."),
    ("Watermark", "The stream's clock: {clock}."),
    ("Closed", "The watermark has passed the window's end; the stream takes no more events for it."),
    ("Pending", "A window that the stream has not closed yet. It is left out of the comparison until it is final."),
    ("Micro-batch", "One small step of the stream."),
    ("Cut", "The exact events and table versions that this comparison covers, so that it can be repeated."),
)


def glossary(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """The words of a report and what they mean in it."""
    said = clock(verdict)
    return tuple((word, meaning.replace("{clock}", said)) for word, meaning in _GLOSSARY)


def clock(verdict: Verdict) -> str:
    """What the stream's watermark is in this very job, as part of a sentence."""
    found = verdict.watermarks
    if len(found) > 1:
        each = "; ".join(f"of {shorten(one.source, 60)} {_clock_of(one)}" for one in found)
        return f"the least of the watermarks of its sources ({each})"
    if found:
        return _clock_of(found[0])
    if verdict.lateness_ms is None or len(verdict.cut.sources) > 1:
        return "the newest event time read so far, less the allowed lateness"
    return f"the newest event time read so far, less the allowed lateness of {duration(verdict.lateness_ms)}"


def has_watermark(verdict: Verdict) -> bool:
    """Whether a source of the job may have a lateness; of several sources an older report does not say."""
    return bool(verdict.watermarks) or verdict.lateness_ms is not None or len(verdict.cut.sources) > 1


def _clock_of(one: WatermarkOf) -> str:
    of = ""
    if one.only_if:
        of = f" of the events with {shorten(one.only_if, 120)}, a filter that Spark applies before the watermark"
    elif not one.told:
        of = " of some of the events: the plan does not say of which"
    return f"the newest event time read so far{of}, less the allowed lateness of {duration(one.lateness_ms)}"


def arrivals(verdict: Verdict) -> str:
    """How the late events came to be late, in a sentence or two; empty where it is not known."""
    found = verdict.arrival
    if found is None:
        return ""
    said = []
    if found.arrived_late:
        came = worded(found.arrived_late, "event arrived late", "events arrived late")
        theirs = "it belongs" if found.arrived_late == 1 else "they belong"
        said.append(f"{came}: Kafka already held what moves the watermark past what {theirs} to.")
    if found.read_late:
        lay = worded(found.read_late, "event was read late", "events were read late")
        held = "it" if found.read_late == 1 else "they"
        said.append(f"{lay}: {held} lay in Kafka before any of that, on a partition that was read behind the others.")
    if found.not_told:
        way = worded(found.not_told, "event it is not known whether it", "events it is not known whether they")
        said.append(f"Of {way} arrived late or {'was' if found.not_told == 1 else 'were'} read late.")
    return " ".join(said)
