"""What a cause means for a row of another engine's result: no micro-batches, no replay, nothing that twinrun heals."""

from __future__ import annotations

from dataclasses import replace

from twinrun.external.rules import RULES, EngineRule, rule_named
from twinrun.report.cause_text_fixed import FIXED, told_of
from twinrun.report.cells import duration, instant, plural
from twinrun.report.names import name_of, such_as
from twinrun.results.causes import CauseText
from twinrun.results.verdict import RowSample, Verdict

UNEXPLAINED = (
    "What can be recomputed without a checkpoint: the job's own function over the events within the declared offsets, "
    "and without the late events where a rule is declared; exact decimals; the batch, run twice more. Nothing gave "
    "both rows. Causes that were out of reach are listed below."
)
LOOK_NEXT = (
    "Declare what is known of the other engine (start, end, lateness, late_rule), then look at its own metrics of "
    "dropped records and at what else writes to its result. The row and its key are in the table external_differences."
)


def _both(sample: RowSample) -> str:
    theirs = "exactly the external row" if sample.stream is not None else "no row, as the external result has none"
    ours = "exactly the batch's row" if sample.batch is not None else "no row, as the batch has none"
    return f"The job's own function without them gives {theirs}; over all events it gives {ours}. Both were recomputed."


def _lacks(sample: RowSample, events: str) -> str:
    """What the external side lacks, where it has a row and where it has none."""
    if sample.stream is None:
        return f"The external result has no row here: without {events} there is none"
    return f"The external row lacks {events}"


_OFFSETS = {
    "before_start": (
        "before the declared start offset: the other engine never read {them}.",
        "Let the other engine read from the batch's first offset.",
    ),
    "beyond_cut": (
        "after the declared end offset: the other engine had not read {them} yet.",
        "Compare again when it has read on, with the new end declared.",
    ),
    "quarantined": (
        "refused at first and accepted later by a requeue, which only the batch sees.",
        "Let the other engine read the repaired records too, or correct its result.",
    ),
}


def tell_external(verdict: Verdict, sample: RowSample, cause: str) -> CauseText:
    """The texts of one cause of one row, for a stream side that another engine wrote."""
    count = sample.causes.get(cause, 0)
    events, be, them = plural(count, "event"), "is" if count == 1 else "are", "it" if count == 1 else "them"
    if cause == "late_dropped":
        return _late(verdict, sample, events, "was" if count == 1 else "were")
    if cause == "pending":
        return _waits(verdict, sample)
    if cause in _OFFSETS:
        why, prevent = _OFFSETS[cause]
        verb = ("was" if count == 1 else "were") if cause == "quarantined" else be
        happened = f"{events} of this row {verb} {why.replace('{them}', them)}{such_as(sample, cause)}"
        return CauseText(happened, _both(sample), f"The batch has {them}. {_lacks(sample, events)}.", prevent)
    if cause == "sink_duplicate":
        return CauseText(
            "The external result holds this row several times: it was written more than once.",
            "All copies are exactly the row that the job's own function gives.",
            "Whoever adds up the external result counts this row too often.",
            "Make the other engine's writes idempotent or transactional, and remove the copies.",
        )
    if cause == "input_behind" and verdict.outcome != "input_behind":
        return CauseText(
            "It is not known: the job leaves out a record that may belong to this row (rule refused_by_logic), and the "
            "other engine may have counted it.",
            "None: nothing is claimed of a row of which the batch lacks an event on purpose.",
            "Nothing is called wrong.",
            "Leave the record out in the other engine too, or count it again once the function can take it.",
            (f"twinrun quarantine {verdict.job} --list", f"twinrun verify {verdict.job} --external"),
        )
    if cause == "input_behind":
        return CauseText(
            "It is not known yet: the declared end of the other engine lies beyond what the batch has read.",
            "None: nothing is claimed before the batch has read as far.",
            "Nothing is called wrong. The batch's result may change when it has caught up.",
            "Let the batch catch up, then verify again.",
            (f"twinrun batch {verdict.job}", f"twinrun verify {verdict.job} --external"),
        )
    found = told_of(FIXED.get(cause, CauseText(f"The cause is {cause}.", "", "", "")), verdict, sample)
    return replace(found, commands=tuple(f"{each} --external" if "verify" in each else each for each in found.commands))


def declared_rule(verdict: Verdict) -> EngineRule:
    """The rule that was declared; reports older than the choice of one know one alone."""
    name = verdict.external.late_rule if verdict.external is not None else "none"
    return rule_named(name) or RULES["partition-order"]


def _waits(verdict: Verdict, sample: RowSample) -> CauseText:
    """A row that the engine, by its rule, has not written yet."""
    rule = declared_rule(verdict)
    if sample.window_start_ms is None or verdict.window_ms is None:
        ends = ""
    else:
        ends = f" Its window ends at {instant(sample.window_start_ms + verdict.window_ms)}."
    return CauseText(
        f"By the declared rule, {rule.engine} writes a window {rule.handed_on}.{ends} Up to the end of what was read "
        f"({_read(verdict)}) no such record has come since the last event of this row.",
        "The clock of the declared rule, recomputed from the events within the declared offsets, has not got there; no "
        "row of the external result contradicts that.",
        "Nothing is lost: the row comes with a later record. Without one it never comes.",
        "Nothing needs to be done while events go on. The last windows of a topic stay open: send a later event.",
    )


def _read(verdict: Verdict) -> str:
    """Up to where the other engine had read, in words."""
    ends = [
        f"partition {partition} before offset {offset}"
        for source in verdict.cut.sources
        for partition, offset in sorted(source.end.items())
    ]
    return ", ".join([*ends[:3], *(["and so on"] if len(ends) > 3 else [])])


def _late(verdict: Verdict, sample: RowSample, events: str, were: str) -> CauseText:
    lateness = "" if verdict.lateness_ms is None else f" of {duration(verdict.lateness_ms)}"
    rule = declared_rule(verdict)
    after = "behind the other engine's clock, whether the window was open or not" if rule.by_event else _CLOSED
    return CauseText(
        f"By the declared rule and lateness{lateness}, {events} of this row came {after}, and {were} dropped."
        f"{_how_late(sample, rule)}",
        f"{_both(sample)} That is as good as the declared rule; no row of the result contradicts it.",
        f"The batch counts {'it' if were == 'was' else 'them'}. {_lacks(sample, events)}, and will not get "
        f"{'it' if were == 'was' else 'them'} by itself.",
        rule.kept,
    )


_CLOSED = "after the other engine had closed the window"


def _how_late(sample: RowSample, rule: EngineRule) -> str:
    """The latest of them, judged as the declared rule does it: by what its own partition had brought before it."""
    event = next((event for event in sample.events if event.cause == "late_dropped"), None)
    if event is None or event.late_ms is None:
        return ""
    late = f"{duration(event.late_ms)} after" if event.late_ms else "exactly"
    return (
        f" The latest is {name_of(event)}, with the event time {instant(event.event_time_ms)}: it became known at "
        f"{instant(event.known_at_ms)}, when {rule.whose}, was {instant(event.watermark_ms)}, {late} {rule.edge}."
    )
